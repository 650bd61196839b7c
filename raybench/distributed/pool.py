"""What a pipeline will use is decided, said and checked before anything starts: a plan that would hang is refused.

On GPUs each encoder has one GPU, and decoding has the CPUs. On CPUs, encoders are single-threaded unless asked
otherwise and share the cores with reading, decoding and writing, which take small logical shares: the encoders never
reserve the whole of a node, since the stages that feed them would then wait for ever.
"""

from dataclasses import dataclass
from typing import Any

from raybench.errors import RequestError

_FEEDING = 0.25  # of a node's CPUs, kept for the stages around encoders that run on CPUs


@dataclass(frozen=True, slots=True)
class Pool:
    """Actors and tasks of an embedding pipeline, with the logical resources that each one asks of Ray."""

    encoders: int
    encoder_cpus: float
    encoder_gpus: float
    threads: int
    decode_tasks: int
    decode_cpus: float
    feed_cpus: float  # of one task that reads a shard or writes a chunk

    def __str__(self) -> str:
        kind = "GPU" if self.encoder_gpus else f"CPU, {self.threads} thread{'s' if self.threads > 1 else ''} each"
        return f"{self.encoders} encoders ({kind}), up to {self.decode_tasks} decoding tasks"


def plan_pool(cluster: dict[str, Any], threads: int, workers: int = 0, shards: int = 1) -> Pool:
    """The pool for a cluster; `workers` 0 takes what is there. RequestError for a plan that can never be scheduled."""
    cpus, gpus = float(cluster["cpus"]), int(cluster["gpus"])
    if cpus < 1:
        raise RequestError("the cluster has no CPU for decoding; add a node with CPUs")
    feeders = max(1, min(shards, int(cpus)))
    if gpus:
        _refuse_above(workers, gpus, f"the cluster has {gpus} GPUs and each encoder takes one")
        share = _FEEDING / max(1, cpus)
        return Pool(workers or gpus, 0.0, 1.0, threads, max(1, int(cpus) - 1), 0.5, share)
    largest = float(cluster["largest_node_cpus"])
    if threads > largest:
        raise RequestError(f"threads={threads} per encoder, but the largest node has {largest:g} CPUs; use fewer")
    capacity = int(cpus // threads)
    _refuse_above(
        workers, capacity, f"the cluster has {cpus:g} CPUs, which is {capacity} encoders of {threads} threads"
    )
    encoders = workers or capacity
    encoder_cpus = threads * (1 - _FEEDING)
    # What encoders leave is shared: half for decoding, a quarter each for readers and writers.
    free = cpus - encoders * encoder_cpus
    decode_tasks = max(1, int(cpus))
    return Pool(
        encoders,
        encoder_cpus,
        0.0,
        threads,
        decode_tasks,
        _floor4(free / 2 / decode_tasks),
        _floor4(free / 4 / feeders),
    )


def _refuse_above(workers: int, capacity: int, why: str) -> None:
    if workers < 0 or workers > capacity:
        raise RequestError(f"workers={workers} cannot all run: {why}; use 0 to {capacity} (0 takes all)")


def _floor4(value: float) -> float:
    # Ray counts resources in ten-thousandths.
    return max(0.0001, int(value * 10_000) / 10_000)
