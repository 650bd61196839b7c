"""A collection is a finished folder of vectors: parts in numerical order, rows numbered through all of them.

Opening reads the manifest and looks at the sizes of its files. Rows are read part by part, memory-mapped where the
folder is local, so a worker that needs a tenth of the rows touches about a tenth of the bytes. A part is compared
with its checksum whenever it is read: vectors that are not those that were written never become a number.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raybench import storage
from raybench.arrays import Vectors, check_matrix
from raybench.errors import DataError


@dataclass(frozen=True, slots=True)
class Part:
    """The two files of a run of rows, with their SHA-256 in hexadecimal."""

    vectors: str
    metadata: str
    rows: int
    vectors_sha256: str
    metadata_sha256: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the rows of a folder of vectors lie."""

    uri: str
    modality: str
    parts: tuple[Part, ...]
    checksum: str  # of all files; two collections with one checksum are the same bytes

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    def load(self, start: int = 0, stop: int | None = None) -> Vectors:
        """Rows start to stop as one matrix, a view of the file where a single local part holds them all."""
        stop = len(self) if stop is None else stop
        pieces = [
            _read_npy(storage.join(self.uri, part.vectors), part.vectors_sha256)[low:high]
            for part, low, high in self._ranges(start, stop)
        ]
        if not pieces:
            raise DataError(f"{self.uri} has no rows {start} to {stop}; it holds {len(self)}")
        dims = {piece.shape[1] for piece in pieces}
        if len(dims) > 1:
            raise DataError(f"{self.uri} mixes vectors of {sorted(dims)} dimensions; embed it again")
        matrix = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return Vectors(matrix, first_row=start)

    def metadata(self, columns: list[str], start: int = 0, stop: int | None = None) -> Iterator[pa.Table]:
        """Columns of the metadata of rows start to stop, a table per part, in row order."""
        for part, low, high in self._ranges(start, len(self) if stop is None else stop):
            data = storage.read_bytes(storage.join(self.uri, part.metadata))
            _check_digest(data, part.metadata_sha256, storage.join(self.uri, part.metadata))
            yield pq.read_table(pa.BufferReader(data), columns=columns).slice(low, high - low)

    def _ranges(self, start: int, stop: int) -> Iterator[tuple[Part, int, int]]:
        """The parts that hold rows start to stop, with the range within each part."""
        first = 0
        for part in self.parts:
            low, high = max(start - first, 0), min(stop - first, part.rows)
            if low < high:
                yield part, low, high
            first += part.rows


def open_collection(uri: str) -> Collection:
    """Open a finished folder of vectors; DataError where it is not finished."""
    manifest = storage.read_manifest(uri)
    if manifest is None or manifest.get("kind") != "vectors":
        raise DataError(f"{uri} is no finished folder of vectors (it has no manifest); run the embedding again")
    files = manifest["files"]
    vectors = sorted(name for name in files if name.endswith(".npy"))
    metadata = sorted(name for name in files if name.startswith("metadata/"))
    wrong = storage.lost_file(uri, manifest)
    if wrong is not None:
        raise DataError(f"{storage.join(uri, wrong)} is not what was written; delete {uri} and run again")
    parts = tuple(
        Part(part, table, files[part]["rows"], files[part]["sha256"], files[table]["sha256"])
        for part, table in zip(vectors, metadata, strict=True)
    )
    return Collection(uri, manifest["recipe"]["modality"], parts, manifest["checksum"])


def _check_digest(data: bytes | memoryview, sha256: str, uri: str) -> None:
    if storage.digest(data) != sha256:
        raise DataError(f"{uri} is not what was written; delete its folder and run again")


def _read_npy(uri: str, sha256: str) -> npt.NDArray[np.float16]:
    """A matrix of a part file; never unpickles, refuses Fortran order and what is not a float matrix."""
    try:
        if storage.is_s3(uri):
            data = storage.read_bytes(uri)
            _check_digest(data, sha256, uri)
            matrix: npt.NDArray[np.float16] = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            _check_digest(np.memmap(uri, np.uint8, "r").data, sha256, uri)
            matrix = np.load(uri, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{uri} cannot be read as a matrix: {error}; delete its folder and embed again") from None
    if matrix.ndim == 2 and matrix.size and not matrix.flags.c_contiguous:
        check_matrix(matrix, uri)
    return matrix
