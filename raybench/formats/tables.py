"""Parquet with a column of vectors, and the folder of VectorDBBench.

    <folder>/train.parquet, or train-00-of-NN.parquet ...; with shuffle_ before the name where rows were shuffled
        id int, emb list<float32>
    <folder>/test.parquet          id, emb
    <folder>/neighbors.parquet     id, neighbors_id list<int>, without distances

Source: VectorDBBench, vectordb_bench/backend/dataset.py. Neighbours name ids, not rows; they are turned into rows through
the ids of the corpus where these are not 0, 1, 2, ...

Axes: N rows, Q queries, K neighbours.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import StoredNeighbors, VectorFile, listed
from raybench.formats.columns import open_column, reading
from raybench.formats.direction import whole_ids
from raybench.formats.flat import replacing
from raybench.formats.matrices import join
from raybench.formats.writing import HELD, check_dtype, check_full, runs

_GROUP_ROWS = 8_192
_PART = re.compile(r"(shuffle_)?(?P<split>[a-z]+)(-(?P<number>\d+)-of-(?P<count>\d+))?\.parquet")


@dataclass(frozen=True, slots=True)
class ParquetVectors:
    """A Parquet file, or a folder of them in the order of the numbers in their names, with a column of vectors.

    Ids are those of `id_column`, or of a column `id` of whole numbers; else a row's number is its id.
    """

    path: str
    column: str | None = None
    id_column: str | None = None

    def open(self) -> VectorFile:
        """The vectors."""
        if storage.exists(self.path):
            return open_column(self.path, self.column, self.id_column or _own_ids(self.path))
        names = sorted(
            (file.name for file in storage.list_files(self.path, ".parquet") if _is_seen(file.name)), key=_order
        )
        if not names and self.path.endswith(".parquet"):
            storage.facts(self.path)  # says in one sentence what is missing
        places = [storage.join(self.path, name) for name in names]
        parts: list[VectorFile] = [
            open_column(place, self.column, self.id_column or _own_ids(place)) for place in places
        ]
        return join(parts, names, self.path)

    def check(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """DataError for vectors that have no place here."""
        check_dtype(dtype, HELD, "Parquet")
        if file.is_bits:
            raise DataError("Parquet cannot say that bytes are packed bits; write SISAP's HDF5 instead")

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """One file of all rows, and ids where they are not the rows' numbers or a column is named for them."""
        has_ids = file.ids(0, 0) is not None
        _write(self.path, file, dtype, self.column or "emb", self.id_column or ("id" if has_ids else None))


@dataclass(frozen=True, slots=True)
class VectorDbBench:
    """A folder of VectorDBBench; `shuffled` says which where it holds both orders of the corpus."""

    folder: str
    split: Literal["train", "test"] = "train"
    shuffled: bool | None = None

    def open(self) -> VectorFile:
        """The vectors of the split."""
        names = self._parts()
        if not names:
            raise DataError(f"{self.folder} holds no {self.split}.parquet; check the folder")
        parts: list[VectorFile] = [open_column(storage.join(self.folder, name), "emb", "id") for name in names]
        return join(parts, names, self.folder)

    def check(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """DataError for vectors that have no place here, or a folder with parts that would be mixed with them."""
        others = [name for name in _matching(self.folder, self.split) if name != f"{self.split}.parquet"]
        if others:
            raise DataError(f"{self.folder} already has {others[0]}; write into another folder")
        ParquetVectors(self.folder).check(file, dtype)
        check_dtype(dtype, ("float32",), "VectorDBBench's Parquet")

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """`<split>.parquet` with ids."""
        _write(storage.join(self.folder, f"{self.split}.parquet"), file, dtype, "emb", "id")

    def neighbors(self) -> StoredNeighbors:
        """`neighbors.parquet`, its ids turned into rows of the corpus."""
        path = storage.join(self.folder, "neighbors.parquet")
        storage.facts(path)
        with reading(path), storage.open_random(path) as source:
            file = pq.ParquetFile(source)
            wanted = [name for name in ("id", "neighbors_id") if name in file.schema_arrow.names]
            if "neighbors_id" not in wanted:
                raise DataError(f"{path} has no column neighbors_id; its columns are {listed(file.schema_arrow.names)}")
            table = file.read(columns=wanted)
        self._check_queries(table, path)
        ids_QK = _lists(table["neighbors_id"].combine_chunks(), path)
        named_N = _corpus_ids(VectorDbBench(self.folder, "train", self.shuffled))
        return StoredNeighbors(ids_QK if named_N is None else _rows_of(ids_QK, named_N, path), None)

    def write_neighbors(self, stored: StoredNeighbors) -> bool:
        """`neighbors.parquet`, by the ids of the corpus and the queries where they are there; distances have no place."""
        check_full(stored, "VectorDBBench's neighbors.parquet")
        named_N = _corpus_ids(VectorDbBench(self.folder, "train", self.shuffled))
        if named_N is not None and stored.ids_QK.max(initial=-1) >= len(named_N):
            raise DataError(f"{self.folder} has {len(named_N)} rows, and row {int(stored.ids_QK.max())} is a neighbour")
        ids_QK = stored.ids_QK if named_N is None else named_N[stored.ids_QK]
        asked_Q = _corpus_ids(VectorDbBench(self.folder, "test"))
        if asked_Q is not None and len(asked_Q) != len(ids_QK):
            raise DataError(f"{self.folder} has {len(asked_Q)} queries, and there are neighbours of {len(ids_QK)}")
        lists = pa.array(list(ids_QK), pa.list_(pa.int64()))
        table = pa.table({"id": np.arange(len(ids_QK)) if asked_Q is None else asked_Q, "neighbors_id": lists})
        storage.write_table(storage.join(self.folder, "neighbors.parquet"), table)
        return False

    def _parts(self) -> list[str]:
        names = _matching(self.folder, self.split)
        orders = {name.startswith("shuffle_") for name in names}
        if len(orders) > 1 and self.shuffled is None:
            raise DataError(f"{self.folder} holds {self.split} in two orders; say shuffled=True or shuffled=False")
        names = [name for name in names if self.shuffled in (None, name.startswith("shuffle_"))]
        counts = {match["count"] for name in names if (match := _PART.fullmatch(name)) is not None}
        expected = 1 if None in counts else max((int(count) for count in counts if count is not None), default=0)
        if len(counts) > 1 or len(names) != expected:
            raise DataError(f"{self.folder} has {len(names)} files of {self.split}, not {expected}; fetch it again")
        return names

    def _check_queries(self, table: pa.Table, path: str) -> None:
        """The lists are of the queries in the order of test.parquet, where both say."""
        asked_Q = _corpus_ids(VectorDbBench(self.folder, "test")) if "id" in table.column_names else None
        if asked_Q is not None and not np.array_equal(asked_Q, table["id"].to_numpy()):
            raise DataError(f"{path} lists other queries than test.parquet, or in another order; fetch both again")


def _matching(folder: str, split: str) -> list[str]:
    found = {file.name: _PART.fullmatch(file.name) for file in storage.list_files(folder, ".parquet")}
    return sorted((name for name, match in found.items() if match is not None and match["split"] == split), key=_order)


def _corpus_ids(recipe: VectorDbBench) -> npt.NDArray[np.int64] | None:
    """The ids of a split, or None where it is not there."""
    if not _matching(recipe.folder, recipe.split):
        return None
    file = recipe.open()
    return file.ids(0, file.rows)


def _lists(lists: Any, path: str) -> npt.NDArray[np.int64]:
    if not pa.types.is_list(lists.type) and not pa.types.is_large_list(lists.type):
        raise DataError(f"{path}: neighbors_id holds {lists.type}; it must hold lists of ids")
    lengths_Q = np.asarray(pc.list_value_length(lists))
    if lists.null_count or lists.flatten().null_count or not len(lengths_Q) or (lengths_Q != lengths_Q[0]).any():
        raise DataError(f"{path} holds nulls or lists of different lengths; cut them to the shortest")
    return whole_ids(lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), int(lengths_Q[0])), path)


