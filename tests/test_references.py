"""Published numbers beside a run's own: who agrees, what is not compared, and what a table of them must hold."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from raybench.encoders import ENCODERS
from raybench.errors import DataError, SpecError
from raybench.experiments import evaluation_file as files
from raybench.experiments import runner
from raybench.experiments.backend import LocalBackend
from raybench.experiments.plan import plan
from raybench.experiments.prepared import prepare
from raybench.experiments.references import Reference, references
from raybench.experiments.reporting import Silent
from raybench.report.page import write_report
from raybench.results import Record

SHIPPED = {"vehicle-image-search": 8, "open-clip-flickr30k": 90, "open-clip-coco": 90}
HEAD = ["encoder", "direction", "measure", "value", "tolerance", "queries", "corpus", "source", "tolerance_for"]


def _table(folder: Path, *rows: tuple[object, ...], head: list[str] = HEAD) -> str:
    with (folder / "published.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return f'csv("{folder}/published.csv")'


def _run(folder: Path, published: str, **changes: object) -> runner.Run:
    content = {
        "name": "beside", "images": "scenes(images=60, seed=0)", "encoders": ["tiny(dim=24)", "tiny(dim=8)"], "gallery": 0,
        "measures": ["recall@10", "hit@1"], "intervals": {"resamples": 100}, "embed": {"max_bad": 0.2}, "published": published,
        "grid": {"transforms": ["float16()", "truncate(dim=4)"]},
    } | changes  # fmt: skip
    evaluation = files.parse(json.dumps(content), "test")
    return runner.run(prepare(evaluation, str(folder / "out")), LocalBackend(), Silent(), "test")


def _of_published(made: runner.Run) -> list[str]:
    return [warning for warning in made.warnings if "published" in warning]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """A run to take numbers from."""
    folder = tmp_path_factory.mktemp("published")
    published = _table(folder, ("tiny(dim=3)", "text_to_image", "hit@1", 0.5, 0.1, "", "", "nobody", ""))
    made = _run(folder, published)
    assert _of_published(made) == ["none of the 1 published numbers is of this run's encoders, directions and measures"]
    return folder, [one for one in made.records if one.encoder == "tiny(dim=24)" and one.transform == "float16()"]


def test_ours_stands_beside_theirs(first, tmp_path):
    """At the tolerance a number agrees, past it it differs; other data is neither; the rest is counted by reason."""
    folder, (recall, hit) = first
    queries, corpus = recall.queries, recall.corpus
    rows = [
        (
            "tiny(24)",
            "text_to_image",
            "recall@10",
            recall.value + 0.01,
            0.01,
            queries,
            corpus,
            "paper, table 1",
            "rounding",
        ),
        ("tiny(dim=24)", "text_to_image", "hit@1", hit.value + 0.02, 0.01, "", corpus, "paper, table 1", "fp16"),
        ("tiny(dim=8)", "text_to_image", "hit@1", 0.5, 1, queries + 1, corpus, "paper, table 2", "rounding"),
        ("tiny(dim=24)", "image_to_text", "hit@1", 0.5, 1, "", "", "paper, table 2", ""),
        ("tiny(dim=24, seed=1)", "text_to_image", "hit@1", 0.5, 1, "", "", "paper, table 2", ""),
    ]
    made = _run(folder, _table(tmp_path, *rows))
    [sheet] = [one for one in made.sheets if one.title == "Beside the published numbers"]
    by_column = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]

    assert [one["verdict"] for one in by_column[:2]] == ["agrees", "differs"]
    assert by_column[2]["verdict"].startswith(f"other data: published of {queries + 1:,} queries")
    assert [one["ours"] for one in by_column[:2]] == [recall.value, hit.value]
    assert [one["difference"] for one in by_column[:2]] == pytest.approx([-0.01, -0.02])
    assert (by_column[0]["low"], by_column[0]["high"]) == (recall.low, recall.high)
    for words in ("1 of 3 agree", "2 of 5 published numbers are not in this run", "1 of an encoder that is not",
                  "1 of a direction or measure that is not", "0.01 or 1 allows for rounding", "0.01 allows for fp16",
                  "paper, table 1; paper, table 2"):  # fmt: skip
        assert words in sheet.note
    assert _of_published(made)[0].startswith("1 numbers differ from the published ones by more than their tolerance")
    assert _of_published(made)[1].startswith("1 published numbers are of other data")
    write_report(made.out)
    summary = json.loads((folder / "out" / "report" / "summary.json").read_text())
    assert [row for one in summary["sheets"] if one["title"] == sheet.title for row in one["rows"]] == [
        *map(list, sheet.rows)
    ]
    assert "Beside the published numbers" in (folder / "out" / "report" / "index.html").read_text()


def test_only_the_exact_search_of_whole_vectors_is_compared(first, tmp_path):
    """A shorter vector's number never stands beside a published one, and `published` changes no experiment."""
    folder, (recall, _) = first
    row = ("tiny(dim=24)", "text_to_image", "recall@10", recall.value, 0.0, "", "", "x", "")
    made = _run(folder, _table(tmp_path, row))
    [sheet] = [one for one in made.sheets if one.title == "Beside the published numbers"]

    assert len(sheet.rows) == 1
    assert sheet.rows[0][-1] == "agrees"
    assert recall.experiment in {one.experiment for one in made.records}
    alone = _run(folder, _table(tmp_path, row), grid={"transforms": ["truncate(dim=4)"]})
    assert "1 of 1 published numbers are not in this run" in next(
        one.note for one in alone.sheets if "published" in one.title
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        (
            'openclip("ViT-B-32", pretrained="openai")',
            'openclip("ViT-B-32", pretrained="openai", precision="bf16")',
            True,
        ),
        ('openclip("ViT-B-32", pretrained="openai")', 'openclip(name="ViT-B-32", pretrained="openai")', True),
        ('openclip("ViT-B-32", pretrained="openai")', 'openclip("ViT-B-32", pretrained="laion400m_e32")', False),
        ('openclip("ViT-B-32", pretrained="openai")', 'openclip("ViT-B-16", pretrained="openai")', False),
        ('huggingface("a/b")', f'huggingface("a/b", revision="{"0" * 40}", trust_remote_code=True)', True),
        ('huggingface("a/b")', 'huggingface("a/b", max_length=12)', False),
        ("tiny()", "tiny(dim=32, seed=0)", True),
        ("tiny()", 'huggingface("a/b")', False),
    ],
)
def test_an_encoder_is_the_same_whatever_it_computes_in(theirs, ours, same):
    """Precision, revision and the leave to run code name no model; everything else does, defaults included."""
    assert Reference(theirs, "text_to_image", "hit@1", 0.5, 0.1, "").is_of(ours) is same


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "tinny(dim=3)"}, "row 1: no encoder is called 'tinny'; did you mean 'tiny'?"),
        (
            {"direction": "text to image"},
            "row 1: no direction is called 'text to image'; did you mean 'text_to_image'?",
        ),
        ({"measure": "recall"}, "row 1: measure 'recall' needs a cut-off"),
        ({"value": "high"}, "row 1: value is 'high'; it must be a number from 0"),
        ({"value": "nan"}, "row 1: value is 'nan'"),
        ({"tolerance": ""}, "row 1: tolerance is ''"),
        ({"tolerance": -1}, "row 1: tolerance is '-1'"),
        ({"queries": "2.5"}, "row 1: queries is '2.5'"),
    ],
)
def test_a_bad_row_is_named(tmp_path, change, words):
    """With its number, the value and what it must be."""
    row = dict(zip(HEAD, ("tiny()", "text_to_image", "hit@1", 0.5, 0.1, 1, 1, "x", ""), strict=True)) | change
    with pytest.raises(DataError, match="row 1") as caught:
        references(_table(tmp_path, tuple(row.values())))
    assert words in str(caught.value)


