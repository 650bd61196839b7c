"""Generators on actors: one GPU or several each, or the cores of a node where there is none.

Every actor has one batch that it generates and one whose pictures it fetches. A batch has no state but its file: where an actor
dies, Ray starts it again and its batches are given out anew, one at a time; an item that has ended three workers is given up and told.
Generators take small logical shares of CPUs, because they work while partitions of an index, which hold most, only wait, or
the other way round.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray

from raybench.distributed.placing import cpus_beside_gpus, cpus_each, gpu_room
from raybench.distributed.runtime import failures_explained
from raybench.distributed.turns import DEATHS, READY_S, UNDER_WAY, Turns
from raybench.errors import RequestError, WorkError
from raybench.experiments.generators import Died
from raybench.generation.worker import Setup, Worker

Item = TypeVar("Item")
Result = TypeVar("Result")

_RESTARTS = 20  # of one actor
_SHARE = 0.2  # of the CPUs, for all actors together


class _Actor:
    """Holds the worker, which is made when it is first asked."""

    def __init__(self, setup: Setup) -> None:
        self._worker = Worker(setup)

    def run(self, work: Callable[[Worker, Any], Any], item: Any) -> Any:
        return work(self._worker, item)


class RayGenerators:
    """Actors of the Ray that this process is connected to; made by `ray_generators`."""

    def __init__(self, actors: Sequence[Any], gpus: int) -> None:
        self._actors = list(actors)
        self.gpus = gpus  # that all of them hold together

    @property
    def count(self) -> int:
        """How many actors there are."""
        return len(self._actors)

    def each(
        self, work: Callable[[Worker, Any], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | Died]]:
        """`work(worker, item)` for every item, as they are done."""
        turns = Turns(self._actors, len(items))
        try:
            while turns.give(lambda actor, number: actor.run.remote(work, items[number])):
                done, number = turns.wait()
                if number is None:
                    continue
                try:
                    with failures_explained("generating"):
                        result = _result(done)
                except _DiedError as death:
                    if turns.died(done):
                        yield items[number], Died(DEATHS, str(death))
                    continue
                turns.free(done)
                yield items[number], result
        finally:
            turns.cancel()

    def ask(self, work: Callable[[Worker, Any], Result], item: Any) -> Result:
        """`work(worker, item)` on the first actor, now."""
        try:
            with failures_explained("generating"):
                result: Result = _result(self._actors[0].run.remote(work, item))
        except _DiedError as death:
            raise WorkError(f"a generator died: {death}; run the same command again to go on") from None
        return result


class _DiedError(Exception):
    """A worker died with what it was asked."""


_LOST = (ray.exceptions.ActorUnavailableError, ray.exceptions.ActorDiedError, ray.exceptions.OutOfMemoryError)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except _LOST as error:
        raise _DiedError(" ".join(str(error).split())[:300]) from None


@contextmanager
def ray_generators(setup: Setup, workers: int, cluster: dict[str, Any]) -> Iterator[RayGenerators]:
    """Actors for the time of a block: `workers` of them, or as many as the GPUs (or nodes) have room for."""
    count, gpus, threads = plan_generators(setup, workers, cluster)
    variables = {"OMP_NUM_THREADS": str(threads)}
    if not gpus:
        variables["CUDA_VISIBLE_DEVICES"] = ""  # or the first library that looks for a GPU takes GPU 0
    actor_class = ray.remote(
        num_cpus=0.01 if gpus else cpus_each(count, cluster["node_cpus"], _SHARE), num_gpus=gpus,
        max_restarts=_RESTARTS, max_task_retries=0, max_concurrency=UNDER_WAY, scheduling_strategy="SPREAD",
        runtime_env={"env_vars": variables},
    )(_Actor)  # fmt: skip
    actors = [actor_class.remote(Setup(setup.generator, setup.decoding, setup.seed, threads)) for _ in range(count)]
    try:
        with failures_explained("starting the generators"):
            ray.get([actor.__ray_ready__.remote() for actor in actors], timeout=READY_S)
        yield RayGenerators(actors, count * gpus)
    except ray.exceptions.GetTimeoutError:
        raise WorkError(f"{count} generators did not start in {READY_S} s; use fewer with generate.workers") from None
    finally:
        for actor in actors:
            ray.kill(actor)


def plan_generators(setup: Setup, workers: int, cluster: dict[str, Any]) -> tuple[int, int, int]:
    """Actors, GPUs of each and threads of each; RequestError for a plan that can never be scheduled."""
    available, wanted = int(cluster["gpus"]), setup.generator.gpus
    gpus = min(1, available) * wanted
    if gpus:
        node_cpus, node_gpus = cluster["node_cpus"], cluster["node_gpus"]
        room, largest = gpu_room(gpus, node_gpus), max(node_gpus, default=0)
        if not room:
            raise RequestError(
                f"a generator of {gpus} GPUs needs more than the {largest} of any node of this cluster with CPUs; use one with "
                f"gpus={largest}"
            )
        if workers > room:
            raise RequestError(
                f"{workers} generators of {gpus} GPUs each need more than the {sum(node_gpus)} of this cluster, in nodes of up "
                f"to {largest}; use generate.workers={room}"
            )
        beside = int(cpus_beside_gpus(gpus, workers or room, node_cpus, node_gpus, _SHARE))
        return workers or room, gpus, setup.threads or max(1, beside)
    count = workers or max(1, int(cluster["nodes"]))
    most = max(1, int(float(cluster["cpus"])))
    if count > most:
        raise RequestError(f"generate.workers={count} is more than the {most} CPUs of this cluster; ask for fewer")
    threads = setup.threads or min(most // count, int(float(cluster["largest_node_cpus"])))
    return count, 0, max(1, threads)
