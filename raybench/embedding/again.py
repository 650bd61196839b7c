"""Rows of a collection embedded again when they are asked for: what an index that keeps no vectors must do.

Pictures go through the same decoding, preprocessing and tower as when the collection was made, and captions through the text
tower. Rows that are asked for together are one call of the encoder, so last bits may differ from those that were stored; the
pictures of a partition lie compressed in one temporary file, because a tar has no way to its middle.

Axes: C rows that are asked for, D dimensions.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.arrays import Vectors
from raybench.collection import Collection
from raybench.embedding.decode import decode
from raybench.embedding.job import EmbedJob
from raybench.errors import DataError
from raybench.transforms import Transform


@dataclass(frozen=True, slots=True)
class EmbeddedAgain:
    """A collection and the job that made it: its rows can be read, or embedded again."""

    collection: Collection
    job: EmbedJob

    @property
    def uri(self) -> str:
        """Where the rows are stored."""
        return self.collection.uri

    @property
    def checksum(self) -> str:
        """That of the stored rows."""
        return self.collection.checksum

    def __len__(self) -> int:
        return len(self.collection)

    def load(self, start: int = 0, stop: int | None = None) -> Vectors:
        """Stored rows start to stop."""
        return self.collection.load(start, stop)

    def rows_again(self, start: int, stop: int, transform: Transform) -> "RowsAgain":
        """Rows start to stop, each embedded and transformed whenever it is read. Loads the model; runs on the worker."""
        inputs = _Texts(self, start, stop) if self.job.modality == "text" else _Pictures(self, start, stop)
        return RowsAgain(self.job.encoder.load("auto", self.job.threads), inputs, transform, stop - start)


class RowsAgain:
    """A matrix [N, D] of float32 as far as a reader can tell; nothing of it is held."""

    ndim, nbytes = 2, 0
    dtype = np.dtype(np.float32)

    def __init__(self, encoder: Any, inputs: "_Texts | _Pictures", transform: Transform, rows: int) -> None:
        self._encoder, self._inputs, self._transform, self._rows = encoder, inputs, transform, rows

    def __len__(self) -> int:
        return self._rows

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self._rows, self._transform.out_dim(int(self._encoder.dim))

    def __getitem__(self, rows: Any) -> npt.NDArray[np.float32]:
        """Rows by their numbers, as one call of the encoder; float16 in between, as collections store them."""
        wanted = np.arange(self._rows)[rows].tolist()
        if not wanted:
            return np.zeros((0, self.shape[1]), np.float32)
        encoded_CD = self._inputs.encode(self._encoder, wanted).astype(np.float16)
        return np.asarray(self._transform.apply(Vectors(np.ascontiguousarray(encoded_CD))).matrix_ND, np.float32)


class _Texts:
    """The captions of a run of rows."""

    def __init__(self, rows: EmbeddedAgain, start: int, stop: int) -> None:
        tables = rows.collection.metadata(["caption"], start, stop)
        self._texts: list[str] = [text for table in tables for text in table["caption"].to_pylist()]

    def encode(self, encoder: Any, wanted: Sequence[int]) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = encoder.texts([self._texts[row] for row in wanted])
        return vectors


class _Pictures:
    """The compressed pictures of a run of rows, in a file that is gone when they are."""

    def __init__(self, rows: EmbeddedAgain, start: int, stop: int) -> None:
        self._job = rows.job
        if self._job.preprocess is None:
            raise DataError(f"{rows.uri} is of images, and its job has no preprocess; embed it again")
        places: dict[str, dict[int, int]] = {}  # shard, position -> row
        first = 0
        for table in rows.collection.metadata(["shard", "position"], start, stop):
            for row, (shard, position) in enumerate(
                zip(table["shard"].to_pylist(), table["position"].to_pylist(), strict=True), first
            ):
                places.setdefault(shard, {})[position] = row
            first += len(table)
        self._offset_N = np.zeros((first, 2), np.int64)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as this object)
        for shard in self._job.shards:
            self._copy(shard, places.pop(shard.name, {}))
        if places:
            raise DataError(f"{rows.uri} names shards that are gone, such as {next(iter(places))}; embed it again")

    def _copy(self, shard: Any, rows: dict[int, int]) -> None:
        """Copy the wanted pictures of a shard, which is read in order."""
        for table in self._job.source.read(shard) if rows else ():
            for position, image in zip(table["position"].to_pylist(), table["image"], strict=True):
                row = rows.pop(position, None)
                if row is not None:
                    data = image.as_py() or b""
                    self._offset_N[row] = self._file.tell(), len(data)
                    self._file.write(data)
            if not rows:
                return
        if rows:
            raise DataError(f"{shard.name} no longer holds {len(rows)} of its pictures; embed it again")

    def encode(self, encoder: Any, wanted: Sequence[int]) -> npt.NDArray[np.float32]:
        """Decode, preprocess and encode, as the collection was made."""
        pixels = []
        for row in wanted:
            start, length = self._offset_N[row].tolist()
            self._file.seek(start)
            picture = decode(self._file.read(length)).picture
            if picture is None or self._job.preprocess is None:
                raise DataError(f"a picture of row {row} can no longer be decoded; embed the collection again")
            pixels.append(self._job.preprocess.apply(picture))
        vectors: npt.NDArray[np.float32] = encoder.images(np.stack(pixels))
        return vectors
