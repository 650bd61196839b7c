"""`raybench compare`: the paired difference of two results, what may be compared at all, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raybench import results, storage
from raybench.cli import main
from raybench.experiments import evaluation_file as files
from raybench.experiments import runner
from raybench.experiments.backend import LocalBackend
from raybench.experiments.prepared import prepare
from raybench.experiments.reporting import Silent
from raybench.report.page import write_report

HOSTILE = "a \x1b[31mred\u202e car <script>alert(1)</script> " + "far " * 40


def _pictures(folder: Path) -> dict[str, list[str]]:
    """Thirty pictures of noise and their captions, two each."""
    folder.mkdir()
    for number in range(30):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    captions = {f"{n:02d}.png": [f"picture {n} of the {word}" for word in ("moon", "sun")] for n in range(30)}
    captions["04.png"][0] = HOSTILE
    return captions


def _run(root: Path, out: str, captions: dict[str, list[str]], **changes: object) -> runner.Run:
    lines = [json.dumps({"file_name": name, "caption": texts}) for name, texts in captions.items()]
    table = root / f"{out}.jsonl"
    table.write_text("\n".join(lines))
    content = {
        "name": out, "images": f'folder("{root}/pictures", captions="{table}")', "encoders": ["tiny(dim=24)", "tiny(dim=4, seed=1)"],
        "directions": ["text_to_image", "image_to_text"], "measures": ["ndcg@5", "hit@5", "mean_rank"], "gallery": 0,
        "intervals": {"resamples": 200},
    } | changes  # fmt: skip
    evaluation = files.parse(json.dumps(content), "test")
    return runner.run(prepare(evaluation, str(root / out)), LocalBackend(), Silent(), "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: `one` asks all captions, `two` other ones for three pictures."""
    folder = tmp_path_factory.mktemp("compare")
    captions = _pictures(folder / "pictures")
    _run(folder, "one", captions)
    other = {name: list(texts) for name, texts in captions.items()}
    other["05.png"][1] = "something else"  # one query has another text
    del other["06.png"]  # two queries are gone
    other["07.png"].append("a third")  # one is new
    _run(folder, "two", other, encoders=["tiny(dim=24)"])
    return folder


def _compare(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, dict]:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *arguments, "--resamples", "200", "--json"])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    return int(stop.value.code or 0), "\n".join(lines[:-1]) + printed.err, json.loads(lines[-1])


def _values(out: Path, encoder: str, direction: str, measure: str) -> dict[str, tuple[float, str]]:
    for record in results.read_all(f"{out}/results"):
        if (record.encoder, record.direction, record.measure) == (encoder, direction, measure):
            rows = results.read_queries(f"{out}/results", record.experiment).to_pylist()
            return {row["query_id"]: (row["value"], row["cluster_id"]) for row in rows if row["measure"] == measure}
    raise AssertionError(encoder)


def _slow_interval(apart: dict[str, float], clusters: dict[str, str], seed: int) -> tuple[float, float]:
    """Clusters drawn with replacement, the mean of the differences of their queries, computed from nothing else."""
    names = sorted(set(clusters.values()), key=[*clusters.values()].index)
    random, means = np.random.default_rng([seed, 0]), []
    for _ in range(200):
        drawn = [names[row] for row in random.integers(len(names), size=len(names))]
        means.append(np.mean([apart[query] for name in drawn for query in apart if clusters[query] == name]))
    return tuple(np.quantile(means, [0.025, 0.975]))


def test_differences_are_those_of_the_stored_values(root, capsys, tmp_path):
    """Means, B - A, its interval, the shares and the file of differences follow from the two files of values."""
    out, to = str(root / "one"), tmp_path / "apart.parquet"
    chosen = ["--a", "encoder=tiny(dim=24)", "--b", "encoder=seed", "--seed", "3", "--to", str(to)]
    code, said, told = _compare(capsys, out, out, *chosen)

    assert code == 0
    assert [one["a"]["direction"] for one in told["pairs"]] == ["text_to_image", "image_to_text"]
    table = pq.read_table(to).to_pylist()
    for one in told["pairs"]:
        for line in one["measures"]:
            key = (one["a"]["direction"], line["measure"])
            a, b = (_values(root / "one", encoder, *key) for encoder in ("tiny(dim=24)", "tiny(dim=4, seed=1)"))
            apart = {query: b[query][0] - a[query][0] for query in sorted(a)}
            assert line["a"] == pytest.approx(np.mean([value for value, _ in a.values()]), abs=1e-12)
            assert line["difference"]["value"] == pytest.approx(np.mean(list(apart.values())), abs=1e-12)
            slow = _slow_interval(apart, {query: a[query][1] for query in apart}, 3)
            assert (line["difference"]["low"], line["difference"]["high"]) == pytest.approx(slow, abs=1e-12)
            gains = np.array(list(apart.values())) * (-1 if line["measure"] == "mean_rank" else 1)
            assert (line["better"], line["worse"], line["equal"]) == pytest.approx(
                ((gains > 0).mean(), (gains < 0).mean(), (gains == 0).mean())
            )
            stored = {row["query_id"]: row["difference"] for row in table if (row["direction"], row["measure"]) == key}
            assert stored == apart
    assert "6 comparisons at 95 %" in said
    assert "differences: " in said


