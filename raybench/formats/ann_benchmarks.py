"""HDF5 data sets of ann-benchmarks.

`train`, `test`, `neighbors` from 0 (int32 or int64), `distances` (float32 or float64); attributes `type`, `distance`,
`dimension`, `point_type`, of which old files lack some. Published files are int32 and float32, what its code writes today
is int64 and float64; both are read, and `wide` writes the second. Bits are single booleans, packed here most significant
bit first. Source: ann-benchmarks, ann_benchmarks/datasets.py.

Axes: Q queries, K neighbours.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import h5py
import numpy as np

from raybench import storage
from raybench.errors import DataError
from raybench.formats import hdf5
from raybench.formats.base import StoredNeighbors, VectorFile
from raybench.formats.direction import from_distances, whole_ids
from raybench.formats.writing import check_dtype, check_full, check_plain, distances, int32_ids

_METRICS = {"angular": "cosine", "euclidean": "l2", "hamming": "hamming"}


@dataclass(frozen=True, slots=True)
class AnnBenchmarks:
    """A data set of ann-benchmarks. What is written is added to the file, which is made where it is not there.

    A new file needs a `distance`: "angular" or "euclidean".
    """

    path: str
    split: Literal["train", "test"] = "train"
    distance: Literal["angular", "euclidean"] | None = None
    wide: bool = False

    def open(self) -> VectorFile:
        """The vectors of the split."""
        with hdf5.opened(self.path) as file:
            if _text(file.attrs.get("type", "dense")) == "sparse":
                raise DataError(
                    f"{self.path} holds sparse vectors, which raybench does not search; use a dense data set"
                )
            found = hdf5.vectors(file, self.split, self.path)
            said = file.attrs.get("dimension", found.dim)
            if said != found.dim:
                raise DataError(f"{self.path} says {said} dimensions and {self.split} has {found.dim}; fetch it again")
            return found

    def check(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """DataError for vectors that have no place here."""
        self._check_goes_with(file.dim)
        check_plain(file, "ann-benchmarks' HDF5")
        if file.is_bits:
            raise DataError("ann-benchmarks' HDF5 holds bits as single values; write SISAP's HDF5 instead")
        check_dtype(dtype, ("float32", "float64"), "ann-benchmarks' HDF5")

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Add the split."""
        with hdf5.writing(self.path, adds=True) as out:
            self._describe(out)
            out.attrs.update({"type": "dense", "point_type": "float", "dimension": file.dim})
            hdf5.put_rows(hdf5.put(out, self.split, (file.rows, file.dim), dtype, self.path), file, dtype)

    def neighbors(self) -> StoredNeighbors:
        """`neighbors` and `distances`."""
        with hdf5.opened(self.path) as file:
            if hdf5.find(file, "neighbors", self.path) is None:
                raise DataError(f"{self.path} holds no neighbors; it has {hdf5.names(file)}")
            ids = whole_ids(hdf5.matrix(file, "neighbors", self.path), self.path)
            has_distances = hdf5.find(file, "distances", self.path) is not None
            stored = hdf5.matrix(file, "distances", self.path) if has_distances else None
        return StoredNeighbors(ids, None) if stored is None else from_distances(ids, stored, self.path)

    def write_neighbors(self, stored: StoredNeighbors) -> bool:
        """Add `neighbors` and `distances`."""
        self._check_goes_with(None)
        check_full(stored, "ann-benchmarks' HDF5")
        stored = self._in_its_distance(stored)
        numbers = distances(stored, "ann-benchmarks' HDF5", np.float64 if self.wide else np.float32)
        ids = stored.ids_QK if self.wide else int32_ids(stored, "ann-benchmarks' HDF5")
        with hdf5.writing(self.path, adds=True) as out:
            self._describe(out)
            for name, array in (("neighbors", ids), ("distances", numbers)):
                hdf5.put(out, name, array.shape, array.dtype, self.path)[...] = array
        return True

    def _in_its_distance(self, stored: StoredNeighbors) -> StoredNeighbors:
        """Scores as the distance that the file names: Euclidean ones are roots. DataError where they are of another metric."""
        if stored.metric is None or stored.scores_QK is None:
            return stored
        distance: str | None = self.distance
        if distance is None:
            with hdf5.opened(self.path) as file:
                distance = _text(file.attrs["distance"])
        wanted = _METRICS.get((distance or "").lower())
        if wanted is not None and wanted != stored.metric:
            raise DataError(
                f"{self.path} is of distance {distance!r}, and the neighbours were searched by {stored.metric}; search with "
                f"--metric {wanted}, or name another distance"
            )
        if wanted != "l2":
            return stored
        return replace(stored, scores_QK=-np.sqrt(np.maximum(-stored.scores_QK, 0)))

    def _check_goes_with(self, dim: int | None) -> None:
        """DataError for what would make one file of two data sets, or one that does not name its distance."""
        held, others = None, None
        if storage.exists(self.path):
            other = "test" if self.split == "train" else "train"
            with hdf5.opened(self.path) as file:
                held = _text(file.attrs["distance"]) if "distance" in file.attrs else None
                others = None if hdf5.find(file, other, self.path) is None else hdf5.vectors(file, other, self.path).dim
        if self.distance is None and held is None:
            raise DataError(
                f"ann-benchmarks' HDF5 names its distance; write ann_benchmarks({self.path!r}, distance='angular'), or "
                "'euclidean'"
            )
        if held is not None and self.distance not in (None, held):
            raise DataError(f"{self.path} is of distance {held[:80]!r}, not {self.distance!r}; write another file")
        if None not in (dim, others) and dim != others:
            raise DataError(f"{self.path} has vectors of {others} dimensions, and these have {dim}; write another file")

    def _describe(self, out: h5py.File) -> None:
        if self.distance is not None:
            out.attrs["distance"] = self.distance


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
