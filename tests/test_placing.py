"""What is asked of a cluster can be placed on its nodes; a plan that would wait for ever is refused before it does."""

from contextlib import ExitStack, contextmanager

import pytest

from raybench.distributed import backend, partition_actors
from raybench.distributed.placing import cpus_beside_gpus, cpus_each, gpu_room
from raybench.distributed.pool import gpus_of_use, is_small, plan_pool
from raybench.environment import visible
from raybench.errors import RequestError
from raybench.experiments.costs import machine
from raybench.generation.base import Decoding
from raybench.generation.worker import Setup

NINE = {
    "node_cpus": [32.0] * 9,
    "node_gpus": [1] + [0] * 8,
    "cpus": 288.0,
    "gpus": 1.0,
    "nodes": 9,
    "largest_node_cpus": 32.0,
}


@pytest.mark.parametrize("nodes", [[4.0], [32.0] * 9, [64.0, 2.0, 2.0], [3.0, 5.0, 8.0]])
@pytest.mark.parametrize("share", [0.2, 0.75])
@pytest.mark.parametrize("actors", [1, 2, 3, 5, 10, 40])
def test_all_actors_find_a_node_and_could_not_be_larger(actors, share, nodes):
    """The slow way: actors are laid on nodes one by one; with a hundredth more, one would be left over."""

    def laid(size: int) -> int:
        count = 0
        for cpus in nodes:
            free = int(cpus * share * 100)
            while free >= size:
                free, count = free - size, count + 1
        return count

    size = round(cpus_each(actors, nodes, share) * 100)
    assert laid(size) >= actors
    assert laid(size + 1) < actors


def test_an_actor_with_gpus_lies_on_one_node():
    """Two nodes of one GPU have no room for an actor of two; CPUs are shared by those of a node."""
    assert gpu_room(2, [1, 1]) == 0
    assert gpu_room(2, [5, 2, 1]) == 3
    assert cpus_beside_gpus(1, 8, [32.0, 16.0, 64.0], [1, 2, 0], 0.5) == 4.0
    assert cpus_beside_gpus(1, 1, [32.0, 16.0], [1, 2], 0.5) == 8.0
    assert cpus_beside_gpus(4, 1, [32.0], [1], 0.5) == 0.0


@pytest.mark.parametrize(
    ("count", "gpus", "expected"), [(1, False, 24), (9, False, 24), (12, False, 12), (1, True, 24)]
)
def test_no_partition_is_larger_than_a_node(count, gpus, expected):
    """One partition on nine nodes gets the threads of one of them, not of all."""
    assert partition_actors._actor_cpus(count, NINE, gpus=gpus) == (expected, expected)


def test_generators_and_indexes_on_gpus_do_not_wait_for_each_other(monkeypatch):
    """GPU searches end before GPU generators start, others stay; what generators hold is refused to an index at once."""
    ended, told = [], {}

    @contextmanager
    def actors(count, _cluster, *, gpus=False, generators_gpus=0):
        told[gpus] = generators_gpus
        yield (f"{count} {gpus}",)
        ended.append(gpus)

    @contextmanager
    def generators(*_):
        assert ended == [True]
        yield type("Made", (), {"gpus": 1})

    monkeypatch.setattr(backend, "cluster_facts", lambda: NINE)
    monkeypatch.setattr(backend, "partition_actors", actors)
    monkeypatch.setattr(backend, "ray_generators", generators)
    setup = Setup(type("Recipe", (), {"gpus": 1}), Decoding(), 0, 0)
    with ExitStack() as lifetime:
        made = backend.RayBackend(lifetime)
        for gpus in (False, True):
            made._partition_actors(range(9), 1, gpus=gpus)
        assert told == {False: 0, True: 0}
        with made.generators(setup, 1):
            made._partition_actors(range(9), 1, gpus=True)
            assert told[True] == 1
        made._end_searches(True)
        made._partition_actors(range(9), 1, gpus=True)
        assert told[True] == 0

    for held, expected in ((1, "generators hold 1 of the 1 .*generate.workers"), (0, "the cluster has 1; use fewer")):
        with (
            pytest.raises(RequestError, match=expected),
            partition_actors.partition_actors(2, NINE, gpus=True, generators_gpus=held),
        ):
            pass


@pytest.mark.parametrize(
    ("gpus", "size_bytes", "texts", "expected"),
    [
        (0, 0, 0, True), (0, 31_999_999, 7_999, True), (0, 32_000_000, 0, False), (0, 0, 8_000, False), (1, 0, 0, False),
    ],
)  # fmt: skip
def test_small_inputs_go_to_one_process(gpus, size_bytes, texts, expected):
    """Images count by their bytes and texts by their number, however large their file is; with GPUs there is a pipeline."""
    assert is_small({"gpus": gpus}, size_bytes, texts) is expected


def test_small_inputs_take_few_gpus():
    """A GPU for every 16 MB and 4,000 texts, unless somebody says how many; CPUs are taken as they are."""
    assert gpus_of_use(0, 0) == gpus_of_use(15_999_999, 3_999) == 1
    assert gpus_of_use(160_000_000, 25_000) == 16
    eight = {"cpus": 64, "gpus": 8, "largest_node_cpus": 64}
    assert [plan_pool(eight, 1, workers, 1, most).encoders for workers, most in ((0, 1), (0, 3), (0, 99), (5, 1))] == [
        1, 3, 8, 5,
    ]  # fmt: skip
    assert plan_pool(eight | {"gpus": 0}, 1, 0, 1, 1).encoders == 64


GPUS = [("A", "GPU-11aa"), ("B", "GPU-22bb"), ("C", "GPU-22cc")]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, ["A", "B", "C"]), ("", []), ("-1", []), ("2,0", ["C", "A"]), ("1,-1,0", ["B"]), ("7", []),
        ("GPU-22c", ["C"]), ("GPU-11aa, 1", ["A", "B"]), ("MIG-5f", ["MIG-5f"]), ("none", []),
    ],
)  # fmt: skip
def test_gpus_that_a_process_sees(chosen, expected):
    """CUDA_VISIBLE_DEVICES as CUDA reads it: numbers or the beginnings of UUIDs, until one that is not there."""
    assert visible(GPUS, chosen) == expected


def test_times_of_another_gpu_are_not_this_ones():
    """The same machine with another GPU, without one, or in another cluster is another machine."""
    here = {"processor": "p", "cores": 2, "blas": "b", "libraries": {}, "runner": "in this process"}
    clusters = [{"gpus": 1, "accelerators": [name]} for name in ("A10G", "H100")]
    told = [here | {"accelerators": names} for names in ([], ["A"], ["B"], ["A", "A"])]
    told += [here | {"cluster": cluster} for cluster in clusters]
    machines = [machine(facts) for facts in told]
    assert all(machines.count(one) == 1 for one in machines)
