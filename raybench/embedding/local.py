"""The whole embedding by one process, shard after shard: the plainest runner, and the one the others must equal."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from raybench import storage
from raybench.embedding import ledger
from raybench.embedding.chunks import Encoded, encode, prepare, read_chunks
from raybench.embedding.job import EmbedJob
from raybench.encoders.base import Encoder
from raybench.environment import environment
from raybench.sources.base import Shard

Progress = Callable[[int, float], None]
"""Called with the number of rows just done, and the share of the input's bytes in shards that are committed."""


class HeldModel:
    """The model of the last job; the one before it is let go first, so that two are never in memory together."""

    def __init__(self) -> None:
        self._held: tuple[str, int, Encoder] | None = None

    def of(self, job: EmbedJob) -> Encoder:
        """The job's model, loaded if another one is held."""
        if self._held is None or self._held[:2] != (job.encoder_fingerprint, job.threads):
            self._held = None
            self._held = (job.encoder_fingerprint, job.threads, job.encoder.load("auto", job.threads))
        return self._held[2]


class ShardEmbedder:
    """Embeds shard after shard in this process."""

    def __init__(self) -> None:
        self._model = HeldModel()
        self._told = ""  # which job has the facts of its encoder

    def shard(self, job: EmbedJob, shard: Shard) -> Iterator[ledger.Timed]:
        """Embed and commit one shard; what each of its chunks took."""
        encoder = self._model.of(job)
        if job.uri != self._told:
            ledger.keep_facts(job, dict(encoder.facts))
            self._told = job.uri
        chunks: list[Encoded] = []
        for chunk in read_chunks(job, shard):
            chunks.append(encode(encoder, prepare(job, chunk), job.dtype))
            yield ledger.Timed(chunks[-1].rows_in, chunks[-1].busy_s)
        ledger.commit(job, shard, chunks)

    def release(self) -> None:
        """Let go of the model."""
        self._model, self._told = HeldModel(), ""


@dataclass(slots=True)
class _Account:
    """What is known of one job: shards to do, seconds in them with loading the model, and what its chunks took."""

    left: int = 0
    embed_s: float = 0.0
    timed: ledger.Timed = field(default_factory=ledger.Timed)


def embed(
    jobs: Sequence[EmbedJob],
    progress: Progress,
    run: Callable[[EmbedJob, Shard], Iterable[ledger.Timed]] | None = None,
    where: str = "this process",
) -> list[dict[str, Any]]:
    """Embed what is missing of jobs, one encoder after another; their manifests, each written when the job is done.

    `run` embeds and commits a shard, and is `ShardEmbedder().shard` of this process unless it is given.
    """
    run = run or ShardEmbedder().shard
    pending = [(job, shard) for job in jobs for shard in ledger.begin(job)]
    pending.sort(key=lambda one: [job.encoder_fingerprint for job in jobs].index(one[0].encoder_fingerprint))
    total_bytes, done_bytes = sum(shard.size_bytes for _, shard in pending), 0
    accounts = {job.key: _Account() for job in jobs}
    for job, _ in pending:
        accounts[job.key].left += 1
    manifests: dict[str, dict[str, Any]] = {}
    shared = {"runner": where, "pipeline": [job.key for job in jobs]}
    for job, shard in pending:
        account, started = accounts[job.key], time.perf_counter()
        for timed in run(job, shard):
            account.timed += timed
            progress(timed.rows, share(done_bytes, total_bytes))
        account.embed_s += time.perf_counter() - started
        account.left -= 1
        done_bytes += shard.size_bytes
        progress(0, share(done_bytes, total_bytes))
        if not account.left:
            manifests[job.key] = _manifest(job, account, shared)
    return [manifests.get(job.key) or _manifest(job, accounts[job.key], shared) for job in jobs]


def _manifest(job: EmbedJob, account: _Account, shared: dict[str, Any]) -> dict[str, Any]:
    facts = shared | {"embed_s": round(account.embed_s, 3)} | account.timed.facts()
    return storage.read_manifest(job.uri) or ledger.finish(job, environment() | facts)


def share(part: float, whole: float) -> float:
    """A part of a whole, 0 where there is nothing."""
    return part / whole if whole else 0.0
