"""A small input goes to one process that stays: to start a pipeline for it would take longer than the work.

How long a model takes cannot be seen from the bytes of its input. So the process has a minute for each model, from its first chunk
on; what it has not committed by then, or when it dies, is left to a pipeline, which writes the same bytes.
"""

import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybench.distributed.runtime import failures_explained
from raybench.embedding.job import EmbedJob
from raybench.embedding.ledger import Timed
from raybench.embedding.local import Progress, ShardEmbedder
from raybench.sources.base import Shard

_PATIENCE_S = 60  # from the first chunk of a model; about twice what a pipeline's processes take to start
_FIRST_S = 300  # until then: a process that starts, a model that is loaded, a chunk


class LeftError(Exception):
    """The process was too slow, or died; the rows that it had told of a shard that is not committed, and how many encoders may go on (0: all)."""

    def __init__(self, why: str, encoders: int) -> None:
        super().__init__(why)
        self.rows, self.encoders = 0, encoders


class OneProcess:
    """The process, started when it is first asked."""

    def __init__(self) -> None:
        self._actor: Any = None
        self._model = ""
        self._until = 0.0

    def shard(self, job: EmbedJob, shard: Shard) -> Iterator[Timed]:
        """Embed and commit one shard; what each of its chunks took. LeftError where a pipeline has to."""
        if self._actor is None:
            self._actor = _start(job.threads)
        if self._model != job.encoder_fingerprint:
            self._model, self._until = job.encoder_fingerprint, 0.0
        chunks = self._actor.shard.options(num_returns="streaming").remote(job, shard)
        rows = 0
        try:
            while (reference := self._next(chunks)) is not None:
                with failures_explained(f"embedding with {job.encoder_spec}"):
                    timed: Timed = _get(reference)
                self._until = self._until or time.monotonic() + _PATIENCE_S
                rows += timed.rows
                yield timed
        except LeftError as left:
            left.rows = rows
            self.close()
            raise

    def _next(self, chunks: Any) -> Any:
        """The next chunk, None at the end; LeftError where it does not come in time."""
        left_s = max(0.0, self._until - time.monotonic()) if self._until else _FIRST_S
        if not ray.wait([chunks], timeout=left_s)[0]:
            raise LeftError(f"one process had not done it in {_PATIENCE_S if self._until else _FIRST_S} s", encoders=0)
        return next(chunks, None)

    def release(self) -> None:
        """Let go of the model, and of what is known of its time; the process stays."""
        self._model = ""
        if self._actor is not None:
            self._actor.release.remote()

    def close(self) -> None:
        """End the process, if there is one."""
        self._model = ""
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


class Advance:
    """Progress of two tries: rows that the first lost are not told twice, and the second goes on from its share."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._lost, self._before, self._share = progress, 0, 0.0, 0.0

    def __call__(self, rows: int, share: float) -> None:
        """Rows that were done, and the share of this try."""
        again = min(rows, self._lost)
        self._lost -= again
        self._share = self._before + (1 - self._before) * share
        self._progress(rows - again, self._share)

    def again(self, lost: int) -> None:
        """A second try begins; so many rows that were told will come again."""
        self._lost, self._before = lost, self._share


def _get(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except (
        ray.exceptions.ActorDiedError,
        ray.exceptions.ActorUnavailableError,
        ray.exceptions.OutOfMemoryError,
    ) as error:
        # A pipeline tries with one encoder: several might need more memory than there is.
        raise LeftError(f"the one process died: {' '.join(str(error).split())[:300]}", encoders=1) from None


def _start(threads: int) -> Any:
    # It reserves nothing, since it stays beside tasks, partitions and generators that share out whole nodes, and works while they
    # wait. So it is told where there are CPUs: a head often has none.
    node = max(ray.nodes(), key=lambda node: (node["Alive"], node["Resources"].get("CPU", 0)))["NodeID"]
    # A worker without a GPU must not see one, or the first library that looks for it takes GPU 0.
    variables = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads)}
    return ray.remote(
        num_cpus=0, max_restarts=0, max_task_retries=0, runtime_env={"env_vars": variables},
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
    )(ShardEmbedder).remote()  # fmt: skip
