"""Parts of an exact search on actors: each holds the queries, reads its own rows, and leaves a file for each part.

Workers with a GPU and workers of CPU threads go side by side: each takes the next part when it is free.
Parts are handed out as workers get free, and a worker is told the next one early, so that it reads while it searches.
The floors that finished parts have proven travel with every part. An actor that dies, or whose node does, is started
again elsewhere and does its part again: a part has no state but its file.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
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
_LATE_S = 60.0  # and three times the longest part so far: from then on a part counts as late
_SILENT_S = 3_600.0  # and ten times the longest part so far: without a finished part for so long, nobody is at work
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

    def __init__(self, count: int, threads: int, gpus: int = 0) -> None:
        self._workers = Workers(count, threads, gpus)

    def workers(self) -> Workers:
        """The actors that will work."""
        return self._workers

    def facts(self) -> dict[str, Any]:
        """The facts of the driver's machine and of the cluster."""
        shape = asdict(self._workers)
        return environment() | {"runner": "Ray", "cluster": cluster_facts(), "workers": shape}

    def search(self, search: Search, queries: Matrix, ranges: Sequence[Range], running: Floors) -> Iterator[Range]:
        """Search ranges on as many actors as are useful; yields them as they are done."""
        if not ranges:
            return
        actors = self._start(search, queries, len(ranges))
        try:
            yield from _hand_out(actors, ranges, running)
        finally:
            for actor in actors:
                ray.kill(actor)

    def _start(self, search: Search, queries: Matrix, most: int) -> list[Any]:
        """Searchers, those with a GPU first, no more than there are parts."""
        threads = self._workers.threads
        held = ray.put(queries)
        shared = {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS, "scheduling_strategy": "SPREAD"}
        on_gpu = ray.remote(num_cpus=1, num_gpus=1, **shared)(_Worker)
        # A CPU worker must not see GPUs, or the first library that looks for one takes GPU 0.
        variables = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads)}
        on_cpu = ray.remote(num_cpus=threads, runtime_env={"env_vars": variables}, **shared)(_Worker)
        kinds = ([on_gpu] * self._workers.gpus + [on_cpu] * self._workers.count)[:most]
        actors = [kind.remote(search, held) for kind in kinds]
        try:
            with failures_explained("starting the searchers"):
                ray.get([actor.ready.remote() for actor in actors], timeout=_READY_S)
        except ray.exceptions.GetTimeoutError:
            raise WorkError(
                f"{len(actors)} searchers of {threads} CPUs did not start in {_READY_S} s; ask for fewer with --workers"
            ) from None
        return actors


def _hand_out(actors: Sequence[Any], ranges: Sequence[Range], running: Floors) -> Iterator[Range]:
    """Give parts to actors as they get free; a part that is far too late is given to an idle one as well."""
    waiting = deque(ranges)
    # Every actor has a part that it works on and one that it reads ahead.
    reserved = {actor: waiting.popleft() if waiting else None for actor in actors}
    working: dict[Any, tuple[Any, Range, float]] = {}
    idle: list[Any] = []
    done: set[Range] = set()
    patience_s, heard, longest_s = _LATE_S, time.monotonic(), 0.0

    def give(actor: Any, part: Range | None, then: Range | None) -> None:
        if part is None:
            # What another has only reserved is sooner done here than after what it does now.
            other = next((one for one in actors if reserved[one] is not None), actor)
            part, reserved[other] = reserved[other], None
        if part is None:
            idle.append(actor)
            return
        reserved[actor] = then
        reference = actor.search.remote(part, then, running.floor())
        working[reference] = (actor, part, time.monotonic())

    def following() -> Range | None:
        return waiting.popleft() if waiting else None

    for actor in actors:
        give(actor, reserved[actor], following())
    while len(done) < len(ranges):
        finished, _ = ray.wait(list(working), num_returns=1, timeout=patience_s)
        if not finished:
            _check_silence(time.monotonic() - heard, longest_s)
            # Its node may be gone with no room for a new actor elsewhere. A part done twice is the same file.
            late = min((entry for entry in working.values() if entry[1] not in done), key=lambda entry: entry[2])
            if idle:
                give(idle.pop(), late[1], None)
            continue
        actor, part, started = working.pop(finished[0])
        with failures_explained("searching a part"):
            ray.get(finished[0])
        heard, longest_s = time.monotonic(), max(longest_s, time.monotonic() - started)
        patience_s = max(patience_s, 3 * longest_s)
        if part not in done:
            done.add(part)
            yield part  # its rows are taken in before the next floors are asked for
        give(actor, reserved[actor] or following(), following())


def _check_silence(silent_s: float, longest_s: float) -> None:
    """WorkError where nothing has come for so long that nobody can be at work."""
    if silent_s > max(_SILENT_S, 10 * longest_s):
        raise WorkError(
            f"no searcher has finished a part in {silent_s / 60:.0f} minutes; look at `ray status` for lost nodes, and run the "
            "same command again to go on"
        )


@contextmanager
def ray_gold(workers: int | None = None) -> Iterator[RayGold]:
    """Searchers on Ray: one per node with its CPUs, or `workers` of them with equal shares; and one for every GPU."""
    with connected():
        facts = cluster_facts()
        gpus, nodes = int(facts["gpus"]), int(facts["nodes"])
        cpus = int(facts["cpus"]) - gpus  # each GPU has a CPU that feeds it
        count = workers or nodes
        threads = min(cpus // count, int(facts["largest_node_cpus"])) if count else 0
        if threads < 1:
            raise RequestError(f"--workers {count} are more than the {cpus} CPUs of this cluster; ask for fewer")
        yield RayGold(count, threads, gpus)
