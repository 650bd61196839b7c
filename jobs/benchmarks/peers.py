"""Our indexes against their peers: the same vectors, queries and threads, taken in turns in one run.

    uv run --group peers python jobs/benchmarks/peers.py

At equal recall: `hnsw(m=16, build_effort=100)`, hnswlib and usearch are built with the same parameters, and each is measured at
the smallest effort at which it reaches a target. At equal memory: autofaiss chooses an index within so many bytes and search
parameters for it; that of ours whose file is nearest below is measured at the smallest effort that finds as much. It takes
half an hour on two cores, most of it for autofaiss, which learns codes for minutes and takes 10 ms for a query.

Rows found are scored again in float64, and one that scores as much as the exact k-th counts as found: a quarter of the rows
are copies, and which of several copies an index returns is chance. The overlap by row number is printed beside it.

Axes: Q queries, D dimensions, K results.
"""

import functools
import statistics
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import faiss
import numpy as np
import torch
from peer_indexes import (
    PINS,
    Built,
    PeerError,
    Setting,
    autofaiss_choice,
    autofaiss_python,
    hnswlib_graph,
    raybench_index,
    usearch_graph,
)
from peer_rounds import FACTS, MIB, Task, against, facts, in_turns, least_effort, print_table

from raybench.arrays import Vectors
from raybench.environment import available_cores
from raybench.errors import IndexRequestError
from raybench.formats import open_vectors
from raybench.formats.base import read_rows
from raybench.indexes.exact import Exact

_GRAPH = "hnsw(m=16, build_effort=100)"
_OURS = (
    "hnsw(m=32, build_effort=200)", _GRAPH, "ivf_flat(lists=256)", 'hnsw(m=16, build_effort=100, store="fp16")',
    'hnsw(m=16, build_effort=100, store="sq8")', "ivf_pq(lists=256, codes=128)", "ivf_pq(lists=256, codes=64)",
    "ivf_pq(lists=256, codes=32)",
)  # fmt: skip


@click.command()
@click.option("--rows", default=50_000, show_default=True, help="Vectors.")
@click.option("--dim", default=256, show_default=True, help="Dimensions.")
@click.option("--queries", default=1_000, show_default=True, help="Queries of a batch.")
@click.option("--asking", type=click.Choice(["text", "image"]), default="text", show_default=True, help="Queries are.")
@click.option("--copies", default=0.24, show_default=True, help="Share of the rows that equal an earlier one.")
@click.option("--k", default=10, show_default=True, help="Neighbours.")
@click.option(
    "--target", "targets", multiple=True, default=(0.9, 0.95), help="Overlap to be reached.  [default: 0.9, 0.95]"
)
@click.option("--most", default=4_096, show_default=True, help="The largest effort of a graph that is tried.")
@click.option("--threads", default=0, show_default=True, help="Of every library; 0 is one for each core.")
@click.option("--rounds", default=5, show_default=True, help="Timed rounds; one more before them is not timed.")
@click.option("--builds", default=3, show_default=True, help="How often the graphs at equal recall are built.")
@click.option("--ours", "texts", multiple=True, default=_OURS, help="Ours that may be taken at equal memory.")
@click.option("--memory", "shares", multiple=True, default=(1.5, 1.05, 0.1), help="In bytes of the float32 rows.")
@click.option(
    "--latency-ms", default=10.0, show_default=True, help="What autofaiss may take for a query (its default)."
)
@click.option(
    "--autofaiss-env", type=click.Path(path_type=Path), help="Folder of its environment.  [default: a new one]"
)
def main(
    rows: int, dim: int, queries: int, asking: str, copies: float, k: int, targets: tuple[float, ...], most: int, threads: int,
    rounds: int, builds: int, texts: tuple[str, ...], shares: tuple[float, ...], latency_ms: float, autofaiss_env: Path | None,
) -> None:  # fmt: skip
    """Measure ours and the peers."""
    threads = threads or available_cores()
    faiss.omp_set_num_threads(threads)
    torch.set_num_threads(threads)
    corpus, queries_QD = (
        np.ascontiguousarray(
            read_rows(open_vectors(f"laion_like(rows={rows}, dim={dim}, copies={copies}{part})")), np.float32
        )
        for part in ("", f", part='queries', queries={queries}, asking='{asking}'")
    )
    held = Vectors(corpus)
    task = Task(held, queries_QD, Exact().build(held).search(queries_QD, k), Setting(k, threads, most), rounds)
    click.echo(
        f"{rows:,} rows x {dim} in float32 ({100 * copies:g} % copies), {queries:,} {asking} queries, k={k}, {threads} threads, "
        f"medians of {rounds} rounds in turns\nfaiss {version_of('faiss')} ({faiss.get_compile_options().strip()}), hnswlib "
        f"{version_of('hnswlib')}, usearch {version_of('usearch')}, {' with '.join(PINS[:2]).replace('==', ' ')}; MiB are of the index as a file"
    )
    equal_recall(task, targets, builds)
    with tempfile.TemporaryDirectory() as folder:
        equal_memory(task, texts, shares, latency_ms, autofaiss_env or Path(folder) / "environment", Path(folder))


