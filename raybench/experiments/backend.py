"""The runner does not know who does the work: it asks a backend, in this process or on Ray, with identical results."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

from raybench.embedding import local
from raybench.embedding.job import EmbedJob
from raybench.embedding.local import Progress
from raybench.environment import available_cores, environment
from raybench.errors import RequestError
from raybench.experiments.generators import Generators, LocalGenerators
from raybench.experiments.workers import LocalWorkers, Workers
from raybench.generation.worker import Setup
from raybench.indexes.base import FullIndex, Index, IndexRecipe
from raybench.indexes.exact import Exact
from raybench.indexes.joined import Joined, split_rows
from raybench.indexes.partition import Partition
from raybench.indexes.stored import RowSource
from raybench.transforms import Transform


class Backend(Protocol):
    """Who embeds and who searches."""

    def facts(self) -> dict[str, Any]:
        """What the work runs on; a JSON value."""
        ...

    def workers(self) -> Workers:
        """Who does pieces of work there."""
        ...

    def plan(self, threads: int, workers: int, shards: int, size_bytes: int, texts: int, *, own: bool) -> str:
        """What embedding so many bytes and texts will use, in words; `own`: with packages of the encoder's own.

        RequestError for a plan that cannot run.
        """
        ...

    def embed(self, jobs: Sequence[EmbedJob], workers: int, progress: Progress) -> list[dict[str, Any]]:
        """Embed what is missing of jobs that run with the same packages; their manifests."""
        ...

    def index(
        self, collection: RowSource, transform: Transform, recipe: IndexRecipe, shards: int, out: str
    ) -> AbstractContextManager[Index]:
        """An index over a collection, asked with queries as they are stored; what is filled is kept below `out`."""
        ...

    def exact(
        self, collection: RowSource, transform: Transform, recipe: Exact, shards: int
    ) -> AbstractContextManager[FullIndex]:
        """An exact index, which can score and rank any row as well."""
        ...

    def generators(self, setup: Setup, workers: int) -> AbstractContextManager[Generators]:
        """Workers that each hold a generator, for the time of a block; `workers` 0 takes what is there."""
        ...


class LocalBackend:
    """Everything in this process, one thing after the other."""

    def facts(self) -> dict[str, Any]:
        """The facts of this machine."""
        return environment() | {"runner": "in this process"}

    def workers(self) -> Workers:
        """This process."""
        return LocalWorkers()

    def plan(self, threads: int, workers: int, shards: int, size_bytes: int, texts: int, *, own: bool) -> str:  # noqa: ARG002 (one process reads all)
        """One encoder."""
        if workers > 1:
            raise RequestError(f"workers={workers}, but this process is one worker; leave --local out to use Ray")
        return f"1 encoder in this process, {threads} CPU thread{'s' if threads > 1 else ''} or a GPU if there is one"

    def embed(self, jobs: Sequence[EmbedJob], workers: int, progress: Progress) -> list[dict[str, Any]]:  # noqa: ARG002 (one worker)
        """Shard after shard."""
        return local.embed(jobs, progress)

    @contextmanager
    def index(
        self, collection: RowSource, transform: Transform, recipe: IndexRecipe, shards: int, out: str
    ) -> Iterator[Index]:
        """Partitions side by side in this process."""
        parts = [Partition(collection, *rows, transform, recipe, out) for rows in split_rows(len(collection), shards)]
        yield Joined(tuple(part.open() for part in parts))

    def exact(
        self, collection: RowSource, transform: Transform, recipe: Exact, shards: int
    ) -> AbstractContextManager[FullIndex]:
        """The same, of exact partitions."""
        parts = [Partition(collection, *rows, transform, recipe) for rows in split_rows(len(collection), shards)]
        return nullcontext(Joined(tuple(part.open() for part in parts)))

    def generators(self, setup: Setup, workers: int) -> AbstractContextManager[Generators]:
        """One worker, with the cores of this machine."""
        threads = setup.threads or available_cores()
        return nullcontext(LocalGenerators(replace(setup, threads=threads), workers))
