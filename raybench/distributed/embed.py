"""Ray Data streams read -> decode -> encode -> write; the unit that moves is a chunk, the unit that commits a shard.

A chunk is one row of the dataset, so Ray can neither merge nor split the encoder's batches, and the vectors do not
depend on scheduling. The driver sees numbers only: it counts the chunks of each shard and, when all are written,
has a task join them into the shard's part. Killing any process loses shards that were under way and nothing else.
"""

import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
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
from raybench.encoders import packages
from raybench.encoders.base import own_packages
from raybench.environment import environment
from raybench.errors import RaybenchError, WorkError
from raybench.sources.base import Shard

_NO_PROGRESS_S = 300  # a run that moves nothing for so long is stopped with an error instead of hanging
_RETRIES = 3  # of a task or actor whose process died: an input that kills workers must not be tried for ever


def embed(jobs: Sequence[EmbedJob], pool: Pool, progress: Progress) -> list[dict[str, Any]]:
    """Embed what is missing of jobs, in one pipeline on the connected Ray; their manifests. All run with the same packages."""
    pending = [(number, shard) for number, job in enumerate(jobs) for shard in ledger.begin(job)]
    order = list(dict.fromkeys(job.encoder_fingerprint for job in jobs))
    pending.sort(key=lambda one: order.index(jobs[one[0]].encoder_fingerprint))
    started = time.perf_counter()
    tally = _Tally()
    if pending:
        with failures_explained(f"embedding with {' and '.join(dict.fromkeys(job.encoder_spec for job in jobs))}"):
            _run(tuple(jobs), pending, pool, progress, tally)
    stages = {
        "embed_s": round(time.perf_counter() - started, 3),
        "encoding_s": round(tally.last_s - tally.first_s, 3),  # first chunk to last, without starting the pool
        "encoder_busy_share": round(share(tally.busy_s, tally.busy_s + tally.wait_s), 4),
        "encoder_wait_share": round(share(tally.wait_s, tally.busy_s + tally.wait_s), 4),
        "pipeline": [job.key for job in jobs],  # which jobs shared it, and so these times
    }
    return [
        storage.read_manifest(job.uri) or ledger.finish(job, environment() | stages | tally.of_job[number].facts())
        for number, job in enumerate(jobs)
    ]


@dataclass(slots=True)
class _Tally:
    """What the driver learns from the rows that reach it."""

    busy_s: float = 0.0
    wait_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    encoders: set[str] = field(default_factory=set)  # whose facts are kept
    of_job: defaultdict[int, ledger.Timed] = field(default_factory=lambda: defaultdict(ledger.Timed))

    def add(self, row: dict[str, Any]) -> None:
        """Count one written chunk."""
        self.busy_s += row["busy_s"]
        self.wait_s += row["wait_s"]
        self.of_job[int(row["job"])] += ledger.Timed(int(row["rows_in"]), row["busy_s"])
        self.last_s = time.perf_counter()
        self.first_s = self.first_s or self.last_s - row["busy_s"]


def _run(
    jobs: tuple[EmbedJob, ...], pending: list[tuple[int, Shard]], pool: Pool, progress: Progress, tally: _Tally
) -> None:
    expected: dict[tuple[int, int], int] = {}  # (job, shard) -> number of chunks, known when its last one is written
    written: dict[tuple[int, int], set[int]] = defaultdict(set)  # a chunk that was written twice counts once
    total_bytes, done_bytes = sum(shard.size_bytes for _, shard in pending), 0
    commits: list[Any] = []
    commit = ray.remote(num_cpus=pool.feeder_cpus, max_retries=_RETRIES)(ledger.commit_chunks)
    references = [ray.put(job) for job in jobs]
    # Ray warns of a pool that is larger than its input; a shard of few chunks is no mistake. Not `catch_warnings`: it warns
    # from a thread of its own.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks", category=UserWarning)
    for row in _pipeline(jobs, [(number, shard.number) for number, shard in pending], pool).iter_rows():
        place = (int(row["job"]), int(row["shard"]))
        written[place].add(int(row["number"]))
        if row["last"]:
            expected[place] = int(row["number"]) + 1
        if (spec := jobs[place[0]].encoder_spec) not in tally.encoders:
            tally.encoders.add(spec)
            for job in jobs:
                if job.encoder_spec == spec:
                    ledger.keep_facts(job, json.loads(row["facts"]) | {"pool": asdict(pool)})
        tally.add(row)
        if len(written[place]) == expected.get(place):
            shard = jobs[place[0]].shards[place[1]]
            done_bytes += shard.size_bytes
            commits = _drain(commits, pool.feeders - 1)
            commits.append(commit.remote(references[place[0]], shard, len(written.pop(place))))
        progress(int(row["rows_in"]), share(done_bytes, total_bytes))
    _drain(commits, 0)
    if written:
        job, shard = jobs[min(written)[0]], jobs[min(written)[0]].shards[min(written)[1]]
        raise WorkError(f"shard {shard.name} came back incomplete into {job.uri}; run the same command again")


def _drain(commits: list[Any], most: int) -> list[Any]:
    """Wait until at most so many commits are under way; raises the error of one that failed."""
    if len(commits) > most:
        done, commits = ray.wait(commits, num_returns=len(commits) - most)
        ray.get(done)
    return commits


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


