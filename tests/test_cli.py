"""The command line: help at once, one sentence and exit code 2 for a wrong request, JSON as the last line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from raybench import results
from raybench.cli import VERBS, main
from raybench.experiments import evaluation_file as files

GOOD = {
    "name": "small", "images": "scenes(images=200, seed=4)", "encoders": ["tiny(dim=16)"],
    "measures": ["ndcg@10", "hit@1", "overlap@5", "median_rank"], "gallery": 3,
}  # fmt: skip


def _call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def _file(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "evaluation.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return str(path)


def test_help_names_every_verb_and_imports_nothing_heavy():
    """`raybench --help` lists the verbs without importing numpy, torch, pyarrow or ray."""
    code = (
        "import sys\nfrom raybench.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('numpy', 'torch', 'pyarrow', 'ray', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert all(verb in done.stdout for verb in VERBS)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": ["tiny()"]}, ["unknown key 'encoder'", "did you mean 'encoders'"]),
        ({"encoders": ["opneclip('ViT-B-32')"]}, ["opneclip", "did you mean 'openclip'"]),
        ({"encoders": ["openclip('ViT-B-23', pretrained='openai')"]}, ["ViT-B-23", "ViT-B-32"]),
        ({"measures": ["ndgc@10"]}, ["ndgc", "did you mean 'ndcg'"]),
        ({"measures": ["ndcg"]}, ["ndcg", "cut-off"]),
        ({"images": "webdatset('x')"}, ["webdatset", "webdataset"]),
        ({"grid": {"indexes": ["exakt()"]}}, ["exakt", "exact"]),
        ({"grid": {"transforms": ["truncate()"]}}, ["truncate", "needs dim"]),
        ({"shards": 0}, ["shards=0", "use 1 to"]),
        ({"shards": "many"}, ["shards='many'", "int"]),
        ({"embed": {"chunks": 3}}, ["embed.chunks", "chunk"]),
        ({"embed": 3}, ["embed must hold keys"]),
        ({"directions": ["text_to_images"]}, ["text_to_images", "text_to_image"]),
        ({"encoders": []}, ["encoders is empty"]),
        ({"encoders": ["tiny(dim=16)", "tiny( dim = 16 )"]}, ["twice"]),
        ({"encoders": ["tiny(dim=16)", "tiny(16)"]}, ["twice"]),
        ({"directions": ["text_to_image", "text_to_image"]}, ["twice"]),
        ({"queries": "csv('q.csv')"}, ["queries and qrels belong together"]),
        ({"name": None}, ["name"]),
        ({"name": "a/b"}, ["a/b"]),
    ],
)
def test_a_wrong_file_is_one_sentence(changes, words, tmp_path, capsys):
    """Wrong keys, names and values are answered with the thing, the value and the nearest right one; exit code 2."""
    code, out, err = _call("run", _file(tmp_path, **changes), "--out", str(tmp_path / "out"), "--local", capsys=capsys)

    assert code == 2
    assert err.startswith("raybench: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    for word in words:
        assert word in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], ["no command 'rnu'", "run"]),
        (["run", "no-such-file.yaml", "--out", "x"], ["no evaluation file no-such-file.yaml"]),
        (["run", "demo"], ["--out"]),
        (["run", "demo", "--out", "gs://bucket/x", "--local"], ["gs://bucket/x", "s3://"]),
        (["run", "demo", "--out", "x", "--set", "shards"], ["--set 'shards'", "key=value"]),
        (["run", "demo", "--out", "x", "--set", "shard=3"], ["unknown key 'shard'", "shards"]),
        (["report", "no-such-folder"], ["no-such-folder"]),
        (["run", "demo", "--out", "s3://"], ["s3://bucket/folder"]),
        (["run", "demo", "--out", ""], ["not a place"]),
        (["run", "demo", "--out", "~nobody-of-this-name/x"], ["nobody-of-this-name"]),
        (["run", "~nobody-of-this-name/x.yaml", "--out", "x"], ["nobody-of-this-name"]),
        (["run", "demo", "--local", "--out", "x" * 300], ["choose another folder"]),
        (["demo", "--frobnicate"], ["--frobnicate"]),
    ],
)
def test_a_wrong_command_is_one_sentence(arguments, words, tmp_path, monkeypatch, capsys):
    """Wrong verbs, options, paths and addresses; exit code 2."""
    monkeypatch.chdir(tmp_path)
    code, out, err = _call(*arguments, capsys=capsys)

    assert code == 2
    assert "Traceback" not in out + err
    for word in words:
        assert word in err


def test_a_missing_folder_of_images_is_one_sentence(tmp_path, capsys):
    """The folder is named before anything is embedded."""
    wrong = _file(tmp_path, images='folder("/no/such/folder")')
    code, _, err = _call("run", wrong, "--out", str(tmp_path / "out"), "--local", capsys=capsys)

    assert code == 2
    assert "/no/such/folder" in err


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("encoders=[tiny(dim=8), tiny(dim=9, seed=1)]", "encoders", ("tiny(dim=8)", "tiny(dim=9, seed=1)")),
        ("encoders=tiny( dim = 8 )", "encoders", ("tiny(dim=8)",)),
        ("measures=[ndcg@3, mrr]", "measures", ("ndcg@3", "mrr")),
        ("directions=[image_to_text]", "directions", ("image_to_text",)),
        ("images=scenes(images=9, seed=2)", "images", "scenes(images=9, seed=2)"),
        ("shards=7", "shards", 7),
        ("name=other", "name", "other"),
    ],
)
def test_settings_override_keys(setting, key, value, tmp_path):
    """Specs with commas, lists of them, numbers and words are taken as they are written, and printed in one way."""
    assert getattr(files.load(_file(tmp_path), (setting,)), key) == value


def test_a_spec_that_yaml_cut_says_so(tmp_path, capsys):
    """An unquoted spec with a comma in a YAML list is the most likely slip, so the sentence names the remedy."""
    path = tmp_path / "cut.yaml"
    path.write_text("name: x\nimages: scenes()\nencoders: [tiny(dim=8, seed=1)]\n")
    code, _, err = _call("run", str(path), "--out", "x", capsys=capsys)

    assert code == 2
    assert "quotes" in err


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path, monkeypatch, capsys):
    """RAY_ADDRESS is tried before anything waits for it."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    code, _, err = _call("run", _file(tmp_path), "--out", str(tmp_path / "out"), capsys=capsys)

    assert code == 2
    assert "no Ray answers at RAY_ADDRESS=127.0.0.1:9" in err