def test_a_bad_table_is_refused(tmp_path):
    """A missing column, no rows, the same number twice in two spellings, and a name that is not shipped."""
    row = ("tiny()", "text_to_image", "hit@1", 0.5, 0.1)
    for rows, head, words in (
        ([row], HEAD[:5], "has no column source"),
        ([], HEAD, "holds no published numbers"),
        ([(*row, "", "", "", ""), ("tiny", *row[1:], "", "", "", "")], HEAD, "stands twice"),
    ):
        with pytest.raises(DataError, match=words):
            references(_table(tmp_path, *rows, head=head))
    with pytest.raises(SpecError, match="did you mean 'open-clip-coco'"):
        references('shipped("openclip-coco")')
    with pytest.raises(SpecError, match="no table is called 'cvs'"):
        files.parse(
            json.dumps({"name": "x", "images": "scenes()", "encoders": ["tiny()"], "published": 'cvs("x")'}), "test"
        )


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tables_are_whole(name):
    """Every row reads, its encoder is one that raybench can load, its value is a share, and its source is told."""
    rows = references(f'shipped("{name}")')

    assert len(rows) == SHIPPED[name]
    for one in rows:
        assert 0 < one.tolerance <= 0.01
        assert 0.04 < one.value < 1
        assert one.source
        assert one.tolerance_for
        assert one.queries
        assert one.corpus
    for encoder in {one.encoder for one in rows if one.encoder.startswith("openclip")}:
        ENCODERS.make(encoder).check()


