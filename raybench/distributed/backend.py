"""The backend on Ray: embedding by one process or a Ray Data pipeline, search by partition actors that serve one index after another."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

from raybench.distributed import embed
from raybench.distributed.generators import RayGenerators, plan_generators, ray_generators
from raybench.distributed.one_process import Advance, LeftError, OneProcess
from raybench.distributed.partition_actors import partition_actors
from raybench.distributed.pool import gpus_of_use, is_small, plan_pool
from raybench.distributed.runtime import cluster_facts, connected
from raybench.distributed.shards import ShardedIndex, sharded_index
from raybench.distributed.tasks import RayWorkers
from raybench.embedding import local
from raybench.embedding.job import EmbedJob
from raybench.embedding.local import Progress
from raybench.encoders.base import own_packages
from raybench.environment import environment
from raybench.generation.worker import Setup
from raybench.indexes.base import IndexRecipe
from raybench.indexes.exact import Exact
from raybench.indexes.rerank import inner
from raybench.indexes.stored import RowSource
from raybench.transforms import Transform


class RayBackend:
    """Works on the Ray that this process is connected to; made by `ray_backend`.

    Partition actors stay for the next search, and end before anything else is asked of the cluster: they hold its CPUs, and a
    pipeline or a task would wait for them for ever.
    """

    def __init__(self, lifetime: ExitStack) -> None:
        self._searching = {gpus: lifetime.enter_context(ExitStack()) for gpus in (False, True)}
        self._actors: dict[tuple[int, bool], tuple[Any, ...]] = {}  # by the number of partitions, and whether on GPUs
        self._generators_gpus = 0  # that generators hold now
        self._one_process = lifetime.enter_context(closing(OneProcess()))

    def facts(self) -> dict[str, Any]:
        """The facts of the driver's machine and of the cluster."""
        return environment() | {"runner": "Ray", "cluster": cluster_facts()}

    def workers(self) -> RayWorkers:
        """Tasks of the same Ray."""
        return RayWorkers(self._end_searches)

    def plan(self, threads: int, workers: int, shards: int, size_bytes: int, texts: int, *, own: bool) -> str:
        """Who will embed, in words; RequestError for a plan that can never be scheduled."""
        cluster = cluster_facts()
        pool = plan_pool(cluster, threads, workers, shards, gpus_of_use(size_bytes, texts))
        is_one = not workers and is_small(cluster, size_bytes, texts) and not own
        return f"one process, and where that is not enough {pool}" if is_one else str(pool)

    def embed(self, jobs: Sequence[EmbedJob], workers: int, progress: Progress) -> list[dict[str, Any]]:
        """Embed what is missing of jobs that run with the same packages; their manifests."""
        cluster, advance, facts = cluster_facts(), Advance(progress), {}
        size_bytes, texts = _largest(jobs)
        threads, shards = max(job.threads for job in jobs), sum(len(job.shards) for job in jobs)
        pool = plan_pool(cluster, threads, workers, shards, gpus_of_use(size_bytes, texts))
        if not workers and is_small(cluster, size_bytes, texts) and not own_packages(jobs[0].encoder):
            try:
                return local.embed(jobs, advance, self._one_process.shard, "one process of Ray")
            except LeftError as left:
                advance.again(left.rows)
                pool, facts = replace(pool, encoders=left.encoders or pool.encoders), {"before": str(left)}
            finally:
                self._one_process.release()
        self._one_process.close()
        self._end_searches()
        return embed.embed(jobs, pool, advance, facts)

    @contextmanager
    def index(
        self, collection: RowSource, transform: Transform, recipe: IndexRecipe, shards: int, out: str
    ) -> Iterator[ShardedIndex]:
        """Partitions of a collection on actors; what they fill is kept below `out`."""
        needs_gpu = getattr(inner(recipe), "device", "cpu") != "cpu"
        actors = self._partition_actors(collection, shards, gpus=needs_gpu)
        yield sharded_index(actors, collection, transform, recipe, out)

    @contextmanager
    def exact(self, collection: RowSource, transform: Transform, recipe: Exact, shards: int) -> Iterator[ShardedIndex]:
        """The same, of exact partitions."""
        yield sharded_index(self._partition_actors(collection, shards), collection, transform, recipe)

    @contextmanager
    def generators(self, setup: Setup, workers: int) -> Iterator[RayGenerators]:
        """Actors with a generator each; searches may go on beside them, on what GPUs they leave."""
        cluster = cluster_facts()
        if plan_generators(setup, workers, cluster)[1]:
            self._end_searches(True)
        with ray_generators(setup, workers, cluster) as made:
            self._generators_gpus = made.gpus
            try:
                yield made
            finally:
                self._generators_gpus = 0

    def _partition_actors(self, collection: RowSource, shards: int, *, gpus: bool = False) -> tuple[Any, ...]:
        shards = min(shards, max(1, len(collection)))
        if (shards, gpus) not in self._actors:
            self._actors[shards, gpus] = self._searching[gpus].enter_context(
                partition_actors(shards, cluster_facts(), gpus=gpus, generators_gpus=self._generators_gpus)
            )
        return self._actors[shards, gpus]

    def _end_searches(self, *kinds: bool) -> None:
        """End the partition actors on GPUs (True), those on CPUs (False), or all."""
        for gpus in kinds or (False, True):
            self._searching[gpus].close()
        self._actors = {key: made for key, made in self._actors.items() if kinds and key[1] not in kinds}


def _largest(jobs: Sequence[EmbedJob]) -> tuple[int, int]:
    """The most bytes of images, and the most texts, that one of the encoders is given."""
    size_bytes, texts = Counter[str](), Counter[str]()
    for job in jobs:
        size_bytes[job.encoder_fingerprint] += sum(shard.size_bytes for shard in job.shards if job.modality == "image")
        texts[job.encoder_fingerprint] += sum(shard.count or 0 for shard in job.shards if job.modality == "text")
    return max(size_bytes.values(), default=0), max(texts.values(), default=0)


@contextmanager
def ray_backend() -> Iterator[RayBackend]:
    """The backend for the time of a block: Ray is joined or started, and left or stopped with the block."""
    with connected(), ExitStack() as lifetime:
        yield RayBackend(lifetime)
