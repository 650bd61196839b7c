"""The backend on Ray: embedding by a Ray Data pipeline, search by partition actors that serve one index after another."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from raybench.distributed import embed
from raybench.distributed.generators import RayGenerators, ray_generators
from raybench.distributed.pool import plan_pool
from raybench.distributed.runtime import cluster_facts, connected
from raybench.distributed.shards import ShardedIndex, partition_actors, sharded_index
from raybench.distributed.tasks import RayWorkers
from raybench.embedding.job import EmbedJob
from raybench.embedding.local import Progress
from raybench.environment import environment
from raybench.generation.worker import Setup
from raybench.indexes.base import IndexRecipe
from raybench.indexes.exact import Exact
from raybench.indexes.rerank import inner
from raybench.indexes.stored import RowSource
from raybench.transforms import Transform


class RayBackend:
    """Works on the Ray that this process is connected to; made by `ray_backend`.

    Partition actors stay for the next search, and end before anything else is asked of the cluster: they hold its CPUs, and an
    embedding or a task would wait for them for ever.
    """

    def __init__(self, lifetime: ExitStack) -> None:
        self._searching = lifetime.enter_context(ExitStack())
        self._actors: dict[tuple[int, bool], tuple[Any, ...]] = {}  # by the number of partitions, and whether on GPUs

    def facts(self) -> dict[str, Any]:
        """The facts of the driver's machine and of the cluster."""
        return environment() | {"runner": "Ray", "cluster": cluster_facts()}

    def workers(self) -> RayWorkers:
        """Tasks of the same Ray."""
        return RayWorkers(self._end_searches)

    def plan(self, threads: int, workers: int, shards: int) -> str:
        """The encoder pool, in words; RequestError for a plan that can never be scheduled."""
        return str(plan_pool(cluster_facts(), threads, workers, shards))

    def embed(self, jobs: Sequence[EmbedJob], workers: int, progress: Progress) -> list[dict[str, Any]]:
        """Embed what is missing of jobs that run with the same packages; their manifests."""
        self._end_searches()
        shards = [shard for job in jobs for shard in job.shards]
        size_bytes = sum(shard.size_bytes for shard in shards)
        pool = plan_pool(cluster_facts(), max(job.threads for job in jobs), workers, len(shards), size_bytes)
        return embed.embed(jobs, pool, progress)

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
        """Actors with a generator each; searches may go on beside them."""
        with ray_generators(setup, workers, cluster_facts()) as made:
            yield made

    def _partition_actors(self, collection: RowSource, shards: int, *, gpus: bool = False) -> tuple[Any, ...]:
        shards = min(shards, max(1, len(collection)))
        if (shards, gpus) not in self._actors:
            made = self._searching.enter_context(partition_actors(shards, cluster_facts(), gpus=gpus))
            self._actors[shards, gpus] = made
        return self._actors[shards, gpus]

    def _end_searches(self) -> None:
        self._searching.close()
        self._actors.clear()


@contextmanager
def ray_backend() -> Iterator[RayBackend]:
    """The backend for the time of a block: Ray is joined or started, and left or stopped with the block."""
    with connected(), ExitStack() as lifetime:
        yield RayBackend(lifetime)
