"""A column of vectors in a Parquet file, read a batch at a time, however large its row groups are.

Parquet has no rows to seek to, and files with a million vectors in one row group are common. So a reader stays open
where it stopped: rows in order are decoded once, in batches; a step elsewhere begins again at the row group of that row.
At its end it is closed, so that a folder of a hundred parts holds the buffers of one.

Axes: B rows of a run, D dimensions.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import Matrix, listed
from raybench.storage import FileFacts

_DTYPES = {"halffloat": "float16", "float": "float32", "double": "float64", "int8": "int8", "uint8": "uint8"}
_BATCH_BYTES = 8 * 1024**2


class _Cursor:
    """The batches of a column from some row on."""

    def __init__(self, path: str, column: str, batch_rows: int, firsts: tuple[int, ...], rows: int) -> None:
        self._path, self._column, self._batch_rows, self._firsts, self._rows = path, column, batch_rows, firsts, rows
        self._position = -1
        self._batches: Iterator[Any] = iter(())
        self._rest: Any = None
        self._lock = threading.Lock()

    def take(self, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """The rows of a run, as arrays with the row that each begins at."""
        with self._lock, reading(self._path):
            if start != self._position:
                self._seek(start)
            while self._position < stop:
                if self._rest is None or not len(self._rest):
                    self._rest = next(self._batches).column(0)
                part = self._rest.slice(0, stop - self._position)
                self._rest = self._rest.slice(len(part))
                first, self._position = self._position, self._position + len(part)
                yield first, part
            if self._position == self._rows:
                self._close()

    def _close(self) -> None:
        self._position, self._batches, self._rest = -1, iter(()), None

    def _seek(self, start: int) -> None:
        self._close()  # until it is there: a failure on the way must not be taken for a place
        group = int(np.searchsorted(self._firsts, start, side="right")) - 1
        file = pq.ParquetFile(_source(self._path), pre_buffer=False, buffer_size=_BATCH_BYTES)
        groups = range(group, len(self._firsts))
        self._batches = file.iter_batches(
            self._batch_rows, row_groups=groups, columns=[self._column], use_threads=False
        )
        self._rest, skipped = None, self._firsts[group]
        while skipped < start:
            self._rest = next(self._batches).column(0)
            used = min(len(self._rest), start - skipped)
            self._rest, skipped = self._rest.slice(used), skipped + used
        self._position = start


@dataclass(frozen=True, slots=True, eq=False)
class ParquetColumn:
    """One column of one file, and of its ids."""

    path: str
    column: str
    id_column: str | None
    rows: int
    dim: int
    dtype: np.dtype[Any]
    firsts: tuple[int, ...]  # the first row of each row group that has rows
    is_bits: bool = False
    _cursors: dict[str, _Cursor] = field(default_factory=dict)

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """The one file."""
        return (storage.facts(self.path),)

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Fill a buffer with the rows from `start`."""
        for first, lists in self._take(self.column, start, start + len(out_BD)):
            out_BD[first - start : first - start + len(lists)] = self._matrix(lists, first)

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:
        """The id column, where there is one of whole numbers."""
        if self.id_column is None:
            return None
        ids = np.empty(stop - start, np.int64)
        for first, values in self._take(self.id_column, start, stop):
            if values.null_count:
                raise DataError(f"{self.path}: {self.id_column} is null near row {first}; give every row an id")
            part = values.to_numpy(zero_copy_only=False)
            if part.dtype == np.uint64 and int(part.max(initial=0)) >= 2**63:
                raise DataError(f"{self.path}: {self.id_column} has id {int(part.max())}; ids are below 2^63")
            ids[first - start : first - start + len(part)] = part
        return ids

    def _take(self, column: str, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        if start >= stop:
            return iter(())
        wide = self.dim * self.dtype.itemsize if column == self.column else 8
        rows = max(1, min(_BATCH_BYTES // wide, 65_536))
        cursor = _Cursor(self.path, column, rows, self.firsts, self.rows)
        return self._cursors.setdefault(column, cursor).take(start, stop)

    def _matrix(self, lists: Any, first_row: int) -> Matrix:
        if lists.null_count:
            row = first_row + int(np.argmax(lists.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{self.path}: row {row} of {self.column} is null; drop it")
        lengths_B = np.asarray(pc.list_value_length(lists))
        if (lengths_B != self.dim).any():
            wrong = int(np.argmax(lengths_B != self.dim))
            raise DataError(
                f"{self.path}: row {first_row + wrong} has {lengths_B[wrong]} values, the first {self.dim}; mend it"
            )
        values = lists.flatten()
        if values.null_count:
            row = first_row + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // self.dim
            raise DataError(f"{self.path}: row {row} of {self.column} has a null value; drop it")
        matrix: Matrix = values.to_numpy(zero_copy_only=False).reshape(len(lists), self.dim)
        return matrix


@contextmanager
def reading(path: str) -> Iterator[None]:
    """DataError for bytes that are no Parquet."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, StopIteration) as error:  # names too can be damaged
        reason = (str(error) or "it ends early").splitlines()[0]
        raise DataError(f"{path} is no readable Parquet file: {reason}; write it again") from None


def _source(path: str) -> Any:
    """A file for reads at any place; no mapping, because what was read of one stays resident."""
    return storage.open_random(path) if storage.is_s3(path) else pa.OSFile(storage.absolute(path), "rb")


def open_column(path: str, column: str | None, id_column: str | None) -> ParquetColumn:
    """A column of vectors: the named one, or the only one of lists of numbers."""
    storage.facts(path)
    with reading(path), _source(path) as source:
        file = pq.ParquetFile(source, pre_buffer=False)
        name = _chosen(file.schema_arrow, column, path)
        kind = file.schema_arrow.field(name).type
        if str(kind.value_type) not in _DTYPES:
            raise DataError(f"{path}: {name} holds {kind.value_type}; vectors are {', '.join(_DTYPES)}")
        if id_column is not None:
            _check_ids(file.schema_arrow, id_column, path)
        counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        dim = kind.list_size if pa.types.is_fixed_size_list(kind) else _first_length(file, name, path)
    if dim < 1 and any(counts):
        raise DataError(f"{path}: row 0 of {name} has no values; drop it")
    firsts = tuple(int(first) for first in np.cumsum([0, *counts])[:-1])
    return ParquetColumn(path, name, id_column, sum(counts), dim, np.dtype(_DTYPES[str(kind.value_type)]), firsts)


def _chosen(schema: pa.Schema, column: str | None, path: str) -> str:
    lists = [one.name for one in schema if _is_list(one.type)]
    if len(set(schema.names)) < len(schema.names):
        raise DataError(f"{path} has several columns of one name; its columns are {listed(schema.names)}")
    if column in lists:
        return str(column)
    if column is None and len(lists) == 1:
        return str(lists[0])
    asked = f"no column {column!r} of lists" if column else f"{len(lists) or 'no'} columns of lists"
    raise DataError(f"{path} has {asked}; its columns are {listed(schema.names)}: give column=...")


def _check_ids(schema: pa.Schema, id_column: str, path: str) -> None:
    if id_column not in schema.names:
        raise DataError(f"{path} has no column {id_column!r}; its columns are {listed(schema.names)}")
    kind = schema.field(id_column).type
    if not pa.types.is_integer(kind):
        raise DataError(f"{path}: {id_column} holds {kind}; ids are whole numbers")


def _first_length(file: pq.ParquetFile, name: str, path: str) -> int:
    for batch in file.iter_batches(1, columns=[name], use_threads=False):
        if len(batch):
            first = batch.column(0)[0]
            if not first.is_valid:
                raise DataError(f"{path}: row 0 of {name} is null; drop it")
            return len(first)
    return 0


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
