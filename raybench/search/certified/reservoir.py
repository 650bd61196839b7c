"""Candidates of some queries, and for each query a threshold proven to be at most its k-th best value.

Each candidate has a lower and an upper bound of its value. The k-th largest lower bound is a threshold; a candidate
whose upper bound is under it can never be among the k best, ties included, and is let go of. Where bounds cannot
thin out a query (hundreds of copies, values closer than the bound), its candidates are settled in float64 at once,
after which exactly k remain: so memory is bounded whatever the data.

Axes: T queries of a tile, C candidates, S places of a query.
"""

from collections.abc import Callable

import numpy as np

from raybench.arrays import Rows
from raybench.search.certified.found import slots
from raybench.search.certified.metric import Float64
from raybench.search.certified.scan import Candidates, round_down, round_up

Settle = Callable[[int, Rows], tuple[Rows, Float64, Float64]]
"""Given a query and rows: the best k of them in the one order, with the least and greatest value of each."""


class Reservoir:
    """Places for so many candidates of each query; values, not scores."""

    def __init__(self, floor_T: Float64, k: int) -> None:
        self._k = k
        self._room = 2 * k + 512
        self.floor_T = floor_T.copy()
        self.settled = 0  # candidates that had to be settled before the end
        self._count_T = np.zeros(len(floor_T), np.int64)
        self._lower_TS = np.full((len(floor_T), self._room), -np.inf, np.float32)
        self._upper_TS = np.full((len(floor_T), self._room), -np.inf, np.float32)
        self._row_TS = np.zeros((len(floor_T), self._room), np.int32)

    def add(self, found: Candidates, first_row: int, settle: Settle) -> None:
        """Take candidates in; `first_row` is added to their rows, and `settle` is called where there are too many."""
        arriving_T = np.bincount(found.query_C, minlength=len(self._count_T))
        full_T = np.flatnonzero(self._count_T + arriving_T > self._room)
        if len(full_T):
            self.thin(full_T)
            crowded_T = np.flatnonzero(self._count_T + arriving_T > self._room)
            if len(crowded_T):
                found = self._settle_crowded(found, first_row, crowded_T, settle)
                arriving_T = np.bincount(found.query_C, minlength=len(self._count_T))
        place_C = self._count_T[found.query_C] + slots(arriving_T)
        flat_C = found.query_C * self._room + place_C
        self._lower_TS.reshape(-1)[flat_C] = found.lower_C
        self._upper_TS.reshape(-1)[flat_C] = found.upper_C
        self._row_TS.reshape(-1)[flat_C] = found.row_C + first_row
        self._count_T += arriving_T

    def thin(self, which_T: Rows | None = None) -> None:
        """Raise thresholds of some (or all) queries, and let go of what is under them."""
        which = np.flatnonzero(self._count_T >= self._k) if which_T is None else which_T
        if not len(which):
            return
        widest = int(self._count_T[which].max())
        lower = self._lower_TS[which, :widest]
        if widest >= self._k:
            kth = np.partition(lower, widest - self._k, axis=1)[:, widest - self._k]
            self.floor_T[which] = np.maximum(self.floor_T[which], kth)
        upper, rows = self._upper_TS[which, :widest], self._row_TS[which, :widest]
        is_used = np.arange(widest) < self._count_T[which, None]
        kept = is_used & (upper >= round_down(self.floor_T[which])[:, None])
        count = kept.sum(axis=1)
        flat = np.repeat(which, count) * self._room + slots(count)
        lower, upper, rows = lower[kept], upper[kept], rows[kept]
        self._lower_TS[which, :widest] = -np.inf
        self._lower_TS.reshape(-1)[flat] = lower
        self._upper_TS.reshape(-1)[flat] = upper
        self._row_TS.reshape(-1)[flat] = rows
        self._count_T[which] = count

    def rows(self, query: int) -> Rows:
        """The candidates of a query."""
        return self._row_TS[query, : self._count_T[query]].astype(np.int64)

    def _settle_crowded(self, found: Candidates, first_row: int, crowded_T: Rows, settle: Settle) -> Candidates:
        """Settle queries that have too many candidates, old and new; the rest of the new ones is returned."""
        edges = np.searchsorted(found.query_C, [crowded_T, crowded_T + 1])
        stays_C = np.ones(len(found.query_C), np.bool_)
        for query, start, stop in zip(crowded_T, *edges, strict=True):
            stays_C[start:stop] = False
            rows, least, greatest = settle(
                int(query), np.concatenate([self.rows(query), found.row_C[start:stop] + first_row])
            )
            self.settled += int(self._count_T[query]) + int(stop - start)
            self._count_T[query] = len(rows)
            self._lower_TS[query] = -np.inf
            self._lower_TS[query, : len(rows)] = round_down(least)
            self._upper_TS[query, : len(rows)] = round_up(greatest)
            self._row_TS[query, : len(rows)] = rows
            if len(rows) == self._k:
                self.floor_T[query] = max(self.floor_T[query], float(round_down(least[-1:])[0]))
        return Candidates(found.query_C[stays_C], found.row_C[stays_C], found.lower_C[stays_C], found.upper_C[stays_C])
