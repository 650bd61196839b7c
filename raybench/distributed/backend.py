"""The backend on Ray: embedding by a Ray Data pipeline, search by partition actors."""

from contextlib import AbstractContextManager
from typing import Any

from raybench.collection import Collection
from raybench.distributed import embed
from raybench.distributed.pool import plan_pool
from raybench.distributed.runtime import cluster_facts
from raybench.distributed.shards import sharded_index
from raybench.embedding.job import EmbedJob
from raybench.embedding.local import Progress
from raybench.environment import environment
from raybench.indexes.base import FullIndex, IndexRecipe
from raybench.transforms import Transform


class RayBackend:
    """Works on the Ray that this process is connected to (see runtime.connected)."""

    def facts(self) -> dict[str, Any]:
        """The facts of the driver's machine and of the cluster."""
        return environment() | {"runner": "Ray", "cluster": cluster_facts()}

    def plan(self, threads: int, workers: int, shards: int) -> str:
        """The encoder pool, in words; RequestError for a plan that can never be scheduled."""
        return str(plan_pool(cluster_facts(), threads, workers, shards))

    def embed(self, job: EmbedJob, workers: int, progress: Progress) -> dict[str, Any]:
        """Embed what is missing; the manifest."""
        pool = plan_pool(cluster_facts(), job.threads, workers, len(job.shards))
        return embed.embed(job, pool, progress)

    def index(
        self, collection: Collection, transform: Transform, recipe: IndexRecipe, shards: int
    ) -> AbstractContextManager[FullIndex]:
        """Partition actors over a collection."""
        return sharded_index(collection, transform, recipe, shards, cluster_facts())