def test_a_key_that_stands_twice_is_refused(tmp_path, capsys):
    """YAML would silently take the last one."""
    path = tmp_path / "twice.yaml"
    path.write_text("name: x\nimages: scenes()\nencoders: ['tiny()']\nname: y\n")
    code, _, err = _call("run", str(path), "--out", "x", capsys=capsys)

    assert code == 2
    assert "line 4" in err
    assert "'name' stands twice" in err


def test_bad_yaml_names_the_line(tmp_path, capsys):
    """The file and line of what YAML cannot read."""
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nimages: [scenes(\nencoders: ]")
    code, _, err = _call("run", str(path), "--out", "x", capsys=capsys)

    assert code == 2
    assert "bad.yaml, line 3" in err


def test_a_place_that_is_a_file_is_refused(tmp_path, capsys):
    """An output below a file cannot be made."""
    (tmp_path / "file").write_text("")
    code, _, err = _call("run", _file(tmp_path), "--out", str(tmp_path / "file" / "out"), "--local", capsys=capsys)

    assert code == 2
    assert "is a file" in err


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch, capsys):
    """A read-only folder is named; the superuser may write everywhere, so the system's answer is set."""
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, _, err = _call("run", _file(tmp_path), "--out", str(tmp_path / "closed" / "out"), "--local", capsys=capsys)

    assert code == 2
    assert "permission" in err


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    """The plan is printed, as JSON too, and the output folder is not made."""
    code, out, _ = _call("run", _file(tmp_path), "--out", str(tmp_path / "out"), "--dry-run", "--json", capsys=capsys)

    assert code == 0
    assert json.loads(out.splitlines()[-1])["plan"]["experiments"] == 1
    assert not (tmp_path / "out").exists()


