"""Transforms without anything to learn: they are their own recipes.

Embeddings are stored once, as float16 unit vectors; transforms are applied where the index is built, so a grid of
dimensions costs no new embedding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench.arrays import Vectors
from raybench.errors import DataError
from raybench.transforms.base import Rows, Symmetric

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Stored(Symmetric):
    """Vectors as they are stored, whatever their dtype."""

    @property
    def needs_fit(self) -> bool:
        """Never."""
        return False

    def fit(self, corpus: Rows | None = None, seed: int = 0) -> "Stored":  # noqa: ARG002 (there is nothing to learn)
        """Itself."""
        return self

    def apply(self, vectors: Vectors) -> Vectors:
        """The same."""
        return vectors

    def out_dim(self, dim: int) -> int:
        """The same."""
        return dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The same."""
        return dtype

    def metric(self, asked: str) -> str:
        """The same."""
        return asked

    @property
    def key(self) -> str:
        """Its spec."""
        return "stored()"


@dataclass(frozen=True, slots=True)
class Float16(Symmetric):
    """Half precision; vectors that are stored as float16, as embeddings here are, stay as they are."""

    @property
    def needs_fit(self) -> bool:
        """Never."""
        return False

    def fit(self, corpus: Rows | None = None, seed: int = 0) -> "Float16":  # noqa: ARG002 (there is nothing to learn)
        """Itself."""
        return self

    def apply(self, vectors: Vectors) -> Vectors:
        """The rows as float16. DataError where a number is too large for it."""
        if vectors.matrix_ND.dtype == np.float16:
            return vectors
        if np.abs(vectors.matrix_ND).max(initial=0) > _LARGEST:
            raise DataError(
                f"float16() holds numbers up to {_LARGEST:g}, and the vectors have larger ones; leave it out"
            )
        return Vectors(vectors.matrix_ND.astype(np.float16), vectors.first_row)

    def out_dim(self, dim: int) -> int:
        """The same."""
        return dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ARG002 (always the same)
        """float16."""
        return np.dtype(np.float16)

    def metric(self, asked: str) -> str:
        """The same."""
        return asked

    @property
    def key(self) -> str:
        """Its spec."""
        return "float16()"


@dataclass(frozen=True, slots=True)
class Truncate(Symmetric):
    """The first `dim` dimensions, scaled to length one again, as float16: what Matryoshka models are trained for."""

    dim: int

    @property
    def needs_fit(self) -> bool:
        """Never."""
        return False

    def fit(self, corpus: Rows | None = None, seed: int = 0) -> "Truncate":  # noqa: ARG002 (there is nothing to learn)
        """Itself."""
        return self

    def apply(self, vectors: Vectors) -> Vectors:
        """Rows of `dim` dimensions. DataError if there are fewer, since padding would be another vector."""
        self.out_dim(vectors.dim)
        cut = Vectors(np.ascontiguousarray(vectors.matrix_ND[:, : self.dim]), vectors.first_row).unit()
        return Vectors(cut.matrix_ND.astype(np.float16), vectors.first_row)

    def out_dim(self, dim: int) -> int:
        """`dim`, if there are as many."""
        if not 1 <= self.dim <= dim:
            raise DataError(f"truncate(dim={self.dim}) does not fit vectors of {dim} dimensions")
        return self.dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ARG002 (always the same)
        """float16."""
        return np.dtype(np.float16)

    def metric(self, asked: str) -> str:
        """The same."""
        return asked

    @property
    def key(self) -> str:
        """Its spec."""
        return f"truncate(dim={self.dim})"
