"""Which cheap precision is fastest here is measured, on a block of the data itself, and recorded.

The time of a search is that of its products and of the candidates that are scored in float64 at the end. A coarser
precision multiplies faster and leaves more candidates: those within its error of the k-th best score. Both are
measured on one block of rows and a few hundred queries.

Axes: Q queries, B rows of the block.
"""

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from raybench.search.certified.blocks import Part
from raybench.search.certified.matrix import CPU_SCANS, MatrixScan
from raybench.search.certified.metric import Matrix, Questions
from raybench.search.certified.scoring import RowScores

_QUERIES = 256
_ROWS = 4_096
_LEAST_RANK = 8  # the tail of the scores is looked at from here down
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """One precision: seconds per pair of a query and a row, and how many candidates it leaves per wanted neighbour."""

    scan: str
    pair_s: float
    candidates_per_neighbor: float
    estimate_s: float  # of one thread, for the whole search


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured, and the scan that is expected to be fastest."""

    chosen: str
    measured: tuple[Measured, ...]
    rescore_s: float  # per candidate

    def facts(self) -> dict[str, object]:
        """A JSON value for manifests."""
        return asdict(self)


def calibrate(questions: Questions, rows_BD: Matrix, k: int, total_rows: int) -> Calibration:
    """Measure every CPU precision on some rows of the data; takes about a second."""
    rows_BD = np.ascontiguousarray(rows_BD[:_ROWS])
    some = questions.part(0, _QUERIES)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            rescore_s = _rescore_s(some, rows_BD)
            measured = tuple(
                _measure(
                    MatrixScan(some.metric, some.dim, name), some, rows_BD, k, total_rows, len(questions), rescore_s
                )
                for name in CPU_SCANS
            )
    finally:
        torch.set_num_threads(before)
    return Calibration(min(measured, key=lambda one: one.estimate_s).scan, measured, rescore_s)


def _measure(
    scan: MatrixScan, some: Questions, rows_BD: Matrix, k: int, total_rows: int, num_queries: int, rescore_s: float
) -> Measured:
    tile, blocks = scan.tile(some, len(rows_BD)), scan.blocks(len(rows_BD))
    nothing_T = np.full(len(some), np.inf)  # thresholds that nothing passes: the product alone is timed
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        block = blocks.make(rows_BD)
        making = time.perf_counter() - started
        started = time.perf_counter()
        tile.scan(block, nothing_T, 1)
        # A block is made once for all queries, and scanned once for each.
        times.append((time.perf_counter() - started) / len(some) + making / max(num_queries, 1))
    pair_s = min(times) / len(rows_BD)
    rank = min(max(_LEAST_RANK, round(k * len(rows_BD) / max(total_rows, 1))), len(rows_BD))
    window = len(tile.scan(block, np.full(len(some), -np.inf), rank).query_C) / (len(some) * rank)
    estimate_s = num_queries * (total_rows * pair_s + min(k * window, total_rows) * rescore_s)
    return Measured(scan.name, pair_s, window, estimate_s)


def _rescore_s(some: Questions, rows_BD: Matrix) -> float:
    scores, times = RowScores(some, Part(rows_BD, None, is_exact=True)), []
    for query in range(min(_ROUNDS, len(some))):
        started = time.perf_counter()
        scores.of(query, np.arange(0, len(rows_BD), 4))
        times.append((time.perf_counter() - started) / max(len(rows_BD) // 4, 1))
    return min(times, default=1e-6)
