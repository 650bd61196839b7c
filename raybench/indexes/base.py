"""An index answers queries over a run of rows; its recipe is small and travels, what was built stays where it is.

Larger scores are better in every index; conversions from distances are done once, in the index's own file. A
sharded index is an index: whoever searches cannot tell one partition from two hundred.

Axes: Q queries, D dimensions, K results, P pairs of a query and a row that is asked about.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Neighbors, Vectors
from raybench.metrics.counts import Counts, Pairs


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

    def score(self, queries_QD: FloatMatrix, pairs: Pairs) -> npt.NDArray[np.float64]:
        """The float64 score of each pair; NaN for rows that are not here."""
        ...

    def count(self, queries_QD: FloatMatrix, pairs: Pairs, score_P: npt.NDArray[np.float64]) -> Counts:
        """How many rows here come before each pair's row, whose score is given; pairs of score NaN count nothing."""
        ...


class IndexRecipe(Protocol):
    """What a spec such as `exact()` stands for."""

    def build(self, vectors: Vectors) -> FullIndex:
        """Build over a run of rows; runs on the worker that will search."""
        ...
