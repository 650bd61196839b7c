"""The smallest effort that reaches a target: found on half of the queries by a bound, confirmed on the other half."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raybench import storage
from raybench.cli import main
from raybench.errors import RequestError
from raybench.experiments import evaluation_file as files
from raybench.experiments import runner
from raybench.experiments.backend import LocalBackend
from raybench.experiments.prepared import prepare
from raybench.experiments.reporting import Silent
from raybench.experiments.tuning import effort_range
from raybench.indexes.base import Dial
from raybench.report.page import write_report
from raybench.search.effort import measured, smallest_effort, split_queries


def _sides(needed_Q: np.ndarray, count: int) -> tuple[tuple[object, np.ndarray], tuple[object, np.ndarray]]:
    """Two sides of queries, each of which is answered from some effort on."""

    def side(part: np.ndarray) -> tuple[object, np.ndarray]:
        return (lambda effort: (part <= effort).astype(float)), np.arange(len(part))

    return side(needed_Q[:count]), side(needed_Q[count:])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 60), st.floats(0.5, 0.98))
def test_it_is_the_smallest_of_all(seed, least, span, target):
    """Against a measurement of every effort in the range: the first that passes, and its neighbour below fails."""
    needed = np.random.default_rng(seed).geometric(0.02, 400)
    tuning, held_out = _sides(needed, 200)
    most = least + span
    found = smallest_effort(tuning, held_out, target, (least, most))
    passing = [effort for effort in range(least, most + 1) if measured(effort, *tuning).reaches(target)]
    assert found.effort == (passing[0] if passing else None)
    assert [point.effort for point in found.points] == sorted({point.effort for point in found.points})
    if found.effort is None:
        assert found.held_out is None
        assert found.points[-1].effort == most
        assert not found.is_confirmed(target)
        return
    assert found.held_out == measured(found.effort, *held_out)
    if found.effort == least:
        assert found.below is None
    else:
        assert found.below.effort == found.effort - 1
        assert not found.below.reaches(target)


def test_held_out_queries_confirm_in_95_of_100():
    """With 500 queries on each side, the mean over the held-out ones reaches the target nearly always."""
    reached = 0
    for seed in range(100):
        needed = np.random.default_rng([seed, 1]).geometric(0.02, 1_000)
        found = smallest_effort(*_sides(needed, 500), 0.9, (1, 1_024))
        reached += found.is_confirmed(0.9)
    assert reached >= 95


def test_an_effort_under_one_that_fails_is_not_taken():
    """Where quality falls again above an effort that passed, the effort from which on all measured ones pass is taken."""
    quality = {1: 0.1, 2: 0.2, 4: 0.3, 8: 1.0, 6: 1.0, 5: 0.0, 7: 0.0}
    side = (lambda effort: np.full(50, quality[effort])), np.arange(50)
    found = smallest_effort(side, side, 0.9, (1, 8))
    assert found.effort == 6
    assert [point.effort for point in found.points] == [1, 2, 4, 5, 6, 8]
    quality[6], quality[7] = 0.0, 1.0
    assert smallest_effort(side, side, 0.9, (1, 8)).effort == 7


def test_queries_are_split_by_clusters():
    """Captions of one image are on one side; halves are even; a seed decides; too few are refused."""
    clusters = np.repeat(np.arange(40), 3)
    tuning, held_out = split_queries(clusters, 7)
    assert (tuning ^ held_out).all()
    assert not set(clusters[tuning]) & set(clusters[held_out])
    assert tuning.sum() == held_out.sum() == 60
    np.testing.assert_array_equal(tuning, split_queries(clusters, 7)[0])
    assert (tuning != split_queries(clusters, 8)[0]).any()
    with pytest.raises(RequestError, match="4 clusters or more; there are 3"):
        split_queries(np.array([0, 0, 1, 2]), 0)
    with pytest.raises(RequestError, match="no range"):
        smallest_effort(*_sides(np.ones(8), 4), 0.9, (5, 4))


def test_the_range_is_what_the_index_takes():
    """From k where the effort must be k at least; to what the index has, what the corpus has, or what is allowed."""
    assert effort_range(Dial("nodes", is_k_least=True), 10, 5_000, 4_096) == (10, 4_096)
    assert effort_range(Dial("candidates", is_k_least=True), 10, 300, 4_096) == (10, 300)
    assert effort_range(Dial("lists", most=64), 10, 5_000, 4_096) == (1, 64)
    assert effort_range(Dial("nodes", is_k_least=True), 100, 5_000, 50) == (100, 100)


def _pictures(folder: Path) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(240):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (16, 16, 3), np.uint8)).save(buffer, "PNG")
        (folder / f"{number:03d}.png").write_bytes(buffer.getvalue())
    lines = [f"{number:03d}.png,picture {number}" for number in range(240)]
    (folder / "captions.csv").write_text("\n".join(["file_name,caption", *lines]))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of noise with captions."""
    folder = tmp_path_factory.mktemp("tuned") / "pictures"
    _pictures(folder)
    return folder


