"""Pieces of work as tasks of Ray, each on one CPU: a task that dies is done again, and a piece that is done twice is the same.

What all pieces share is put into the object store once; a few pieces for every CPU are under way, so neither a queue of
thousands nor an idle CPU arises.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray

from raybench.distributed.runtime import cluster_facts, connected, failures_explained
from raybench.environment import environment

_RETRIES = 5
_UNDER_WAY = 2  # for each CPU: one that works and one that waits
Item = TypeVar("Item")
Result = TypeVar("Result")


class RayWorkers:
    """Works on the Ray that this process is connected to; made by `ray_workers`, or by a backend.

    `make_room` is called before tasks are started, to end what holds the CPUs that they need.
    """

    def __init__(self, make_room: Callable[[], None] | None = None) -> None:
        self._make_room = make_room

    def each(self, work: Callable[..., Result], items: Sequence[Item], *shared: Any) -> Iterator[tuple[Item, Result]]:
        """`work(item, *shared)` for every item, as they are done."""
        if self._make_room is not None:
            self._make_room()
        references = [ray.put(value) for value in shared]
        # A CPU worker must not see GPUs, or the first library that looks for one takes GPU 0.
        variables = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        task = ray.remote(num_cpus=1, max_retries=_RETRIES, runtime_env={"env_vars": variables})(work)
        most = max(1, int(cluster_facts()["cpus"])) * _UNDER_WAY
        waiting, working = list(reversed(items)), dict[Any, Item]()
        try:
            while waiting or working:
                while waiting and len(working) < most:
                    item = waiting.pop()
                    working[task.remote(item, *references)] = item
                [done], _ = ray.wait(list(working), num_returns=1)
                item = working.pop(done)
                with failures_explained("a piece of work"):
                    result: Result = ray.get(done)
                yield item, result
        finally:
            for left in working:
                ray.cancel(left, force=True)

    def facts(self) -> dict[str, Any]:
        """The facts of the driver's machine and of the cluster."""
        return environment() | {"runner": "Ray", "cluster": cluster_facts()}


@contextmanager
def ray_workers() -> Iterator[RayWorkers]:
    """Workers for the time of a block: Ray is joined or started, and left or stopped with the block."""
    with connected():
        yield RayWorkers()
