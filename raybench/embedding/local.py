"""The whole embedding in this process, shard after shard: the plainest runner, and the one the others must equal."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from raybench import storage
from raybench.embedding import ledger
from raybench.embedding.chunks import Encoded, encode, prepare, read_chunks
from raybench.embedding.job import EmbedJob
from raybench.environment import environment

Progress = Callable[[int, float], None]
"""Called with the number of rows just done, and the share of the input's bytes in shards that are committed."""


def embed(jobs: Sequence[EmbedJob], progress: Progress) -> list[dict[str, Any]]:
    """Embed what is missing of jobs, one encoder after another; their manifests."""
    pending = [(job, shard) for job in jobs for shard in ledger.begin(job)]
    pending.sort(key=lambda one: [job.encoder_fingerprint for job in jobs].index(one[0].encoder_fingerprint))
    total_bytes, done_bytes = sum(shard.size_bytes for _, shard in pending), 0
    started = time.perf_counter()
    held: tuple[str, Any] | None = None
    done = {job.key: ledger.Timed() for job in jobs}
    for job, shard in pending:
        if held is None or held[0] != job.encoder_fingerprint:
            held = None  # two models are never in memory together
            held = (job.encoder_fingerprint, job.encoder.load("auto", job.threads))
            for other in jobs:
                if other.encoder_fingerprint == job.encoder_fingerprint:
                    ledger.keep_facts(other, dict(held[1].facts))
        chunks: list[Encoded] = []
        for chunk in read_chunks(job, shard):
            chunks.append(encode(held[1], prepare(job, chunk), job.dtype))
            done[job.key] += ledger.Timed(chunks[-1].rows_in, chunks[-1].busy_s)
            progress(chunks[-1].rows_in, share(done_bytes, total_bytes))
        ledger.commit(job, shard, chunks)
        done_bytes += shard.size_bytes
        progress(0, share(done_bytes, total_bytes))
    stages = {"embed_s": round(time.perf_counter() - started, 3), "pipeline": [job.key for job in jobs]}
    return [
        storage.read_manifest(job.uri) or ledger.finish(job, environment() | stages | done[job.key].facts())
        for job in jobs
    ]


def share(part: float, whole: float) -> float:
    """A part of a whole, 0 where there is nothing."""
    return part / whole if whole else 0.0
