"""Certified exact search against every other way to find the same neighbours: same rows, same threads, one run.

    uv run --group bench python jobs/benchmarks/exact_search.py --rows 300000 --k 10,100,1000 --data clustered --out gold.parquet
    uv run --group bench python jobs/benchmarks/exact_search.py --scaling rows --k 100
    uv run --group bench python jobs/benchmarks/exact_search.py --scaling shards --k 100

Each contestant (exact_contestants.py) runs in a process of its own, and rounds take turns (exact_runs.py), so that what
else the machine does falls on all of them; of several rounds the fastest counts. Conversion from float16 is part of
the time, as is the calibration of `certified-auto`; starting Python and loading libraries is not. OpenBLAS's kernel
decides more than any method, so every contestant that uses it first tries those that this processor can run on some
rows, and keeps the fastest.

`x64` is speed against the best float64 brute force, `c64` the same in seconds of processor, which other programs
disturb less, `xF` is speed against faiss.knn; `lists` and `sets` are shares of queries
whose ids equal those of float64, in order and as sets. `recall` counts an id whose float64 score reaches the k-th
best: with copies, ids may differ where neither answer is wrong. `memory` is anonymous memory at its peak, without what
was there before the search; `others` is the share of the cores that other programs took, and near 0 if the numbers
are to be believed.

Vectors are those of `laion_like`, with and without copies; queries are other images, and where there are copies, a
quarter of them equals a row. No contestant uses a GPU.
"""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from exact_contestants import BASES, CONTESTANTS, OPENBLAS, TRUTH
from exact_runs import DATA, QUIET, Inputs, Run, has_bfloat16, measure, write_inputs

from raybench.environment import available_cores, environment


def table(runs: Sequence[Run]) -> list[str]:
    """The fastest round of each contestant, with speed against the best float64 and against faiss."""
    lines = []
    for group in dict.fromkeys((run.data, run.rows, run.k, run.threads) for run in runs):
        mine = [run for run in runs if (run.data, run.rows, run.k, run.threads) == group]
        best = {run.contestant: run for run in sorted(mine, key=lambda run: -(run.wall_s or np.inf))}
        cpu_s = {name: min(run.cpu_s or np.inf for run in mine if run.contestant == name) for name in best}
        base_cpu_s = min((cpu_s[name] for name in BASES if name in best), default=np.nan)
        base = min((best[name].wall_s or np.inf for name in BASES if name in best), default=np.nan)
        faiss = best["faiss-float32"].wall_s if "faiss-float32" in best else None
        lines += [
            "",
            f"{group[0]}, {group[1]:,} rows, k={group[2]}, {group[3]} threads, fastest of {1 + max(run.round for run in mine)}",
        ]
        lines.append(
            f"{'':26}{'wall s':>8}{'cpu s':>8}{'GFLOP/s':>9}{'x64':>6}{'c64':>6}{'xF':>6}{'lists %':>9}{'sets %':>8}{'recall':>9}"
            f"{'memory':>9}{'others':>8}  kernel"
        )
        for name in dict.fromkeys(run.contestant for run in mine):
            run = best[name]
            if run.wall_s is None:
                lines.append(f"{name:26}  {run.note}")
                continue
            against = f"{faiss / run.wall_s:6.2f}" if faiss else "     -"
            lines.append(
                f"{name:26}{run.wall_s:8.2f}{run.cpu_s:8.2f}{run.gflops:9.1f}{base / run.wall_s:6.2f}{base_cpu_s / cpu_s[name]:6.2f}{against}"
                f"{100 * (run.lists_equal or 0):9.1f}{100 * (run.sets_equal or 0):8.1f}{run.recall:9.5f}"
                f"{(run.memory_bytes or 0) / 2**20:6.0f}MiB{run.others:8.2f}  {_said(run)}"
            )
    return lines


def _said(run: Run) -> str:
    kernels = sorted(set(json.loads(run.kernels).values())) if run.contestant in OPENBLAS else []
    told = [f"{name}={value}" for name, value in json.loads(run.told).items()]
    return " ".join([*(["DISTURBED"] if (run.others or 0) > QUIET else []), *kernels, *told])


def shards(inputs: Inputs, data: str, k: int, threads: int, rounds: int) -> Iterator[Run]:
    """The gold verb's search on Ray: one worker with all threads, and workers of one thread, on parts of the corpus."""
    from exact_shards import one_round

    for number in range(rounds):
        for label, facts in one_round(str(inputs.corpus), str(inputs.queries), k, threads, "numpy-float32"):
            yield Run(
                data, inputs.rows, inputs.dim, inputs.num_queries, k, threads, label, number,
                wall_s=facts["wall_s"], gflops=inputs.flop / facts["wall_s"] / 1e9, told=json.dumps(facts),
            )  # fmt: skip


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of whole numbers, such as 10,100") from None


