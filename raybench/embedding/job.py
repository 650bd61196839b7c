"""An embedding job is a value that decides every byte of one folder of vectors; workers get it and nothing else.

The unit of work and of resuming is a shard. A shard is cut into chunks of `chunk_rows` input rows, in order, and a
chunk is one call of the encoder: so the vectors do not depend on how many workers there are or who takes what.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from raybench import storage
from raybench.encoders.base import EncoderRecipe
from raybench.encoders.preprocess import Preprocess
from raybench.sources.base import TEXT_ROWS, Shard, Source
from raybench.spec import content_key

FORMAT = 1  # raise it when the same inputs give other bytes

_TEXTS_PER_SHARD = 16_384


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """One collection through one encoder into one folder."""

    modality: Literal["image", "text"]
    source: "Source | TextSource"
    shards: tuple[Shard, ...]
    encoder_spec: str
    encoder: EncoderRecipe
    encoder_fingerprint: str
    preprocess: Preprocess | None  # None for texts
    vectors_uri: str  # the folder that holds all artifacts of vectors
    chunk_rows: int = 64
    threads: int = 1  # of one encoder on a CPU; a part of the recipe, since it may change the last bits
    dtype: Literal["float16", "float32"] = "float16"  # of what is stored

    @property
    def key(self) -> str:
        """The content key: recipe and inputs, nothing of the machine or the place (a spec may hold a path)."""
        decides = {name: value for name, value in self.recipe().items() if name != "encoder"}
        return content_key(decides, [[shard.name, shard.size_bytes] for shard in self.shards])

    @property
    def uri(self) -> str:
        """The folder of this job's vectors."""
        return storage.join(self.vectors_uri, self.key)

    def recipe(self) -> dict[str, Any]:
        """What decides the vectors, besides the inputs."""
        return {
            "format": FORMAT,
            "modality": self.modality,
            "encoder": self.encoder_spec,
            "encoder_fingerprint": self.encoder_fingerprint,
            "preprocess": None if self.preprocess is None else asdict(self.preprocess),
            "chunk_rows": self.chunk_rows,
            "threads": self.threads,
            "dtype": self.dtype,
        }


@dataclass(frozen=True, slots=True)
class TextSource:
    """The texts of a `queries.parquet` (TEXT_ROWS without position), in their order."""

    uri: str

    def plan(self) -> list[Shard]:
        """Runs of 16,384 rows; the name carries a checksum of the file, so other texts make another collection."""
        data = storage.read_bytes(self.uri)
        rows = pq.read_metadata(pa.BufferReader(data)).num_rows
        digest = hashlib.sha256(data).hexdigest()[:16]
        return [
            Shard(number, f"{digest}-{number:05d}", self.uri, len(data), 0, first, min(_TEXTS_PER_SHARD, rows - first))
            for number, first in enumerate(range(0, rows, _TEXTS_PER_SHARD))
        ]

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The rows of one run as one table of TEXT_ROWS."""
        rows = storage.read_table(self.uri).slice(shard.first, shard.count)
        positions = pa.array(range(len(rows)), pa.int64())
        yield rows.select(TEXT_ROWS.names[1:]).add_column(0, "position", positions).cast(TEXT_ROWS)
