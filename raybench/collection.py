"""A collection is a finished folder of vectors: parts in numerical order, rows numbered through all of them.

Opening reads the manifest only. Rows are read part by part, memory-mapped where the folder is local, so a worker
that needs a tenth of the rows touches a tenth of the bytes.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybench import storage
from raybench.arrays import Vectors, check_matrix
from raybench.errors import DataError


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the rows of a folder of vectors lie."""

    uri: str
    modality: str
    parts: tuple[tuple[str, str, int], ...]  # (vectors file, metadata file, rows)
    checksum: str  # of all files; two collections with one checksum are the same bytes

    def __len__(self) -> int:
        return sum(rows for _, _, rows in self.parts)

    def load(self, start: int = 0, stop: int | None = None) -> Vectors:
        """Rows start to stop as one matrix, a view of the file where a single local part holds them all."""
        stop = len(self) if stop is None else stop
        pieces = [_read_npy(storage.join(self.uri, name))[low:high] for name, _, low, high in self._ranges(start, stop)]
        if not pieces:
            raise DataError(f"{self.uri} has no rows {start} to {stop}; it holds {len(self)}")
        dims = {piece.shape[1] for piece in pieces}
        if len(dims) > 1:
            raise DataError(f"{self.uri} mixes vectors of {sorted(dims)} dimensions; embed it again")
        matrix = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return Vectors(matrix, first_row=start)

    def metadata(self, columns: list[str], start: int = 0, stop: int | None = None) -> Iterator[pa.Table]:
        """Columns of the metadata of rows start to stop, a table per part, in row order."""
        for _, name, low, high in self._ranges(start, len(self) if stop is None else stop):
            yield storage.read_table(storage.join(self.uri, name), columns).slice(low, high - low)

    def _ranges(self, start: int, stop: int) -> Iterator[tuple[str, str, int, int]]:
        """The part files that hold rows start to stop, with the range within each part."""
        first = 0
        for vectors_name, metadata_name, rows in self.parts:
            low, high = max(start - first, 0), min(stop - first, rows)
            if low < high:
                yield vectors_name, metadata_name, low, high
            first += rows


def open_collection(uri: str) -> Collection:
    """Open a finished folder of vectors; DataError where it is not finished."""
    manifest = storage.read_manifest(uri)
    if manifest is None or manifest.get("kind") != "vectors":
        raise DataError(f"{uri} is no finished folder of vectors (it has no manifest); run the embedding again")
    files = manifest["files"]
    vectors = sorted(name for name in files if name.endswith(".npy"))
    metadata = sorted(name for name in files if name.startswith("metadata/"))
    parts = tuple((part, table, files[part]["rows"]) for part, table in zip(vectors, metadata, strict=True))
    return Collection(uri, manifest["recipe"]["modality"], parts, manifest["checksum"])


def _read_npy(uri: str) -> npt.NDArray[np.float16]:
    """A matrix of a part file; never unpickles, refuses Fortran order and what is not a float matrix."""
    try:
        if storage.is_s3(uri):
            matrix: npt.NDArray[np.float16] = np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False)
        else:
            matrix = np.load(uri, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{uri} cannot be read as a matrix: {error}; delete its folder and embed again") from None
    if matrix.ndim == 2 and matrix.size and not matrix.flags.c_contiguous:
        check_matrix(matrix, uri)
    return matrix
