"""Vectors in a dataset of an HDF5 file, read in place, also on S3; nothing outside the file is ever opened.

A dataset that lies in one piece is read as its bytes, without the library and its lock; only chunked and compressed ones
go through it. Links and storage outside the file are refused before they are followed, and so is a dataset of which parts
were never written, because the library would give zeros for them.

Axes: B rows of a run, D dimensions.
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
from raybench.formats.base import Matrix, VectorFile, listed
from raybench.formats.flat import FlatFile, replacing
from raybench.formats.writing import HELD, runs
from raybench.storage import FileFacts

# What the library raises for files that are cut or changed, beside OSError.
_BROKEN = (RuntimeError, ValueError, TypeError, KeyError, OverflowError, UnicodeDecodeError)


@contextmanager
def opened(path: str) -> Iterator[h5py.File]:
    """A file open for reading; DataError where it is no HDF5, or breaks off where it is read."""
    storage.facts(path)
    try:
        if storage.is_s3(path):
            with storage.open_random(path) as source, h5py.File(source, "r") as file:
                yield file
        else:
            with h5py.File(storage.absolute(path), "r") as file:
                yield file
    except (OSError, *_BROKEN) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} is no readable HDF5 file: {reason}; fetch or write it again") from None


def find(file: h5py.File, name: str, path: str) -> Any:
    """A dataset or group by its name, or None. DataError where the way to it leaves the file or its data lie elsewhere."""
    found: Any = file
    for part in (part for part in name.split("/") if part not in ("", ".")):
        if not isinstance(found, h5py.Group) or not found.id.links.exists(part.encode()):
            return None
        if found.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise DataError(
                f"{path}: {name!r} is a link to elsewhere, which is not followed; copy the data into the file"
            )
        found = found[part]
    if isinstance(found, h5py.Dataset) and (found.is_virtual or found.external):
        raise DataError(
            f"{path}: the data of {name!r} lie in other files, which are not opened; copy them into the file"
        )
    return found


def matrix(file: h5py.File, name: str, path: str) -> Matrix:
    """A small dataset of numbers as a whole. DataError for what is no complete matrix."""
    stored = find(file, name, path)
    if not isinstance(stored, h5py.Dataset) or stored.ndim != 2 or stored.dtype.kind not in "iuf":
        raise DataError(f"{path}: {name!r} is no matrix of numbers; fetch it again")
    _check_written(stored, name, path)
    return np.asarray(stored)


@dataclass(frozen=True, slots=True, eq=False)
class ChunkedVectors:
    """A dataset that is stored in chunks, or as single bits; read through the library."""

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
            stored = find(file, self.dataset, self.path)
            run = np.s_[start : start + len(out_BD)]
            if stored.dtype == np.bool_:
                out_BD[:] = np.packbits(stored[run], axis=1)
            else:
                stored.read_direct(out_BD.view(stored.dtype) if self.is_bits else out_BD, run)

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:  # noqa: ARG002 (a row's number is its id)
        """None: a row's number is its id."""
        return None


def vectors(file: h5py.File, name: str, path: str) -> VectorFile:
    """The vectors of a dataset. DataError where there is none of that name, or it holds none."""
    stored = find(file, name, path)
    if stored is None:
        raise DataError(f"{path} has no dataset {name!r}; it has {names(file)}")
    if not isinstance(stored, h5py.Dataset) or stored.ndim != 2 or not stored.shape[1]:
        raise DataError(f"{path}: {name!r} is no matrix; vectors have two axes")
    rows, columns = stored.shape
    is_bits = stored.dtype == np.uint64 or (stored.dtype == np.bool_ and columns % 8 == 0)
    if not is_bits and (stored.dtype.name not in HELD or not stored.dtype.isnative):
        raise DataError(f"{path}: {name!r} holds {stored.dtype}; vectors are {', '.join(HELD)}, or uint64 for bits")
    _check_written(stored, name, path)
    bits = columns * (64 if stored.dtype == np.uint64 else 1)
    dim, dtype = (bits, np.dtype(np.uint8)) if is_bits else (columns, stored.dtype)
    if _is_plain(stored):
        return FlatFile(path, rows, dim, dtype, stored.id.get_offset(), is_bits=is_bits)
    return ChunkedVectors(path, name, rows, dim, dtype, is_bits)


def _is_plain(stored: h5py.Dataset) -> bool:
    """Whether the bytes of the file are the matrix."""
    return bool(
        stored.size
        and stored.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        and stored.dtype != np.bool_
        and stored.id.get_type().equal(h5py.h5t.py_create(stored.dtype))
    )


def _check_written(stored: h5py.Dataset, name: str, path: str) -> None:
    # Sizes are whole numbers of Python: a shape from the file may ask for more than 64 bits can count.
    rows, columns = (int(one) for one in stored.shape)
    if stored.chunks is None:
        needed, held = rows * columns * stored.id.get_type().get_size(), stored.id.get_storage_size()
    else:
        high, wide = stored.chunks
        needed, held = -(-rows // high) * -(-columns // wide), stored.id.get_num_chunks()
    if held < needed:
        raise DataError(f"{path}: parts of {name!r} were never written; write or fetch it again")


def names(file: h5py.File) -> str:
    """The datasets of a file, at any depth, as a sentence shows them."""
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return listed(found)


@contextmanager
def writing(path: str, *, adds: bool) -> Iterator[h5py.File]:
    """A file to write to, whole or not at all; where it adds, with what is there already."""
    with replacing(path, keeps=adds) as place, h5py.File(place, "a") as out:
        yield out


def put(out: h5py.File, name: str, shape: tuple[int, int], dtype: np.dtype[Any], path: str) -> h5py.Dataset:
    """An empty dataset under a name, in place of what has that name."""
    if find(out, name, path) is not None:
        del out[name]
    try:
        return out.create_dataset(name, shape, dtype)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} has no place for {name!r}: {error}; give another dataset=...") from None


def put_rows(target: h5py.Dataset, file: VectorFile, dtype: np.dtype[Any]) -> None:
    """Fill a dataset with all rows; bits as words of its dtype."""
    start = 0
    for rows_BD in runs(file, dtype):
        target[start : start + len(rows_BD)] = rows_BD.view(target.dtype) if file.is_bits else rows_BD
        start += len(rows_BD)
