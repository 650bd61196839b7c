"""Vectors seen through a transform: rows are transformed when they are read, so a projected corpus needs no storage."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.arrays import Vectors
from raybench.errors import DataError
from raybench.formats.base import Matrix, VectorFile, read_rows
from raybench.storage import FileFacts
from raybench.transforms import Transform
from raybench.transforms.packed import PackedRows

_BLOCK_ROWS = 8_192


@dataclass(frozen=True, slots=True, eq=False)
class Transformed:
    """A view of a vector file; `packed` gives the bits of a sketch (uint8, is_bits); `asked` vectors are queries."""

    file: VectorFile
    transform: Transform
    packed: bool = False
    asked: bool = False

    def __post_init__(self) -> None:
        if self.file.is_bits:
            raise DataError("packed bits cannot be transformed; give the vectors that they were made of")
        if self.file.dtype.kind != "f":
            raise DataError(f"vectors of {self.file.dtype} cannot be transformed; convert them to float16 or float32")
        if self.packed and self.dim % 8:
            raise DataError(f"{self.dim} bits do not fill whole bytes; leave packed out")

    @property
    def rows(self) -> int:
        """As many as the file has."""
        return self.file.rows

    @property
    def dim(self) -> int:
        """Dimensions after the transform; bits where packed."""
        return self.transform.out_dim(self.file.dim)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that the transform gives; uint8 where packed."""
        return np.dtype(np.uint8) if self.packed else self.transform.out_dtype(self.file.dtype)

    @property
    def is_bits(self) -> bool:
        """Whether bits are packed."""
        return self.packed

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """The file's own, and the transform's key as a file of no bytes, so that another transform is seen."""
        return (
            *self.file.files,
            FileFacts(f"transform:{self.transform.key}{':packed' * self.packed}{':asked' * self.asked}", 0, 0),
        )

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Fill a buffer with transformed rows from `start`."""
        for first in range(0, len(out_BD), _BLOCK_ROWS):
            block = out_BD[first : first + _BLOCK_ROWS]
            stored = read_rows(self.file, start + first, start + first + len(block))
            change = self.transform.ask if self.asked else self.transform.apply
            changed = change(Vectors(stored, start + first)).matrix_ND
            if not self.packed:
                block[:] = changed
            elif isinstance(changed, PackedRows):
                block[:] = changed.codes_NB
            else:
                raise DataError(f"{self.transform.key} gives no bits to be packed; leave packed out")

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:
        """The ids that the file gives."""
        return self.file.ids(start, stop)


@dataclass(frozen=True, slots=True)
class TransformedRecipe:
    """`transformed("base.h5", "truncate(dim=64)")`, or the folder of a fitted transform in place of a spec."""

    vectors: str
    transform: str
    packed: bool = False
    asked: bool = False

    def open(self) -> Transformed:
        """Open the vectors and load the transform."""
        from raybench.formats import open_vectors
        from raybench.transforms.store import open_transform

        return Transformed(open_vectors(self.vectors), open_transform(self.transform), self.packed, self.asked)
