"""A small input goes to one process that stays: to start a pipeline for it would take longer than the work.

How long a model takes cannot be seen from the bytes of its input. So the process has a minute for it; what it has not
committed by then, or when it dies, is left to a pipeline, which writes the same bytes.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybench.distributed.runtime import failures_explained
from raybench.embedding.job import EmbedJob
from raybench.embedding.ledger import Timed
from raybench.embedding.local import ShardEmbedder
from raybench.sources.base import Shard

_PATIENCE_S = 60  # of encoding, about twice what a pipeline's processes take to start


class LeftError(Exception):
    """The process was too slow, or died."""


class OneProcess:
    """The process, started when it is first asked."""

    def __init__(self) -> None:
        self._actor: Any = None
        self._until = float("inf")

    def begin(self) -> Callable[[EmbedJob, Shard], Iterator[Timed]]:
        """Who embeds the shards of one input. Its time runs from the first chunk: the start of the process does not count."""
        self._until = float("inf")
        return self._shard

    def _shard(self, job: EmbedJob, shard: Shard) -> Iterator[Timed]:
        """Embed and commit one shard; what each of its chunks took. LeftError where a pipeline has to."""
        if self._actor is None:
            self._actor = _start(job.threads)
        chunks = self._actor.shard.options(num_returns="streaming").remote(job, shard)
        try:
            while (reference := self._next(chunks)) is not None:
                with failures_explained(f"embedding with {job.encoder_spec}"):
                    timed: Timed = _get(reference)
                self._until = min(self._until, time.monotonic() + _PATIENCE_S)
                yield timed
        except LeftError:
            self.close()
            raise

    def _next(self, chunks: Any) -> Any:
        """The next chunk, None at the end; LeftError where it does not come in time."""
        left_s = None if self._until == float("inf") else max(0.0, self._until - time.monotonic())
        if not ray.wait([chunks], timeout=left_s)[0]:
            raise LeftError(f"more than {_PATIENCE_S} s of work for one process")
        return next(chunks, None)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


def _get(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except (
        ray.exceptions.ActorDiedError,
        ray.exceptions.ActorUnavailableError,
        ray.exceptions.OutOfMemoryError,
    ) as error:
        raise LeftError(f"the process died: {' '.join(str(error).split())[:300]}") from None


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
