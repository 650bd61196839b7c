"""`.fvecs`, `.bvecs` and `.ivecs`: every row is an int32 number of dimensions and then its values, little-endian.

`.ivecs` holds ids of neighbours from 0, without distances. Source: the TEXMEX corpus; faiss, contrib/vecs_io.py.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from raybench.errors import DataError
from raybench.formats.base import StoredNeighbors, VectorFile, read_rows
from raybench.formats.direction import whole_ids
from raybench.formats.flat import FlatFile, head, replacing, size_bytes
from raybench.formats.writing import check_dtype, check_plain, int32_ids, runs

DTYPES = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}


@dataclass(frozen=True, slots=True)
class Vecs:
    """A file of vectors or of neighbours, by its suffix."""

    path: str

    def open(self) -> FlatFile:
        """The vectors."""
        if self._suffix() == ".ivecs":
            raise DataError(f"{self.path} holds ids, no vectors; vectors are in .fvecs or .bvecs")
        return self._matrix()

    def check(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """DataError for vectors that have no place here."""
        suffix = self._suffix()
        if suffix == ".ivecs" or file.is_bits:
            what = "packed bits" if file.is_bits else "vectors"
            raise DataError(f"{suffix} cannot hold {what}; choose another format")
        check_dtype(dtype, (np.dtype(DTYPES[suffix]).name,), suffix)
        check_plain(file, suffix)
        if not file.rows:
            raise DataError(f"{suffix} says its dimensions in every row, and there are no rows; choose another format")

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Write all rows."""
        with replacing(self.path) as path, path.open("wb") as out:
            for rows_BD in runs(file, dtype):
                out.write(_with_heads(rows_BD).data)

    def neighbors(self) -> StoredNeighbors:
        """The ids of `.ivecs`."""
        if self._suffix() != ".ivecs":
            raise DataError(f"{self.path} holds vectors, no neighbours; neighbours are in .ivecs")
        return StoredNeighbors(whole_ids(read_rows(self._matrix()), self.path), None)

    def write_neighbors(self, stored: StoredNeighbors) -> bool:
        """Ids alone: the format has no place for distances."""
        if self._suffix() != ".ivecs":
            raise DataError(f"{self.path} is for vectors; write neighbours to .ivecs")
        with replacing(self.path) as path, path.open("wb") as out:
            out.write(_with_heads(int32_ids(stored, ".ivecs")).data)
        return False

    def _suffix(self) -> str:
        suffix = PurePosixPath(self.path).suffix.lower()
        if suffix not in DTYPES:
            raise DataError(f"{self.path} must end in {', '.join(DTYPES)}; its suffix says what it holds")
        return suffix

    def _matrix(self) -> FlatFile:
        dtype, size = np.dtype(DTYPES[self._suffix()]), size_bytes(self.path)
        first = head(self.path, 4)
        dim = int.from_bytes(first, "little", signed=True) if len(first) == 4 else 0
        row_bytes = 4 + dim * dtype.itemsize
        if dim < 1 or size % row_bytes:
            raise DataError(f"{self.path}: {size} bytes are no rows of {dim} dimensions; fetch or write it again")
        return FlatFile(self.path, size // row_bytes, dim, dtype, 0, head_bytes=4)


def _with_heads(rows_BD: Any) -> Any:
    heads_B1 = np.full((len(rows_BD), 1), rows_BD.shape[1], "<i4").view(np.uint8)
    return np.ascontiguousarray(np.concatenate([heads_B1, np.ascontiguousarray(rows_BD).view(np.uint8)], axis=1))
