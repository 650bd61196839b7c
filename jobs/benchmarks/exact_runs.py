"""Contestants run one at a time, each in a process of its own, and what they found is held against float64.

What a run says: seconds of wall and processor, peak memory, the BLAS kernels that were in the process, and agreement
with the float64 scan of the same round of inputs.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from exact_contestants import OPENBLAS, TRUTH, Ids

from raybench.formats.laion_like import LaionLike

DATA: dict[str, dict[str, float]] = {
    "clustered": {"copies": 0.0, "near": 0.0},
    "copies": {"copies": 0.24, "near": 0.05, "same": 0.25},
}
_KERNELS = {"SkylakeX": "avx512bw", "Haswell": "avx2"}  # OPENBLAS_CORETYPE, and an instruction set that it needs
_CALIBRATED_ROWS = 30_000
_SLOW = ("sklearn-float32", "usearch-float16")
_SAME_KERNEL = {"float64-argpartition": "float64-filter", "certified-auto": "certified-numpy-float32"}
_GENERATED_ROWS = 16_384
_POLL_S = 0.02
QUIET = 0.1  # what share of the cores others may take
_LOOK_S = 0.5  # how long others are looked at
_OPTIONAL = ("sklearn", "usearch")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where the vectors are."""

    corpus: Path
    queries: Path
    rows: int
    num_queries: int
    dim: int

    @property
    def flop(self) -> float:
        """Operations of the product of all queries and rows."""
        return 2.0 * self.rows * self.num_queries * self.dim


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant, once; a row of the results."""

    data: str
    rows: int
    dim: int
    queries: int
    k: int
    threads: int
    contestant: str
    round: int
    wall_s: float | None = None
    cpu_s: float | None = None
    gflops: float | None = None  # of the product that all of them have to compute
    memory_bytes: int | None = None
    resident_peak_bytes: int | None = None  # with libraries and the pages of the mapped file
    lists_equal: float | None = None
    sets_equal: float | None = None
    recall: float | None = None
    others: float | None = None
    kernel_asked: str = ""
    kernels: str = "{}"  # of every BLAS in the process, as they said
    told: str = "{}"
    note: str = ""


def write_inputs(folder: Path, data: str, rows: int, dim: int, queries: int) -> Inputs:
    """Corpus and queries as float16 .npy files."""
    recipe: dict[str, Any] = {"rows": rows, "dim": dim, **DATA[data]}
    corpus, asked = (
        LaionLike(**recipe).open(),
        LaionLike(**recipe, part="queries", queries=queries, asking="image", dtype="float16").open(),
    )
    inputs = Inputs(folder / "rows.npy", folder / "queries.npy", rows, queries, dim)
    mapped = np.lib.format.open_memmap(inputs.corpus, "w+", np.float16, (rows, dim))
    for start in range(0, rows, _GENERATED_ROWS):
        corpus.read_into(start, mapped[start : start + _GENERATED_ROWS])
    queries_QD = np.empty((queries, dim), np.float16)
    asked.read_into(0, queries_QD)
    np.save(inputs.queries, queries_QD)
    return inputs


class Failed(Exception):  # noqa: N818 (an outcome, not an error of this program)
    """A contestant that did not finish; its last words."""


def run_alone(
    contestant: str, inputs: Inputs, k: int, threads: int, kernel: str | None, rows: int | None = None
) -> tuple[dict[str, Any], Ids]:
    """Facts and ids of one contestant in a process of its own. Raises Failed."""
    variables = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    variables |= {"OPENBLAS_CORETYPE": kernel} if kernel else {}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        out = Path(folder) / "answer"
        command = [
            sys.executable, str(Path(__file__).with_name("exact_contestants.py")), contestant,
            "--corpus", str(inputs.corpus), "--queries", str(inputs.queries), "--k", str(k),
            "--threads", str(threads), "--out", str(out),
        ]  # fmt: skip
        if rows is not None:
            command += ["--rows", str(rows), "--repeats", "2"]
        process = subprocess.Popen(command, env=variables, stdout=said, stderr=said)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _anonymous_bytes(process.pid))
            time.sleep(_POLL_S)
        if process.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise Failed(last[0][:120] if last else f"ended with {process.returncode}")
        facts = json.loads(out.with_suffix(".json").read_text())
        return facts | {"anonymous_peak_bytes": peak}, np.load(out.with_suffix(".npy"))


def _anonymous_bytes(process: int) -> int:
    with contextlib.suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def fastest_kernel(contestant: str, inputs: Inputs, threads: int) -> str | None:
    """The OPENBLAS_CORETYPE with which a contestant is fastest on some rows, of those that this processor can run."""
    if contestant not in OPENBLAS:
        return None
    flags = set(Path("/proc/cpuinfo").read_text().split())
    seconds: dict[str | None, float] = {}
    for kernel in [None, *(name for name, needed in _KERNELS.items() if needed in flags)]:
        facts, _ids = run_alone(contestant, inputs, 10, threads, kernel, rows=min(inputs.rows, _CALIBRATED_ROWS))
        seconds[kernel] = facts["cpu_s"]  # which other programs disturb less than the time on the wall
    chosen = min(seconds, key=lambda kernel: seconds[kernel])
    # What OpenBLAS picks itself stands unless another is clearly faster.
    return None if seconds[None] < 1.05 * seconds[chosen] else chosen


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares of queries, and of ids."""

    lists: float
    sets: float
    recall: float


