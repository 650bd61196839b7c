"""A run of rows of a collection, transformed and indexed: small, hashable, and all that a worker needs to search it."""

from dataclasses import dataclass
from typing import cast

from raybench.collection import Collection
from raybench.indexes.base import FullIndex, IndexRecipe
from raybench.indexes.stored import RowsKey, open_index
from raybench.transforms import Transform


@dataclass(frozen=True, slots=True)
class Partition:
    """Which rows of what, transformed and indexed how, and where filled indexes are kept (nowhere for exact ones)."""

    collection: Collection
    start: int
    stop: int
    transform: Transform
    recipe: IndexRecipe
    out: str = ""

    def open(self) -> FullIndex:
        """The index over these rows, which are read from storage; one that is not exact is only ever searched."""
        vectors = self.transform.apply(self.collection.load(self.start, self.stop))
        rows = RowsKey(self.collection.checksum, self.transform.key, self.start, self.stop)
        return cast(FullIndex, open_index(self.recipe, vectors, rows, self.out))
