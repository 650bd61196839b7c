"""The embedded evaluation as a newcomer runs it, and the same one on Ray into an object store."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raybench import results, storage

# Timings are not what is tested here.
FEW = [part for name in ("cost.queries", "cost.warm_up", "compare.cost.queries") for part in ("--set", f"{name}=20")]
NONE = [part for name in ("cost", "tune", "compare", "hard") for part in ("--set", f"{name}=null")]


def _demo(arguments: list[str], folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "raybench", *arguments, "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=290, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return last


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo in one process, in a folder of its own."""
    return _demo(["demo", "--local", *FEW], tmp_path_factory.mktemp("demo"))


def _value(demo: dict[str, Any], measure: str, model: str, direction: str = "text_to_image") -> dict[str, Any]:
    found = [
        record
        for record in demo["records"]
        if (record["measure"], record["direction"], record["transform"]) == (measure, direction, "float16()")
        and f'scenes-{model}"' in record["encoder"]
    ]
    assert len(found) == 1
    return found[0]


def test_the_models_are_good_and_not_perfect(local):
    """hit@1 over the full collection is between 0.3 and 0.9 for both models, and clearly better for the better one."""
    good, weak = (_value(local, "hit@1", model) for model in ("clip", "clip-small"))

    assert weak["value"] >= 0.3
    assert good["value"] <= 0.9
    assert weak["high"] < good["low"]
    assert _value(local, "hit@10", "clip")["value"] < 1


def test_identities_between_measures_hold(local):
    """Within the demo: hit grows with k, precision@10 is bounded by hit@10, overlap of the exact search is 1."""
    hits = [_value(local, f"hit@{k}", "clip")["value"] for k in (1, 5, 10)]

    assert hits == sorted(hits)
    assert _value(local, "precision@10", "clip")["value"] * 10 >= hits[-1]
    assert _value(local, "mrr@10", "clip")["value"] >= hits[0]
    assert _value(local, "overlap@10", "clip")["value"] == 1


def test_the_accounting_shows_what_was_broken(local):
    """Every image is in the accounts: rows in = rows out + dropped, for some broken on purpose."""
    run = json.loads((Path(local["out"]) / "run.json").read_text())
    pictures = [artifact for artifact in run["artifacts"] if artifact["modality"] == "image"]

    assert len(pictures) == 2
    for artifact in pictures:
        assert artifact["rows_in"] == 2000
        assert artifact["rows_in"] == artifact["rows_out"] + sum(artifact["dropped"].values())
        assert set(artifact["dropped"]) >= {"zero_bytes", "truncated_image", "not_an_image"}
    assert Path(local["report"]).read_text().count("data:image/jpeg") > 20


def test_the_hard_set_is_harder_than_the_random_one(local):
    """Same queries and answers; hit@1 among mined distractors is lower, with an interval that says so."""
    [sheet] = [sheet for sheet in local["sheets"] if sheet["title"] == "Hard sets"]
    rows = [dict(zip(sheet["columns"], row, strict=True)) for row in sheet["rows"]]
    hard = [row for row in rows if row["set"] == "scenes-hard"]

    assert len(rows) == 2
    assert len(hard) == 1
    for row in hard:
        assert row["its high"] < -0.05
        assert row["shared"] >= 540
    [steps] = [sheet for sheet in local["sheets"] if sheet["title"] == "What the sets are made of"]
    for row in (dict(zip(steps["columns"], row, strict=True)) for row in steps["rows"]):
        dropped = sum(int(part.split()[-1].replace(",", "")) for part in row["dropped"].split(", ") if part)
        assert row["in"] == row["stay"] + dropped
    for name in ("scenes-random", "scenes-hard"):
        assert (Path(local["out"]) / "sets" / name / "report" / "index.html").exists()


def test_answers_are_better_with_the_pictures_that_were_found(local):
    """Accuracy: retrieved clearly above the closed book, and the right picture above retrieved; the time is split."""
    told = {
        one["context"]: {measure["measure"]: measure for measure in one["measures"]}
        for one in local["generations"]
        if one["prompt"] == "describe"
    }
    for measure in ("accuracy", "accuracy_untold"):
        assert told["none"][measure]["high"] < told["retrieved"][measure]["low"]
        assert told["retrieved"][measure]["high"] < told["gold"][measure]["low"]
    assert {one["answered"] for one in local["generations"]} == {60}
    for times in local["rag_times"]:
        split = times["split"]
        assert split["search"]["share"] + split["generation"]["share"] == pytest.approx(1)
    page = Path(local["report"]).read_text()
    for words in ("What retrieval adds", "Search against generation"):
        assert words in page


def test_it_shows_what_indexes_cost_and_which_effort_is_enough(local):
    """Each section has its results: precision costs little, candidates make up for it, and compact is smaller."""
    quality = {(one["transform"], one["index"]): one["quality"]["value"] for one in local["costs"]}
    held = {(one["transform"], one["index"]): one["resident_bytes"] for one in local["costs"]}
    few = 'chain("truncate(dim=16)", "int4()")'
    assert quality["float16()", "exact()"] == 1
    assert quality[few, "exact()"] < 0.9 < quality[few, 'rerank("exact()", candidates=32)']
    assert held["float16()", "exact()"] == 32 * held[few, "exact()"]
    assert [one["effort"] is not None and one["confirmed"] for one in local["tuned"]] == [True, True]
    [compared] = [sheet for sheet in local["sheets"] if sheet["title"].startswith("Compact against full")]
    assert [row[3] for row in compared["rows"]] == sorted((row[3] for row in compared["rows"]), reverse=True)
    page = Path(local["report"]).read_text()
    for words in ("Quality against cost", "What it costs", "Tuned efforts", "Compact against full"):
        assert words in page
    assert local["failed"] == []


@pytest.mark.ray
@pytest.mark.s3
def test_the_demo_on_ray_and_s3_equals_the_local_one(local, s3, tmp_path):
    """On Ray with --out s3://: the records and every byte of the vectors are those of the run in one process."""
    one = 'openclip("raybench:scenes-clip-small")'
    few = ("--set", "generate.queries=12")
    remote = _demo(["run", "demo", "--out", f"{s3}/runs/demo", "--set", f"encoders=[{one}]", *few, *NONE], tmp_path)
    alike = [record for record in local["records"] if record["encoder"] == one]

    assert remote["records"] == alike
    assert len(alike) == len(local["records"]) / 2
    assert storage.exists(remote["report"])
    here, there = storage.join(local["out"], "vectors"), f"{s3}/runs/demo/vectors"
    names = [file.name for file in storage.list_files(there) if "_emb/" in file.name or "/metadata/" in file.name]
    assert len(names) >= 10
    for name in names:
        assert storage.read_bytes(storage.join(there, name)) == storage.read_bytes(storage.join(here, name)), name
    stored = {
        (record.experiment, record.measure, record.value, record.low)
        for record in results.read_all(f"{s3}/runs/demo/results")
    }
    assert stored == {
        (record.experiment, record.measure, record.value, record.low)
        for record in results.read_all(storage.join(local["out"], "results"))
        if record.encoder == one
    }