def test_the_queries_that_changed_most_are_shown(root, capsys):
    """They are the largest differences of the first measure, with ranks and first results; a hostile text cannot steer."""
    out = str(root / "one")
    arguments = ["--a", "encoder=24", "--b", "encoder=seed", "--measure", "mean_rank", "--top", "60"]
    _, said, told = _compare(capsys, out, out, *arguments)
    changed = told["pairs"][0]["changed"]
    a, b = (
        _values(root / "one", name, "text_to_image", "mean_rank") for name in ("tiny(dim=24)", "tiny(dim=4, seed=1)")
    )
    apart = {query: abs(b[query][0] - a[query][0]) for query in a}

    assert [one["query_id"] for one in changed] == sorted((q for q in a if apart[q]), key=lambda q: (-apart[q], q))
    for one in changed:
        assert (one["a"]["rank"], one["b"]["rank"]) == (a[one["query_id"]][0], b[one["query_id"]][0])
        for side, encoder in (("a", "tiny(dim=24)"), ("b", "tiny(dim=4, seed=1)")):
            [key] = {
                r.experiment
                for r in results.read_all(f"{out}/results")
                if r.encoder == encoder and r.direction == "text_to_image"
            }
            lists = results.read_neighbors(f"{out}/results", key).to_pylist()
            [first] = [row["id"] for row in lists if row["query_id"] == one["query_id"] and row["rank"] == 1]
            assert one[side]["first"] == first
    texts = {one["query_id"]: one["text"] for one in changed}
    assert texts["04.png_caption_00"] == HOSTILE.strip()
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "far far far far far far far far far" not in said


def test_only_queries_that_are_the_same_are_compared(root, capsys):
    """What only one run has, or asks or judges otherwise, is left out and counted; the rest is compared."""
    code, said, told = _compare(capsys, str(root / "one"), str(root / "two"), "--a", "encoder=24", "--measure", "hit@5")
    asked, shown = told["pairs"]
    a, b = (_values(root / name, "tiny(dim=24)", "text_to_image", "hit@5") for name in ("one", "two"))
    alike = sorted(a.keys() & b.keys() - {"05.png_caption_01"})

    assert code == 0
    assert asked["left_out"] == {"only in A": 2, "only in B": 1, "of another text or judgment": 1}
    assert asked["queries"] == len(alike) == 57
    assert asked["measures"][0]["a"] == pytest.approx(np.mean([a[query][0] for query in alike]), abs=1e-12)
    assert asked["measures"][0]["b"] == pytest.approx(np.mean([b[query][0] for query in alike]), abs=1e-12)
    # As questions, picture 5 has another caption, picture 7 one more, and picture 6 is gone.
    assert shown["left_out"] == {"only in A": 1, "of another text or judgment": 2}
    assert "2 only in A, 1 only in B, 1 of another text or judgment" in " ".join(said.split())


def test_a_run_against_itself_finds_nothing(root, capsys, tmp_path):
    """A copy of a folder is not told apart; the folder itself is refused, because nothing was chosen."""
    shutil.copytree(root / "one", tmp_path / "copy")
    code, _, told = _compare(capsys, str(root / "one"), str(tmp_path / "copy"))

    assert code == 0
    assert len(told["pairs"]) == 4
    for one in told["pairs"]:
        assert {line["verdict"] for line in one["measures"]} == {"not told apart"}
        assert all(line["equal"] == 1 and line["difference"]["p"] == 1 for line in one["measures"])
        assert one["changed"] == []


