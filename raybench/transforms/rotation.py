"""A random rotation: nothing changes for an exact search, but each dimension then carries as much as any other.

Codes of a few bits a dimension lose least on such vectors, whatever the model put into its dimensions.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench.arrays import Vectors
from raybench.transforms.base import Rows, Symmetric
from raybench.transforms.exact import BLOCK_ROWS, Float64, on_grid, products


@dataclass(frozen=True, slots=True)
class Rotation(Symmetric):
    """The orthogonal matrix of a seed (uniform over all: Mezzadri 2007); rows as float32, the same bytes whatever the run."""

    seed: int = 0

    @property
    def needs_fit(self) -> bool:
        """Never."""
        return False

    def fit(self, corpus: Rows | None = None, seed: int = 0) -> "Rotation":  # noqa: ARG002 (there is nothing to learn)
        """Itself."""
        return self

    def apply(self, vectors: Vectors) -> Vectors:
        """The rows, turned."""
        grid_DD = _matrix(vectors.dim, self.seed)
        out_ND = np.empty((len(vectors), vectors.dim), np.float32)
        for start in range(0, len(vectors), BLOCK_ROWS):
            out_ND[start : start + BLOCK_ROWS] = products(vectors.matrix_ND[start : start + BLOCK_ROWS], grid_DD)[0]
        return Vectors(out_ND, vectors.first_row)

    def out_dim(self, dim: int) -> int:
        """The same."""
        return dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ARG002 (always the same)
        """float32."""
        return np.dtype(np.float32)

    def metric(self, asked: str) -> str:
        """The same."""
        return asked

    @property
    def key(self) -> str:
        """Its spec."""
        return f"rotation(seed={self.seed})"


@functools.lru_cache(maxsize=4)
def _matrix(dim: int, seed: int) -> Float64:
    drawn_DD = np.random.Generator(np.random.Philox(key=[seed, 0x207])).standard_normal((dim, dim))
    orthogonal_DD, triangle_DD = np.linalg.qr(drawn_DD)
    # The signs make the decomposition unique; the grid takes off the last bits, in which BLAS libraries differ.
    return on_grid(np.ascontiguousarray(orthogonal_DD * np.sign(np.diag(triangle_DD))))