PLANS = {
    "embedding": "embed images with", "texts too": "embed images and texts with", "measuring": "experiments over",
    "costs": "what 1 cells cost", "tuning": "tune 1 efforts", "generating": "generate with", "hard": "measure raybench:scenes-hard",
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "does"),
    [
        ("run", {*PLANS} - {"embedding"}),
        ("embed", {"embedding"}),
        ("tune", {"texts too", "tuning"}),
        ("generate", {"texts too", "generating"}),
    ],
)
def test_a_plan_lists_what_its_command_does(command, does, tmp_path, capsys):
    """And nothing that only another one would do."""
    sections = (
        "generate={generator: echo()}", "hard={recipes: [raybench:scenes-hard]}", "tune={indexes: [hnsw(m=8)]}",
        "cost={indexes: [exact()]}",
    )  # fmt: skip
    more = [part for section in sections for part in ("--set", section)]
    code, out, told = _call(command, _file(tmp_path), "--out", str(tmp_path / "out"), "--dry-run", *more, capsys=capsys)

    assert code == 0, told
    assert {name for name, words in PLANS.items() if words in out} == does, out


def test_a_run_ends_with_one_json_object_and_a_rerun_repeats_it(tmp_path, capsys):
    """ok, report and records; every number is the mean of its queries' values; a rerun changes nothing."""
    arguments = ("run", _file(tmp_path), "--out", str(tmp_path / "out"), "--local", "--json", "--set", "seed=3")
    code, out, _ = _call(*arguments, capsys=capsys)
    last = json.loads(out.splitlines()[-1])

    assert code == 0
    assert last["ok"]
    assert Path(last["report"]).is_file()
    assert {record["measure"] for record in last["records"]} == set(GOOD["measures"])
    for record in last["records"]:
        assert record["low"] <= record["value"] <= record["high"]
        table = results.read_queries(str(tmp_path / "out" / "results"), record["experiment"]).to_pandas()
        values = table[table["measure"] == record["measure"]]["value"]
        assert len(values) == record["queries"]
        middle = values.median() if record["measure"] == "median_rank" else values.mean()
        assert middle == pytest.approx(record["value"], abs=1e-12)
        if record["measure"] == "overlap@5":
            assert record["value"] == 1.0
    code, out, _ = _call(*arguments, capsys=capsys)
    assert json.loads(out.splitlines()[-1])["records"] == last["records"]


def test_too_many_bad_images_fail_the_run(tmp_path, capsys):
    """Above the stated share the run fails with exit code 1, says the share and where the examples are."""
    strict = _file(tmp_path, embed={"max_bad": 0.001})
    code, out, err = _call("run", strict, "--out", str(tmp_path / "out"), "--local", "--json", capsys=capsys)

    assert code == 1
    assert "embed.max_bad=0.001" in err
    assert json.loads(out.splitlines()[-1])["ok"] is False


def test_the_embedded_file_prints_back_to_itself():
    """An evaluation dumped as YAML parses to the same evaluation."""
    from raybench.cli.evaluate import demo_file

    evaluation = files.parse(demo_file().replace("raybench:scenes-clip-small", "local-dir:x").replace(
        'openclip("local-dir:x")', "tiny(dim=8)").replace('openclip("raybench:scenes-clip")', "tiny(dim=9)"), "demo")  # fmt: skip

    assert files.parse(files.dump(evaluation), "dump") == evaluation
