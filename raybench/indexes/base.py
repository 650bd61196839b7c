"""An index answers queries over a run of rows; its recipe is small and travels, what was built stays where it is.

Larger scores are better in every index; conversions from distances are done once, in the index's own file. A
sharded index is an index: whoever searches cannot tell one partition from two hundred.

Axes: Q queries, D dimensions, K results, T targets (pairs of a query and a row that is asked about).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Neighbors, Rows, Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Pairs of a query and a row whose full rank is wanted, with the row's score once it is known."""

    query_T: Rows
    row_T: Rows
    score_T: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.query_T)


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """How many rows come before each target: counts of disjoint shards add up."""

    higher_T: Rows  # rows with a higher score
    equal_T: Rows  # rows with the same score, the target itself included
    equal_before_T: Rows  # rows with the same score and a smaller row number

    def __add__(self, other: "Ahead") -> "Ahead":
        return Ahead(
            self.higher_T + other.higher_T,
            self.equal_T + other.equal_T,
            self.equal_before_T + other.equal_before_T,
        )


class Index(Protocol):
    """One built partition, or many behind one face."""

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows of each query, as row numbers of the whole collection; exact indexes ignore effort."""
        ...

    @property
    def num_bytes(self) -> int:
        """Resident bytes of what was built."""
        ...


class FullIndex(Index, Protocol):
    """An index that can score and rank any row, not only the best."""

    def score(self, queries_QD: FloatMatrix, targets: Targets) -> npt.NDArray[np.float64]:
        """The float64 score of each target; NaN for rows that are not here."""
        ...

    def count_ahead(self, queries_QD: FloatMatrix, targets: Targets) -> Ahead:
        """How many rows here come before each target, by the scores in `targets`."""
        ...


class IndexRecipe(Protocol):
    """What a spec such as `exact()` stands for."""

    def build(self, vectors: Vectors) -> FullIndex:
        """Build over a run of rows; runs on the worker that will search."""
        ...
