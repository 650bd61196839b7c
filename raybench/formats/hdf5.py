"""HDF5 files of the SISAP challenges and of ann-benchmarks, read in place, also on S3.

SISAP vectors: `emb` (float16 corpora, float32 queries), `pca32`, `pca96` (float32), `hamming` (uint64 [N, 16], 1,024 bits);
from 2025 `train` and groups `itest`, `otest` with `queries`. Neighbours: `knns` from 1 and `dists`, at the root or in
`itest`, `otest`, `allknn`. Julia writes k x n column by column, which is the same bytes as [N, K] here; its JLD2 files are
HDF5. Bits are read as the bytes of the little-endian words, so bit order within a row is the same for corpus and queries.

ann-benchmarks: `train`, `test`, `neighbors` from 0 (int32 or int64), `distances` (float32 or float64); attributes `type`,
`distance`, `dimension`, `point_type`, of which old files lack some.

Axes: N rows, D dimensions, Q queries, K neighbours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import Matrix, StoredNeighbors, VectorFile
from raybench.formats.direction import from_distances
from raybench.formats.flat import replacing
from raybench.formats.writing import check_dtype, check_plain, distances, int32_ids, runs
from raybench.storage import FileFacts

_FLOATS = ("float16", "float32", "float64")
_SISAP = ("emb", "pca32", "pca96", "hamming", "train", "itest/queries", "otest/queries")


@contextmanager
def opened(path: str) -> Iterator[h5py.File]:
    """A file open for reading; DataError where it is no HDF5."""
    storage.facts(path)
    try:
        if storage.is_s3(path):
            with storage.open_random(path) as source, h5py.File(source, "r") as file:
                yield file
        else:
            with h5py.File(storage.absolute(path), "r") as file:
                yield file
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is no readable HDF5 file: {reason}; fetch or write it again") from None


@dataclass(frozen=True, slots=True, eq=False)
class Hdf5Vectors:
    """One dataset of a file."""

    path: str
    dataset: str
    rows: int
    dim: int
    dtype: np.dtype[Any]
    is_bits: bool = False

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """The one file."""
        return (storage.facts(self.path),)

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Fill a buffer with the rows from `start`."""
        if not len(out_BD):
            return
        with opened(self.path) as file:
            stored = file[self.dataset]
            run = np.s_[start : start + len(out_BD)]
            if stored.dtype == np.bool_:
                out_BD[:] = np.packbits(stored[run], axis=1)
                return
            target = out_BD.view(stored.dtype) if self.is_bits else out_BD
            stored.read_direct(target, run)

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:  # noqa: ARG002 (a row's number is its id)
        """None: a row's number is its id."""
        return None


def _vectors(path: str, name: str, stored: Any) -> Hdf5Vectors:
    if not isinstance(stored, h5py.Dataset) or stored.ndim != 2:
        raise DataError(f"{path}: {name!r} is no matrix; vectors have two axes")
    rows, columns = stored.shape
    if stored.dtype == np.uint64 or (stored.dtype == np.bool_ and columns % 8 == 0):
        bits = columns * (64 if stored.dtype == np.uint64 else 1)
        return Hdf5Vectors(path, name, rows, bits, np.dtype(np.uint8), is_bits=True)
    if stored.dtype.name not in (*_FLOATS, "int8", "uint8") or not stored.dtype.isnative:
        raise DataError(
            f"{path}: {name!r} holds {stored.dtype}; vectors are {', '.join(_FLOATS)}, int8, uint8 or uint64 bits"
        )
    return Hdf5Vectors(path, name, rows, columns, stored.dtype)


