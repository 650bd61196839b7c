"""What every writer checks before it writes, and how rows flow to it: run by run, never a whole file in memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from raybench.errors import DataError
from raybench.formats.base import Matrix, StoredNeighbors, VectorFile, read_rows, width

HELD = ("float16", "float32", "float64", "int8", "uint8")
_RUN_BYTES = 32 * 1024**2
_RUN_IDS = 1 << 20
_LARGEST_ID = 2**31 - 1


def runs(file: VectorFile, dtype: np.dtype[Any]) -> Iterator[Matrix]:
    """All rows, a run at a time, in a dtype. DataError for rows that are not finite, or do not fit the dtype."""
    run_rows = max(1, _RUN_BYTES // max(width(file) * file.dtype.itemsize, 1))
    for start in range(0, file.rows, run_rows):
        rows_BD = read_rows(file, start, min(start + run_rows, file.rows))
        if rows_BD.dtype.kind == "f" and not np.isfinite(rows_BD).all():
            row = start + int(np.argmin(np.isfinite(rows_BD).all(axis=1)))
            raise DataError(f"row {row} has NaN or infinite values; drop it before converting")
        yield rows_BD if rows_BD.dtype == dtype else _cast(rows_BD, dtype, start)


def _cast(rows_BD: Matrix, dtype: np.dtype[Any], start: int) -> Matrix:
    with np.errstate(over="ignore", invalid="ignore"):
        cast = rows_BD.astype(dtype)
    wrong = ~np.isfinite(cast) if dtype.kind == "f" else cast != rows_BD
    if wrong.any():
        row = start + int(np.argmax(wrong.any(axis=1)))
        raise DataError(f"row {row} does not fit into {dtype}; choose a wider --dtype")
    return cast


def check_plain(file: VectorFile, what: str) -> None:
    """DataError where a format that numbers rows from 0 would lose the file's own ids."""
    for start in range(0, file.rows, _RUN_IDS):
        stop = min(start + _RUN_IDS, file.rows)
        ids = file.ids(start, stop)
        if ids is None:
            return
        if (ids != np.arange(start, stop)).any():
            row = start + int(np.argmax(ids != np.arange(start, stop)))
            raise DataError(f"{what} cannot hold ids, and row {row} has id {ids[row - start]}; write Parquet instead")


def check_dtype(dtype: np.dtype[Any], allowed: tuple[str, ...], what: str) -> None:
    """DataError where a format has no place for a dtype."""
    if dtype.name not in allowed:
        raise DataError(f"{what} cannot hold {dtype}; it holds {', '.join(allowed)}: give one of these as --dtype")


def check_full(stored: StoredNeighbors, what: str) -> None:
    """DataError where lists are padded and a format has no padding."""
    if (stored.ids_QK < 0).any():
        query = int(np.argmax((stored.ids_QK < 0).any(axis=1)))
        raise DataError(
            f"{what} has no padding, and query {query} has fewer than {stored.ids_QK.shape[1]} neighbours; use a smaller k"
        )


def int32_ids(stored: StoredNeighbors, what: str, first: int = 0) -> Matrix:
    """Ids as int32, counted from `first`. DataError where they do not fit, or where lists are padded."""
    if stored.ids_QK.max(initial=0) + first > _LARGEST_ID:
        raise DataError(f"{what} holds ids as int32, and there is id {int(stored.ids_QK.max())}; use another format")
    check_full(stored, what)
    return (stored.ids_QK + first).astype(np.int32)


def distances(stored: StoredNeighbors, what: str, dtype: type[np.floating[Any]] = np.float32) -> Matrix:
    """What to store: similarities where the source had them, distances otherwise. DataError without scores."""
    if stored.scores_QK is None:
        raise DataError(
            f"{what} needs distances, and the source has none, or only equal ones that say no direction; search for them "
            "with raybench gold"
        )
    values_QK = (stored.scores_QK if stored.meaning == "similarity" else -stored.scores_QK) + 0.0  # no -0
    with np.errstate(over="ignore"):
        cast_QK = values_QK.astype(dtype)
    if (np.isinf(cast_QK) & np.isfinite(values_QK)).any():
        raise DataError(f"{what} holds distances as {np.dtype(dtype)}, and some are too large; use another format")
    return cast_QK
