"""Ray Data streams read -> decode -> encode -> write; the unit that moves is a chunk, the unit that commits a shard.

A chunk is one row of the dataset, so Ray can neither merge nor split the encoder's batches, and the vectors do not
depend on scheduling. The driver sees numbers only: it counts the chunks of each shard and, when all are written,
has a task join them into the shard's part. Killing any process loses shards that were under way and nothing else.
"""

import json
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import ray

from raybench import storage
from raybench.distributed.pipeline import RETRIES, pipeline
from raybench.distributed.pool import Pool
from raybench.distributed.runtime import failures_explained
from raybench.embedding import ledger
from raybench.embedding.job import EmbedJob
from raybench.embedding.local import Progress, share
from raybench.environment import environment
from raybench.errors import WorkError
from raybench.sources.base import Shard


def embed(
    jobs: Sequence[EmbedJob], pool: Pool, progress: Progress, facts: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Embed what is missing of jobs, in one pipeline on the connected Ray; their manifests, which keep the given facts too.

    All run with the same packages.
    """
    pending = [(number, shard) for number, job in enumerate(jobs) for shard in ledger.begin(job)]
    order = list(dict.fromkeys(job.encoder_fingerprint for job in jobs))
    pending.sort(key=lambda one: order.index(jobs[one[0]].encoder_fingerprint))
    started = time.perf_counter()
    tally = _Tally()
    if pending:
        with failures_explained(f"embedding with {' and '.join(dict.fromkeys(job.encoder_spec for job in jobs))}"):
            _run(tuple(jobs), pending, pool, progress, tally)
    stages = (facts or {}) | {
        "runner": "Ray Data pipeline",
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
    commit = ray.remote(num_cpus=pool.feeder_cpus, max_retries=RETRIES)(ledger.commit_chunks)
    references = [ray.put(job) for job in jobs]
    # Ray warns of a pool that is larger than its input; a shard of few chunks is no mistake. Not `catch_warnings`: it warns
    # from a thread of its own.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks", category=UserWarning)
    for row in pipeline(jobs, [(number, shard.number) for number, shard in pending], pool).iter_rows():
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
