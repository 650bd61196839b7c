"""Ray Data streams read -> decode -> encode -> write; the unit that moves is a chunk, the unit that commits a shard.

A chunk is one row of the dataset, so Ray can neither merge nor split the encoder's batches, and the vectors do not
depend on scheduling. The driver sees numbers only: it counts the chunks of each shard and, when all are written,
has a task join them into the shard's part. Killing any process loses shards that were under way and nothing else.
"""

import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.util.annotations import RayDeprecationWarning

from raybench import storage
from raybench.distributed.pool import Pool
from raybench.distributed.runtime import failures_explained
from raybench.embedding import ledger
from raybench.embedding.chunks import Chunk, Drop, Encoded, Prepared, encode, prepare, read_chunks
from raybench.embedding.job import EmbedJob
from raybench.embedding.local import Progress, share
from raybench.environment import environment
from raybench.errors import WorkError

_NO_PROGRESS_S = 300  # a run that moves nothing for so long is stopped with an error instead of hanging
_RETRIES = 3  # of a task or actor whose process died: an input that kills workers must not be tried for ever


def embed(job: EmbedJob, pool: Pool, progress: Progress) -> dict[str, Any]:
    """Embed what is missing on the connected Ray; returns the manifest."""
    pending = ledger.begin(job)
    manifest = storage.read_manifest(job.uri)
    if manifest is not None and not pending:
        return manifest
    started = time.perf_counter()
    tally = _Tally()
    if pending:
        with failures_explained(f"embedding into {job.uri}"):
            _run(job, [shard.number for shard in pending], pool, progress, tally)
    facts = tally.facts | {"pool": asdict(pool)}
    elapsed_s = time.perf_counter() - started
    stages = {
        "embed_s": round(elapsed_s, 3),
        "encoding_s": round(tally.last_s - tally.first_s, 3),  # first chunk to last, without starting the pool
        "encoder_busy_share": round(share(tally.busy_s, tally.busy_s + tally.wait_s), 4),
        "encoder_wait_share": round(share(tally.wait_s, tally.busy_s + tally.wait_s), 4),
    }
    return ledger.finish(job, environment() | stages, facts)


@dataclass(slots=True)
class _Tally:
    """What the driver learns from the rows that reach it."""

    busy_s: float = 0.0
    wait_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> None:
        """Count one written chunk."""
        self.busy_s += row["busy_s"]
        self.wait_s += row["wait_s"]
        self.last_s = time.perf_counter()
        self.first_s = self.first_s or self.last_s - row["busy_s"]
        self.facts = self.facts or json.loads(row["facts"])


def _run(job: EmbedJob, shards: list[int], pool: Pool, progress: Progress, tally: _Tally) -> None:
    expected: dict[int, int] = {}  # shard -> number of chunks, known when its last chunk is written
    written: dict[int, int] = defaultdict(int)
    total_bytes, done_bytes = sum(job.shards[shard].size_bytes for shard in shards), 0
    commits: list[Any] = []
    commit = ray.remote(num_cpus=pool.feeder_cpus, max_retries=_RETRIES)(ledger.commit_chunks)
    reference = ray.put(job)
    for row in _pipeline(job, shards, pool).iter_rows():
        shard = int(row["shard"])
        written[shard] += 1
        if row["last"]:
            expected[shard] = int(row["number"]) + 1
        tally.add(row)
        if written[shard] == expected.get(shard):
            done_bytes += job.shards[shard].size_bytes
            commits = _drain(commits, pool.feeders - 1)
            commits.append(commit.remote(reference, job.shards[shard], written.pop(shard)))
        progress(int(row["rows_in"]), share(done_bytes, total_bytes))
    _drain(commits, 0)
    if written:
        raise WorkError(f"{job.uri}: shards {sorted(written)[:5]} came back incomplete; run the same command again")


def _drain(commits: list[Any], most: int) -> list[Any]:
    """Wait until at most so many commits are under way; raises the error of one that failed."""
    if len(commits) > most:
        done, commits = ray.wait(commits, num_returns=len(commits) - most)
        ray.get(done)
    return commits


def _context() -> Any:
    """The settings of one dataset, apart from those of the process."""
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1  # every row is a block of its own, so chunks spread over workers
    context.execution_options.preserve_order = False
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    context.raise_original_map_exception = True  # an error of ours arrives as itself
    context.issue_detectors_config.detectors = []  # advice for those who write pipelines, not for those who run one
    return context