def _pipeline(jobs: tuple[EmbedJob, ...], pending: list[tuple[int, int]], pool: Pool) -> Any:
    """The dataset of one small row per written chunk."""
    settings = {"batch_format": "pyarrow", "batch_size": 1}
    tasks = settings | {"max_retries": _RETRIES, "scheduling_strategy": "SPREAD"}
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
            max_restarts=_RETRIES,
            max_task_retries=_RETRIES,
            **_own_process(jobs[0]),
            **settings,
        )
        return encoded.map_batches(_Write(jobs), compute=feeders, num_cpus=pool.feeder_cpus, **tasks)


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
                yield _row(number, chunk.shard, chunk.number, chunk.last, digest=chunk.digest, rows=_ipc(chunk.rows))


@dataclass(frozen=True)
class _Decode:
    jobs: tuple[EmbedJob, ...]

    def __call__(self, batch: pa.Table) -> pa.Table:
        job, shard, number, last, digest = (batch[name][0].as_py() for name in ("job", *_PLACE, "digest"))
        prepared = prepare(self.jobs[job], Chunk(shard, number, last, _table(batch["rows"]), digest))
        pixels = np.zeros(0, np.uint8) if prepared.pixels_BHWC is None else prepared.pixels_BHWC
        drops = json.dumps([asdict(drop) for drop in prepared.drops])
        return _row(
            job, shard, number, last, digest=digest, rows=_ipc(prepared.kept), rows_in=prepared.rows_in, drops=drops,
            data=pa.py_buffer(np.ascontiguousarray(pixels)), shape=list(pixels.shape),
        )  # fmt: skip


class _Encode:
    """Holds one model at a time; everything about the device is decided here, on the worker."""

    jobs: tuple[EmbedJob, ...]

    def __init__(self) -> None:
        self.idle_since: float | None = None
        self.fault: RaybenchError | None = None
        self.held: tuple[str, Any] | None = None
        try:
            packages.activate(own_packages(self.jobs[0].encoder))
            self._encoder(self.jobs[0])
        except RaybenchError as fault:  # raised by the first chunk: an actor that cannot be built would be tried again
            self.fault = fault

    def _encoder(self, job: EmbedJob) -> Any:
        """The job's model; the one before it is let go first, so that two never share a GPU's memory."""
        if self.held is None or self.held[0] != job.encoder_fingerprint:
            self.held = None
            self.held = (job.encoder_fingerprint, job.encoder.load("auto", job.threads))
        return self.held[1]

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self.fault is not None:
            raise self.fault
        number = batch["job"][0].as_py()
        prepared = _prepared(batch, _array(batch, np.uint8))
        # The wait of the first chunk is the start of the pipeline, not a decoder that is too slow.
        wait_s = 0.0 if self.idle_since is None else time.perf_counter() - self.idle_since
        encoder = self._encoder(self.jobs[number])
        done = encode(encoder, prepared, self.jobs[number].dtype)
        self.idle_since = time.perf_counter()
        return _row(
            number, done.shard, done.number, done.last, digest=done.digest, rows=_ipc(done.kept),
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
        prepared, vectors_BD = _prepared(batch, None), _array(batch, np.dtype(job.dtype))
        if vectors_BD is None:
            raise WorkError("a chunk came without vectors; this is a defect of raybench")
        encoded = Encoded(
            prepared.shard, prepared.number, prepared.last, prepared.digest, prepared.rows_in, prepared.kept,
            vectors_BD, prepared.drops, 0.0,
        )  # fmt: skip
        ledger.write_chunk(job, encoded)
        return batch.select(["job", *_PLACE, "rows_in", "busy_s", "wait_s", "facts"])


_PLACE = ("shard", "number", "last")


def _row(job: int, shard: int, number: int, last: bool, **columns: Any) -> pa.Table:
    """One chunk as a table of one row; buffers become large binary cells that move without a copy."""
    values = {"job": job, "shard": shard, "number": number, "last": last} | columns
    return pa.table({name: _cell(value) for name, value in values.items()})


def _cell(value: Any) -> pa.Array:
    if not isinstance(value, pa.Buffer):
        return pa.array([value])
    offsets = pa.py_buffer(np.array([0, value.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, value])


def _array(batch: pa.Table, dtype: type[np.generic]) -> npt.NDArray[Any] | None:
    """The array of a chunk, a view of the store; None where it has but one axis, as texts have no pixels."""
    shape = batch["shape"][0].as_py()
    if len(shape) < 2:
        return None
    return np.frombuffer(batch["data"][0].as_buffer(), dtype).reshape(shape)


def _prepared(batch: pa.Table, pixels_BHWC: npt.NDArray[np.uint8] | None) -> Prepared:
    row = {name: batch[name][0].as_py() for name in (*_PLACE, "digest", "rows_in", "drops")}
    drops = tuple(Drop(**drop) for drop in json.loads(row["drops"]))
    return Prepared(
        row["shard"], row["number"], row["last"], row["digest"], row["rows_in"], _table(batch["rows"]), pixels_BHWC,
        drops,
    )  # fmt: skip


def _ipc(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _table(column: Any) -> pa.Table:
    with pa.ipc.open_stream(column[0].as_buffer()) as reader:
        return reader.read_all()
