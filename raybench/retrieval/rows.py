"""Some rows of a set of vectors, read in order and a few at a time: written in an order of choice, or compared with seeds.

Axes: U rows that are asked for, ascending and different, B of them, S seeds, D dimensions.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Rows
from raybench.dedup.fingerprints import digests
from raybench.formats.base import Matrix, VectorFile, read_rows
from raybench.formats.flat import replacing
from raybench.formats.mapped import mapped

_READ_BYTES = 32 * 1024**2


def rows_at(file: VectorFile, rows_U: Rows) -> Iterator[tuple[slice, Matrix]]:
    """The rows [B, D], and which of `rows_U` they are. Of a local file, only pages that hold them are read."""
    step = max(1_024, _READ_BYTES // (file.dim * file.dtype.itemsize))
    for start in range(0, file.rows, step):
        stop = min(start + step, file.rows)
        low, high = np.searchsorted(rows_U, [start, stop]).tolist()
        if low == high:
            continue
        first, last = int(rows_U[low]), int(rows_U[high - 1]) + 1
        view = mapped(file, first, last)
        held_ND = read_rows(file, first, last) if view is None else view
        yield slice(low, high), held_ND[rows_U[low:high] - first]


def write_rows(uri: str, file: VectorFile, row_N: Rows) -> None:
    """Write rows as one `.npy`, in the order that they are given in."""
    order_N = np.argsort(row_N, kind="stable")
    rows_U = row_N[order_N]
    with replacing(uri) as path:
        out_ND = np.lib.format.open_memmap(path, "w+", file.dtype, (len(row_N), file.dim))
        for some, rows_BD in rows_at(file, rows_U):
            out_ND[order_N[some]] = rows_BD
        out_ND.flush()
        del out_ND


def equal_to(file: VectorFile, rows_U: Rows, seeds_SD: FloatMatrix, unit_SD: FloatMatrix) -> npt.NDArray[np.bool_]:
    """Which rows equal a seed, bit by bit: as it was given or at length one, in the dtype of the rows [U]."""
    given = (seeds_SD, unit_SD) if file.dtype.kind == "f" else (seeds_SD,)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes a number that no finite row has
        known_SD = np.concatenate([one.astype(file.dtype) for one in given])
    first_S, digest_S2 = np.unique(known_SD[:, 0]), digests(known_SD)
    known = np.unique(digest_S2.view([("a", "u8"), ("b", "u8")])[:, 0])
    is_equal_U = np.zeros(len(rows_U), np.bool_)
    for some, rows_BD in rows_at(file, rows_U):
        alike = np.flatnonzero(np.isin(rows_BD[:, 0], first_S))  # few rows have so much as the first number of a seed
        if len(alike):
            told = digests(rows_BD[alike]).view([("a", "u8"), ("b", "u8")])[:, 0]
            is_equal_U[some.start + alike[np.isin(told, known)]] = True
    return is_equal_U
