"""Some rows of a pool as a source of their own: the same pictures at the same positions, and no others.

Which rows is a Parquet file (shard, position) that workers read a shard of; the shards' names carry its key, so what is
embedded of one choice is never taken for another.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raybench import storage
from raybench.arrays import Rows
from raybench.sources.base import Shard, Source
from raybench.spec import content_key

_ROW_GROUP = 65_536


def write_choice(folder: str, pool: str, shard_M: Rows, position_M: Rows) -> tuple[str, str]:
    """Keep a choice of a pool's rows, ordered by shard and position; its address and key. `pool` is the key of the pool."""
    key = content_key("choice", pool, storage.digest(shard_M.tobytes()), storage.digest(position_M.tobytes()))
    uri = storage.join(folder, f"{key}.parquet")
    if not storage.exists(uri):
        table = pa.table({"shard": shard_M, "position": position_M})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP)
        storage.write_bytes(uri, sink.getvalue())
    return uri, key


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of a choice; `shards` are those of the pool that hold any, in order."""

    source: Source
    shards: tuple[Shard, ...]
    choice_uri: str
    choice_key: str

    def plan(self) -> list[Shard]:
        """One shard for each of the pool's."""
        return [
            replace(shard, number=number, name=f"{self.choice_key}/{shard.name}")
            for number, shard in enumerate(self.shards)
        ]

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The chosen rows of a shard, with the positions that they have in the pool."""
        own = self.shards[shard.number]
        wanted = self._positions(own.number)
        for table in self.source.read(own):
            position = table["position"].to_numpy()
            yield table.filter(pa.array(np.isin(position, wanted, assume_unique=True)))

    def queries(self) -> None:
        """None: a choice of pictures asks nothing."""

    def judgments(self) -> None:
        """None."""

    def _positions(self, shard: int) -> Rows:
        with storage.open_random(self.choice_uri) as file:
            table = pq.read_table(file, columns=["position"], filters=[("shard", "==", shard)])
        positions: Rows = table["position"].to_numpy()
        return positions