@dataclass(frozen=True, slots=True)
class Sisap:
    """A file of a SISAP challenge; `dataset` such as "itest/queries" where it holds several."""

    path: str
    dataset: str | None = None

    def open(self) -> Hdf5Vectors:
        """The vectors."""
        with opened(self.path) as file:
            name = self.dataset or _only(file, _SISAP, self.path)
            if name not in file:
                raise DataError(f"{self.path} has no dataset {name!r}; it has {', '.join(_names(file))}")
            return _vectors(self.path, name, file[name])

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Write all rows under the name of their family: `emb`, or `hamming` for bits, unless a dataset is given."""
        check_plain(file, "SISAP's HDF5")
        if file.is_bits and file.dim % 64:
            raise DataError(f"SISAP's HDF5 holds bits as words of 64, and rows have {file.dim}; choose another sketch")
        if not file.is_bits:
            check_dtype(dtype, (*_FLOATS, "int8", "uint8"), "SISAP's HDF5")
        name = self.dataset or ("hamming" if file.is_bits else "emb")
        stored = np.dtype(np.uint64) if file.is_bits else dtype
        columns = file.dim // 64 if file.is_bits else file.dim
        with replacing(self.path) as path, h5py.File(path, "w") as out:
            target = out.create_dataset(name, (file.rows, columns), stored)
            start = 0
            for rows_BD in runs(file, dtype):
                target[start : start + len(rows_BD)] = rows_BD.view(stored) if file.is_bits else rows_BD
                start += len(rows_BD)

    def neighbors(self) -> StoredNeighbors:
        """`knns` and `dists`, wherever the file has them; `dataset` names the group where there are several."""
        with opened(self.path) as file:
            groups = [name for name in ("", "itest/", "otest/", "allknn/") if f"{name}knns" in file]
            prefix = f"{self.dataset.removesuffix('/knns').rstrip('/')}/" if self.dataset else None
            if prefix is None and len(groups) > 1:
                raise DataError(f"{self.path} has neighbours in {', '.join(groups)}; say which as dataset=...")
            prefix = (groups[0] if groups else "") if prefix is None else prefix
            if f"{prefix}knns" not in file:
                raise DataError(f"{self.path} holds no knns; it has {', '.join(_names(file))}")
            ids = np.asarray(file[f"{prefix}knns"], np.int64)
            stored = np.asarray(file[f"{prefix}dists"]) if f"{prefix}dists" in file else None
        if ids.ndim != 2 or ids.min(initial=1) < 1:
            raise DataError(
                f"{self.path}: knns {ids.shape} must be a matrix of ids from 1; the least is {ids.min(initial=1)}"
            )
        return StoredNeighbors(ids - 1, None) if stored is None else from_distances(ids - 1, stored, self.path)

    def write_neighbors(self, stored: StoredNeighbors) -> None:
        """`knns` from 1 (int32) and `dists` (float32)."""
        ids, numbers = int32_ids(stored, "SISAP's HDF5", 1), distances(stored, "SISAP's HDF5")
        prefix = f"{self.dataset.rstrip('/')}/" if self.dataset else ""
        with replacing(self.path) as path, h5py.File(path, "w") as out:
            out[f"{prefix}knns"], out[f"{prefix}dists"] = ids, numbers


@dataclass(frozen=True, slots=True)
class AnnBenchmarks:
    """A data set of ann-benchmarks; `split` is "train" or "test"."""

    path: str
    split: str = "train"

    def open(self) -> Hdf5Vectors:
        """The vectors of the split."""
        with opened(self.path) as file:
            if _text(file.attrs.get("type", "dense")) == "sparse":
                raise DataError(
                    f"{self.path} holds sparse vectors, which raybench does not search; use a dense data set"
                )
            if self.split not in file:
                raise DataError(f"{self.path} has no {self.split!r}; it has {', '.join(_names(file))}")
            found = _vectors(self.path, self.split, file[self.split])
            said = int(file.attrs.get("dimension", found.dim))
            if said != found.dim:
                raise DataError(f"{self.path} says {said} dimensions and {self.split} has {found.dim}; fetch it again")
            return found

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Add a split to the file, which is made where it is not there."""
        check_plain(file, "ann-benchmarks' HDF5")
        if file.is_bits:
            raise DataError("ann-benchmarks' HDF5 holds bits as single values; write SISAP's HDF5 instead")
        check_dtype(dtype, ("float32", "float64"), "ann-benchmarks' HDF5")
        with replacing(self.path) as path:
            if storage.exists(self.path):
                path.write_bytes(storage.read_bytes(self.path))
            with h5py.File(path, "a") as out:
                if self.split in out:
                    del out[self.split]
                out.attrs.update({"type": "dense", "point_type": "float", "dimension": file.dim})
                target = out.create_dataset(self.split, (file.rows, file.dim), dtype)
                start = 0
                for rows_BD in runs(file, dtype):
                    target[start : start + len(rows_BD)] = rows_BD
                    start += len(rows_BD)

    def neighbors(self) -> StoredNeighbors:
        """`neighbors` and `distances`."""
        with opened(self.path) as file:
            if "neighbors" not in file:
                raise DataError(f"{self.path} holds no neighbors; it has {', '.join(_names(file))}")
            ids = np.asarray(file["neighbors"], np.int64)
            stored = np.asarray(file["distances"]) if "distances" in file else None
        return StoredNeighbors(ids, None) if stored is None else from_distances(ids, stored, self.path)

    def write_neighbors(self, stored: StoredNeighbors) -> None:
        """Add `neighbors` (int32) and `distances` (float32) to the file, which is made where it is not there."""
        ids, numbers = int32_ids(stored, "ann-benchmarks' HDF5"), distances(stored, "ann-benchmarks' HDF5")
        with replacing(self.path) as path:
            if storage.exists(self.path):
                path.write_bytes(storage.read_bytes(self.path))
            with h5py.File(path, "a") as out:
                for name, array in (("neighbors", ids), ("distances", numbers)):
                    if name in out:
                        del out[name]
                    out[name] = array


def kind(path: str) -> str:
    """Which family an HDF5 file is of, by what it holds."""
    with opened(path) as file:
        if "test" in file or "neighbors" in file or "distance" in file.attrs:
            return "ann_benchmarks"
        if any(name in file for name in (*_SISAP, "knns", "allknn/knns")):
            return "sisap"
        raise DataError(f"{path} holds {', '.join(_names(file))}; give the dataset, as in sisap({path!r}, dataset=...)")


def _only(file: h5py.File, names: tuple[str, ...], path: str) -> str:
    found = [name for name in names if name in file]
    if "train" in found:
        return "train"  # a bundle: the corpus, unless the queries are asked for
    if len(found) != 1:
        there = ", ".join(_names(file))
        raise DataError(
            f"{path} holds {'several vectors' if found else 'no known vectors'} ({there}); give dataset=..."
        )
    return found[0]


def _names(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names or ["nothing"]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
