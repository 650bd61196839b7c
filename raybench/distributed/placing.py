"""What an actor may ask for so that all of its kind can be placed: no actor is larger than a node, and whole ones fit each node."""

from bisect import bisect_left
from collections.abc import Sequence


def cpus_each(actors: int, node_cpus: Sequence[float], share: float) -> float:
    """The most CPUs, in hundredths, that so many actors can have each of a share of every node's CPUs; at least 0.01."""
    rooms = [int(cpus * share * 100) for cpus in node_cpus]
    sizes = range(1, max(rooms, default=0) + 1)
    fitting = bisect_left(sizes, True, key=lambda size: sum(room // size for room in rooms) < actors)
    return max(1, fitting) / 100


def gpu_room(gpus: int, node_gpus: Sequence[int]) -> int:
    """How many actors of so many GPUs each there is room for; those of one actor are on one node."""
    return sum(free // gpus for free in node_gpus)


def cpus_beside_gpus(gpus: int, most: int, node_cpus: Sequence[float], node_gpus: Sequence[int], share: float) -> float:
    """The CPUs that each of at most `most` actors of so many GPUs can have, wherever they come to lie; 0 without such a node."""
    return min(
        (
            share * cpus / min(most, free // gpus)
            for cpus, free in zip(node_cpus, node_gpus, strict=True)
            if free >= gpus
        ),
        default=0.0,
    )