def test_verdicts_follow_the_measure(root, capsys):
    """A higher rank is worse: of two sides changed about, the verdicts change about, and scores and ranks agree."""
    out = str(root / "two"), str(root / "two")
    run = storage.read_json(str(root / "two" / "run.json"))
    key = run["experiments"][0]["experiment"]
    folder = root / "better"
    if not folder.exists():
        shutil.copytree(root / "two", folder)
        table = pq.read_table(folder / "results" / "queries" / f"{key}.parquet")
        values = [1.0] * len(table)  # every query is answered at rank 1
        place = table.schema.get_field_index("value")
        table = table.set_column(place, "value", [values])
        results.storage.write_table(
            str(folder / "results" / "queries" / f"{key}.parquet"), table.cast(results.QUERY_VALUES)
        )
    for a, b, verdict in ((out[0], str(folder), "B better"), (str(folder), out[0], "A better")):
        _, _, told = _compare(capsys, a, b, "--a", "direction=text", "--b", "direction=text")
        assert {line["verdict"] for line in told["pairs"][0]["measures"]} == {verdict}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            [],
            "A and B are the same experiments; choose with --a and --b among encoder tiny(dim=24) or tiny(dim=4, seed=1)",
        ),
        (
            ["--a", "encoder=24"],
            "B has more than one encoder: tiny(dim=24) or tiny(dim=4, seed=1); choose with --b encoder=",
        ),
        (
            ["--a", "encoder=tiny", "--b", "encoder=24"],
            "it may be tiny(dim=24) or tiny(dim=4, seed=1): write more of it",
        ),
        (["--a", "encoder=clip"], "A has no encoder 'clip'; there is tiny(dim=24) or tiny(dim=4, seed=1)"),
        (["--a", "colour=red"], "there is no facet 'colour'; known are"),
        (["--a", "encoder"], "is no choice; write it like --a encoder="),
        (["--a", "encoder=24", "--b", "encoder=seed", "--measure", "map@10"], "map@10 was not measured on both sides"),
        (["--a", "encoder=24", "--b", "encoder=seed", "--measure", "mop@10"], "no measure is called 'mop'"),
        (["--level", "95"], "--level 95 is no share; give one between 0 and 1"),
        (["--to", "x.csv"], "--to x.csv must name a .parquet file"),
    ],
)
def test_a_wrong_request_is_one_sentence(root, capsys, arguments, words):
    """The thing, the value, the next step; exit code 2."""
    code, said, told = _compare(capsys, str(root / "one"), str(root / "one"), *arguments)

    assert code == 2
    assert words in told["error"]
    assert len(said.strip().splitlines()) == 1


def test_a_folder_without_results_is_refused(root, capsys, tmp_path):
    """Also where it does not exist."""
    for place in (tmp_path, tmp_path / "nothing"):
        code, _, told = _compare(capsys, str(root / "one"), str(place))
        assert code == 2
        assert "holds no results" in told["error"]


def test_runs_of_other_questions_are_refused(root, capsys, tmp_path):
    """Two runs without one query in common cannot be compared."""
    shutil.copytree(root / "pictures", tmp_path / "pictures")
    _run(tmp_path, "other", {"11.png": ["nobody asked"]}, encoders=["tiny(dim=24)"], directions=["text_to_image"])
    table = pq.read_table(next((tmp_path / "other" / "results" / "queries").iterdir()))
    assert table["query_id"].to_pylist()[0] == "11.png_caption_00"
    code, _, told = _compare(capsys, str(root / "one"), str(tmp_path / "other"), "--a", "encoder=24")

    assert code == 2
    assert "no query is the same on both sides" in told["error"]


def test_a_run_of_several_encoders_compares_them(root):
    """The report holds the same numbers as the command, for every encoder against the first."""
    sheets = storage.read_json(str(root / "one" / "run.json"))["sheets"]
    [sheet] = [one for one in sheets if one["title"] == "Encoders compared, text to image"]
    a, b = (_values(root / "one", name, "text_to_image", "ndcg@5") for name in ("tiny(dim=24)", "tiny(dim=4, seed=1)"))
    row = next(row for row in sheet["rows"] if row[0] == "ndcg@5")

    assert row[3] == round(np.mean([b[query][0] - a[query][0] for query in a]), 4)
    assert "A: tiny(dim=24). B: tiny(dim=4, seed=1)." in sheet["note"]
    assert "Encoders compared, image to text" in Path(write_report(str(root / "one"))).read_text()
    many = _run(root, "many", {"11.png": ["one", "two"], "12.png": ["three"]}, measures=["mrr@5", "hit@1", "overlap@3"],
                encoders=["tiny()", *(f"tiny(seed={n})" for n in range(1, 5))], directions=["text_to_image"])  # fmt: skip
    [sheet] = [one for one in many.sheets if one.title.startswith("Encoders compared")]
    assert [one[0] for one in sheet.rows] == [f"tiny(seed={n})" for n in range(1, 5)]
    assert sheet.note.startswith("By mrr@5. A is the first encoder, tiny(),")
    alone = storage.read_json(str(root / "two" / "run.json"))["sheets"]
    assert not [one for one in alone if one["title"].startswith("Encoders compared")]


@pytest.mark.s3
def test_results_on_s3_are_compared_alike(root, capsys, s3):
    """A folder on S3 against one here: the same numbers, and the differences are written there."""
    for file in (root / "two").rglob("*"):
        if file.is_file() and "vectors" not in file.parts:
            storage.write_bytes(f"{s3}/compare/{file.relative_to(root / 'two')}", file.read_bytes())
    chosen = ["--a", "encoder=24", "--measure", "hit@5", "--top", "3"]
    here = _compare(capsys, str(root / "one"), str(root / "two"), *chosen)[2]
    code, _, there = _compare(capsys, str(root / "one"), f"{s3}/compare", *chosen, "--to", f"{s3}/apart.parquet")

    assert code == 0
    for one, other in zip(here["pairs"], there["pairs"], strict=True):
        assert one["measures"] == other["measures"]
        assert one["changed"] == other["changed"]
    assert len(storage.read_table(f"{s3}/apart.parquet")) == sum(one["queries"] for one in there["pairs"])
