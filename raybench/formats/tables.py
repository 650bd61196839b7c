"""Parquet with a column of vectors, and the folder of VectorDBBench: row groups are read only where rows are wanted.

    <folder>/train.parquet, or train-00-of-NN.parquet ...; with shuffle_ before the name where rows were shuffled
        id int, emb list<float32>
    <folder>/test.parquet          id, emb
    <folder>/neighbors.parquet     id, neighbors_id list<int>, without distances

Source: VectorDBBench, vectordb_bench/backend/dataset.py. Neighbours name ids, not rows; they are turned into rows through
the ids of the corpus where these are not 0, 1, 2, ...

Axes: B rows of a run, D dimensions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import Matrix, StoredNeighbors, VectorFile
from raybench.formats.flat import replacing
from raybench.formats.matrices import join
from raybench.formats.writing import check_dtype, runs
from raybench.storage import FileFacts

_DTYPES = {"halffloat": "float16", "float": "float32", "double": "float64", "int8": "int8", "uint8": "uint8"}
_GROUP_ROWS = 8_192


@dataclass(frozen=True, slots=True, eq=False)
class ParquetColumn:
    """One column of one file."""

    path: str
    column: str
    id_column: str | None
    rows: int
    dim: int
    dtype: np.dtype[Any]
    first_rows: tuple[int, ...]  # of each row group
    is_bits: bool = False

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """The one file."""
        return (storage.facts(self.path),)

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Fill a buffer with the rows from `start`."""
        filled = 0
        for first, column in self._groups(self.column, start, start + len(out_BD)):
            low = max(start - first, 0)
            part = column.slice(low, min(len(column) - low, len(out_BD) - filled))
            out_BD[filled : filled + len(part)] = self._matrix(part, first + low)
            filled += len(part)

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:
        """The id column, where there is one of whole numbers."""
        if self.id_column is None:
            return None
        found = []
        for first, column in self._groups(self.id_column, start, stop):
            low = max(start - first, 0)
            found.append(column.slice(low, max(min(len(column), stop - first) - low, 0)).to_numpy(zero_copy_only=False))
        return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)

    def _groups(self, column: str, start: int, stop: int) -> Any:
        with storage.open_random(self.path) as source:
            file = pq.ParquetFile(source)
            for group, first in enumerate(self.first_rows):
                if first < stop and start < first + file.metadata.row_group(group).num_rows:
                    yield first, file.read_row_group(group, columns=[column]).column(0).combine_chunks()

    def _matrix(self, column: Any, first_row: int) -> Matrix:
        lists = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        if lists.null_count:
            row = first_row + int(np.argmax(lists.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{self.path}: row {row} of {self.column} is null; drop it")
        values = lists.flatten()
        lengths = np.asarray(pa.compute.list_value_length(lists))
        if (lengths != self.dim).any():
            wrong = int(np.argmax(lengths != self.dim))
            raise DataError(
                f"{self.path}: row {first_row + wrong} has {lengths[wrong]} values, the first {self.dim}; mend it"
            )
        if values.null_count:
            raise DataError(f"{self.path}: {self.column} has null values near row {first_row}; drop those rows")
        matrix: Matrix = values.to_numpy(zero_copy_only=False).reshape(len(lists), self.dim)
        return matrix


def open_column(path: str, column: str | None, id_column: str | None) -> ParquetColumn:
    """A column of vectors: the named one, or the only one of lists of numbers."""
    storage.facts(path)
    try:
        with storage.open_random(path) as source:
            file = pq.ParquetFile(source)
            schema, metadata = file.schema_arrow, file.metadata
            lists = [field.name for field in schema if pa.types.is_list(field.type) or _is_list(field.type)]
            name = column or (lists[0] if len(lists) == 1 else None)
            if name is None or name not in lists:
                asked = f"no column {column!r} of lists" if column else f"{len(lists) or 'no'} columns of lists"
                raise DataError(f"{path} has {asked}; its columns are {', '.join(schema.names)}: give column=...")
            value_type = str(schema.field(name).type.value_type)
            if value_type not in _DTYPES:
                raise DataError(f"{path}: {name} holds {value_type}; vectors are {', '.join(_DTYPES)}")
            counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            dim = len(file.read_row_group(0, columns=[name]).column(0)[0]) if metadata.num_rows else 0
            held = (
                id_column if id_column in schema.names and pa.types.is_integer(schema.field(id_column).type) else None
            )
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no readable Parquet file: {str(error).splitlines()[0]}; write it again") from None
    firsts = tuple(int(first) for first in np.cumsum([0, *counts[:-1]])) if counts else ()
    return ParquetColumn(path, name, held, metadata.num_rows, dim, np.dtype(_DTYPES[value_type]), firsts)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))


