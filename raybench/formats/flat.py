"""Rows of one size at regular places of a file: what `.npy`, `.fbin` and `.fvecs` have in common.

Locally, bytes go from the file into the caller's buffer, so that resident memory stays what the caller asked for; on S3
they come by ranged reads.

Axes: B rows of a run, D dimensions.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import Matrix
from raybench.storage import FileFacts


@contextmanager
def opened(uri: str) -> Iterator[Any]:
    """A file for reads at any place: a plain one locally (no mapping), a ranged reader on S3."""
    if storage.is_s3(uri):
        with storage.open_random(uri) as file:
            yield file
        return
    storage.facts(uri)  # says in one sentence what is missing
    with Path(storage.absolute(uri)).open("rb", buffering=0) as file:
        yield file


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
        row_bytes = self.dim * self.dtype.itemsize
        with opened(self.uri) as file:
            place = self.offset + start * (row_bytes + self.head_bytes)
            if not self.head_bytes:
                read_exactly(file, place, out_BD, self.uri)
                return
            raw = np.empty((len(out_BD), self.head_bytes + row_bytes), np.uint8)
            read_exactly(file, place, raw, self.uri)
        heads = np.ascontiguousarray(raw[:, :4]).view("<i4")[:, 0]
        if (heads != self.dim).any():
            row = start + int(np.argmax(heads != self.dim))
            raise DataError(f"{self.uri}: row {row} has {heads[row - start]} dimensions, the first {self.dim}; mend it")
        out_BD[:] = np.ascontiguousarray(raw[:, self.head_bytes :]).view(self.dtype)

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
def replacing(uri: str) -> Iterator[Path]:
    """A local path to write to; when the block ends well it becomes `uri`, whole, by renaming or one upload."""
    import tempfile
    import uuid

    if storage.is_s3(uri):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            yield path
            storage.upload(str(path), uri)
        return
    final = Path(storage.absolute(uri))
    final.parent.mkdir(parents=True, exist_ok=True)
    path = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield path
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        path.replace(final)
    finally:
        path.unlink(missing_ok=True)
