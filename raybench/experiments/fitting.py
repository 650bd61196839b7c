"""Transforms of an evaluation's grid, fitted on the corpus that they will be applied to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError, IndexRequestError
from raybench.indexes.stored import RowSource
from raybench.transforms import Transform
from raybench.transforms.store import fit_once


@dataclass(frozen=True, slots=True)
class CollectionRows:
    """A collection as rows that a transform can be fitted on."""

    collection: RowSource
    dim: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, collection: RowSource) -> "CollectionRows":
        """Reads one row, for its dimensions and dtype."""
        row = collection.load(0, 1)
        return cls(collection, row.dim, row.matrix_ND.dtype)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.collection)

    def read_into(self, start: int, out_BD: npt.NDArray[Any]) -> None:
        """Fill a buffer with the rows from `start`."""
        out_BD[:] = self.collection.load(start, start + len(out_BD)).matrix_ND


def fitted_transform(spec: str, corpus: RowSource, seed: int, out: str) -> Transform:
    """The transform of a spec; what must be fitted is fitted on the corpus, once, and kept below `<out>/transforms`.

    IndexRequestError where it does not fit the vectors: a cell without a result.
    """
    rows = CollectionRows.of(corpus)
    try:
        transform = fit_once(spec, rows, corpus.checksum, out, seed)[0]
        transform.out_dim(rows.dim)
    except DataError as error:
        raise IndexRequestError(f"{spec} cannot be applied: {error}") from None
    return transform
