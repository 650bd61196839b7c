"""`raybench convert` end to end, and formats read in place by another verb."""

import io
import json

import h5py
import numpy as np
import pytest
from format_files import fbin, hdf5, npy, own_ids, parquet, vecs
from rich.console import Console

from raybench.cli import main, progress
from raybench.formats import open_neighbors, open_vectors
from raybench.formats.artifact import read_gold
from raybench.formats.base import read_rows

ROWS = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
IDS = np.arange(12, dtype=np.int32).reshape(3, 4)
DISTANCES = np.sort(np.random.default_rng(1).random((3, 4)).astype(np.float32), axis=1)


@pytest.fixture
def raybench(capsys):
    """The program: exit code, standard output, standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in arguments])
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


def test_vectors_are_copied_into_another_format(raybench, tmp_path):
    """The sentence says what was written; the values are those of the source, and nothing is said on standard error."""
    source = npy(tmp_path / "a.npy", ROWS)
    code, out, err = raybench("convert", source, tmp_path / "new" / "b.fvecs")
    assert (code, err) == (0, "")
    assert out == f"written: {tmp_path}/new/b.fvecs, 200 rows of 16 dimensions, float32, 12,800 bytes of vectors\n"
    np.testing.assert_array_equal(read_rows(open_vectors(str(tmp_path / "new" / "b.fvecs"))), ROWS)


def test_a_file_is_not_written_over_itself(raybench, tmp_path, monkeypatch):
    """Also where it is spelt otherwise; its time stays."""
    monkeypatch.chdir(tmp_path)
    source = npy(tmp_path / "a.npy", ROWS)
    before = (tmp_path / "a.npy").stat().st_mtime_ns
    code, _, err = raybench("convert", source, "a.npy")
    assert (code, "a.npy is the source itself" in err) == (2, True)
    assert (tmp_path / "a.npy").stat().st_mtime_ns == before


def test_json_is_the_last_line(raybench, tmp_path):
    """One object with what was written, also where a dtype was asked for."""
    source = npy(tmp_path / "a.npy", ROWS)
    code, out, _ = raybench("convert", source, tmp_path / "b.h5", "--dtype", "float16", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1]) == {
        "ok": True, "target": str(tmp_path / "b.h5"), "rows": 200, "dim": 16, "dtype": "float16", "bits": False,
        "vector_bytes": 6_400,
    }  # fmt: skip
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["emb"], ROWS.astype(np.float16))


def test_a_dry_run_writes_nothing_and_refuses_the_same(raybench, tmp_path):
    """What would be written, and every refusal that needs no look at the values."""
    source = npy(tmp_path / "a.npy", ROWS.astype(np.float16))
    code, out, _ = raybench("convert", source, tmp_path / "b.f16bin", "--dry-run")
    assert (code, out) == (
        0,
        f"would write: {tmp_path}/b.f16bin, 200 rows of 16 dimensions, float16, 6,400 bytes of vectors\n",
    )
    dry = raybench("convert", source, tmp_path / "b.fvecs", "--dry-run")
    assert dry == raybench("convert", source, tmp_path / "b.fvecs")
    assert dry[0] == 2
    assert "cannot hold float16" in dry[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy"]


def test_neighbours_are_copied(raybench, tmp_path):
    """SISAP's from 1 become big-ann's from 0, with the same distances; and back to the same datasets."""
    gold = hdf5(tmp_path / "gold.h5")(knns=IDS + 1, dists=DISTANCES)
    code, out, _ = raybench("convert", gold, tmp_path / "truth.bin", "--neighbors", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["stored"] == "distance"
    found = open_neighbors(str(tmp_path / "truth.bin"))
    np.testing.assert_array_equal(found.ids_QK, IDS)
    np.testing.assert_array_equal(found.scores_QK, -DISTANCES)
    assert raybench("convert", tmp_path / "truth.bin", tmp_path / "again.h5", "--neighbors")[0] == 0
    with h5py.File(tmp_path / "again.h5") as file:
        np.testing.assert_array_equal(file["knns"], IDS + 1)
        np.testing.assert_array_equal(file["dists"], DISTANCES)


def test_distances_that_have_no_place_are_named(raybench, tmp_path):
    """.ivecs holds ids alone; what is left out is said, never lost in silence."""
    gold = hdf5(tmp_path / "gold.h5")(knns=IDS + 1, dists=DISTANCES)
    code, out, _ = raybench("convert", gold, tmp_path / "b.ivecs", "--neighbors", "--json")
    assert code == 0
    assert "written as ids alone: the format has no place for distances" in out
    assert json.loads(out.splitlines()[-1])["stored"] == "ids alone"
    dry = raybench("convert", gold, tmp_path / "c.ivecs", "--neighbors", "--dry-run")
    assert dry[:2] == (0, f"would write: {tmp_path}/c.ivecs, 3 queries, 4 neighbours each (distance)\n")
    assert not (tmp_path / "c.ivecs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.npy", "b.h5", "--dtype", "bfloat16"], "--dtype 'bfloat16' is not known; use float16, float32"),
        (["a.npy", "b.h5", "--neighbors", "--dtype", "float32"], "--dtype is for vectors; leave it out"),
        (["a.npy"], "Missing argument 'TARGET'"),
        (["missing.npy", "b.h5"], "missing.npy is not there; check the path"),
        (["a.npy", "b.txt"], "does not say in which format to write"),
        (["a.npy", "b.txt", "--neighbors"], "does not say in which format to write"),
        (["a.npy", "b.ivecs", "--neighbors"], "is of a format that holds no neighbours"),
        (["a.npy", "nyp('b.npy')"], "no vector format is called 'nyp'; did you mean 'npy'?"),
        (["ids.parquet", "b.npy"], "cannot hold ids, and row 0 has id 100; write Parquet instead"),
        (["a.npy", "b.i8bin", "--dtype", "int8"], "row 0 does not fit into int8"),
    ],
)
def test_a_wrong_use_is_exit_code_2_and_one_sentence(raybench, arguments, sentence, tmp_path, monkeypatch):
    """On standard error, and with --json as an object as well; nothing is written."""
    monkeypatch.chdir(tmp_path)
    npy(tmp_path / "a.npy", ROWS)
    parquet(tmp_path / "ids.parquet", ROWS[:5], ids=own_ids(5))
    code, out, err = raybench("convert", *arguments, "--json")
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert json.loads(out.splitlines()[-1])["ok"] is False
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "ids.parquet"}


def test_a_terminal_sees_progress(raybench, tmp_path, monkeypatch):
    """All rows are counted once, however many runs there are."""
    told = []

    class Seen(progress.TerminalReporter):
        def __init__(self):
            super().__init__()
            self._console = Console(file=io.StringIO(), force_terminal=True)

        def stage(self, name, total, flop=0.0):
            told.append((name, total))
            return super().stage(name, total, flop)

    monkeypatch.setattr(progress, "TerminalReporter", Seen)
    monkeypatch.setattr("raybench.formats.writing._RUN_BYTES", 1_000)
    seen = []
    advance = progress.Bars.advance
    monkeypatch.setattr(
        progress.Bars, "advance", lambda self, task, rows: (seen.append(rows), advance(self, task, rows))
    )
    source = npy(tmp_path / "a.npy", ROWS)
    assert raybench("convert", source, tmp_path / "b.fbin")[0] == 0
    assert told == [(f"converting {source}", 200)]
    assert len(seen) > 10
    assert sum(seen) == 200


def test_any_format_is_searched_in_place(raybench, tmp_path):
    """A corpus in .fbin and queries in .fvecs; the gold standard, written for SISAP and read as truth, agrees wholly."""
    corpus, queries = fbin(tmp_path / "base.fbin", ROWS), vecs(tmp_path / "queries.fvecs", ROWS[:9] + 0.01)
    gold = tmp_path / "gold.h5"
    arguments = ["gold", "--local", "--corpus", corpus, "--queries", queries, "-k", "5"]
    code, out, err = raybench(*arguments, "--out", tmp_path / "out", "--to", gold, "--json")
    assert code == 0, err
    neighbors, _ = read_gold(json.loads(out.splitlines()[-1])["uri"])
    scores = (ROWS[:9] + np.float32(0.01)).astype(np.float64) @ ROWS.T.astype(np.float64)
    np.testing.assert_array_equal(neighbors.ids_QK, np.argsort(-scores, axis=1, kind="stable")[:, :5])
    with h5py.File(gold) as file:
        np.testing.assert_array_equal(file["knns"], neighbors.ids_QK + 1)
        np.testing.assert_allclose(file["dists"], 1 - neighbors.scores_QK, rtol=1e-6, atol=1e-6)

    code, out, err = raybench(*arguments, "--out", tmp_path / "out", "--truth", gold, "--json")
    assert code == 0, err
    compared = json.loads(out.splitlines()[-1])["compared"]["depths"]
    assert set(compared) == {"1", "5"}
    for depth in compared.values():
        assert (depth["by_id"], depth["with_ties"], depth["queries_that_differ"]) == (1.0, 1.0, 0)


def test_sketches_are_searched_in_place(raybench, tmp_path):
    """A family of 1,024 bits with --metric hamming."""
    words = np.random.default_rng(2).integers(0, 2**64, (300, 16), np.uint64)
    corpus, queries = (
        hdf5(tmp_path / "base.h5")(hamming=words),
        hdf5(tmp_path / "q.h5")(hamming=words[:7] ^ np.uint64(5)),
    )
    code, _, err = raybench(
        "gold", "--local", "--corpus", corpus, "--queries", queries, "-k", "3", "--metric", "hamming", "--out",
        tmp_path / "out", "--to", tmp_path / "gold.h5", "--json",
    )  # fmt: skip
    assert code == 0, err
    bits, asked = (np.unpackbits(one.view(np.uint8), axis=1) for one in (words, words[:7] ^ np.uint64(5)))
    far = (asked[:, None] != bits).sum(axis=2)
    found = open_neighbors(str(tmp_path / "gold.h5"))
    np.testing.assert_array_equal(found.ids_QK, np.argsort(far, axis=1, kind="stable")[:, :3])
    np.testing.assert_array_equal(found.scores_QK, -np.sort(far, axis=1)[:, :3])
