"""The whole embedding in this process, shard after shard: the plainest runner, and the one the others must equal."""

import time
from collections.abc import Callable
from typing import Any

from raybench import storage
from raybench.embedding import ledger
from raybench.embedding.chunks import Encoded, encode, prepare, read_chunks
from raybench.embedding.job import EmbedJob
from raybench.environment import environment

Progress = Callable[[int], None]
"""Called with the number of rows that were just done."""


def embed(job: EmbedJob, progress: Progress) -> dict[str, Any]:
    """Embed what is missing; returns the manifest."""
    pending = ledger.begin(job)
    manifest = storage.read_manifest(job.uri)
    if manifest is not None and not pending:
        return manifest
    started = time.perf_counter()
    encoder = job.encoder.load("auto", job.threads)
    for shard in pending:
        chunks: list[Encoded] = []
        for chunk in read_chunks(job, shard):
            chunks.append(encode(encoder, prepare(job, chunk)))
            progress(chunks[-1].rows_in)
        ledger.commit(job, shard, chunks)
    facts = dict(encoder.facts)
    return ledger.finish(job, environment() | {"embed_s": round(time.perf_counter() - started, 3)}, facts)