@click.command()
@click.option(
    "--rows",
    default="300000",
    show_default=True,
    callback=_numbers,
    help="Rows of the corpus; several with --scaling rows.",
)
@click.option("--dim", default=768, show_default=True, help="Dimensions.")
@click.option("--queries", default=1000, show_default=True, help="Queries.")
@click.option("--k", "ks", default="10,100,1000", show_default=True, callback=_numbers, help="Neighbours per query.")
@click.option("--data", default="clustered", show_default=True, type=click.Choice(sorted(DATA)), help="Which vectors.")
@click.option("--threads", default=available_cores(), show_default=True, help="Threads of every contestant.")
@click.option("--rounds", default=2, show_default=True, help="Times that all of them run.")
@click.option("--only", default=",".join(CONTESTANTS), help="Contestants; float64-filter always runs.")
@click.option(
    "--slow-rows", default=100_000, show_default=True, help="scikit-learn and usearch run up to this many rows, once."
)
@click.option("--patience", default=0.0, show_default=True, help="Seconds to wait before a run while others are busy.")
@click.option(
    "--scaling", type=click.Choice(["rows", "shards"]), help="100k, 300k and 1M rows; or 1, 2 and 4 workers on Ray."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write every run to this Parquet file.")
def main(
    rows: list[int], dim: int, queries: int, ks: list[int], data: str, threads: int, rounds: int, only: str,
    slow_rows: int, patience: float, scaling: str | None, out: Path | None,
) -> None:  # fmt: skip
    """Run the contestants in turn and print a table."""
    names = [TRUTH, *(name for name in only.split(",") if name != TRUTH)]
    if unknown := sorted(set(names) - set(CONTESTANTS)):
        raise click.BadParameter(f"{unknown[0]!r} is no contestant; use {', '.join(CONTESTANTS)}")
    if scaling == "rows" and len(rows) == 1:
        rows = [100_000, 300_000, 1_000_000]
        names = names if only != ",".join(CONTESTANTS) else [TRUTH, "faiss-float32", "certified-auto"]
    runs: list[Run] = []
    for count in rows:
        with tempfile.TemporaryDirectory() as folder:
            inputs = write_inputs(Path(folder), data, count, dim, queries)
            several: Iterable[Run] = (
                (run for k in ks for run in shards(inputs, data, k, threads, rounds))
                if scaling == "shards"
                else measure(data, inputs, names, ks, threads, rounds, slow_rows, patience)
            )
            for run in several:
                runs.append(run)
                print(f"{run.rows:,} rows k={run.k} {run.contestant}: {_short(run)}", file=sys.stderr, flush=True)
                if out is not None:
                    _write(out, runs)
    print("\n".join(_shard_table(runs) if scaling == "shards" else table(runs)))
    _say_what_limits()


def _short(run: Run) -> str:
    return run.note or f"{run.wall_s:.2f} s, {run.gflops:.0f} GFLOP/s"


def _write(out: Path, runs: Sequence[Run]) -> None:
    facts = pa.Table.from_pylist([asdict(run) for run in runs])
    pq.write_table(facts.replace_schema_metadata({"environment": json.dumps(environment())}), out)


def _shard_table(runs: Sequence[Run]) -> list[str]:
    lines = ["", f"{'':26}{'k':>6}{'wall s':>8}{'GFLOP/s':>9}{'against one':>13}"]
    one = {
        run.k: min(
            other.wall_s or np.inf for other in runs if other.k == run.k and other.contestant == runs[0].contestant
        )
        for run in runs
    }
    for name, k in dict.fromkeys((run.contestant, run.k) for run in runs):
        best = min(run.wall_s or np.inf for run in runs if (run.contestant, run.k) == (name, k))
        gflops = max(run.gflops or 0 for run in runs if (run.contestant, run.k) == (name, k))
        lines.append(f"{name:26}{k:6}{best:8.2f}{gflops:9.1f}{one[k] / best:13.3f}")
    return lines


def _say_what_limits() -> None:
    facts = environment()
    print(f"\n{facts['processor']}, {facts['cores']} cores; numpy's BLAS: {facts['blas']}")
    if not has_bfloat16():
        print("This processor has no instructions for bfloat16: its scan is emulated here, and slower than float32.")


if __name__ == "__main__":
    main()
