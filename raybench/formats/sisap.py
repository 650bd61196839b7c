"""HDF5 files of the SISAP challenges.

Vectors: `emb` (float16 corpora, float32 queries), `pca32`, `pca96` (float32), `hamming` (uint64 [N, 16], 1,024 bits); from
2025 `train` and groups `itest`, `otest` with `queries`. Neighbours: `knns` from 1 and `dists`, at the root or in `itest`,
`otest`, `allknn`. Julia writes k x n column by column, which is the same bytes as [N, K] here; its JLD2 files are HDF5.
Bits are the bytes of the little-endian words, so bit order within a row is the same for corpus and queries.

Axes: N rows, Q queries, K neighbours.
"""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from raybench.errors import DataError
from raybench.formats import hdf5
from raybench.formats.base import StoredNeighbors, VectorFile
from raybench.formats.direction import from_distances, whole_ids
from raybench.formats.writing import HELD, check_dtype, check_plain, distances, int32_ids

DATASETS = ("emb", "pca32", "pca96", "hamming", "train", "itest/queries", "otest/queries")
GROUPS = ("", "itest/", "otest/", "allknn/")


@dataclass(frozen=True, slots=True)
class Sisap:
    """A file of a SISAP challenge; `dataset` such as "itest/queries" where it holds several.

    Written anew, unless a dataset is named: then that one is added to what the file holds.
    """

    path: str
    dataset: str | None = None

    def open(self) -> VectorFile:
        """The vectors."""
        with hdf5.opened(self.path) as file:
            return hdf5.vectors(file, self.dataset or _only(file, self.path), self.path)

    def check(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """DataError for vectors that have no place here."""
        check_plain(file, "SISAP's HDF5")
        check_dtype(dtype, HELD, "SISAP's HDF5")
        if self.path.lower().endswith(".jld2"):
            raise DataError(
                f"{self.path} would be JLD2, which Julia alone writes; end it in .h5, which Julia reads too"
            )
        if file.is_bits and file.dim % 64:
            raise DataError(f"SISAP's HDF5 holds bits as words of 64, and rows have {file.dim}; choose another sketch")

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Write all rows under the name of their family: `emb`, or `hamming` for bits, unless a dataset is given."""
        name = (self.dataset or ("hamming" if file.is_bits else "emb")).strip("/")
        stored = np.dtype(np.uint64) if file.is_bits else dtype
        columns = file.dim // 64 if file.is_bits else file.dim
        with hdf5.writing(self.path, adds=self.dataset is not None) as out:
            hdf5.put_rows(hdf5.put(out, name, (file.rows, columns), stored, self.path), file, dtype)

    def neighbors(self) -> StoredNeighbors:
        """`knns` and `dists`, wherever the file has them; `dataset` names the group where there are several."""
        with hdf5.opened(self.path) as file:
            found = [name for name in GROUPS if hdf5.find(file, f"{name}knns", self.path) is not None]
            if self.dataset is None and len(found) > 1:
                where = ", ".join(repr(name.rstrip("/")) for name in found)
                raise DataError(f"{self.path} has neighbours in {where}; say which as dataset=...")
            prefix = self._group() if self.dataset is not None else found[0] if found else ""
            if hdf5.find(file, f"{prefix}knns", self.path) is None:
                raise DataError(f"{self.path} holds no {prefix}knns; it has {hdf5.names(file)}")
            ids = whole_ids(hdf5.matrix(file, f"{prefix}knns", self.path), self.path, first=1)
            has_distances = hdf5.find(file, f"{prefix}dists", self.path) is not None
            stored = hdf5.matrix(file, f"{prefix}dists", self.path) if has_distances else None
        return StoredNeighbors(ids, None) if stored is None else from_distances(ids, stored, self.path)

    def write_neighbors(self, stored: StoredNeighbors) -> bool:
        """`knns` from 1 (int32) and `dists` (float32)."""
        ids, numbers = int32_ids(stored, "SISAP's HDF5", 1), distances(stored, "SISAP's HDF5")
        with hdf5.writing(self.path, adds=self.dataset is not None) as out:
            for name, array in (("knns", ids), ("dists", numbers)):
                hdf5.put(out, f"{self._group()}{name}", array.shape, array.dtype, self.path)[...] = array
        return True

    def _group(self) -> str:
        """The group of neighbours, with its slash; the root where none is named."""
        group = (self.dataset or "").strip("/").removesuffix("knns").strip("/")
        return f"{group}/" if group else ""


def _only(file: h5py.File, path: str) -> str:
    found = [name for name in DATASETS if hdf5.find(file, name, path) is not None]
    if "train" in found:
        return "train"  # a bundle: the corpus, unless the queries are asked for
    if len(found) != 1:
        there = hdf5.names(file)
        raise DataError(
            f"{path} holds {'several vectors' if found else 'no known vectors'} ({there}); give dataset=..."
        )
    return found[0]
