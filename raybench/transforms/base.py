"""A recipe says which transform; fitting it on a corpus gives the transform itself, a frozen value.

Stateless recipes (float16, truncate) are their own transforms. A fitted one holds arrays, travels to workers as it is,
and equals another if their content keys are equal: same recipe, same arrays.

Axes: N rows, B rows of a block, D dimensions before, E dimensions after.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from raybench.arrays import Vectors


class Rows(Protocol):
    """What a transform is fitted on: any opened vector file, or anything else that reads a run of rows."""

    @property
    def rows(self) -> int:
        """How many there are."""
        ...

    @property
    def dim(self) -> int:
        """Dimensions."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is read."""
        ...

    def read_into(self, start: int, out_BD: npt.NDArray[Any]) -> None:
        """Fill a buffer of `dtype` with the rows from `start`."""
        ...


class Transform(Protocol):
    """Vectors to vectors, row by row: so it can be applied to any run of rows, and to queries as to the corpus."""

    def apply(self, vectors: Vectors) -> Vectors:
        """The transformed rows, with their row numbers; the same bytes whatever the run."""
        ...

    def ask(self, vectors: Vectors) -> Vectors:
        """Queries as they are compared with transformed rows: transformed too, or in full where that is the same space."""
        ...

    def out_dim(self, dim: int) -> int:
        """The dimensions of what comes of vectors of `dim` dimensions. DataError where they do not fit."""
        ...

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of what comes of vectors of `dtype`."""
        ...

    @property
    def key(self) -> str:
        """What decides the output: equal keys give equal bytes."""
        ...


class Symmetric:
    """A transform whose queries become what its rows become."""

    __slots__ = ()

    def apply(self, vectors: Vectors) -> Vectors:
        """The transformed rows."""
        raise NotImplementedError

    def ask(self, vectors: Vectors) -> Vectors:
        """Queries, transformed as rows are."""
        return self.apply(vectors)


class TransformRecipe(Protocol):
    """What a spec such as `pca(dim=96)` stands for."""

    @property
    def needs_fit(self) -> bool:
        """Whether `fit` reads the corpus; a recipe that does not returns itself."""
        ...

    def metric(self, asked: str) -> str:
        """The metric by which its vectors are compared where the vectors themselves are compared by `asked`."""
        ...

    def fit(self, corpus: Rows | None, seed: int = 0) -> Transform:
        """The transform, fitted on a subset of the corpus that the seed draws."""
        ...
