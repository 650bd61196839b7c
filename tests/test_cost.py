"""Latency, throughput and bytes: what is counted, what is not, and who is not beaten by anyone."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from test_tuning import _content, _pictures, _run

from raybench import storage
from raybench.cli import main
from raybench.errors import DataError, RequestError
from raybench.experiments import evaluation_file as files
from raybench.experiments import vector_runner
from raybench.experiments.compared import ratio
from raybench.experiments.gold import LocalGold
from raybench.experiments.reporting import Silent
from raybench.metrics.cost import Latency, batches, closed_loop, dominated, open_loop, quantile_interval
from raybench.report.page import write_report


def test_latency_is_that_of_the_times():
    """Mean, deviation, extremes and percentiles in milliseconds; the interval of the median covers it."""
    seconds = np.random.default_rng(0).permutation(np.arange(1, 1_001)) / 1e3
    told = Latency.of(seconds)
    assert (told.queries, told.min_ms, told.max_ms, told.mean_ms) == (1_000, 1.0, 1_000.0, pytest.approx(500.5))
    assert told.std_ms == pytest.approx(np.std(np.arange(1, 1_001), ddof=1))
    assert (told.p50_ms, told.p90_ms) == (pytest.approx(500.5), pytest.approx(900.1))
    assert (told.p95_ms, told.p99_ms) == (pytest.approx(950.05), pytest.approx(990.01))
    assert told.p50_low_ms == pytest.approx(469, abs=2)
    assert told.p50_high_ms == pytest.approx(532, abs=2)
    assert told.p99_low_ms < 990 < told.p99_high_ms
    few = Latency.of(np.array([0.002]))
    assert (few.p50_ms, few.std_ms, few.p50_low_ms, few.p99_high_ms) == (2.0, 0.0, None, None)
    with pytest.raises(DataError, match="there are none"):
        Latency.of(np.empty(0))


def test_a_ratio_of_latencies_tells_what_the_machine_did_between_turns():
    """Exact where one is a multiple of the other; wide where turns differ, though queries do not."""
    theirs = np.random.default_rng(0).uniform(1, 2, (3, 200))
    assert ratio(1.5 * theirs, theirs, 0) == pytest.approx((1.5, 1.5, 1.5))
    drifting = theirs * np.array([[1.0], [1.2], [1.4]])
    value, low, high = ratio(drifting, theirs, 0)
    assert value == pytest.approx(1.2, abs=0.02)
    assert low == pytest.approx(1.0, abs=0.03)
    assert high == pytest.approx(1.4, abs=0.03)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_intervals_of_quantiles_cover(quantile):
    """Over many samples, the interval holds the true quantile in about 95 of 100."""
    random, covered = np.random.default_rng(1), 0
    for _ in range(400):
        low, high = quantile_interval(np.sort(random.exponential(size=800)), quantile)
        covered += low <= -np.log(1 - quantile) <= (np.inf if high is None else high)
    assert covered >= 0.92 * 400


def test_loops_time_what_they_say():
    """Warm-up is asked and not timed; an open loop counts waiting; batches give queries and not batches a second."""
    asked = []

    def slow(number: int) -> None:
        asked.append(number)
        time.sleep(0.05 if len(asked) <= 3 else 0.002)

    seconds = closed_loop(slow, 5, 3)
    assert asked == [0, 1, 2, 0, 1, 2, 3, 4]
    assert (seconds > 0.002).all()
    assert np.median(seconds) < 0.04

    def even(_: int) -> None:
        time.sleep(0.004)

    calm, busy = open_loop(even, 20, 20.0, 0), open_loop(even, 60, 1_000.0, 0)
    assert np.median(calm) < 0.03
    assert busy[-1] > 0.1  # sixty came within about 60 ms, and each takes 4
    assert busy[-1] > 4 * busy[5]
    told = batches(lambda _: time.sleep(0.01), [100, 50], rounds=2)
    assert told.batch == 100
    assert told.rounds >= 2
    assert told.min_qps <= told.median_qps <= told.max_qps < 150 / 0.02


def test_the_front_is_who_is_not_beaten():
    """Ties beat nobody; worse in one and no better in the other is beaten."""
    assert dominated([0.9, 0.9, 0.8, 1.0, 0.7], [10, 10, 20, 5, 19]) == [False, False, False, False, True]
    assert dominated([1.0, 1.0], [1, 2]) == [True, False]
    assert dominated([], []) == []


INDEXES = ["exact()", "flat()", "sq8()@20", "hnsw(m=4, build_effort=8)@16", "compact(m=4, build_effort=8)@16"]
COST = {"queries": 40, "warm_up": 5, "batch": 16, "k": 5, "rates": [500]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of noise with captions."""
    folder = tmp_path_factory.mktemp("cost") / "pictures"
    _pictures(folder)
    return folder


