"""The binary formats of big-ann-benchmarks and cuvs-bench: a header of two numbers, then all rows.

    .fbin .f16bin .hbin .u8bin .i8bin .ibin    uint32 rows, uint32 dimensions; or both uint64, where a size needs it
    .u64bin                                    ids of cuvs-bench's truth where rows exceed 2^31 - 1
    big-ann truth                              uint32 queries, uint32 k, then int32 ids [Q, K], then float32 distances [Q, K]
    cuvs-bench truth                           <name>.neighbors.ibin and <name>.distances.fbin

Which header it is follows from the size of the file, as cuvs-bench decides it. Little-endian throughout. Sources:
big-ann-benchmarks, benchmark/dataset_io.py; cuvs, python/cuvs_bench/cuvs_bench/_bin_format.py.
"""

import struct
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import StoredNeighbors, VectorFile, read_rows
from raybench.formats.direction import from_distances
from raybench.formats.flat import FlatFile, head, opened, read_exactly, replacing, size_bytes
from raybench.formats.writing import check_dtype, check_plain, distances, int32_ids, runs

DTYPES = {
    ".fbin": "<f4", ".f16bin": "<f2", ".hbin": "<f2", ".u8bin": "u1", ".i8bin": "i1", ".ibin": "<i4", ".u64bin": "<u8",
}  # fmt: skip
_VECTORS = (".fbin", ".f16bin", ".hbin", ".u8bin", ".i8bin")
_NARROW, _WIDE = struct.Struct("<II"), struct.Struct("<QQ")
_LARGEST = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Xbin:
    """A file of vectors, or of neighbours, by its suffix."""

    path: str

    def open(self) -> FlatFile:
        """The vectors."""
        suffix = self._suffix()
        if suffix not in _VECTORS:
            raise DataError(f"{self.path} holds ids, no vectors; vectors are in {', '.join(_VECTORS)}")
        return self._matrix(np.dtype(DTYPES[suffix]))

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Write all rows; the wide header only where a size needs it."""
        suffix = self._suffix()
        if suffix not in _VECTORS or file.is_bits:
            raise DataError(
                f"{suffix} cannot hold {'packed bits' if file.is_bits else 'vectors'}; choose another format"
            )
        check_dtype(dtype, (np.dtype(DTYPES[suffix]).name,), suffix)
        check_plain(file, suffix)
        layout = _NARROW if max(file.rows, file.dim) <= _LARGEST else _WIDE
        with replacing(self.path) as path, path.open("wb") as out:
            out.write(layout.pack(file.rows, file.dim))
            for rows_BD in runs(file, dtype):
                out.write(rows_BD.data)

    def neighbors(self) -> StoredNeighbors:
        """Neighbours of a combined truth file, or of cuvs-bench's pair."""
        suffix = self._suffix()
        if suffix in (".ibin", ".u64bin"):
            ids = _whole(self._matrix(np.dtype(DTYPES[suffix])))
            beside = self.path.replace("neighbors", "distances").removesuffix(suffix) + ".fbin"
            if beside == self.path or not storage.exists(beside):
                return StoredNeighbors(ids.astype(np.int64), None)
            return from_distances(ids.astype(np.int64), _whole(Xbin(beside).open()), beside)
        first = head(self.path, _NARROW.size)
        queries, k = _NARROW.unpack(first) if len(first) == _NARROW.size else (0, 0)
        if not queries or not k or size_bytes(self.path) != _NARROW.size + queries * k * 8:
            raise DataError(f"{self.path} is no truth of big-ann: its size does not follow from its header; check it")
        ids, found = np.empty((queries, k), "<i4"), np.empty((queries, k), "<f4")
        with opened(self.path) as file:
            read_exactly(file, _NARROW.size, ids, self.path)
            read_exactly(file, _NARROW.size + ids.nbytes, found, self.path)
        return from_distances(ids.astype(np.int64), found, self.path)

    def write_neighbors(self, stored: StoredNeighbors) -> None:
        """A combined truth file; `.ibin` holds ids alone, with distances in a file beside it where there are some."""
        suffix = self._suffix()
        ids = int32_ids(stored, suffix or "big-ann's truth")
        with replacing(self.path) as path, path.open("wb") as out:
            out.write(_NARROW.pack(*ids.shape))
            out.write(np.ascontiguousarray(ids).data)
            if suffix != ".ibin":
                out.write(np.ascontiguousarray(distances(stored, "big-ann's truth")).data)
        if suffix == ".ibin" and "neighbors" in self.path and stored.scores_QK is not None:
            beside = self.path.replace("neighbors", "distances").removesuffix(suffix) + ".fbin"
            with replacing(beside) as path, path.open("wb") as out:
                out.write(_NARROW.pack(*ids.shape))
                out.write(np.ascontiguousarray(distances(stored, "cuvs-bench's truth")).data)

    def _suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    def _matrix(self, dtype: np.dtype[Any]) -> FlatFile:
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


def _whole(file: FlatFile) -> Any:
    return read_rows(file)
