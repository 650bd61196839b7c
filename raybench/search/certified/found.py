"""What a part of a corpus gave: for each query, rows with their float64 scores, best first, ties by row number.

Axes: Q queries, F found pairs of all queries, in the order of the queries.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raybench.arrays import Neighbors, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Pairs grouped by query: query q has `count_Q[q]` of them."""

    count_Q: Rows
    row_F: Rows
    score_F: npt.NDArray[np.float64]

    def queries(self) -> Rows:
        """The query of each pair."""
        return np.repeat(np.arange(len(self.count_Q)), self.count_Q)

    def neighbors(self, k: int) -> Neighbors:
        """The first k of each query as a padded table."""
        ids_QK = np.full((len(self.count_Q), k), -1, np.int64)
        scores_QK = np.full((len(self.count_Q), k), -np.inf)
        query_F = self.queries()
        slot_F = slots(self.count_Q)
        kept = slot_F < k
        ids_QK[query_F[kept], slot_F[kept]] = self.row_F[kept]
        scores_QK[query_F[kept], slot_F[kept]] = self.score_F[kept]
        return Neighbors(ids_QK, scores_QK)

    @classmethod
    def of(cls, per_query: "list[tuple[Rows, npt.NDArray[np.float64]]]") -> "Found":
        """From rows and scores of each query, sorted."""
        count_Q = np.fromiter((len(rows) for rows, _ in per_query), np.int64, len(per_query))
        rows = np.concatenate([rows for rows, _ in per_query]) if per_query else np.zeros(0, np.int64)
        scores = np.concatenate([scores for _, scores in per_query]) if per_query else np.zeros(0)
        return cls(count_Q, rows.astype(np.int64), scores)


def slots(count_Q: Rows) -> Rows:
    """0, 1, 2, ... within each query, for pairs grouped by query."""
    ends_Q = np.cumsum(count_Q)
    return np.arange(int(ends_Q[-1]) if len(ends_Q) else 0) - np.repeat(ends_Q - count_Q, count_Q)


def order(row_C: Rows, score_C: npt.NDArray[np.float64], k: int) -> Rows:
    """Positions of the best k, higher score first, ties by row number."""
    if len(score_C) > 4 * k:
        # Everything at least as good as the k-th, ties included, before the sort.
        kth = np.partition(score_C, len(score_C) - k)[len(score_C) - k]
        near = np.flatnonzero(score_C >= kth)
        return np.asarray(near[np.lexsort((row_C[near], -score_C[near]))[:k]])
    return np.asarray(np.lexsort((row_C, -score_C))[:k])
