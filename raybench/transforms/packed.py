"""Rows that are held as short codes and read as numbers: what reads them sees float32 rows, memory holds the codes.

Whatever takes a slice or a list of rows gets them decoded, and nothing is ever decoded as a whole unless it is asked for as
a whole. So an exact search over packed rows decodes one block at a time, and its resident bytes are those of the codes.

Axes: N rows, B bytes (or 16-bit words) of a row's code, C rows that are read, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Vectors

Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """A matrix [N, D] of float32 as far as a reader can tell."""

    codes_NB: Codes
    dim: int
    decode: Callable[[Codes], Float32]  # codes [C, B] to rows [C, D], all finite

    def __len__(self) -> int:
        return len(self.codes_NB)

    def __getitem__(self, rows: Any) -> Float32:
        """Decoded rows; a slice or a list of rows, never of columns."""
        return self.decode(np.ascontiguousarray(self.codes_NB[rows]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or np.float32, copy=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return len(self.codes_NB), self.dim

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is read."""
        return np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """What is held."""
        return int(self.codes_NB.nbytes)


def packed(codes_NB: Codes, dim: int, decode: Callable[[Codes], Float32], first_row: int) -> Vectors:
    """Vectors whose rows are held as codes."""
    # All that is asked of a matrix of vectors, reading rows and telling its shape, these do too.
    return Vectors(cast(FloatMatrix, PackedRows(codes_NB, dim, decode)), first_row)


def is_packed(vectors: Vectors) -> bool:
    """Whether rows are held as codes."""
    return isinstance(vectors.matrix_ND, PackedRows)


def pack_signs(is_above_ND: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Bits as bytes: bit j of a row is bit j % 8 of byte j // 8."""
    return np.packbits(is_above_ND, axis=1, bitorder="little")


def signs(codes_CB: Codes) -> Float32:
    """Packed bits as +1 and -1."""
    bits_CD = np.unpackbits(np.ascontiguousarray(codes_CB, np.uint8), axis=1, bitorder="little")
    return bits_CD.astype(np.float32) * 2 - 1