def _rows_of(ids_QK: npt.NDArray[np.int64], named_N: npt.NDArray[np.int64], path: str) -> npt.NDArray[np.int64]:
    if (named_N == np.arange(len(named_N))).all():
        rows_QK, is_there_QK = ids_QK, ids_QK < len(named_N)
    else:
        order_N = np.argsort(named_N, kind="stable")
        ascending_N = named_N[order_N]
        if (ascending_N[1:] == ascending_N[:-1]).any():
            twice = int(ascending_N[1:][ascending_N[1:] == ascending_N[:-1]][0])
            raise DataError(f"{path}: two rows of the corpus have id {twice}; neighbours cannot be told apart")
        rows_QK = order_N[np.minimum(np.searchsorted(ascending_N, ids_QK), len(order_N) - 1)]
        is_there_QK = named_N[rows_QK] == ids_QK
    if not is_there_QK.all():
        raise DataError(f"{path} names id {int(ids_QK[~is_there_QK][0])}, which is not in the corpus; fetch both again")
    return rows_QK


def _own_ids(path: str) -> str | None:
    with reading(path), storage.open_random(path) as source:
        schema = pq.read_schema(source)
    return "id" if "id" in schema.names and pa.types.is_integer(schema.field("id").type) else None


def _is_seen(name: str) -> bool:
    """Whether no folder on the way, nor the file, is one that engines hide, as they do with unfinished files."""
    return not any(part.startswith(("_", ".")) for part in name.split("/"))


def _order(name: str) -> list[tuple[int, str]]:
    """Names by their numbers, so that part 10 follows part 9."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


def _write(path: str, file: VectorFile, dtype: np.dtype[Any], column: str, id_column: str | None) -> None:
    fields = ([(id_column, pa.int64())] if id_column else []) + [(column, pa.list_(pa.from_numpy_dtype(dtype)))]
    # Vectors neither repeat nor shrink, and looking for it costs float16 five times the time, in reading too.
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with replacing(path) as place, pq.ParquetWriter(place, pa.schema(fields), **plain) as writer:
        start = 0
        for rows_BD in runs(file, dtype):
            stop = start + len(rows_BD)
            offsets = np.arange(len(rows_BD) + 1, dtype=np.int32) * np.int32(rows_BD.shape[1])
            arrays = [pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows_BD.reshape(-1)))]
            if id_column:
                ids = file.ids(start, stop)
                arrays = [pa.array(np.arange(start, stop) if ids is None else ids), *arrays]
            start = stop
            writer.write_table(pa.table(arrays, schema=pa.schema(fields)), row_group_size=_GROUP_ROWS)
