"""Rows of one size at regular places of a file: what `.npy`, `.fbin`, `.fvecs` and plain HDF5 have in common.

Locally, bytes go from the file into the caller's buffer, so that resident memory stays what the caller asked for; on S3
they come by ranged reads.

Axes: B rows of a run, D dimensions.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench import storage
from raybench.errors import DataError, StorageError
from raybench.formats.base import Matrix
from raybench.storage import FileFacts

_COPY_BYTES = 16 * 1024**2  # of rows with heads, which must be taken apart


@contextmanager
def opened(uri: str) -> Iterator[Any]:
    """A file for reads at any place: a plain one locally (no mapping), a ranged reader on S3."""
    storage.facts(uri)  # says in one sentence what is missing
    try:
        if storage.is_s3(uri):
            with storage.open_random(uri) as file:
                yield file
        else:
            with Path(storage.absolute(uri)).open("rb", buffering=0) as file:
                yield file
    except OSError as error:
        raise StorageError(
            f"cannot read {uri}: {_reason(error)}; check its owner and mode, and that it is whole"
        ) from error


def read_exactly(file: Any, offset: int, buffer: Matrix, uri: str) -> None:
    """Fill a contiguous buffer from a place in a file. DataError where the file ends before."""
    file.seek(offset)
    view = buffer.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < len(view):
        count = file.readinto(view[filled:])
        if not count:
            raise DataError(f"{uri} ends {len(view) - filled} bytes early; fetch or write it again")
        filled += count


@dataclass(frozen=True, slots=True, eq=False)
class FlatFile:
    """Vectors at `offset`, each after `head_bytes` bytes of its own (4 in .fvecs: its number of dimensions)."""

    uri: str
    rows: int
    dim: int
    dtype: np.dtype[Any]
    offset: int
    head_bytes: int = 0
    is_bits: bool = False

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """The one file."""
        return (storage.facts(self.uri),)

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Fill a buffer with the rows from `start`."""
        row_bytes = self.head_bytes + (self.dim // 8 if self.is_bits else self.dim) * self.dtype.itemsize
        with opened(self.uri) as file:
            if not self.head_bytes:
                read_exactly(file, self.offset + start * row_bytes, out_BD, self.uri)
                return
            step = max(1, _COPY_BYTES // row_bytes)
            for first in range(0, len(out_BD), step):
                part_BD = out_BD[first : first + step]
                raw_BX = np.empty((len(part_BD), row_bytes), np.uint8)
                read_exactly(file, self.offset + (start + first) * row_bytes, raw_BX, self.uri)
                self._check_heads(raw_BX, start + first)
                part_BD.view(np.uint8)[:] = raw_BX[:, self.head_bytes :]

    def _check_heads(self, raw_BX: Matrix, start: int) -> None:
        heads_B = np.ascontiguousarray(raw_BX[:, :4]).view("<i4")[:, 0]
        if (heads_B != self.dim).any():
            row = int(np.argmax(heads_B != self.dim))
            raise DataError(
                f"{self.uri}: row {start + row} has {heads_B[row]} dimensions, the first {self.dim}; mend it"
            )

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:  # noqa: ARG002 (a row's number is its id)
        """None: a row's number is its id."""
        return None


def size_bytes(uri: str) -> int:
    """The size of a file. StorageError where there is none."""
    return storage.facts(uri).size_bytes


def head(uri: str, count: int) -> bytes:
    """The first bytes of a file, or fewer where it is shorter."""
    with opened(uri) as file:
        return bytes(file.read(count))


@contextmanager
def replacing(uri: str, *, keeps: bool = False) -> Iterator[Path]:
    """A local path to write to; when the block ends well it becomes `uri`, whole, by renaming or one upload.

    Where it keeps, the path begins as a copy of what is there. StorageError for what cannot be written.
    """
    try:
        with _beside(uri) as path:
            if keeps and storage.exists(uri):
                with storage.open_stream(uri) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy, _COPY_BYTES)
            yield path
            if storage.is_s3(uri):
                storage.upload(str(path), uri)
                return
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            path.replace(storage.absolute(uri))
    except OSError as error:
        raise StorageError(f"cannot write {uri}: {_reason(error)}; check the path and the room there") from error


@contextmanager
def _beside(uri: str) -> Iterator[Path]:
    """A path that is gone afterwards: in the folder of a local file, else in one for temporary files."""
    if storage.is_s3(uri):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "file"
        return
    final = Path(storage.absolute(uri))
    final.parent.mkdir(parents=True, exist_ok=True)
    path = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return error.strerror or (str(error).splitlines() or [type(error).__name__])[0]
