"""Actors that each hold the partition that they were last asked about, and let go of it when they are asked about another."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import ray

from raybench.arrays import FloatMatrix, Neighbors
from raybench.distributed.placing import cpus_beside_gpus, cpus_each
from raybench.errors import RequestError
from raybench.indexes.base import Activity, FullIndex, Held
from raybench.indexes.partition import Partition
from raybench.metrics.counts import Counts, Pairs

_RESTARTS = 3
_ACTOR_SHARE = 0.75  # of a node's CPUs; the rest merges


class _Worker:
    """Holds the partition that it was last asked about."""

    def __init__(self) -> None:
        self.held: tuple[Partition, FullIndex] | None = None
        self.last = Activity()

    def _index(self, partition: Partition) -> FullIndex:
        if self.held is None or self.held[0] != partition:
            self.held = None  # let go of the old rows before the new ones are read
            self.held = (partition, partition.open())
        return self.held[1]

    def process(self) -> int:
        return os.getpid()

    def held_bytes(self, partition: Partition) -> Held:
        return self._index(partition).held_bytes

    def search(self, partition: Partition, queries_QD: FloatMatrix, k: int, effort: int | None) -> Neighbors:
        index, started = self._index(partition), time.perf_counter()
        found = index.search(queries_QD, k, effort)
        [activity] = index.last_search()
        self.last = replace(activity, queries=len(queries_QD), seconds=time.perf_counter() - started)
        return found

    def last_search(self) -> Activity:
        return self.last

    def score(self, partition: Partition, queries_QD: FloatMatrix, pairs: Pairs) -> npt.NDArray[np.float64]:
        return self._index(partition).score(queries_QD, pairs)

    def count(
        self, partition: Partition, queries_QD: FloatMatrix, pairs: Pairs, score_P: npt.NDArray[np.float64]
    ) -> Counts:
        return self._index(partition).count(queries_QD, pairs, score_P)


@contextmanager
def partition_actors(
    shards: int, cluster: dict[str, Any], *, gpus: bool = False, generators_gpus: int = 0
) -> Iterator[tuple[Any, ...]]:
    """Actors for up to so many partitions, each with a GPU of its own where `gpus`; they end with the block.

    RequestError where there are fewer GPUs than partitions, less those that generators hold: it would wait for ever.
    """
    there = sum(cluster["node_gpus"])
    if gpus and shards > there - generators_gpus:
        if generators_gpus:
            raise RequestError(
                f"{shards} partitions need a GPU each, and generators hold {generators_gpus} of the {there} of this cluster; "
                "start fewer with generate.workers, or search an index on CPUs"
            )
        raise RequestError(f"{shards} partitions need a GPU each, and the cluster has {there}; use fewer shards")
    cpus, threads = _actor_cpus(shards, cluster, gpus=gpus)
    # A CPU worker must not see GPUs, or the first library that looks for one takes GPU 0.
    hidden = {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}
    runtime_env = {"env_vars": hidden | {"OMP_NUM_THREADS": str(threads)}}
    actor_class = ray.remote(
        num_cpus=cpus,
        num_gpus=int(gpus),
        max_restarts=_RESTARTS,
        max_task_retries=_RESTARTS,
        scheduling_strategy="SPREAD",
        runtime_env=runtime_env,
    )(_Worker)
    actors = tuple(actor_class.remote() for _ in range(shards))
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


def _actor_cpus(actors: int, cluster: dict[str, Any], *, gpus: bool) -> tuple[float, int]:
    """Logical CPUs and threads of one partition: whole threads where there is room, else a share of one."""
    node_cpus, node_gpus = cluster["node_cpus"], cluster["node_gpus"]
    if gpus:
        room = max(0.01, int(cpus_beside_gpus(1, actors, node_cpus, node_gpus, _ACTOR_SHARE) * 100) / 100)
    else:
        room = cpus_each(actors, node_cpus, _ACTOR_SHARE)
    threads = max(1, int(room))
    return min(float(threads), room), threads
