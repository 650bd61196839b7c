"""Every row of a pool is read once and decoded once: what is there, how large, its checksum, and why what is not is not.

    scans/<key>/00003.parquet    CANDIDATES of one shard
    scans/<key>/00003.json       rows in, and every dropped row with its reason; written last

Images get ids that are names of files everywhere: letters, digits, `_` and `-`.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raybench import storage
from raybench.curation.base import CANDIDATES
from raybench.embedding.decode import decode
from raybench.sources.base import Shard, Source

_LONGEST_ID = 80
_EXTENSION = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pool:
    """A source of candidates, opened; what reading one of its shards needs."""

    number: int
    source: Source
    prefix: str
    has_captions: bool  # whether its captions are wanted
    folder: str  # where what is known of its shards is kept


def image_id_of(source_id: str, prefix: str) -> str:
    """An id that every tool takes for the name of a file and of a WebDataset sample; its hash where it is too long."""
    bare = prefix + re.sub(r"[^A-Za-z0-9_-]", "_", _EXTENSION.sub("", source_id))
    if len(bare) <= _LONGEST_ID:
        return bare
    return f"{bare[: _LONGEST_ID - 17]}_{hashlib.sha256(source_id.encode()).hexdigest()[:16]}"


def scan_shard(item: tuple[Pool, Shard]) -> int:
    """Read a shard and leave its two files, unless they are there; how many rows it has."""
    pool, shard = item
    name = storage.join(pool.folder, f"{shard.number:05d}")
    if storage.exists(f"{name}.json"):
        return int(storage.read_json(f"{name}.json")["rows_in"])
    rows: list[dict[str, Any]] = []
    drops: list[dict[str, Any]] = []
    rows_in = 0
    for table in pool.source.read(shard):
        rows_in += len(table)
        light = table.drop_columns(["image"]).to_pylist()
        for row, image in zip(light, table["image"], strict=True):
            known, problem, detail = _look(image.as_py(), row)
            if problem is not None:
                drops.append(
                    {"position": row["position"], "source_id": row["image_id"], "reason": problem, "detail": detail}
                )
                continue
            rows.append(
                known
                | {
                    "image_id": image_id_of(row["image_id"], pool.prefix), "source_id": row["image_id"], "pool": pool.number,
                    "shard": shard.number, "position": row["position"], "metadata": row["metadata"],
                    "captions": (row["captions"] or []) if pool.has_captions else [],
                }
            )  # fmt: skip
    storage.write_table(f"{name}.parquet", pa.Table.from_pylist(rows, schema=CANDIDATES))
    storage.write_json(f"{name}.json", {"rows_in": rows_in, "drops": drops})
    return rows_in


def _look(image: bytes | None, row: dict[str, Any]) -> tuple[dict[str, Any], str | None, str]:
    """What a picture is, or the reason why there is none and what was seen."""
    if row["problem"] is not None or image is None:
        return {}, row["problem"] or "no_image", (row["detail"] or "")[:200]
    decoded = decode(image)
    if decoded.picture is None:
        return {}, decoded.problem or "decode_error", decoded.detail[:200]
    width, height = decoded.picture.size
    return {"sha256": storage.digest(image), "size_bytes": len(image), "width": width, "height": height}, None, ""


def read_scan(pool: Pool, shards: int) -> tuple[pa.Table, list[dict[str, Any]], int]:
    """The candidates of a pool in order, its dropped rows, and how many rows it has."""
    tables, drops, rows_in = [CANDIDATES.empty_table()], list[dict[str, Any]](), 0
    for shard in range(shards):
        name = storage.join(pool.folder, f"{shard:05d}")
        told = storage.read_json(f"{name}.json")
        rows_in += told["rows_in"]
        drops += [one | {"shard": shard} for one in told["drops"]]
        tables.append(storage.read_table(f"{name}.parquet"))
    # The number of a pool is of this recipe, and a scan is shared by all.
    table = pa.concat_tables(tables).combine_chunks()
    numbers = pa.array([pool.number] * len(table), pa.int32())
    return table.set_column(CANDIDATES.get_field_index("pool"), CANDIDATES.field("pool"), numbers), drops, rows_in