def compare(ids_QK: Ids, truth_QK: Ids, inputs: Inputs) -> Agreement:
    """How far ids equal those of float64; ids that differ are scored, and count as found if they reach the k-th best."""
    rows_ND = np.load(inputs.corpus, mmap_mode="r")
    queries_QD = np.load(inputs.queries).astype(np.float64)
    sets = found = 0.0
    for query, (mine, right) in enumerate(zip(ids_QK, truth_QK, strict=True)):
        other = np.setdiff1d(mine, right)
        sets += not len(other)
        least = float(rows_ND[right[-1]].astype(np.float64) @ queries_QD[query])
        good = rows_ND[other].astype(np.float64) @ queries_QD[query] >= least
        found += (len(mine) - len(other) + int(good.sum())) / len(mine)
    return Agreement(float((ids_QK == truth_QK).all(axis=1).mean()), sets / len(ids_QK), found / len(ids_QK))


class _Cores:
    """What all programs took of the processor since it was made."""

    def __init__(self) -> None:
        self._at, self._busy = time.perf_counter(), self._ticks()

    def others(self, own_cpu_s: float) -> float:
        """The share of all cores that programs other than this one's child took."""
        took = (self._ticks() - self._busy) / os.sysconf("SC_CLK_TCK")
        return round(max(0.0, took - own_cpu_s) / ((time.perf_counter() - self._at) * (os.cpu_count() or 1)), 3)

    @staticmethod
    def _ticks() -> int:
        user, nice, system, _idle, _wait, interrupts, soft, *_rest = map(
            int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        )
        return user + nice + system + interrupts + soft


def _wait_for_quiet(patience_s: float) -> None:
    stop = time.perf_counter() + patience_s
    while time.perf_counter() < stop:
        cores = _Cores()
        time.sleep(_LOOK_S)
        if cores.others(0.0) < QUIET:
            return


def measure(
    data: str,
    inputs: Inputs,
    names: Sequence[str],
    ks: Sequence[int],
    threads: int,
    rounds: int,
    slow_rows: int,
    patience_s: float,
) -> Iterator[Run]:
    """Every contestant at every k, round by round."""
    kernels = {name: _kernel_or_none(name, inputs, threads) for name in names if _SAME_KERNEL.get(name) not in names}
    kernels |= {name: kernels[other] for name, other in _SAME_KERNEL.items() if name in names and other in kernels}
    once = _SLOW if has_bfloat16() else (*_SLOW, "certified-torch-bfloat16")
    truths: dict[int, Ids] = {}
    for number in range(rounds):
        for k in ks:
            for name in [TRUTH, *(name for name in names if name != TRUTH)]:
                fixed = (data, inputs.rows, inputs.dim, inputs.num_queries, k, threads, name, number)
                if name in once and number:
                    continue
                if name in _SLOW and inputs.rows > slow_rows:
                    yield _absent(fixed, f"slow: left out over {slow_rows:,} rows")
                    continue
                _wait_for_quiet(patience_s)
                cores = _Cores()
                before_s = _children_cpu_s()
                try:
                    facts, ids_QK = run_alone(name, inputs, k, threads, kernels[name])
                except Failed as failure:
                    absent = any(f"No module named '{one}" in str(failure) for one in _OPTIONAL)
                    yield _absent(fixed, "not installed" if absent else f"failed: {failure}")
                    continue
                others = cores.others(_children_cpu_s() - before_s)
                truth = truths.setdefault(k, ids_QK)  # the first of a round is the truth
                agreement = compare(ids_QK, truth, inputs)
                yield Run(
                    *fixed,
                    wall_s=facts["wall_s"],
                    cpu_s=facts["cpu_s"],
                    gflops=inputs.flop / facts["wall_s"] / 1e9,
                    memory_bytes=max(0, facts["anonymous_peak_bytes"] - facts["anonymous_before_bytes"]),
                    resident_peak_bytes=facts["resident_peak_bytes"],
                    lists_equal=agreement.lists,
                    sets_equal=agreement.sets,
                    recall=agreement.recall,
                    others=others,
                    kernel_asked=kernels[name] or "unset",
                    kernels=json.dumps(facts["kernels"]),
                    told=json.dumps(facts["told"]),
                )


def _kernel_or_none(name: str, inputs: Inputs, threads: int) -> str | None:
    try:
        return fastest_kernel(name, inputs, threads)
    except Failed:
        return None  # it fails again when it is measured, and is reported then


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system + times.user + times.system


def _absent(fixed: tuple[str, int, int, int, int, int, str, int], note: str) -> Run:
    return Run(*fixed, note=note)


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16."""
    return bool({"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text().split()))
