"""Ranks, not lists: where each relevant row stands among all rows is all that a ranking measure needs.

There is one order everywhere: a higher score first, and among equal scores the smaller row. Beside the declared order
stand two more, in which each group of equal scores is arranged for and against the relevant rows:

- best: the relevant rows of a group come first in it, the higher grade first;
- worst: they come last in it, the lower grade first.

No measure improves when a relevant row moves back or changes places with a lower grade behind it, so over all ways to
break ties it is best in the best order and worst in the worst.

Axes: Q queries, P judged pairs of a query and a relevant row, K results.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raybench.arrays import Neighbors, Rows
from raybench.errors import DataError, WorkError
from raybench.metrics.counts import Counts, Pairs

_CELLS = 1 << 17  # results compared together: they stay in cache


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The ranks of relevant rows in one order of the corpus, by query and then by rank; ranks count from 1."""

    query_P: Rows
    rank_P: Rows
    grade_P: Rows
    nth_P: Rows  # 1 for the first relevant row of its query, 2 for the second, ...

    @classmethod
    def of(cls, query_P: Rows, rank_P: Rows, grade_P: Rows) -> "Order":
        """From ranks that are sorted by query and rank."""
        first_P = np.searchsorted(query_P, query_P)
        return cls(query_P, rank_P, grade_P, np.arange(1, len(query_P) + 1) - first_P)


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The relevant rows of every query in the declared, worst and best order, and alone in their ideal order.

    `depth` is how many ranks of every query are known: None where none is hidden, else the length of the lists.
    `is_whole` says that every relevant row has its rank among all rows, which measures without cut-off need.
    """

    declared: Order
    worst: Order
    best: Order
    ideal: Order
    relevant_Q: Rows  # number of relevant rows, found or not
    corpus_size: int
    depth: int | None
    is_whole: bool

    def __len__(self) -> int:
        return len(self.relevant_Q)

    @classmethod
    def of_counts(cls, pairs: Pairs, counts: Counts) -> "Ranks":
        """Ranks among all rows, from counts that were added up over all blocks or shards of the corpus.

        Raises WorkError where a relevant row was met twice or never: a shard is missing or was added twice.
        """
        if len(counts.seen_P) != len(pairs.row_P):
            raise DataError(f"{len(counts.seen_P)} counts do not belong to {len(pairs.row_P)} judged pairs")
        is_here_P = pairs.row_P >= 0
        # A row ties with itself, so a count without ties was taken with another score than the row's own.
        is_wrong_P = (counts.seen_P != is_here_P) | ((counts.tied_P == 0) & is_here_P)
        if is_wrong_P.any():
            pair = int(np.argmax(is_wrong_P))
            raise WorkError(
                f"relevant row {pairs.row_P[pair]} was met {counts.seen_P[pair]} times in {counts.rows} rows and ties "
                f"with {counts.tied_P[pair]}; count every shard exactly once, with the row's own score"
            )
        first_P = np.where(is_here_P, 1 + counts.higher_P, 0)
        last_P, rank_P = counts.higher_P + counts.tied_P, first_P + counts.before_P
        return cls._arranged(pairs, first_P, last_P, rank_P, counts.rows, None, is_whole=True)

    @classmethod
    def of_neighbors(cls, pairs: Pairs, neighbors: Neighbors, corpus_size: int) -> "Ranks":
        """Ranks in lists of results. Raises DataError for lists that are not in the declared order.

        A list that is shorter than its room, or as long as the corpus, hides nothing: rows that are not in it have no
        rank. Behind any other list there may be rows that tie with its last one, so the worst and best order assume
        the most that can be: the last group goes on to the end of the corpus, and every relevant row that was not
        found is in it. The bounds then enclose the truth, and they are tight for a cut-off that ends before the last
        group begins: search at least one result deeper than the cut-off.
        """
        if len(neighbors) != pairs.queries:
            raise DataError(f"there are results of {len(neighbors)} queries and judgments of {pairs.queries}")
        if len(pairs.row_P) and pairs.row_P.max() >= corpus_size:
            raise DataError(f"row {pairs.row_P.max()} is judged, but the corpus has {corpus_size} rows")
        check_order(neighbors, corpus_size)
        is_open_Q = _open_lists(neighbors, corpus_size)
        first_P, last_P, rank_P = _find(pairs, neighbors, is_open_Q, corpus_size)
        depth = neighbors.k if is_open_Q.any() else None
        return cls._arranged(pairs, first_P, last_P, rank_P, corpus_size, depth, is_whole=False)

    @classmethod
    def _arranged(
        cls, pairs: Pairs, first_P: Rows, last_P: Rows, rank_P: Rows, rows: int, depth: int | None, *, is_whole: bool
    ) -> "Ranks":
        declared = _declared(pairs, rank_P)
        clear = np.array_equal(first_P, last_P) and np.array_equal(first_P, rank_P)
        return cls(
            declared=declared,
            worst=declared if clear else _worst(pairs, first_P, last_P),
            best=declared if clear else _best(pairs, first_P),
            ideal=_best(pairs, np.ones_like(first_P)),
            relevant_Q=np.bincount(pairs.query_P, minlength=pairs.queries).astype(np.int64),
            corpus_size=rows,
            depth=depth,
            is_whole=is_whole,
        )


def check_order(neighbors: Neighbors, corpus_size: int) -> None:
    """Raise DataError unless every list has rows of the corpus in the declared order, then padding."""
    if neighbors.k == 0:
        raise DataError("the results have no room for any row; search with k=1 or more")
    for start, stop in _blocks(len(neighbors), neighbors.k):
        ids_QK, scores_QK = neighbors.ids_QK[start:stop], neighbors.scores_QK[start:stop]
        is_row_QK = ids_QK >= 0
        is_sound_QK = np.where(is_row_QK, np.isfinite(scores_QK), np.isneginf(scores_QK))
        wrong_Q = (~is_sound_QK | (ids_QK >= corpus_size) | (ids_QK < -1)).any(axis=1)
        falls_QK = scores_QK[:, :-1] > scores_QK[:, 1:]
        is_tie_QK = (scores_QK[:, :-1] == scores_QK[:, 1:]) & (ids_QK[:, :-1] < ids_QK[:, 1:])
        wrong_Q |= (~(falls_QK | is_tie_QK | ~is_row_QK[:, 1:])).any(axis=1)
        wrong_Q |= (is_row_QK[:, 1:] & ~is_row_QK[:, :-1]).any(axis=1)
        if wrong_Q.any():
            raise DataError(
                f"the results of query {start + int(np.argmax(wrong_Q))} are not in order: finite scores, highest "
                f"first, equal ones by row, rows under {corpus_size}, then padding of -1 and -inf"
            )


def _open_lists(neighbors: Neighbors, corpus_size: int) -> npt.NDArray[np.bool_]:
    """Whether rows that are not in a query's list may tie with the last row that is."""
    return (neighbors.ids_QK[:, -1] >= 0) & (neighbors.k < corpus_size)


