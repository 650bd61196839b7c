"""Products of rows with a fixed matrix that are the same bytes whatever the run of rows, the threads or the BLAS.

A row is read as whole numbers of 24 bits times a power of two, the matrix as whole numbers of 22 bits. Every product
and every partial sum is then a whole number that float64 holds, so a float64 product of matrices rounds nothing, and no
order of summation can show. By Cauchy, partial sums stay below sqrt(D) * 2^24 * 2^22 <= 2^53 for D <= 16,384.

float16 rows of values below 1 lose nothing to the grid; other rows move by at most 2^-25 of twice their largest value.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raybench.errors import DataError

Float64 = npt.NDArray[np.float64]

_ROW_BITS = 24
_MATRIX_BITS = 22
_MOST_DIMENSIONS = 1 << (2 * (53 - _ROW_BITS - _MATRIX_BITS))
BLOCK_ROWS = 4_096  # 25 MB of float64 at 768 dimensions


def on_grid(columns_DE: Float64) -> Float64:
    """A matrix with columns of length one at most, as whole numbers of 22 bits (float64)."""
    if len(columns_DE) > _MOST_DIMENSIONS:
        raise DataError(
            f"vectors of {len(columns_DE)} dimensions are too long; at most {_MOST_DIMENSIONS} can be summed exactly"
        )
    return np.rint(columns_DE * 2.0**_MATRIX_BITS)


def products(rows_BD: npt.NDArray[Any], grid_DE: Float64) -> tuple[Float64, Float64]:
    """Rows times the columns that `on_grid` was given, float64 [B, E] without rounding, and the lengths of the rows [B]."""
    double_BD = np.array(rows_BD, np.float64) if rows_BD.dtype != np.float16 else _widened(rows_BD)
    norms_B = np.sqrt((double_BD * double_BD).sum(axis=1))
    largest_B = np.maximum(double_BD.max(axis=1, initial=0), -double_BD.min(axis=1, initial=0))
    exponent_B = np.frexp(largest_B)[1]
    np.ldexp(double_BD, (_ROW_BITS - exponent_B)[:, None], out=double_BD)
    np.rint(double_BD, out=double_BD)
    sums_BE = np.asarray(double_BD @ grid_DE)
    np.ldexp(sums_BE, (exponent_B - _ROW_BITS - _MATRIX_BITS)[:, None], out=sums_BE)
    return sums_BE, norms_B


def _widened(rows_BD: npt.NDArray[np.float16]) -> Float64:
    rows = rows_BD if rows_BD.flags.writeable else rows_BD.copy()  # torch warns of memory that it may not write
    widened: Float64 = torch.from_numpy(rows).to(torch.float64).numpy()  # for float16 three times as fast as numpy
    return widened
