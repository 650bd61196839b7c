"""Generators on a real Ray: whatever dies, the finished table is that of an undisturbed run, byte for byte."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from generate_doubles import generate

from raybench.distributed.backend import ray_backend
from raybench.distributed.generators import plan_generators, ray_generators
from raybench.errors import RequestError
from raybench.experiments.answered import Asking, answer_all, read
from raybench.experiments.generators import Died, LocalGenerators
from raybench.experiments.reporting import Silent
from raybench.generation import GENERATORS
from raybench.generation.base import Decoding
from raybench.generation.prompts import PROMPTS
from raybench.generation.worker import Setup, Task

ECHO = "echo(batch=4, delay_s=0.4)"
QUERIES = 32
DECODING = Decoding(max_tokens=400, temperature=1.0)  # a batch's seed shows in its answers


def _asking(out: Path) -> Asking:
    """Eight batches of queries without pictures."""
    words = [f"query {number} of these" for number in range(QUERIES)]
    facts = tuple(
        {"query_id": str(number), "cluster_id": str(number), "query": one, "question": None, "prompt": "p", "context": "none",
         "image_ids": [], "scores": None, "grades": []}
        for number, one in enumerate(words)
    )  # fmt: skip
    tasks = tuple(Task(str(number), (), one) for number, one in enumerate(words))
    recipe = GENERATORS.make(ECHO)
    return Asking(
        ECHO,
        recipe.fingerprint(),
        DECODING,
        3,
        PROMPTS["describe"],
        "none",
        tasks,
        facts,
        (),
        recipe.batch,
        str(out),
    )


def _setup(spec=ECHO):
    return Setup(GENERATORS.make(spec), DECODING, 3, 1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> bytes:
    """The table that one process leaves."""
    asking = _asking(tmp_path_factory.mktemp("undisturbed"))
    answer_all([asking], LocalGenerators(_setup("echo(batch=4)"), 1), {}, 0.0, Silent())
    return (Path(asking.uri) / "answers.parquet").read_bytes()


@pytest.mark.ray
def test_an_actor_that_is_killed_costs_the_batches_it_had(ray_cluster, undisturbed, tmp_path):
    """SIGKILL of one of two actors, twice: batches that were left are not generated again, and the table is the same."""
    asking = _asking(tmp_path)
    kept: dict[int, str] = {}  # the worker of every batch that was left when something died
    with ray_generators(_setup(), 2, ray_cluster) as pool:

        class Killing:
            count = pool.count
            ask = staticmethod(pool.ask)

            @staticmethod
            def each(work, items):
                for done, one in enumerate(pool.each(work, items)):
                    if done in (0, 3):
                        for path in Path(asking.uri).glob("parts/*.parquet"):
                            kept[int(path.stem)] = pq.read_table(path)["worker"][0].as_py()
                        os.kill(pids[done == 3], signal.SIGKILL)
                    yield one

        pids = [_ask_pid(actor) for actor in pool._actors]
        assert len(set(pids)) == 2
        answer_all([asking], Killing(), {}, 0.0, Silent())
    assert len(kept) >= 4
    assert (Path(asking.uri) / "answers.parquet").read_bytes() == undisturbed
    timings = read(asking).timings
    workers = dict(zip(timings["batch"].to_pylist(), timings["worker"].to_pylist(), strict=True))
    assert {number: workers[number] for number in kept} == kept
    assert not {int(one.rpartition(":")[2]) for one in workers.values()} <= set(pids)  # what was killed came back


def _ask_pid(actor):
    import ray

    return ray.get(actor.run.remote(lambda _worker, _item: os.getpid(), None))


@pytest.mark.ray
def test_what_kills_its_worker_is_given_up_and_nothing_else(ray_cluster):
    """After three deaths; what was beside it, and what came after it, is answered."""

    def work(_worker, item):
        time.sleep(0.05)
        if item == 3:
            os._exit(1)
        return item * 10

    with ray_generators(_setup("echo()"), 2, ray_cluster) as pool:
        found = dict(pool.each(work, list(range(9))))
        assert isinstance(found[3], Died)
        assert found.pop(3).times == 3
        assert found == {item: item * 10 for item in range(9) if item != 3}
        assert pool.ask(lambda _worker, item: item, "still there") == "still there"


@pytest.mark.ray
def test_a_batch_that_is_given_up_is_rows_without_answers(ray_cluster, undisturbed, tmp_path):
    """Rows in = rows out + rows dropped by reason; the others are those of an undisturbed run."""
    asking = _asking(tmp_path)

    class Deadly:
        count = 1

        @staticmethod
        def each(work, items):
            def deadly(worker, batch):
                if batch.number == 2:
                    os._exit(1)
                return work(worker, batch)

            return pool.each(deadly, items)

        @staticmethod
        def ask(work, item):
            return pool.ask(work, item)

    with ray_generators(_setup("echo(batch=4)"), 1, ray_cluster) as pool:
        answer_all([asking], Deadly(), {}, 0.2, Silent())
    done = read(asking)
    assert done.manifest["dropped"] == {"worker_died": 4}
    assert (done.manifest["rows_in"], done.manifest["rows_out"]) == (QUERIES, QUERIES - 4)
    (tmp_path / "undisturbed.parquet").write_bytes(undisturbed)
    expected = pq.read_table(tmp_path / "undisturbed.parquet").to_pylist()
    for place, (mine, other) in enumerate(zip(done.answers.to_pylist(), expected, strict=True)):
        if place // 4 == 2:
            assert (mine["query_id"], mine["answer"], mine["problem"]) == (other["query_id"], "", "worker_died")
            assert mine["detail"].startswith("3 times: ")
        else:
            assert mine == other


@pytest.mark.ray
def test_a_driver_that_is_killed_loses_nothing_that_was_left(ray_cluster, tmp_path):
    """SIGKILL in the middle; the next run generates only the missing batches, and ends as one that was never disturbed."""
    evaluation = tmp_path / "evaluation.yaml"
    content = {
        "name": "kill", "images": "scenes(images=60)", "encoders": ["tiny(dim=16)"], "embed": {"max_bad": 0.5}, "seed": 3, "shards": 2,
        "generate": {"generator": "echo(batch=4, delay_s=0.5)", "contexts": ["retrieved"], "queries": 24, "alone": {"queries": 2, "warm_up": 1},
                     "workers": 1},
    }  # fmt: skip
    evaluation.write_text(json.dumps(content))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}

    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "raybench", "generate", str(evaluation), "--out", str(out), "--local"],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("generations/*/parts/*.parquet"))) < 2:
        assert process.poll() is None, f"the run ended by itself with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(out.glob("generations/*/manifest.json")), "the run was over before it was killed"
    left = {
        int(path.stem): pq.read_table(path)["worker"][0].as_py() for path in out.glob("generations/*/parts/*.parquet")
    }
    assert len(left) < 6

    with ray_backend() as backend:
        run = generate(out, text=evaluation.read_text(), backend=backend)
    [entry], [timed] = run.generations, run.rag_times
    assert timed["warm"] == 2
    assert {one["stage"] for one in timed["stages"]} >= {"search: shard", "search: transport", "search: merge"}
    timings = pq.read_table(out / "generations" / entry["key"] / "timings.parquet")
    by_batch = dict(zip(timings["batch"].to_pylist(), timings["worker"].to_pylist(), strict=True))
    assert {number: by_batch[number] for number in left} == left
    assert {by_batch[number] for number in set(range(6)) - set(left)}.isdisjoint(left.values())

    other = tmp_path / "other"
    generate(other, "generate.generator=echo(batch=4)", text=evaluation.read_text())
    name = f"generations/{entry['key']}/answers.parquet"
    assert (out / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize(
    ("gpus", "workers", "nodes", "expected"),
    [
        (0, 0, [(4, 0), (4, 0)], (2, 0, 4)),
        (0, 4, [(4, 0), (4, 0)], (4, 0, 2)),
        (0, 0, [(8, 4)], (1, 0, 8)),
        (1, 0, [(8, 4)], (4, 1, 1)),
        (1, 1, [(64, 4)], (1, 1, 12)),
        (1, 0, [(64, 4)], (4, 1, 3)),
        (1, 0, [(32, 1), *[(32, 0)] * 8], (1, 1, 6)),
        (2, 0, [(8, 5)], (2, 2, 1)),
        (2, 0, [(8, 2), (8, 1), (8, 1)], (1, 2, 1)),
        (2, 0, [(8, 0)], (1, 0, 8)),
        (0, 9, [(8, 0)], "9 is more than the 8 CPUs"),
        (2, 2, [(8, 3)], "generate.workers=1"),
        (4, 0, [(8, 3)], "gpus=3"),
        (2, 0, [(8, 1), (8, 1)], "more than the 1 of any node .*gpus=1"),
        (1, 3, [(8, 1), (8, 1)], "generate.workers=2"),
    ],
)
def test_plans_that_can_be_scheduled(gpus, workers, nodes, expected):
    """As many actors as there is room for; what can never start is refused before anything does."""

    class Recipe:
        pass

    recipe = Recipe()
    recipe.gpus = gpus
    setup = Setup(recipe, Decoding(), 0, 0)
    cpus, gpus_of = zip(*nodes, strict=True)
    cluster = {"cpus": sum(cpus), "gpus": sum(gpus_of), "nodes": len(nodes), "largest_node_cpus": max(cpus)}
    cluster |= {"node_cpus": list(cpus), "node_gpus": list(gpus_of)}
    if isinstance(expected, str):
        with pytest.raises(RequestError, match=expected):
            plan_generators(setup, workers, cluster)
        return
    assert plan_generators(setup, workers, cluster) == expected