def _find(
    pairs: Pairs, neighbors: Neighbors, is_open_Q: npt.NDArray[np.bool_], corpus_size: int
) -> tuple[Rows, Rows, Rows]:
    """The first and last rank of each pair's group of equal scores, and its declared rank; 0 where there is none."""
    first_P, last_P, rank_P = (np.zeros(len(pairs.row_P), np.int64) for _ in range(3))
    for start, stop in _blocks(len(pairs.row_P), neighbors.k):
        query_B = pairs.query_P[start:stop]
        is_it_BK = neighbors.ids_QK[query_B] == pairs.row_P[start:stop, None]
        times_B = is_it_BK.sum(axis=1)
        if (times_B > 1).any():
            pair = start + int(np.argmax(times_B > 1))
            raise DataError(f"query {pairs.query_P[pair]} found row {pairs.row_P[pair]} twice; remove the duplicate")
        is_found_B = times_B == 1
        scores_BK = neighbors.scores_QK[query_B]
        # A row that was not found can tie with the last result at best, so that one stands in for its score.
        place_B = np.where(is_found_B, is_it_BK.argmax(axis=1), neighbors.k - 1)
        score_B = scores_BK[np.arange(len(query_B)), place_B]
        higher_B = (scores_BK > score_B[:, None]).sum(axis=1)
        as_high_B = (scores_BK >= score_B[:, None]).sum(axis=1)
        may_end_later_B = is_open_Q[query_B] & (as_high_B == neighbors.k)
        has_rank_B = is_found_B | (is_open_Q[query_B] & (pairs.row_P[start:stop] >= 0))
        first_P[start:stop] = np.where(has_rank_B, 1 + higher_B, 0)
        last_P[start:stop] = np.where(has_rank_B, np.where(may_end_later_B, corpus_size, as_high_B), 0)
        rank_P[start:stop] = np.where(is_found_B, 1 + place_B, 0)
    return first_P, last_P, rank_P


def _declared(pairs: Pairs, rank_P: Rows) -> Order:
    """Ranks as they are; pairs without one (0) are left out."""
    order_P = np.lexsort((rank_P, pairs.query_P))
    order_P = order_P[rank_P[order_P] > 0]
    return Order.of(pairs.query_P[order_P], rank_P[order_P], pairs.grade_P[order_P])


def _best(pairs: Pairs, first_P: Rows) -> Order:
    """In every group that begins at `first_P` relevant rows take the first ranks, the higher grade first."""
    order_P = np.lexsort((-pairs.grade_P, first_P, pairs.query_P))
    order_P = order_P[first_P[order_P] > 0]
    query_P, first_P = pairs.query_P[order_P], first_P[order_P]
    return Order.of(query_P, first_P + _place_in_group(query_P, first_P), pairs.grade_P[order_P])


def _worst(pairs: Pairs, first_P: Rows, last_P: Rows) -> Order:
    """In every group that ends at `last_P` relevant rows take the last ranks, the lower grade first."""
    order_P = np.lexsort((pairs.grade_P, first_P, pairs.query_P))[::-1]
    order_P = order_P[first_P[order_P] > 0]
    from_end_P = _place_in_group(pairs.query_P[order_P], first_P[order_P])
    rank_P = (last_P[order_P] - from_end_P)[::-1]
    order_P = order_P[::-1]
    return Order.of(pairs.query_P[order_P], rank_P, pairs.grade_P[order_P])


def _place_in_group(query_P: Rows, first_P: Rows) -> Rows:
    """0, 1, 2, ... within each run of pairs of one query and one group."""
    place_P = np.arange(len(query_P))
    is_start_P = np.ones(len(query_P), np.bool_)
    is_start_P[1:] = (query_P[1:] != query_P[:-1]) | (first_P[1:] != first_P[:-1])
    return place_P - np.maximum.accumulate(np.where(is_start_P, place_P, 0))


def _blocks(count: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, _CELLS // max(1, width))
    return ((start, min(start + step, count)) for start in range(0, count, step))
