"""A transform turns vectors into cheaper vectors of the same meaning; corpus and queries always get the same one.

Embeddings are stored once, as float16 unit vectors; transforms are applied where the index is built, so a grid of
dimensions costs no new embedding.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raybench.arrays import Vectors
from raybench.errors import DataError
from raybench.registry import Registry


class Transform(Protocol):
    """Vectors to vectors, row by row: so it can be applied to any run of rows, and to queries as to the corpus."""

    def apply(self, vectors: Vectors) -> Vectors:
        """The transformed rows, with their row numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Float16:
    """The vectors as they are stored."""

    def apply(self, vectors: Vectors) -> Vectors:
        """The same rows."""
        return vectors


@dataclass(frozen=True, slots=True)
class Truncate:
    """The first `dim` dimensions, scaled to length one again, as float16: what Matryoshka models are trained for."""

    dim: int

    def apply(self, vectors: Vectors) -> Vectors:
        """Rows of `dim` dimensions. DataError if there are fewer, since padding would be another vector."""
        if not 1 <= self.dim <= vectors.dim:
            raise DataError(f"truncate(dim={self.dim}) does not fit vectors of {vectors.dim} dimensions")
        cut = Vectors(np.ascontiguousarray(vectors.matrix_ND[:, : self.dim]), vectors.first_row).unit()
        return Vectors(cut.matrix_ND.astype(np.float16), vectors.first_row)


TRANSFORMS: Registry[Transform] = Registry(
    "transform", {"float16": "raybench.transforms:Float16", "truncate": "raybench.transforms:Truncate"}
)
