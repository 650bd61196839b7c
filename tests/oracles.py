"""Slow and obvious answers that the fast code must give."""

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError, WorkError
from raybench.metrics.counts import Counts, Pairs


def scores(queries_QD: npt.NDArray[np.floating], rows_ND: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Every inner product in float64, one pair at a time."""
    return np.array([[float((q.astype(np.float64) * x.astype(np.float64)).sum()) for x in rows_ND] for q in queries_QD])


def top_rows(scores_QN: npt.NDArray[np.float64], k: int) -> list[list[int]]:
    """The best rows of each query: higher score first, then smaller row."""
    return [sorted(range(len(row)), key=lambda n: (-row[n], n))[:k] for row in scores_QN.tolist()]


def count_block(
    scores_QB: npt.NDArray[np.float64], first_row: int, pairs: Pairs, score_P: npt.NDArray[np.float64]
) -> Counts:
    """What one block of scores says; `score_P` is the score of each pair's relevant row, wherever that row is.

    Column b of the block is row `first_row + b`. Where the relevant row is in the block, its score there must be
    `score_P` to the last bit, or WorkError is raised: scores that were summed in two ways do not show true ties. A pair
    whose row is not in the corpus has the score NaN and counts nothing.
    """
    queries, rows = scores_QB.shape
    if queries != pairs.queries or len(score_P) != len(pairs):
        raise DataError(f"scores {scores_QB.shape} do not belong to {pairs.queries} queries and {len(pairs)} pairs")
    if scores_QB.dtype != np.float64 or score_P.dtype != np.float64:
        raise DataError(f"scores must be float64 to be compared, not {scores_QB.dtype} and {score_P.dtype}")
    # The smallest of numbers with a NaN among them is NaN, and NaN would count as lower than everything.
    if np.isnan(scores_QB.min(initial=np.inf)):
        raise DataError(f"scores of rows {first_row} to {first_row + rows} hold NaN; the vectors are broken")
    higher_P, before_P, tied_P, _ = np.zeros((4, len(pairs)), np.int64)
    place_P = pairs.row_P - first_row
    seen_P = ((place_P >= 0) & (place_P < rows)).astype(np.int64)
    # A pass per pair reads one row of scores from cache; comparing all at once writes the whole block twice.
    for pair, (query, place, score) in enumerate(zip(pairs.query_P, place_P, score_P, strict=True)):
        scores_B = scores_QB[query]
        if seen_P[pair] and scores_B[place] != score:
            raise WorkError(
                f"row {pairs.row_P[pair]} scores {scores_B[place]!r} in its block and {score!r} as a target; "
                "score both with the same sum in float64"
            )
        higher = np.count_nonzero(scores_B > score)
        tied = np.count_nonzero(scores_B >= score) - higher
        higher_P[pair], tied_P[pair] = higher, tied
        if tied > seen_P[pair]:
            before_P[pair] = np.count_nonzero(scores_B[: max(0, place)] == score)
    return Counts(higher_P, before_P, tied_P, seen_P, rows)