def _content(pictures: Path, **changes: object) -> dict[str, object]:
    return {
        "name": "tuned", "images": f'folder("{pictures}", captions="{pictures}/captions.csv")', "encoders": ["tiny(dim=24)"],
        "measures": ["hit@1", "overlap@3"], "gallery": 0, "shards": 2, "intervals": {"resamples": 200},
        "grid": {"indexes": ["exact()", "hnsw(m=4, build_effort=8)@8", "hnsw(m=4, build_effort=8)@16"]},
        "tune": {"target": 0.8, "indexes": ["hnsw(m=4, build_effort=8)", "binary()", "ivf_flat(lists=50)"]},
    } | changes  # fmt: skip


def _run(pictures: Path, out: Path, backend: object = None, **changes: object) -> runner.Run:
    evaluation = files.parse(json.dumps(_content(pictures, **changes)), "test")
    return runner.run(prepare(evaluation, str(out)), backend or LocalBackend(), Silent(), "test")


@pytest.fixture(scope="module")
def done(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> runner.Run:
    """A run with a section `tune`."""
    return _run(pictures, tmp_path_factory.mktemp("done"))


def test_a_run_tunes_what_its_file_lists(done):
    """Each index has its points, an effort whose bound reaches the target, a neighbour that fails, and a held-out value."""
    assert [one["index"] for one in done.tuned] == ["hnsw(m=4, build_effort=8)", "binary()"]
    for one in done.tuned:
        points = {point["effort"]: point for point in one["points"]}
        assert points[one["effort"]]["low"] >= 0.8
        assert one["below"] is None or one["below"]["low"] < 0.8
        assert one["below"] is None or one["below"]["effort"] == one["effort"] - 1
        assert one["held_out"]["effort"] == one["effort"]
        assert one["confirmed"] == (one["held_out"]["value"] >= 0.8)
        assert (one["tuning_queries"], one["held_out_queries"]) == (120, 120)
    [failed] = done.failed
    assert failed["work"] == "tuning"
    assert "ivf_flat(lists=50) needs 1,950 rows" in failed["reason"]
    assert any("1 of the grid's cells have no result" in warning for warning in done.warnings)
    assert any("only 120 clusters of queries for tuning" in warning for warning in done.warnings)
    assert [sheet.title for sheet in done.sheets] == ["Tuned efforts", "Cells without a result"]
    page = storage.read_bytes(write_report(done.out)).decode()
    assert "Tuned efforts" in page
    assert storage.read_json(f"{done.out}/run.json")["tuned"] == done.tuned


def test_a_rerun_reads_what_was_found(done, pictures, monkeypatch):
    """Nothing is searched again."""
    monkeypatch.setattr("raybench.experiments.tuning.smallest_effort", lambda *_: pytest.fail("searched again"))
    content = _content(pictures)["tune"] | {"indexes": ["hnsw(m=4, build_effort=8)", "binary()"]}
    assert _run(pictures, Path(done.out), tune=content).tuned == done.tuned


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        ({"measure": "mrr"}, "tune.measure=mrr must have a cut-off"),
        ({"target": 1.5}, "tune.target=1.5 is out of range"),
        ({"most": 0}, "tune.most=0 is out of range"),
        ({"indexes": ["hnsw(m=8)@4"]}, "without it"),
        ({"indexes": ["exact()"]}, "that have an effort"),
        ({"indexes": ["hnws()"]}, "did you mean 'hnsw'"),
        ({"goal": 0.9}, "unknown key 'tune.goal'"),
    ],
)
def test_wrong_settings_are_one_sentence(pictures, tune, words):
    """When the file is read."""
    with pytest.raises(RequestError, match=words):
        files.parse(json.dumps(_content(pictures, tune=tune)), "test")
    with pytest.raises(RequestError, match="no index with an effort"):
        files.parse(json.dumps(_content(pictures, tune={"target": 0.5}, grid={"indexes": ["exact()"]})), "test")


def test_the_verb_tunes_any_measure_and_says_when_it_is_not_reached(pictures, tmp_path, monkeypatch, capsys):
    """A judged measure that noise cannot reach: `not reached` with the range; overlap with the file's own indexes."""
    monkeypatch.chdir(tmp_path)
    content = {name: value for name, value in _content(pictures).items() if name != "tune"}
    Path("tuned.yaml").write_text(json.dumps(content))

    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["tune", "tuned.yaml", "--out", "out", "--local", *arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out + captured.err

    code, printed = call("--measure", "hit@5", "--json")
    assert code == 0
    assert "not reached" in printed
    [told] = json.loads(next(line for line in reversed(printed.splitlines()) if line.startswith("{")))["tuned"]
    assert (told["index"], told["effort"], told["held_out"], told["target"]) == (
        "hnsw(m=4, build_effort=8)",
        None,
        None,
        0.9,
    )
    assert told["points"][-1]["effort"] == told["efforts"][1] == 240
    assert not Path("out/run.json").exists()
    code, printed = call("--target", "0.6")
    assert code == 0
    assert "confirmed" in printed
    code, printed = call("--target", "60")
    assert (code, "tune.target=60 is out of range" in printed) == (2, True)
    assert call("--dry-run")[0] == 0