def equal_recall(task: Task, targets: tuple[float, ...], builds: int) -> None:
    """Graphs of the same parameters, each at its smallest effort that reaches a target."""
    graphs, build_s = _graphs(task, builds)
    for target in targets:
        click.echo(f"\nAt equal recall, overlap@{task.setting.k} >= {target:g}; median of {builds} builds in turns")
        entrants = []
        for built in graphs:
            effort = least_effort(functools.partial(_reaches, task, built, target), *built.efforts)
            if effort is None:
                most, reached = built.efforts[1], task.reached(built, built.efforts[1])
                click.echo(f"{built.name} does not reach {target:g} at any effort: {reached:.4f} at {most:,}.")
            else:
                entrants.append((built, effort))
        if not entrants:
            continue
        speeds = in_turns(task, entrants)
        table: list[tuple[str, ...]] = [(*FACTS, "ours/peer: queries/s", "build s")]
        for (built, effort), speed in zip(entrants, speeds, strict=True):
            ratios = ("", "")
            if entrants[0][0] is graphs[0] is not built:  # ours is there, and this is another
                ratios = against(speeds[0], speed), f"{build_s[graphs[0].name] / build_s[built.name]:.2f}"
            table.append((*facts(task, built, effort, speed, build_s[built.name]), *ratios))
        print_table(table)


def _reaches(task: Task, built: Built, target: float, effort: int) -> bool:
    return task.reached(built, effort) >= target


def _graphs(task: Task, builds: int) -> tuple[list[Built], dict[str, float]]:
    """Ours first, then the peers that are installed; and the median seconds of their builds, which are made in turns."""
    makers: list[Callable[[Vectors, Setting], Built]] = [
        functools.partial(raybench_index, _GRAPH), hnswlib_graph, usearch_graph,
    ]  # fmt: skip
    found: dict[str, Built] = {}
    taken: dict[str, list[float]] = {}
    for _ in range(builds):
        for maker in list(makers):
            try:
                built = maker(task.corpus, task.setting)
            except PeerError as error:
                click.echo(str(error))
                makers.remove(maker)
                continue
            found[built.name] = built
            taken.setdefault(built.name, []).append(built.seconds)
    return list(found.values()), {name: statistics.median(times) for name, times in taken.items()}


def equal_memory(
    task: Task, texts: tuple[str, ...], shares: tuple[float, ...], latency_ms: float, environment: Path, folder: Path
) -> None:
    """What autofaiss chooses within so many bytes, and the largest of ours within as many."""
    click.echo(
        f"\nAt equal memory: autofaiss with its parameters for {latency_ms:g} ms a query; ours where it finds as much"
    )
    try:
        python = autofaiss_python(environment)
    except PeerError as error:
        click.echo(str(error))
        return
    (folder / "rows").mkdir()
    np.save(folder / "rows" / "rows.npy", task.corpus.matrix_ND)
    ours = list(_ours(task, texts))
    for number, share in enumerate(shares):
        within = int(share * task.corpus.matrix_ND.nbytes)
        out = folder / str(number)
        out.mkdir()
        try:
            theirs, chosen = autofaiss_choice(python, folder / "rows", task.setting, within, latency_ms, out)
        except PeerError as error:
            click.echo(str(error))
            continue
        click.echo(
            f"\nWithin {within / MIB:.1f} MiB autofaiss chose {theirs.name.partition(': ')[2]} with {chosen}; its build time includes choosing them"
        )
        fitting = [built for built in ours if built.num_bytes <= within]
        entrants = [(theirs, 0)]
        if fitting:
            entrants.append(_as_good(task, max(fitting, key=lambda built: built.num_bytes), task.reached(theirs, 0)))
        else:
            click.echo(f"None of ours fits into {within / MIB:.1f} MiB.")
        speeds = in_turns(task, entrants)
        table: list[tuple[str, ...]] = [(*FACTS, "ours/peer: queries/s")]
        for (built, effort), speed in zip(entrants, speeds, strict=True):
            is_as_good = built is not theirs and task.reached(built, effort) >= task.reached(theirs, 0)
            ratio = against(speed, speeds[0]) if is_as_good else ""
            table.append((*facts(task, built, effort, speed, built.seconds), ratio))
        print_table(table)


def _ours(task: Task, texts: Iterable[str]) -> Iterable[Built]:
    for text in texts:
        try:
            yield raybench_index(text, task.corpus, task.setting)
        except (IndexRequestError, PeerError) as error:
            click.echo(str(error))


def _as_good(task: Task, built: Built, target: float) -> tuple[Built, int]:
    """An index and the smallest effort that reaches the target or, where none does, the largest."""
    effort = least_effort(functools.partial(_reaches, task, built, target), *built.efforts)
    if effort is None:
        click.echo(f"{built.name} does not reach {target:.4f}, and is measured at its largest effort.")
    return built, effort or built.efforts[1]


def version_of(package: str) -> str:
    """The installed version; that of faiss, whose package has two names, is its own."""
    try:
        return str(faiss.__version__) if package == "faiss" else version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
