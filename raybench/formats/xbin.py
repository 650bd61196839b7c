"""The binary formats of big-ann-benchmarks and cuvs-bench: a header of two numbers, then all rows.

    .fbin .f16bin .hbin .u8bin .i8bin .ibin    uint32 rows, uint32 dimensions; or both uint64, where a size needs it
    .u64bin                                    ids of cuvs-bench's truth where rows exceed 2^31 - 1
    .bin and others: big-ann's truth           uint32 queries, uint32 k, int32 ids [Q, K], then float32 distances [Q, K]
    cuvs-bench's truth                         <name>.neighbors.ibin and <name>.distances.fbin

Which header it is follows from the size of the file, as cuvs-bench decides it. Little-endian throughout. Sources:
big-ann-benchmarks, benchmark/dataset_io.py; cuvs, python/cuvs_bench/cuvs_bench/_bin_format.py.
"""

import posixpath
import struct
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import Matrix, StoredNeighbors, VectorFile, read_rows
from raybench.formats.direction import from_distances, whole_ids
from raybench.formats.flat import FlatFile, head, opened, read_exactly, replacing, size_bytes
from raybench.formats.writing import check_dtype, check_full, check_plain, distances, int32_ids, runs

DTYPES = {
    ".fbin": "<f4", ".f16bin": "<f2", ".hbin": "<f2", ".u8bin": "u1", ".i8bin": "i1", ".ibin": "<i4", ".u64bin": "<u8",
}  # fmt: skip
_VECTORS = (".fbin", ".f16bin", ".hbin", ".u8bin", ".i8bin")
_IDS = (".ibin", ".u64bin")
_NARROW, _WIDE = struct.Struct("<II"), struct.Struct("<QQ")
_LARGEST = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Xbin:
    """A file of vectors, or of neighbours, by its suffix."""

    path: str

    def open(self) -> FlatFile:
        """The vectors."""
        if self._suffix() not in _VECTORS:
            raise DataError(f"{self.path} is named like ids, not vectors; vectors are in {', '.join(_VECTORS)}")
        return self._matrix()

    def check(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """DataError for vectors that have no place here."""
        suffix = self._suffix()
        if suffix not in _VECTORS or file.is_bits:
            what = "packed bits" if file.is_bits else "vectors"
            raise DataError(f"{suffix or self.path} cannot hold {what}; choose another format")
        check_dtype(dtype, (np.dtype(DTYPES[suffix]).name,), suffix)
        check_plain(file, suffix)

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Write all rows; the wide header only where a size needs it."""
        layout = _NARROW if max(file.rows, file.dim) <= _LARGEST else _WIDE
        with replacing(self.path) as path, path.open("wb") as out:
            out.write(layout.pack(file.rows, file.dim))
            for rows_BD in runs(file, dtype):
                out.write(rows_BD.data)

    def neighbors(self) -> StoredNeighbors:
        """Neighbours of a combined truth file, or of cuvs-bench's pair."""
        if self._suffix() in _VECTORS:
            raise DataError(
                f"{self.path} is named like vectors, not neighbours; neighbours are in .ibin, .u64bin, .bin"
            )
        combined = self._combined()
        if combined is not None:
            return combined
        if self._suffix() not in _IDS:
            raise DataError(f"{self.path} is no truth of big-ann: its size does not follow from its header; check it")
        ids = whole_ids(read_rows(self._matrix()), self.path)
        beside = self._distances_path()
        if beside is None or not storage.exists(beside):
            return StoredNeighbors(ids, None)
        return from_distances(ids, read_rows(Xbin(beside).open()), beside)

    def write_neighbors(self, stored: StoredNeighbors) -> bool:
        """A combined truth file; `.ibin` and `.u64bin` hold ids alone, with distances in a file beside if named for it."""
        suffix = self._suffix()
        if suffix in _VECTORS:
            raise DataError(f"{self.path} is for vectors; write neighbours to .ibin, .u64bin or .bin")
        if suffix == ".u64bin":
            check_full(stored, suffix)
        ids = stored.ids_QK.astype("<u8") if suffix == ".u64bin" else int32_ids(stored, suffix or "big-ann's truth")
        if suffix not in _IDS:
            _write(self.path, ids, distances(stored, "big-ann's truth"))
            return True
        beside = self._distances_path()
        if stored.scores_QK is None or beside is None:
            if beside is not None and storage.exists(beside):
                raise DataError(f"{beside} is there and would be taken for distances of what is written; move it away")
            _write(self.path, ids)
            return False
        _write(beside, distances(stored, "cuvs-bench's truth"))
        _write(self.path, ids)
        return True

    def _combined(self) -> StoredNeighbors | None:
        """Big-ann's truth, where the size of the file is that of one."""
        first = head(self.path, _NARROW.size)
        queries, k = _NARROW.unpack(first) if len(first) == _NARROW.size else (0, 0)
        is_one = queries and k and size_bytes(self.path) == _NARROW.size + queries * k * 8
        if not is_one or self._suffix() == ".u64bin":
            return None
        ids, found = np.empty((queries, k), "<i4"), np.empty((queries, k), "<f4")
        with opened(self.path) as file:
            read_exactly(file, _NARROW.size, ids, self.path)
            read_exactly(file, _NARROW.size + ids.nbytes, found, self.path)
        return from_distances(whole_ids(ids, self.path), found, self.path)

    def _distances_path(self) -> str | None:
        """The file beside, where the name says that there can be one."""
        folder, name = posixpath.split(self.path)
        if "neighbors" not in name:
            return None
        stem = name[: -len(self._suffix())].replace("neighbors", "distances")
        return posixpath.join(folder, f"{stem}.fbin")

    def _suffix(self) -> str:
        return PurePosixPath(self.path).suffix.lower()

    def _matrix(self) -> FlatFile:
        dtype = np.dtype(DTYPES[self._suffix()])
        size, first = size_bytes(self.path), head(self.path, _WIDE.size)
        for layout in (_NARROW, _WIDE):
            if len(first) < layout.size:
                break
            rows, dim = layout.unpack(first[: layout.size])
            if dim and size == layout.size + rows * dim * dtype.itemsize:
                return FlatFile(self.path, rows, dim, dtype, layout.size)
        raise DataError(
            f"{self.path} has {size} bytes, which no header of two numbers explains for {dtype}; fetch or write it again"
        )


def _write(path: str, *arrays_QK: Matrix) -> None:
    with replacing(path) as place, place.open("wb") as out:
        out.write(_NARROW.pack(*arrays_QK[0].shape))
        for array_QK in arrays_QK:
            out.write(np.ascontiguousarray(array_QK).data)
