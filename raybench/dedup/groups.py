"""Groups of close rows: stars around a representative, or connected components.

Stars: rows are taken in order; a row that is close to a representative before it becomes a member of the first such, and any
other is a representative. So no member is further from its representative than the threshold, and chains do not collapse. Every
row needs only the first close row before it that is, or may be, a representative: what is certain is decided at once, and what is left, which is
little, from all its pairs. Neither depends on how rows were divided.

Axes: N rows, P pairs, S rows with their first close row before them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from raybench.arrays import Rows
from raybench.dedup.pairs import Pairs

OPEN, LEADER, MEMBER, ASIDE = 0, 1, 2, 3  # states of a row; ASIDE is not compared
States = npt.NDArray[np.uint8]
_COLUMNS = ("row_S", "first_S", "count_S", "cosine_S")


@dataclass(frozen=True, slots=True, eq=False)
class Firsts:
    """Rows, each with the first close row before it, and how many of those there are."""

    row_S: Rows
    first_S: Rows
    count_S: Rows
    cosine_S: npt.NDArray[np.float64]  # of the two; NaN where it was not asked for

    @classmethod
    def of(cls, pairs: Iterable[Pairs]) -> "Firsts":
        """From pairs, a block at a time, so that memory is that of the rows and not of the pairs."""
        found = cls.none()
        for block in pairs:
            ones, unknown = np.ones(len(block), np.int64), np.full(len(block), np.nan)
            found = join([found, _reduced(block.high_P, block.low_P, ones, unknown)])
        return found

    def with_cosines(self, cosine_S: npt.NDArray[np.float64]) -> "Firsts":
        """The same, with cosines."""
        return Firsts(self.row_S, self.first_S, self.count_S, cosine_S)

    @classmethod
    def none(cls) -> "Firsts":
        """No rows."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty, np.empty(0))


def join(parts: Iterable[Firsts]) -> Firsts:
    """Rows of several, each with the first of its firsts. Counts add up; a pair that was met twice is counted twice."""
    listed = [part for part in parts if len(part.row_S)]
    if len(listed) < 2:
        return listed[0] if listed else Firsts.none()
    columns = (np.concatenate([getattr(part, name) for part in listed]) for name in _COLUMNS)
    return _reduced(*columns)


def _reduced(row_P: Rows, first_P: Rows, count_P: Rows, cosine_P: npt.NDArray[np.float64]) -> Firsts:
    order = np.lexsort((first_P, row_P))
    row_P, first_P, count_P, cosine_P = row_P[order], first_P[order], count_P[order], cosine_P[order]
    starts = np.flatnonzero(np.append(True, row_P[1:] != row_P[:-1])[: len(row_P)])
    counts = np.add.reduceat(count_P, starts) if len(starts) else count_P
    return Firsts(row_P[starts], first_P[starts], counts, cosine_P[starts])


@dataclass(frozen=True, slots=True, eq=False)
class Stars:
    """What is known of every row; written as rows are decided."""

    state_N: States
    leader_N: Rows  # of members, and of leaders themselves; -1 of other rows
    cosine_N: npt.NDArray[np.float32]  # of a member and its leader; 1 of leaders

    @classmethod
    def of(cls, is_compared_N: npt.NDArray[np.bool_]) -> "Stars":
        """Nothing is known."""
        rows = len(is_compared_N)
        state_N = np.where(is_compared_N, OPEN, ASIDE).astype(np.uint8)
        return cls(state_N, np.full(rows, -1, np.int64), np.full(rows, np.nan, np.float32))

    def settle(self, firsts: Firsts) -> None:
        """Decide what is certain, where firsts are those among leaders and open rows.

        Open rows without a first are leaders. A row whose first is a leader is its member.
        """
        has_first_N = np.zeros(len(self.state_N), np.bool_)
        has_first_N[firsts.row_S] = True
        self._lead(np.flatnonzero((self.state_N == OPEN) & ~has_first_N))
        joins = (self.state_N[firsts.row_S] == OPEN) & (self.state_N[firsts.first_S] == LEADER)
        rows = firsts.row_S[joins]
        self.state_N[rows], self.leader_N[rows] = MEMBER, firsts.first_S[joins]
        self.cosine_N[rows] = firsts.cosine_S[joins]

    def settle_in_order(self, pairs: Pairs, cosine_P: npt.NDArray[np.float64]) -> None:
        """Decide all open rows, given every pair of an open row and a leader or open row before it."""
        order = np.lexsort((pairs.low_P, pairs.high_P))
        listed = (pairs.low_P[order].tolist(), pairs.high_P[order].tolist(), cosine_P[order].tolist())
        for low, high, cosine in zip(*listed, strict=True):
            # All rows before this one are decided; one that is open then has no leader before it.
            if self.state_N[high] == OPEN and self.state_N[low] in (OPEN, LEADER):
                if self.state_N[low] == OPEN:
                    self._lead(np.array([low]))
                self.state_N[high], self.leader_N[high], self.cosine_N[high] = MEMBER, low, cosine
        self._lead(np.flatnonzero(self.state_N == OPEN))

    def _lead(self, row_N: Rows) -> None:
        self.state_N[row_N], self.leader_N[row_N], self.cosine_N[row_N] = LEADER, row_N, 1


def forest(pairs: Iterable[Pairs]) -> Pairs:
    """Pairs that connect what all pairs connect, one for each row at most."""
    kept = Pairs.none()
    for block in pairs:
        kept = _connected(Pairs.joined([kept, block]))
    return kept


def _connected(pairs: Pairs) -> Pairs:
    """Every row that is in a pair with the first row of its component, but for that row itself."""
    ids, place = np.unique(np.concatenate([pairs.low_P, pairs.high_P]), return_inverse=True)
    if not len(ids):
        return pairs
    low, high = place[: len(pairs)], place[len(pairs) :]
    graph = coo_array((np.ones(len(pairs), np.bool_), (low, high)), shape=(len(ids), len(ids)))
    _, label = connected_components(graph, directed=False)
    first = np.full(label.max() + 1, len(ids))
    np.minimum.at(first, label, np.arange(len(ids)))
    root = first[label]
    child = np.flatnonzero(root != np.arange(len(ids)))
    return Pairs(ids[root[child]], ids[child])
