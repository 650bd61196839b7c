"""A chunk is a fixed run of a shard's rows, and one call of the encoder: read -> prepared -> encoded.

Rows that cannot become a vector leave with a reason at the step that finds out; nothing else leaves.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybench.embedding.decode import decode
from raybench.embedding.job import EmbedJob
from raybench.encoders.base import Encoder
from raybench.errors import WorkError
from raybench.sources.base import Shard


@dataclass(frozen=True, slots=True)
class Drop:
    """One input row that has no vector: why, and where it was."""

    reason: str
    position: int
    row_id: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Input rows of a shard as they were read; `last` marks the end of the shard, which may be an empty chunk."""

    shard: int
    number: int
    last: bool
    rows: pa.Table
    digest: str  # SHA-256 of the rows' content, for telling a changed input from a touched one


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A chunk whose pictures are decoded: kept rows, their pixels, and the rows that were dropped."""

    shard: int
    number: int
    last: bool
    digest: str
    rows_in: int
    kept: pa.Table  # the columns that the metadata file gets
    pixels_BHWC: npt.NDArray[np.uint8] | None  # None for texts
    drops: tuple[Drop, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A chunk whose rows are vectors."""

    shard: int
    number: int
    last: bool
    digest: str
    rows_in: int
    kept: pa.Table
    vectors_BD: npt.NDArray[np.floating]  # of the job's dtype
    drops: tuple[Drop, ...]
    busy_s: float  # spent in the encoder


def read_chunks(job: EmbedJob, shard: Shard) -> Iterator[Chunk]:
    """The chunks of a shard in order; there is always at least one, and exactly one is the last."""
    held: list[pa.Table] = []
    num_held = number = 0
    for table in job.source.read(shard):
        held.append(table)
        num_held += len(table)
        while num_held > job.chunk_rows:  # strictly more, so that something is left for the last chunk
            rows = pa.concat_tables(held)
            yield _chunk(shard, number, rows.slice(0, job.chunk_rows), last=False)
            held, num_held, number = [rows.slice(job.chunk_rows)], num_held - job.chunk_rows, number + 1
    rows = pa.concat_tables(held) if held else None
    yield _chunk(shard, number, rows, last=True)


def _chunk(shard: Shard, number: int, rows: pa.Table | None, *, last: bool) -> Chunk:
    digest = hashlib.sha256()
    rows = pa.table({"position": pa.array([], pa.int64())}) if rows is None else rows
    for name in rows.column_names:
        for value in rows[name]:
            data = value.as_buffer() if name == "image" and value.is_valid else repr(value.as_py()).encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return Chunk(shard.number, number, last, rows, digest.hexdigest())


def prepare(job: EmbedJob, chunk: Chunk) -> Prepared:
    """Decode and preprocess the pictures of a chunk; texts pass through."""
    if job.modality == "text":
        kept = chunk.rows.rename_columns(["position", "query_id", "caption", "cluster_id"]) if len(chunk.rows) else None
        return Prepared(chunk.shard, chunk.number, chunk.last, chunk.digest, len(chunk.rows), _or_empty(kept), None, ())
    if job.preprocess is None:
        raise WorkError(f"the job {job.key} embeds images without a preprocess; this is a defect of raybench")
    pixels: list[npt.NDArray[np.uint8]] = []
    drops: list[Drop] = []
    positions: list[int] = []
    for index, row in enumerate(_light(chunk.rows)):
        problem, detail = row["problem"], row["detail"]
        if problem is None:
            decoded = decode(chunk.rows["image"][index].as_py() or b"")
            if decoded.picture is not None:
                pixels.append(job.preprocess.apply(decoded.picture))
                positions.append(index)
                continue
            problem, detail = decoded.problem or "decode_error", decoded.detail
        drops.append(Drop(problem, row["position"], row["image_id"] or "", (detail or "")[:200]))
    shape = (0, job.preprocess.height, job.preprocess.width, 3)
    stacked = np.stack(pixels) if pixels else np.zeros(shape, np.uint8)
    kept = _image_metadata(chunk.rows.take(pa.array(positions, pa.int64())), job, chunk.shard) if positions else None
    return Prepared(
        chunk.shard, chunk.number, chunk.last, chunk.digest, len(chunk.rows), _or_empty(kept), stacked, tuple(drops)
    )


def _light(rows: pa.Table) -> list[dict[str, Any]]:
    """The rows without the image bytes, as dictionaries."""
    columns = [name for name in ("position", "image_id", "problem", "detail") if name in rows.column_names]
    listed: list[dict[str, Any]] = rows.select(columns).to_pylist()
    return listed


def _image_metadata(rows: pa.Table, job: EmbedJob, shard: int) -> pa.Table:
    """The metadata columns: `image_path` and `caption` are what clip-retrieval's tools read; the rest is ours."""
    captions = [values or [] for values in rows["captions"].to_pylist()]
    return pa.table(
        {
            "image_path": rows["image_id"],
            "caption": pa.array([values[0] if values else "" for values in captions], pa.string()),
            "image_id": rows["image_id"],
            "captions": pa.array(captions, pa.list_(pa.string())),
            "shard": pa.array([job.shards[shard].name] * len(rows), pa.string()),
            "position": rows["position"],
            "metadata": rows["metadata"],
        }
    )


def _or_empty(kept: pa.Table | None) -> pa.Table:
    return pa.table({}) if kept is None else kept


def encode(encoder: Encoder, prepared: Prepared, dtype: str = "float16") -> Encoded:
    """Run the encoder once over a chunk; unit vectors, stored as float16 unless the job says otherwise."""
    started = time.perf_counter()
    if prepared.pixels_BHWC is not None:
        vectors = encoder.images(prepared.pixels_BHWC)
    else:
        vectors = encoder.texts(prepared.kept["caption"].to_pylist() if len(prepared.kept) else [])
    busy_s = time.perf_counter() - started
    if vectors.shape != (len(prepared.kept), encoder.dim) or not np.isfinite(vectors).all():
        raise WorkError(
            f"the encoder gave shape {vectors.shape} or non-finite numbers for {len(prepared.kept)} rows; check the model"
        )
    return Encoded(
        prepared.shard, prepared.number, prepared.last, prepared.digest, prepared.rows_in, prepared.kept,
        np.ascontiguousarray(vectors.astype(dtype)), prepared.drops, busy_s,
    )  # fmt: skip