def _write(path: str, file: VectorFile, dtype: np.dtype[Any], column: str, id_column: str | None) -> None:
    check_dtype(dtype, ("float16", "float32", "float64", "int8", "uint8"), "Parquet")
    if file.is_bits:
        raise DataError("Parquet cannot say that bytes are packed bits; write SISAP's HDF5 instead")
    values = pa.list_(pa.from_numpy_dtype(dtype))
    fields = ([(id_column, pa.int64())] if id_column else []) + [(column, values)]
    with replacing(path) as place, pq.ParquetWriter(place, pa.schema(fields), compression="zstd") as writer:
        start = 0
        for rows_BD in runs(file, dtype):
            offsets = np.arange(len(rows_BD) + 1, dtype=np.int32) * rows_BD.shape[1]
            arrays = [pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows_BD.reshape(-1)))]
            if id_column:
                ids = file.ids(start, start + len(rows_BD))
                arrays = [pa.array(np.arange(start, start + len(rows_BD)) if ids is None else ids), *arrays]
            start += len(rows_BD)
            writer.write_table(pa.table(arrays, schema=pa.schema(fields)), row_group_size=_GROUP_ROWS)


@dataclass(frozen=True, slots=True)
class ParquetVectors:
    """A Parquet file, or a folder of them in the order of their names, with a column of vectors."""

    path: str
    column: str | None = None
    id_column: str | None = None

    def open(self) -> VectorFile:
        """The vectors."""
        if self.path.endswith(".parquet"):
            return open_column(self.path, self.column, self.id_column)
        names = [file.name for file in storage.list_files(self.path, ".parquet")]
        parts: list[VectorFile] = [
            open_column(storage.join(self.path, name), self.column, self.id_column) for name in names
        ]
        return join(parts, names, self.path)

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """One file of all rows, and ids where they are not the rows' numbers or a column is named for them."""
        has_ids = bool(file.rows) and file.ids(0, 1) is not None
        _write(self.path, file, dtype, self.column or "emb", self.id_column or ("id" if has_ids else None))


@dataclass(frozen=True, slots=True)
class VectorDbBench:
    """A folder of VectorDBBench; `split` is "train" or "test"."""

    folder: str
    split: str = "train"

    def open(self) -> VectorFile:
        """The vectors of the split."""
        names = [
            file.name
            for file in storage.list_files(self.folder, ".parquet")
            if file.name.removeprefix("shuffle_").startswith((f"{self.split}.", f"{self.split}-"))
        ]
        if not names:
            raise DataError(f"{self.folder} holds no {self.split}.parquet; check the folder")
        parts: list[VectorFile] = [open_column(storage.join(self.folder, name), "emb", "id") for name in names]
        return join(parts, names, self.folder)

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """`<split>.parquet` with ids."""
        check_dtype(dtype, ("float32",), "VectorDBBench's Parquet")
        _write(storage.join(self.folder, f"{self.split}.parquet"), file, dtype, "emb", "id")

    def neighbors(self) -> StoredNeighbors:
        """`neighbors.parquet`, its ids turned into rows of the corpus."""
        path = storage.join(self.folder, "neighbors.parquet")
        storage.facts(path)
        table = storage.read_table(path, ["neighbors_id"])
        lists = table.column(0).combine_chunks()
        lengths = np.asarray(pa.compute.list_value_length(lists))
        if not len(lengths) or (lengths != lengths[0]).any():
            raise DataError(f"{path} holds lists of different lengths; cut them to the shortest")
        ids = np.asarray(lists.flatten()).astype(np.int64).reshape(len(lists), int(lengths[0]))
        corpus = self.open()
        named = corpus.ids(0, corpus.rows)
        if named is None or (named == np.arange(corpus.rows)).all():
            return StoredNeighbors(ids, None)
        order = np.argsort(named, kind="stable")
        place = np.minimum(np.searchsorted(named, ids, sorter=order), len(order) - 1)
        rows = order[place]
        if (named[rows] != ids).any():
            raise DataError(
                f"{path} names id {int(ids[named[rows] != ids][0])}, which is not in {self.folder}; fetch it again"
            )
        return StoredNeighbors(rows, None)

    def write_neighbors(self, stored: StoredNeighbors) -> None:
        """`neighbors.parquet`; distances have no place there."""
        if (stored.ids_QK < 0).any():
            raise DataError("VectorDBBench's neighbors.parquet has no padding; use a smaller k")
        lists = pa.array(list(stored.ids_QK), pa.list_(pa.int64()))
        table = pa.table({"id": pa.array(np.arange(len(lists))), "neighbors_id": lists})
        storage.write_table(storage.join(self.folder, "neighbors.parquet"), table)
