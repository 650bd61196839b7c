"""The dataset of an embedding: read -> decode -> encode -> write, a chunk to a row, and the settings under which Ray Data runs it."""

import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.util.annotations import RayDeprecationWarning

from raybench.distributed.chunk_rows import PLACE, array_of, chunk_row, ipc, prepared_of, table_of
from raybench.distributed.pool import Pool
from raybench.embedding import ledger
from raybench.embedding.chunks import Chunk, Encoded, encode, prepare, read_chunks
from raybench.embedding.job import EmbedJob
from raybench.embedding.local import HeldModel
from raybench.encoders import packages
from raybench.encoders.base import own_packages
from raybench.errors import RaybenchError, WorkError

_NO_PROGRESS_S = 300  # a run that moves nothing for so long is stopped with an error instead of hanging
RETRIES = 3  # of a task or actor whose process died: an input that kills workers must not be tried for ever


def pipeline(jobs: tuple[EmbedJob, ...], pending: list[tuple[int, int]], pool: Pool) -> Any:
    """The dataset of one small row per written chunk."""
    settings = {"batch_format": "pyarrow", "batch_size": 1}
    tasks = settings | {"max_retries": RETRIES, "scheduling_strategy": "SPREAD"}
    feeders, decoders = (ray.data.TaskPoolStrategy(size=size) for size in (pool.feeders, pool.decoders))
    encoders = ray.data.ActorPoolStrategy(min_size=1, max_size=pool.encoders, initial_size=pool.encoders)
    shards = [{"job": job, "shard": shard} for job, shard in pending]
    with ray.data.DataContext.current(_context(jobs)), warnings.catch_warnings():
        # The named arguments of this version cannot bound retries; the pinned version takes these.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        rows = ray.data.from_items(shards, override_num_blocks=len(shards))
        read = rows.map_batches(_Read(jobs), compute=feeders, num_cpus=pool.feeder_cpus, **tasks)
        decoded = read.map_batches(_Decode(jobs), compute=decoders, num_cpus=pool.decoder_cpus, **tasks)
        encoded = decoded.map_batches(
            _encode_class(jobs),
            compute=encoders,
            num_cpus=pool.encoder_cpus or None,
            num_gpus=pool.encoder_gpus or None,
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
            **_own_process(jobs[0]),
            **settings,
        )
        return encoded.map_batches(_Write(jobs), compute=feeders, num_cpus=pool.feeder_cpus, **tasks)


def _context(jobs: tuple[EmbedJob, ...]) -> Any:
    """The settings of one dataset, apart from those of the process.

    Chunks keep their order where there are several encoders: an actor holds one model, and would load them again and again.
    """
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1  # every row is a block of its own, so chunks spread over workers
    context.execution_options.preserve_order = len({job.encoder_fingerprint for job in jobs}) > 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    context.raise_original_map_exception = True  # an error of ours arrives as itself
    context.issue_detectors_config.detectors = []  # advice for those who write pipelines, not for those who run one
    return context


def _own_process(job: EmbedJob) -> dict[str, Any]:
    """A runtime environment for an encoder with packages of its own: its processes are then shared with no other work."""
    own = own_packages(job.encoder)
    return {"runtime_env": {"env_vars": {packages.ENVIRONMENT: packages.key(own)}}} if own else {}


@dataclass(frozen=True)
class _Read:
    jobs: tuple[EmbedJob, ...]

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for number, shard in zip(batch["job"].to_pylist(), batch["shard"].to_pylist(), strict=True):
            job = self.jobs[number]
            for chunk in read_chunks(job, job.shards[shard]):
                yield chunk_row(
                    number, chunk.shard, chunk.number, chunk.last, digest=chunk.digest, rows=ipc(chunk.rows)
                )


@dataclass(frozen=True)
class _Decode:
    jobs: tuple[EmbedJob, ...]

    def __call__(self, batch: pa.Table) -> pa.Table:
        job, shard, number, last, digest = (batch[name][0].as_py() for name in ("job", *PLACE, "digest"))
        prepared = prepare(self.jobs[job], Chunk(shard, number, last, table_of(batch["rows"]), digest))
        pixels = np.zeros(0, np.uint8) if prepared.pixels_BHWC is None else prepared.pixels_BHWC
        drops = json.dumps([asdict(drop) for drop in prepared.drops])
        return chunk_row(
            job, shard, number, last, digest=digest, rows=ipc(prepared.kept), rows_in=prepared.rows_in, drops=drops,
            data=pa.py_buffer(np.ascontiguousarray(pixels)), shape=list(pixels.shape),
        )  # fmt: skip


class _Encode:
    """Holds one model at a time; everything about the device is decided here, on the worker."""

    jobs: tuple[EmbedJob, ...]

    def __init__(self) -> None:
        self.idle_since: float | None = None
        self.fault: RaybenchError | None = None
        self.model = HeldModel()
        try:
            packages.activate(own_packages(self.jobs[0].encoder))
            self.model.of(self.jobs[0])
        except RaybenchError as fault:  # raised by the first chunk: an actor that cannot be built would be tried again
            self.fault = fault

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self.fault is not None:
            raise self.fault
        number = batch["job"][0].as_py()
        prepared = prepared_of(batch, array_of(batch, np.uint8))
        # The wait of the first chunk is the start of the pipeline, not a decoder that is too slow.
        wait_s = 0.0 if self.idle_since is None else time.perf_counter() - self.idle_since
        encoder = self.model.of(self.jobs[number])
        done = encode(encoder, prepared, self.jobs[number].dtype)
        self.idle_since = time.perf_counter()
        return chunk_row(
            number, done.shard, done.number, done.last, digest=done.digest, rows=ipc(done.kept),
            rows_in=done.rows_in, drops=batch["drops"][0].as_py(), data=pa.py_buffer(done.vectors_BD),
            shape=list(done.vectors_BD.shape), busy_s=done.busy_s, wait_s=wait_s, facts=json.dumps(dict(encoder.facts)),
        )  # fmt: skip


def _encode_class(jobs: tuple[EmbedJob, ...]) -> type[_Encode]:
    """The encoder's class with its jobs inside.

    Constructor arguments would lie in the object store, and an actor that restarts after they are lost could not be
    built again.
    """
    return type("Encode", (_Encode,), {"jobs": jobs})


@dataclass(frozen=True)
class _Write:
    jobs: tuple[EmbedJob, ...]

    def __call__(self, batch: pa.Table) -> pa.Table:
        job = self.jobs[batch["job"][0].as_py()]
        prepared, vectors_BD = prepared_of(batch, None), array_of(batch, np.dtype(job.dtype))
        if vectors_BD is None:
            raise WorkError("a chunk came without vectors; this is a defect of raybench")
        encoded = Encoded(
            prepared.shard, prepared.number, prepared.last, prepared.digest, prepared.rows_in, prepared.kept,
            vectors_BD, prepared.drops, 0.0,
        )  # fmt: skip
        ledger.write_chunk(job, encoded)
        return batch.select(["job", *PLACE, "rows_in", "busy_s", "wait_s", "facts"])
