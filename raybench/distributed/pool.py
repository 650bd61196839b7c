"""What a pipeline will use is decided, said and checked before anything starts: a plan that would hang is refused.

On GPUs each encoder has one GPU, and decoding has the CPUs. On CPUs, encoders are single-threaded unless asked
otherwise and share the cores with reading, decoding and writing, which take small logical shares: the encoders never
reserve the whole of a node, since the stages that feed them would then wait for ever. Each stage has a limit of its
own, because Ray starts a process for every task that the logical shares admit.
"""

from dataclasses import dataclass
from typing import Any

from raybench.errors import RequestError

_FEEDING = 0.25  # of the CPUs, kept for the stages around encoders that run on CPUs
# Of images and of texts: below, to start a pipeline's processes takes longer than to embed with a small model.
_SMALL_BYTES, _SMALL_TEXTS = 32_000_000, 8_000
# Of input that another GPU is taken for: one has done it before a second has its model.
_GPU_BYTES, _GPU_TEXTS = 16_000_000, 4_000
_MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Pool:
    """Actors and tasks of an embedding pipeline: how many at once, and the logical CPUs and GPUs of each."""

    encoders: int
    encoder_cpus: float
    encoder_gpus: float
    threads: int
    decoders: int
    decoder_cpus: float
    feeders: int  # tasks that read shards; as many write chunks, and as many commit shards
    feeder_cpus: float

    def __str__(self) -> str:
        kind = "GPU" if self.encoder_gpus else f"CPU, {self.threads} thread{'s' if self.threads > 1 else ''} each"
        return f"{self.encoders} encoders ({kind}), {self.decoders} decoders, {self.feeders} readers"


def is_small(cluster: dict[str, Any], size_bytes: int, texts: int) -> bool:
    """Whether one process may embed so many bytes of images and so many texts sooner than a pipeline, on a cluster without GPUs."""
    return not cluster["gpus"] and size_bytes < _SMALL_BYTES and texts < _SMALL_TEXTS


def gpus_of_use(size_bytes: int, texts: int) -> int:
    """How many GPUs an input of so many bytes of images and so many texts is worth; at least one."""
    return max(1, size_bytes // _GPU_BYTES + texts // _GPU_TEXTS)


def plan_pool(cluster: dict[str, Any], threads: int, workers: int = 0, shards: int = 1, most_gpus: int = _MANY) -> Pool:
    """The pool for a cluster; `workers` 0 takes what is there, and at most so many GPUs.

    RequestError for a plan that can never be scheduled.
    """
    cpus, gpus = float(cluster["cpus"]), int(cluster["gpus"])
    if cpus < 1:
        raise RequestError("the cluster has no CPU for decoding; add a node with CPUs")
    feeders = max(1, min(shards, int(cpus // 4)))
    if gpus:
        _refuse_above(workers, gpus, f"the cluster has {gpus} GPUs and each encoder takes one")
        encoders, encoder_cpus, encoder_gpus = workers or min(gpus, most_gpus), 0.0, 1.0
    else:
        largest = float(cluster["largest_node_cpus"])
        if threads > largest:
            raise RequestError(f"threads={threads} per encoder, but the largest node has {largest:g} CPUs; use fewer")
        capacity = int(cpus // threads)
        _refuse_above(workers, capacity, f"{cpus:g} CPUs are room for {capacity} encoders of {threads} threads")
        encoders, encoder_cpus, encoder_gpus = workers or capacity, threads * (1 - _FEEDING), 0.0
    free = cpus - encoders * encoder_cpus
    decoders = max(1, int(cpus))
    # Half of what is left decodes; readers, writers and commits share the other half.
    return Pool(
        encoders, encoder_cpus, encoder_gpus, threads,
        decoders, _floor4(min(1.0, free / 2 / decoders)), feeders, _floor4(min(1.0, free / 6 / feeders)),
    )  # fmt: skip


def _refuse_above(workers: int, capacity: int, why: str) -> None:
    if workers < 0 or workers > capacity:
        raise RequestError(f"workers={workers} cannot all run: {why}; use 0 to {capacity} (0 takes all)")


def _floor4(value: float) -> float:
    # Ray counts resources in ten-thousandths.
    return max(0.0001, int(value * 10_000) / 10_000)
