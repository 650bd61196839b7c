"""Parts of an exact search on actors: each holds the queries, reads its own rows, and leaves a file for each part.

Parts are handed out as workers get free, and a worker is told the next one early, so that it reads while it searches.
The floors that finished parts have proven travel with every part. An actor that dies, or whose node does, is started
again elsewhere and does its part again: a part has no state but its file.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from raybench.distributed.runtime import cluster_facts, connected, failures_explained
from raybench.environment import environment
from raybench.errors import RequestError, WorkError
from raybench.experiments.gold import Floors, Workers
from raybench.search.certified.metric import Float64, Matrix
from raybench.search.gold import Range, Search
from raybench.search.gold import Worker as PartWorker

_RESTARTS = 5
_READY_S = 600  # a worker that has not started by then will not


class _Worker:
    """An actor around one searcher of parts, which is made when it is first needed."""

    def __init__(self, search: Search, queries: Matrix) -> None:
        self._made = search, queries
        self._worker: PartWorker | None = None

    def ready(self) -> bool:
        return True

    def search(self, part: Range, following: Range | None, floor_Q: Float64) -> Range:
        if self._worker is None:
            self._worker = PartWorker(*self._made)
        self._worker.search(part, following, floor_Q)
        return part


class RayGold:
    """Works on the Ray that this process is connected to; made by `ray_gold`."""

    def __init__(self, count: int, threads: int) -> None:
        self._workers = Workers(count, threads)

    def workers(self) -> Workers:
        """The actors that will work."""
        return self._workers

    def facts(self) -> dict[str, Any]:
        """The facts of the driver's machine and of the cluster."""
        shape = {"count": self._workers.count, "threads": self._workers.threads}
        return environment() | {"runner": "Ray", "cluster": cluster_facts(), "workers": shape}

    def search(self, search: Search, queries: Matrix, ranges: Sequence[Range], running: Floors) -> Iterator[Range]:
        """Search ranges on as many actors as are useful; yields them as they are done."""
        if not ranges:
            return
        actors = self._start(search, queries, min(self._workers.count, len(ranges)))
        try:
            yield from _hand_out(actors, ranges, running)
        finally:
            for actor in actors:
                ray.kill(actor)

    def _start(self, search: Search, queries: Matrix, count: int) -> list[Any]:
        # A CPU worker must not see GPUs, or the first library that looks for one takes GPU 0.
        threads = self._workers.threads
        runtime_env = {"env_vars": {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads)}}
        actor_class = ray.remote(
            num_cpus=threads, max_restarts=_RESTARTS, max_task_retries=_RESTARTS, scheduling_strategy="SPREAD",
            runtime_env=runtime_env,
        )(_Worker)  # fmt: skip
        held = ray.put(queries)
        actors = [actor_class.remote(search, held) for _ in range(count)]
        try:
            with failures_explained("starting the searchers"):
                ray.get([actor.ready.remote() for actor in actors], timeout=_READY_S)
        except ray.exceptions.GetTimeoutError:
            raise WorkError(
                f"{count} searchers of {threads} CPUs did not start in {_READY_S} s; ask for fewer with --workers"
            ) from None
        return actors


def _hand_out(actors: Sequence[Any], ranges: Sequence[Range], running: Floors) -> Iterator[Range]:
    waiting = deque(ranges)
    # Every actor has a part that it works on and one that it reads ahead.
    reserved = {actor: waiting.popleft() if waiting else None for actor in actors}
    working: dict[Any, Any] = {}

    def give(actor: Any) -> None:
        part = reserved[actor] or (waiting.popleft() if waiting else None)
        if part is None:
            return
        reserved[actor] = waiting.popleft() if waiting else None
        working[actor.search.remote(part, reserved[actor], running.floor())] = actor

    for actor in actors:
        give(actor)
    while working:
        [done], _ = ray.wait(list(working), num_returns=1)
        actor = working.pop(done)
        with failures_explained("searching a part"):
            part = ray.get(done)
        yield part  # its rows are taken in before the next floors are asked for
        give(actor)


@contextmanager
def ray_gold(workers: int | None = None) -> Iterator[RayGold]:
    """Searchers on Ray: one per node with all its CPUs, or `workers` of them with equal shares."""
    with connected():
        facts = cluster_facts()
        cpus, nodes = int(facts["cpus"]), int(facts["nodes"])
        count = workers or nodes
        threads = min(cpus // count, int(facts["largest_node_cpus"])) if count else 0
        if threads < 1:
            raise RequestError(f"--workers {count} are more than the {cpus} CPUs of this cluster; ask for fewer")
        yield RayGold(count, threads)
