"""The exact rank of a relevant row is a count over the corpus, and counts over blocks or shards add up.

For each judged pair three numbers are enough: how many rows score higher, how many score the same, and how many of
those have a smaller row number. They are sums over rows, so 1, 2 or 200 shards give the same ranks, no list of
results is kept or merged, and ties are seen whole.

Axes: Q queries, P judged pairs of a query and a relevant row, B rows of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raybench.arrays import Qrels, Rows
from raybench.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """All judgments flat: pair p says that row `row_P[p]` answers query `query_P[p]`; ordered by query.

    A row under 0 is relevant, but not in the corpus: it counts as relevant and is never found.
    """

    query_P: Rows
    row_P: Rows
    grade_P: Rows
    queries: int

    @classmethod
    def of(cls, qrels: Qrels) -> "Pairs":
        """The judgments of all queries, numbered by their position."""
        lengths_Q = np.fromiter(map(len, qrels.relevant), np.int64, len(qrels))
        total = int(lengths_Q.sum())
        return cls(
            query_P=np.repeat(np.arange(len(qrels), dtype=np.int64), lengths_Q),
            row_P=np.concatenate(qrels.relevant).astype(np.int64, copy=False) if total else np.zeros(0, np.int64),
            grade_P=np.concatenate(qrels.grades).astype(np.int64, copy=False) if total else np.zeros(0, np.int64),
            queries=len(qrels),
        )

    def __len__(self) -> int:
        return len(self.row_P)

    def part(self, start: int, stop: int) -> "Pairs":
        """The pairs of queries start to stop, which are numbered from 0 again."""
        first, last = np.searchsorted(self.query_P, [start, stop])
        query_P = self.query_P[first:last] - start
        return Pairs(query_P, self.row_P[first:last], self.grade_P[first:last], min(stop, self.queries) - start)


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What `rows` rows of the corpus say about each pair's rank; parts of one corpus are added with +."""

    higher_P: Rows  # rows with a strictly higher score
    before_P: Rows  # rows with the same score and a smaller row number
    tied_P: Rows  # rows with the same score, the relevant row among them
    seen_P: Rows  # 1 where the relevant row itself was among the rows
    rows: int

    @classmethod
    def none(cls, pairs: Pairs) -> "Counts":
        """Nothing counted yet."""
        higher_P, before_P, tied_P, seen_P = np.zeros((4, len(pairs)), np.int64)
        return cls(higher_P, before_P, tied_P, seen_P, 0)

    def __add__(self, other: "Counts") -> "Counts":
        """The counts over the rows of both."""
        if len(self.higher_P) != len(other.higher_P):
            raise DataError(f"counts of {len(self.higher_P)} and {len(other.higher_P)} pairs cannot be added")
        return Counts(
            self.higher_P + other.higher_P,
            self.before_P + other.before_P,
            self.tied_P + other.tied_P,
            self.seen_P + other.seen_P,
            self.rows + other.rows,
        )

    @classmethod
    def join(cls, parts: Sequence["Counts"]) -> "Counts":
        """The counts of runs of queries over the same rows, one after the other."""
        if len({part.rows for part in parts}) != 1:
            raise DataError(f"parts over {[part.rows for part in parts]} rows cannot be joined; count the same rows")
        return cls(
            np.concatenate([part.higher_P for part in parts]),
            np.concatenate([part.before_P for part in parts]),
            np.concatenate([part.tied_P for part in parts]),
            np.concatenate([part.seen_P for part in parts]),
            parts[0].rows,
        )
