"""A run of rows of a collection, transformed and indexed: small, hashable, and all that a worker needs to search it.

It is asked with queries as they are stored, and brings them into the space of its rows itself: so what a search costs
includes it, and a second look at the stored rows has the stored queries.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Neighbors, Vectors
from raybench.errors import IndexRequestError
from raybench.indexes.base import Activity, FullIndex, Held, IndexRecipe
from raybench.indexes.rerank import Rerank, inner
from raybench.indexes.stored import RowsKey, RowSource, open_index
from raybench.metrics.counts import Counts, Pairs
from raybench.transforms import Transform


@dataclass(frozen=True, slots=True)
class Partition:
    """Which rows of what, transformed and indexed how, and where filled indexes are kept (nowhere for exact ones)."""

    collection: RowSource
    start: int
    stop: int
    transform: Transform
    recipe: IndexRecipe
    out: str = ""

    def open(self) -> FullIndex:
        """The index over these rows, which are read from storage; one that is not exact is only ever searched."""
        stored = self.collection.load(self.start, self.stop)
        rows = RowsKey(self.collection.checksum, self.transform.key, self.start, self.stop)
        recipe = inner(self.recipe)
        opened = open_index(recipe, self.transform.apply(stored), rows, self.out)
        if embeds_again(recipe):
            opened = recipe.fetching(opened, self._rows_again(recipe))  # type: ignore[attr-defined]  # of compact alone
        index = AskedAsStored(cast(FullIndex, opened), self.transform)
        return cast(FullIndex, self.recipe.over(index, stored)) if isinstance(self.recipe, Rerank) else index

    def _rows_again(self, recipe: IndexRecipe) -> Any:
        if not hasattr(self.collection, "rows_again"):
            raise IndexRequestError(
                f"{recipe} embeds rows again, and {self.collection.uri} holds vectors without what they were made of; use "
                'fetch="stored"'
            )
        return self.collection.rows_again(self.start, self.stop, self.transform)


def embeds_again(recipe: IndexRecipe) -> bool:
    """Whether an index fetches rows by embedding what they were made of."""
    return getattr(inner(recipe), "fetch", "stored") == "encoder"


@dataclass(frozen=True, slots=True, eq=False)
class AskedAsStored:
    """An index over transformed rows, asked with queries that are not transformed."""

    index: FullIndex
    transform: Transform

    @property
    def held_bytes(self) -> Held:
        """Those of the index."""
        return self.index.held_bytes

    def last_search(self) -> list[Activity]:
        """What the index did."""
        return self.index.last_search()

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows of each query."""
        return self.index.search(self._asked(queries_QD), k, effort)

    def score(self, queries_QD: FloatMatrix, pairs: Pairs) -> npt.NDArray[np.float64]:
        """The float64 score of each pair."""
        return self.index.score(self._asked(queries_QD), pairs)

    def count(self, queries_QD: FloatMatrix, pairs: Pairs, score_P: npt.NDArray[np.float64]) -> Counts:
        """How many rows come before each pair's row."""
        return self.index.count(self._asked(queries_QD), pairs, score_P)

    def _asked(self, queries_QD: FloatMatrix) -> FloatMatrix:
        return np.asarray(self.transform.ask(Vectors(np.ascontiguousarray(queries_QD))).matrix_ND)
