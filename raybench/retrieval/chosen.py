"""What an index gave to each query, and which query keeps which row: every row of every answer is counted once.

    found = under score + filtered + seeds + taken by another query + duplicates + surplus + kept
    asked = found + padded

A row of an answer is counted under the first that applies. Rows have one owner: the query that has it at the better rank,
and of those the first. A duplicate is close to a row that is kept. Surplus is what a query no longer needed: rows
beyond what was requested, and rows that are close to such a row.

Axes: Q queries, F rows of all answers (grouped by query, best first), U different rows of them, C candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from raybench.arrays import Rows
from raybench.errors import WorkError
from raybench.search.certified.found import slots

Flags = npt.NDArray[np.bool_]
REASONS = ("under_score", "filtered", "seeds", "taken_by_another_query", "duplicates", "surplus", "kept")


@dataclass(slots=True, eq=False)
class Answers:
    """What every query was given so far, best first; a deeper answer adds rows after those that were there."""

    rows: list[Rows]
    scores: list[npt.NDArray[np.float64]]
    asked_Q: Rows

    @classmethod
    def none(cls, queries: int) -> "Answers":
        """Before anything was asked."""
        empty = [np.zeros(0, np.int64)] * queries
        return cls(empty, [np.zeros(0)] * queries, np.zeros(queries, np.int64))

    def deepen(self, query: int, ids_K: Rows, scores_K: npt.NDArray[np.float64], asked: int) -> None:
        """Take in the answer of one query to `asked` rows; -1 pads it."""
        is_new_K = ids_K >= 0
        if len(self.rows[query]):
            is_new_K &= ~np.isin(ids_K, self.rows[query])
        self.rows[query] = np.concatenate([self.rows[query], ids_K[is_new_K]])[:asked]
        self.scores[query] = np.concatenate([self.scores[query], scores_K[is_new_K]])[:asked]
        self.asked_Q[query] = asked

    def found(self) -> Rows:
        """How many rows each query has."""
        return np.fromiter(map(len, self.rows), np.int64, len(self.rows))

    def flat(self) -> tuple[Rows, Rows, Rows, npt.NDArray[np.float64]]:
        """Query, rank from 0, row and score of everything."""
        found_Q = self.found()
        query_F = np.repeat(np.arange(len(found_Q)), found_Q)
        return query_F, slots(found_Q), np.concatenate(self.rows), np.concatenate(self.scores)


@dataclass(slots=True, eq=False)
class Facts:
    """What is known of different rows, ascending; `owner_U` is the query that keeps a row, or -1."""

    rows_U: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    is_filtered_U: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))
    is_seed_U: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))
    is_duplicate_U: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))
    owner_U: Rows = field(default_factory=lambda: np.zeros(0, np.int64))

    def place(self, row_F: Rows) -> Rows:
        """Where rows stand."""
        return np.searchsorted(self.rows_U, row_F)

    def grow(self, row_F: Rows) -> Rows:
        """Take rows in; the places of those that are new."""
        before, rows_U = self.place, np.union1d(self.rows_U, row_F)
        is_known_U = np.isin(rows_U, self.rows_U, assume_unique=True)
        old = before(rows_U[is_known_U])
        for name in ("is_filtered_U", "is_seed_U", "is_duplicate_U", "owner_U"):
            known = getattr(self, name)
            wide = np.full(len(rows_U), -1 if name == "owner_U" else 0, known.dtype)
            wide[is_known_U] = known[old]
            setattr(self, name, wide)
        self.rows_U = rows_U
        return np.flatnonzero(~is_known_U)

    def are_open(self) -> Flags:
        """Rows that a query may still have."""
        return ~(self.is_filtered_U | self.is_seed_U | self.is_duplicate_U) & (self.owner_U < 0)


def candidates(answers: Answers, facts: Facts, least_score: float, need_Q: Rows) -> tuple[Rows, Rows]:
    """Rows that queries in need may have, each once, with the query: a better rank first, then the earlier query."""
    query_F, rank_F, row_F, score_F = answers.flat()
    wanted = np.flatnonzero((need_Q[query_F] > 0) & (score_F >= least_score))
    wanted = wanted[facts.are_open()[facts.place(row_F[wanted])]]
    wanted = wanted[np.lexsort((query_F[wanted], rank_F[wanted]))]
    first = np.sort(np.unique(row_F[wanted], return_index=True)[1])
    return row_F[wanted[first]], query_F[wanted[first]]


def settle(facts: Facts, row_C: Rows, query_C: Rows, leader_C: Rows, need_Q: Rows) -> Rows:
    """Give candidates to their queries, as far as these need them; the rows that are kept now, in their order.

    `leader_C` is the row that stands for each candidate: itself, another one, or a row that is kept already.
    """
    is_leader = leader_C == row_C
    alive = np.flatnonzero(is_leader)
    grouped = alive[np.argsort(query_C[alive], kind="stable")]
    number = slots(np.bincount(query_C[grouped], minlength=len(need_Q)))
    kept = np.sort(grouped[number < need_Q[query_C[grouped]]])
    facts.owner_U[facts.place(row_C[kept])] = query_C[kept]
    rest = np.flatnonzero(~is_leader)
    is_near_kept = facts.owner_U[facts.place(leader_C[rest])] >= 0
    facts.is_duplicate_U[facts.place(row_C[rest[is_near_kept]])] = True
    return row_C[kept]


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The end of it: kept rows by query and rank (from 0), and the counts of each query."""

    query_K: Rows
    rank_K: Rows
    row_K: Rows
    score_K: npt.NDArray[np.float64]
    counts: dict[str, Rows]  # by reason and "asked", "found", "padded"; one number for each query

    @classmethod
    def of(cls, answers: Answers, facts: Facts, least_score: float) -> "Chosen":
        """WorkError unless every row of every answer is counted once."""
        query_F, rank_F, row_F, score_F = answers.flat()
        place_F = facts.place(row_F)
        is_under_F = ~(score_F >= least_score)
        # Rows that are only under the score may not be among the facts.
        place_F = np.where(is_under_F, 0, place_F)
        owner_F = facts.owner_U[place_F] if len(facts.rows_U) else np.full(len(row_F), -1)
        is_known = len(facts.rows_U) > 0
        cases: Sequence[Flags] = (
            is_under_F, facts.is_filtered_U[place_F], facts.is_seed_U[place_F], (owner_F >= 0) & (owner_F != query_F),
            facts.is_duplicate_U[place_F], owner_F < 0,
        ) if is_known else (is_under_F,)  # fmt: skip
        reason_F = np.select(list(cases), list(range(len(cases))), len(REASONS) - 1)
        counts = {"asked": answers.asked_Q, "found": answers.found(), "padded": answers.asked_Q - answers.found()}
        for number, name in enumerate(REASONS):
            counts[name] = np.bincount(query_F[reason_F == number], minlength=len(answers.asked_Q))
        counted_Q = np.sum([counts[name] for name in REASONS], axis=0)
        if (counted_Q != counts["found"]).any() or (counts["padded"] < 0).any():
            raise WorkError("rows of an answer are not accounted for; this is a defect of raybench")
        kept = np.flatnonzero(reason_F == len(REASONS) - 1)
        return cls(query_F[kept], rank_F[kept], row_F[kept], score_F[kept], counts)