def _pipeline(job: EmbedJob, shards: list[int], pool: Pool) -> Any:
    """The dataset of one small row per written chunk."""
    settings = {"batch_format": "pyarrow", "batch_size": 1}
    tasks = settings | {"max_retries": _RETRIES, "scheduling_strategy": "SPREAD"}
    feeders, decoders = (ray.data.TaskPoolStrategy(size=size) for size in (pool.feeders, pool.decoders))
    encoders = ray.data.ActorPoolStrategy(min_size=1, max_size=pool.encoders, initial_size=pool.encoders)
    with ray.data.DataContext.current(_context()), warnings.catch_warnings():
        # The named arguments of this version cannot bound retries; the pinned version takes these.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        rows = ray.data.from_items([{"shard": number} for number in shards], override_num_blocks=len(shards))
        read = rows.map_batches(_Read(job), compute=feeders, num_cpus=pool.feeder_cpus, **tasks)
        decoded = read.map_batches(_Decode(job), compute=decoders, num_cpus=pool.decoder_cpus, **tasks)
        encoded = decoded.map_batches(
            _encode_class(job),
            compute=encoders,
            num_cpus=pool.encoder_cpus,
            num_gpus=pool.encoder_gpus or None,
            max_restarts=_RETRIES,
            max_task_retries=_RETRIES,
            **settings,
        )
        return encoded.map_batches(_Write(job), compute=feeders, num_cpus=pool.feeder_cpus, **tasks)


@dataclass(frozen=True)
class _Read:
    job: EmbedJob

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for number in batch["shard"].to_pylist():
            for chunk in read_chunks(self.job, self.job.shards[number]):
                yield _row(chunk.shard, chunk.number, chunk.last, digest=chunk.digest, rows=_ipc(chunk.rows))


@dataclass(frozen=True)
class _Decode:
    job: EmbedJob

    def __call__(self, batch: pa.Table) -> pa.Table:
        shard, number, last, digest = (batch[name][0].as_py() for name in ("shard", "number", "last", "digest"))
        prepared = prepare(self.job, Chunk(shard, number, last, _table(batch["rows"]), digest))
        pixels = np.zeros((0, 0, 0, 3), np.uint8) if prepared.pixels_BHWC is None else prepared.pixels_BHWC
        drops = json.dumps([asdict(drop) for drop in prepared.drops])
        return _row(
            shard, number, last, digest=digest, rows=_ipc(prepared.kept), rows_in=prepared.rows_in, drops=drops,
            pixels=pa.py_buffer(np.ascontiguousarray(pixels)), shape=list(pixels.shape),
        )  # fmt: skip


class _Encode:
    """Holds the model; everything about the device is decided here, on the worker."""

    job: EmbedJob

    def __init__(self) -> None:
        self.encoder = self.job.encoder.load("auto", self.job.threads)
        self.idle_since: float | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        prepared = _prepared(self.job, batch)
        # The wait of the first chunk is the start of the pipeline, not a decoder that is too slow.
        wait_s = 0.0 if self.idle_since is None else time.perf_counter() - self.idle_since
        done = encode(self.encoder, prepared)
        vectors = pa.py_buffer(done.vectors_BD)
        self.idle_since = time.perf_counter()
        return _row(
            done.shard, done.number, done.last, digest=done.digest, rows=_ipc(done.kept), rows_in=done.rows_in,
            drops=batch["drops"][0].as_py(), pixels=vectors, shape=list(done.vectors_BD.shape), busy_s=done.busy_s,
            wait_s=wait_s, facts=json.dumps(dict(self.encoder.facts)),
        )  # fmt: skip


def _encode_class(job: EmbedJob) -> type[_Encode]:
    """The encoder's class with its job inside.

    Constructor arguments would lie in the object store, and an actor that restarts after they are lost could not be
    built again.
    """
    return type("Encode", (_Encode,), {"job": job})


@dataclass(frozen=True)
class _Write:
    job: EmbedJob

    def __call__(self, batch: pa.Table) -> pa.Table:
        prepared = _prepared(self.job, batch)
        vectors_BD = np.frombuffer(batch["pixels"][0].as_buffer(), np.float16).reshape(batch["shape"][0].as_py())
        ledger.write_chunk(
            self.job,
            Encoded(
                prepared.shard, prepared.number, prepared.last, prepared.digest, prepared.rows_in, prepared.kept,
                vectors_BD, prepared.drops, 0.0,
            ),
        )  # fmt: skip
        return batch.select(["shard", "number", "last", "rows_in", "busy_s", "wait_s", "facts"])


def _row(shard: int, number: int, last: bool, **columns: Any) -> pa.Table:
    """One chunk as a table of one row; buffers become large binary cells that move without a copy."""
    values = {"shard": shard, "number": number, "last": last} | columns
    return pa.table({name: _cell(value) for name, value in values.items()})


def _cell(value: Any) -> pa.Array:
    if not isinstance(value, pa.Buffer):
        return pa.array([value])
    offsets = pa.py_buffer(np.array([0, value.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, value])


def _prepared(job: EmbedJob, batch: pa.Table) -> Prepared:
    row = {name: batch[name][0].as_py() for name in ("shard", "number", "last", "digest", "rows_in", "drops", "shape")}
    pixels = None
    if job.modality == "image" and len(row["shape"]) == 4:
        pixels = np.frombuffer(batch["pixels"][0].as_buffer(), np.uint8).reshape(row["shape"])
    drops = tuple(Drop(**drop) for drop in json.loads(row["drops"]))
    return Prepared(
        row["shard"], row["number"], row["last"], row["digest"], row["rows_in"], _table(batch["rows"]), pixels, drops
    )


def _ipc(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _table(column: Any) -> pa.Table:
    with pa.ipc.open_stream(column[0].as_buffer()) as reader:
        return reader.read_all()
