"""An index answers queries over a run of rows; its recipe is small and travels, what was built stays where it is.

Larger scores are better in every index; conversions from distances are done once, in the index's own file. A
sharded index is an index: whoever searches cannot tell one partition from two hundred.

An approximate index has one search-time number, its effort: how many nodes a graph keeps in view, lists it probes, or
candidates it scores again. Everything else is decided when it is built, and written in its spec: `hnsw(m=32)@128`.

Axes: Q queries, D dimensions, K results, P pairs of a query and a row that is asked about.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Neighbors, Rows, Vectors
from raybench.errors import IndexRequestError
from raybench.metrics.counts import Counts, Pairs


@dataclass(frozen=True, slots=True)
class Dial:
    """What an index's effort counts, whether it can search without one, and where it ends."""

    counts: str  # such as "lists probed"
    is_needed: bool = True
    is_k_least: bool = False  # whether it must be k at least
    most: int | None = None
    least: int = 1

    def lowest(self, k: int) -> int:
        """The least effort for k results."""
        return max(self.least, k) if self.is_k_least else self.least


@dataclass(frozen=True, slots=True)
class Activity:
    """What the last search did on one partition."""

    queries: int = 0
    seconds: float = 0.0  # on the partition itself, without transport and merging; 0 where that is all there is
    fetched: int = 0  # rows that were fetched again, because the index does not hold them
    different: int = 0  # of those, different ones

    @classmethod
    def of_rows(cls, ids_QC: Rows) -> "Activity":
        """Of queries that each looked at rows that the index does not hold; -1 is no row."""
        is_row_QC = ids_QC >= 0
        return cls(len(ids_QC), 0.0, int(is_row_QC.sum()), len(np.unique(ids_QC[is_row_QC])))


Held = dict[str, int]
"""Bytes by kind: rows (in full), codes, graph (links), ids, learnt (centroids, codebooks, ranges, rotations)."""


def add_held(parts: Iterable[Held]) -> Held:
    """The bytes of several, kind by kind."""
    total: Held = {}
    for part in parts:
        for kind, size in part.items():
            total[kind] = total.get(kind, 0) + size
    return total


class Index(Protocol):
    """One built partition, or many behind one face."""

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows of each query, as row numbers of the whole collection.

        IndexRequestError for an effort that is missing, not taken, or out of range: none is adjusted.
        """
        ...

    def last_search(self) -> list[Activity]:
        """What the last search did on each partition."""
        ...

    @property
    def held_bytes(self) -> Held:
        """Resident bytes of what was built, measured on what is held, by kind."""
        ...


class FullIndex(Index, Protocol):
    """An index that can score and rank any row, not only the best."""

    def score(self, queries_QD: FloatMatrix, pairs: Pairs) -> npt.NDArray[np.float64]:
        """The float64 score of each pair; NaN for rows that are not here."""
        ...

    def count(self, queries_QD: FloatMatrix, pairs: Pairs, score_P: npt.NDArray[np.float64]) -> Counts:
        """How many rows here come before each pair's row, whose score is given; pairs of score NaN count nothing."""
        ...


class IndexRecipe(Protocol):
    """What a spec such as `exact()` or `hnsw(m=32)` stands for."""

    @property
    def dial(self) -> Dial | None:
        """The search-time number; None for an index that has none."""
        ...

    def build(self, vectors: Vectors) -> Index:
        """Build over a run of rows, which are compared by inner product; runs on the worker that will search.

        IndexRequestError where the rows are too few, or a parameter does not fit them.
        """
        ...


def check_effort(spec: str, dial: Dial | None, effort: int | None, k: int = 1) -> None:
    """IndexRequestError for an effort that an index does not take, lacks, or that is out of range for k results."""
    if dial is None:
        if effort is not None:
            raise IndexRequestError(f"{spec} has no effort, and was asked for @{effort}; leave it out")
        return
    if effort is None:
        if dial.is_needed:
            raise IndexRequestError(f"{spec} needs an effort ({dial.counts}); write it like {spec}@64")
        return
    least = dial.lowest(k)
    if effort < least or (dial.most is not None and effort > dial.most):
        room = f"{least:,} or more" if dial.most is None else f"{least:,} to {dial.most:,}"
        wanted = f"{dial.least:,} candidates" if dial.least == least > k else f"{k:,} results"
        raise IndexRequestError(f"{spec}@{effort}: for {wanted} its effort ({dial.counts}) must be {room}")
