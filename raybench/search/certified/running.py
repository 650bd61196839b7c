"""The best k of everything that has been searched so far, part by part and in any order of parts.

Rows that several parts may give are disjoint, so the k best of all are among the k best of each. The k-th best so far
is a proven floor for every part that is still to come; handing it on saves candidates and changes no answer.

Axes: Q queries, S places of a query.
"""

import numpy as np

from raybench.arrays import Neighbors
from raybench.search.certified.found import Found, order, slots
from raybench.search.certified.metric import Float64
from raybench.search.topk import best

_SORTED_QUERIES = 256  # sorted together, so that memory stays flat


class Running:
    """For each query a few more than k places; what cannot be among the best k is let go of when they are full."""

    def __init__(self, num_queries: int, k: int) -> None:
        self._k = k
        self._room = 2 * k + 64
        self._count_Q = np.zeros(num_queries, np.int64)
        self._score_QS = np.full((num_queries, self._room), -np.inf)
        self._row_QS = np.full((num_queries, self._room), -1, np.int64)

    @staticmethod
    def num_bytes(num_queries: int, k: int) -> int:
        """Bytes that it holds."""
        return num_queries * (2 * k + 64) * 16

    def add(self, found: Found) -> None:
        """Take the answer of a part in (at most k of each query)."""
        full = np.flatnonzero(self._count_Q + found.count_Q > self._room)
        for query in full.tolist():
            self._cut(query)
        query_F = found.queries()
        flat_F = query_F * self._room + self._count_Q[query_F] + slots(found.count_Q)
        self._score_QS.reshape(-1)[flat_F] = found.score_F
        self._row_QS.reshape(-1)[flat_F] = found.row_F
        self._count_Q += found.count_Q

    def floor(self) -> Float64:
        """Scores that each query's k-th best row of the whole corpus cannot be under; -inf with fewer than k rows."""
        floor_Q = np.empty(len(self._count_Q))
        for start in range(0, len(floor_Q), _SORTED_QUERIES):
            part = slice(start, start + _SORTED_QUERIES)
            floor_Q[part] = np.partition(self._score_QS[part], self._room - self._k, axis=1)[:, self._room - self._k]
        return floor_Q

    def neighbors(self) -> Neighbors:
        """The best k so far, best first."""
        parts = [
            best(
                self._row_QS[start : start + _SORTED_QUERIES], self._score_QS[start : start + _SORTED_QUERIES], self._k
            )
            for start in range(0, len(self._count_Q), _SORTED_QUERIES)
        ]
        if not parts:
            return Neighbors(np.zeros((0, self._k), np.int64), np.zeros((0, self._k)))
        return Neighbors(
            np.concatenate([part.ids_QK for part in parts]), np.concatenate([part.scores_QK for part in parts])
        )

    def _cut(self, query: int) -> None:
        used = slice(0, int(self._count_Q[query]))
        rows, scores = self._row_QS[query, used], self._score_QS[query, used]
        kept = order(rows, scores, self._k)
        rows, scores = rows[kept], scores[kept]
        self._row_QS[query], self._score_QS[query] = -1, -np.inf
        self._row_QS[query, : len(kept)], self._score_QS[query, : len(kept)] = rows, scores
        self._count_Q[query] = len(kept)