def test_a_run_measures_what_its_indexes_cost(pictures, tmp_path):
    """Latencies, rates, bytes on disk and in memory, build seconds and the front; measured once."""
    content = {"cost": COST, "tune": None, "grid": {"indexes": INDEXES}}
    run = _run(pictures, tmp_path, **content)
    assert len(run.costs) == 5
    for told, record in zip(run.costs, [one for one in run.records if one.measure == "overlap@3"], strict=True):
        assert told["index"] == record.index
        assert "latencies_ms" not in told
        assert told["resident_bytes"] == sum(told["held_bytes"].values())
        assert (told["quality"]["measure"], told["quality"]["queries"]) == ("overlap@5", 240)
        assert told["quality"]["low"] <= told["quality"]["value"] <= told["quality"]["high"]
        assert told["quality"]["value"] == 1 or record.index not in ("exact()", "flat()")
        assert told["latency"]["queries"] == 40
        assert 0 < told["latency"]["min_ms"] <= told["latency"]["p50_ms"] <= told["latency"]["p99_ms"]
        assert told["throughput"]["batch"] == 16
        assert told["arriving"]["500"]["queries"] == 40
        assert told["on_shard_ms"] is None
        is_exact = record.index == "exact()"
        assert (told["file_bytes"] is None) == is_exact
        assert is_exact or told["file_bytes"] >= told["resident_bytes"] > 0
        if record.index.startswith("compact"):
            assert 16 <= told["fetched"]["per_query"] <= 240
            assert told["fetched"]["different"] <= 240
            assert told["fetched"]["queries"] == 40
        elif record.index == "sq8()@20":
            assert told["fetched"]["per_query"] == 40  # of two partitions
        else:
            assert told["fetched"] is None
    held = [told["resident_bytes"] for told in run.costs]
    assert held[0] == 240 * 24 * 2
    assert held[1] == 240 * 24 * 4
    assert held[2] < held[0] < held[3]
    assert held[4] == held[3] - 240 * 24 * 4
    [sheet] = [one for one in run.sheets if one.title.startswith("What it costs")]
    assert [row[0] for row in sheet.rows] == [f"float16(), {index}" for index in INDEXES]
    assert all(row[-1] in ("speed", "bytes", "speed and bytes", "dominated") for row in sheet.rows)
    assert "bytes" in sheet.rows[2][-1]
    assert "What it costs, text to image" in storage.read_bytes(write_report(run.out)).decode()
    again = _run(pictures, tmp_path, **content)
    assert again.costs == run.costs
    other = _run(pictures, tmp_path, **content | {"cost": COST | {"queries": 30}})
    assert other.costs[0]["latency"]["queries"] == 30


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"queries": 0}, "cost.queries=0 is out of range"),
        ({"rates": [0]}, "cost.rates=0"),
        ({"rates": ["fast"]}, "cost.rates='fast'"),
        ({"encoders": ["tiny(dim=25)"]}, "not among encoders"),
        ({"directions": ["image_to_text"]}, "cost.directions lists 'image_to_text'"),
        ({"transforms": ["pca(dim=4)"]}, "distances and not inner products"),
        ({"indexes": ["hnsw(m=4)"]}, "needs an effort"),
        ({"queris": 3}, "unknown key 'cost.queris'"),
    ],
)
def test_wrong_settings_are_one_sentence(pictures, cost, words):
    """When the file is read."""
    content = _content(pictures, cost=cost, tune=None, grid={"indexes": INDEXES})
    with pytest.raises(RequestError, match=words):
        files.parse(json.dumps(content), "test")


def test_the_verb_measures_costs_without_a_section(pictures, tmp_path, monkeypatch, capsys):
    """`raybench bench` of any file; vectors are refused."""
    monkeypatch.chdir(tmp_path)
    content = _content(pictures, tune=None, grid={"indexes": ["exact()", "sq4()"]})
    Path("grid.yaml").write_text(json.dumps(content))

    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["bench", *arguments, "--out", "out", "--local"])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out + captured.err

    code, printed = call("grid.yaml", "--json", "--set", "cost.queries=20", "--set", "cost.warm_up=2")
    assert code == 0
    assert "What it costs" in printed
    told = json.loads(next(line for line in reversed(printed.splitlines()) if line.startswith("{")))
    assert [one["latency"]["queries"] for one in told["costs"]] == [20, 20]
    assert storage.read_json("out/run.json")["costs"] == told["costs"]
    Path("vectors.yaml").write_text(json.dumps({"name": "v", "corpus": "a.npy", "queries": "b.npy"}))
    assert call("vectors.yaml")[0] == 2


@pytest.mark.parametrize("direction", ["text_to_image", "image_to_text"])
def test_a_graph_can_embed_its_rows_again(pictures, tmp_path, direction):
    """`fetch="encoder"` finds what stored rows find, through the tower of the rows; what is filled is shared.

    Pictures that are gone are said to be gone; files of vectors have nothing to embed again.
    """
    indexes = ["compact(m=4, build_effort=8)@8", 'compact(m=4, build_effort=8, fetch="encoder")@8']
    coded = 'compact(m=4, build_effort=8, store="sq8", fetch="encoder")@8'
    run = _run(
        pictures, tmp_path, tune=None, directions=[direction], measures=["overlap@3"],
        cost={"queries": 4, "warm_up": 0, "k": 5, "indexes": [*indexes, coded], "transforms": ["truncate(dim=16)"]},
        grid={"indexes": [coded]},
    )  # fmt: skip
    plain, again, few = run.costs
    # Last bits depend on who is embedded together.
    assert again["quality"]["value"] == pytest.approx(plain["quality"]["value"], abs=0.02)
    assert again["held_bytes"] == plain["held_bytes"]
    assert again["fetched"]["per_query"] == pytest.approx(plain["fetched"]["per_query"], rel=0.1)
    assert few["fetched"]["per_query"] == 16  # of two partitions: the nodes in view
    [record] = run.records
    assert record.value > 0.3
    assert run.failed == []
    assert len(list((tmp_path / "indexes").glob("*/index.faiss"))) == 6  # two of the grid; of costs, two stores of two
    vectors = {"name": "v", "corpus": "laion_like(rows=300, dim=16)", "queries": "laion_like(rows=300, dim=16, part='queries', queries=9)",
               "gold": {"k": 10}, "measures": ["overlap@5"], "cost": {"queries": 3, "k": 5, "indexes": [indexes[1]]}}  # fmt: skip
    evaluation = files.parse(json.dumps(vectors), "test")
    done = vector_runner.run(evaluation, str(tmp_path / "v"), LocalGold(1), Silent(), "test")
    [failed] = done.failed
    assert "holds vectors without what they were made of" in failed["reason"]