def test_shipped_values_are_the_published_ones():
    """Copied from their sources by hand here: what was published, in our terms."""
    vehicles = {(one.encoder[:8], one.measure): one.value for one in references('shipped("vehicle-image-search")')}
    metaclip = [vehicles["openclip", name] for name in ("ndcg@10", "map@10", "recall@10", "precision@10")]
    jina = [vehicles["jina_cli", name] for name in ("ndcg@10", "map@10", "recall@10", "precision@10")]
    assert metaclip == [0.51109, 0.46715, 0.65128, 0.06513]
    assert jina == [0.38448, 0.33982, 0.52718, 0.05272]
    for name, expected in (
        ("open-clip-flickr30k", ([0.6678, 0.8838, 0.9310], [0.8410, 0.9620, 0.9830], (5000, 1000))),
        ("open-clip-coco", ([0.3934, 0.6543, 0.7561], [0.5632, 0.7984, 0.8712], (25010, 5000))),
    ):
        model = [one for one in references(f'shipped("{name}")') if "laion2b_s34b_b79k" in one.encoder]
        for direction, values in zip(("text_to_image", "image_to_text"), expected, strict=False):
            found = [one for one in model if one.direction == direction]
            assert [one.measure for one in found] == ["hit@1", "hit@5", "hit@10"]
            assert [one.value for one in found] == values
        assert (model[0].queries, model[0].corpus) == expected[2]


def test_a_plan_tells_of_published_numbers(tmp_path):
    """`--dry-run` reads the table, and says how many of its numbers are of the file's encoders."""
    content = {"name": "x", "images": "scenes(images=60)", "published": 'shipped("open-clip-coco")',
               "encoders": ['openclip("ViT-B-32", pretrained="laion2b_s34b_b79k", precision="bf16")']}  # fmt: skip
    lines = plan(files.parse(json.dumps(content), "test"), str(tmp_path))["lines"]

    assert "compare with 90 published numbers, 6 of them of encoders that are embedded" in lines
    loaded = files.parse(json.dumps(content), "test")
    assert files.parse(files.dump(loaded), "again") == loaded
    assert yaml.safe_load(files.dump(dataclasses.replace(loaded)))["published"] == 'shipped("open-clip-coco")'
