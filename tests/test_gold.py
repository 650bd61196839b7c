"""`raybench gold`: the float64 answer as an artifact, the same bytes whoever searched it and however often it was killed."""

import itertools
import json
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch

from raybench import storage
from raybench.cli import main
from raybench.errors import DataError, RequestError, WorkError
from raybench.experiments import gold
from raybench.experiments.gold import GoldRequest, LocalGold, Workers, find_gold, plan_gold
from raybench.experiments.reporting import Silent
from raybench.formats import open_vectors, write_neighbors, write_vectors
from raybench.formats.artifact import Gold, read_gold
from raybench.formats.base import read_rows
from raybench.search import gold as parts
from raybench.search.gold import Range

CORPUS = "laion_like(rows=150_000, dim=32)"
QUERIES = "laion_like(rows=150_000, dim=32, part='queries', queries=40, asking='image', same=0.3)"
REQUEST = GoldRequest(CORPUS, QUERIES, 15)


class Recording(LocalGold):
    """Searches in this process, and remembers what it was asked for."""

    def __init__(self, threads=2):
        super().__init__(threads)
        self.asked = []

    def search(self, search, queries, ranges, running):
        """As in this process."""
        self.asked += ranges
        return super().search(search, queries, ranges, running)


@pytest.fixture(scope="module")
def truth():
    """Ids and scores of a full float64 sort over the whole corpus."""
    queries = read_rows(open_vectors(QUERIES)).astype(np.float64)
    rows = read_rows(open_vectors(CORPUS)).astype(np.float64)
    scores = np.concatenate([(query * rows).sum(axis=1)[None] for query in queries])
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :16]
    return ids, np.take_along_axis(scores, ids, axis=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The artifact as one process makes it."""
    return find_gold(REQUEST, str(tmp_path_factory.mktemp("gold")), LocalGold(2), Silent())


def test_the_artifact_is_the_float64_answer(made, truth):
    """Ids, scores and the score after the last are those of a full sort; the accounting adds up."""
    (neighbors, _), (ids, scores) = read_gold(made["uri"]), truth
    np.testing.assert_array_equal(neighbors.ids_QK, ids[:, :15])
    np.testing.assert_array_equal(neighbors.scores_QK, scores[:, :15])
    following = np.load(storage.join(made["uri"], "next_scores.npy"))
    np.testing.assert_array_equal(following, scores[:, 15])
    assert made["rows_in"] == made["rows_out"] == 150_000
    assert made["certificate"]["audited_pairs"] > 0
    assert sum(made["certificate"]["scan"].values()) == 150_000


def test_other_parts_threads_and_precisions_give_the_same_bytes(made, tmp_path, monkeypatch):
    """Smaller parts, one thread, another precision: the same files and the same fingerprint of the corpus."""
    monkeypatch.setattr(gold, "_MOST_PART_ROWS", parts.CHUNK_ROWS)
    for precision, threads in (("numpy-float32", 1), ("torch-bfloat16", 2)):
        request = GoldRequest(CORPUS, QUERIES, 15, precision=precision)
        other = find_gold(request, str(tmp_path / precision), LocalGold(threads), Silent())
        assert other["files"] == made["files"]
        assert other["fingerprint"] == made["fingerprint"]
        assert list(other["certificate"]["scan"]) == [precision]


def test_a_finished_artifact_is_not_searched_again(made):
    """A rerun into the same folder reads the manifest and asks nobody."""
    backend = Recording()
    again = find_gold(REQUEST, made["uri"].rsplit("/gold/", 1)[0], backend, Silent())
    assert again["files"] == made["files"]
    assert backend.asked == []


def test_a_killed_search_goes_on(made, tmp_path):
    """A process killed after its first part leaves that part; the next run does only the others, with the same result."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "raybench", "gold", "--corpus", CORPUS, "--queries", QUERIES, "-k", "15", "--local",
        "--out", str(out),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("gold/*/parts/*.npz")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    if list(out.glob("gold/*/manifest.json")):
        pytest.skip("it was too fast to be killed")
    done = {Range.of_name(path.name) for path in out.glob("gold/*/parts/*.npz")}
    assert done

    backend = Recording()
    finished = find_gold(REQUEST, str(out), backend, Silent())
    assert done.isdisjoint(backend.asked)
    assert sum(one.stop - one.start for one in [*done, *backend.asked]) == 150_000
    assert finished["files"] == made["files"]
    assert finished["fingerprint"] == made["fingerprint"]
    assert not list(out.glob("gold/*/parts/*.npz"))


@pytest.mark.ray
def test_actors_find_the_same(made, tmp_path, ray_cluster):
    """Two actors on Ray give the same bytes as one process."""
    from raybench.distributed.gold import RayGold

    done = find_gold(REQUEST, str(tmp_path), RayGold(2, 1), Silent())
    assert done["files"] == made["files"]
    assert done["fingerprint"] == made["fingerprint"]
    assert done["environment"]["workers"] == {"count": 2, "threads": 1, "gpus": 0}


@pytest.mark.parametrize(("metric", "distance"), [("l2", "euclidean"), ("cosine", "angular")])
def test_neighbours_go_to_ann_benchmarks_in_its_own_distance(tmp_path, metric, distance):
    """Euclidean distances are roots, angular ones 1 - cosine; neighbours of another metric are refused."""
    random = np.random.default_rng(3)
    rows = (0.3 * random.standard_normal((300, 8))).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    place = str(tmp_path / "rows.npy")
    done = find_gold(GoldRequest(place, place, 5, metric), str(tmp_path / metric), LocalGold(1), Silent())
    write_neighbors(f"ann_benchmarks('{tmp_path}/{metric}.hdf5', distance='{distance}')", Gold(done["uri"]).neighbors())
    wide = rows.astype(np.float64)
    if metric == "l2":
        expected = np.sort(np.linalg.norm(wide[:, None] - wide[None], axis=2), axis=1)[:, :5]
    else:
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        expected = np.sort(1 - unit @ unit.T, axis=1)[:, :5]
    with h5py.File(tmp_path / f"{metric}.hdf5") as file:
        np.testing.assert_allclose(file["distances"], expected, atol=1e-5)
    other = {"l2": "angular", "cosine": "euclidean"}[metric]
    with pytest.raises(DataError, match=f"searched by {metric}; search with --metric"):
        write_neighbors(f"ann_benchmarks('{tmp_path}/other.hdf5', distance='{other}')", Gold(done["uri"]).neighbors())
    claim = done["certificate"]["float64_sums"]
    assert ("the division by them round once" in claim) == (metric == "cosine")


def test_searching_is_timed_without_starting(tmp_path, monkeypatch):
    """The clock of the search starts when searchers are ready; what is found again is said to be there."""

    class Slow(LocalGold):
        def search(self, search, queries, ranges, running):
            time.sleep(0.5)
            return super().search(search, queries, ranges, running)

    said = []
    reporter = Silent()
    monkeypatch.setattr(Silent, "say", lambda _, text: said.append(text))
    small = GoldRequest("laion_like(rows=2000, dim=16)", "laion_like(rows=2000, dim=16, part='queries', queries=5)", 3)
    done = find_gold(small, str(tmp_path), Slow(1), reporter)
    assert 0 < done["search_s"] < done["seconds"] - 0.4
    assert not said
    find_gold(small, str(tmp_path), Slow(1), reporter)
    assert "is there already, and nothing was searched again" in said[0]
    assert "2,000 rows done before" in "\n".join(plan_gold(small, str(tmp_path), Workers(1, 1)).lines)


def test_a_scan_for_gpus_needs_one(tmp_path):
    """A worker without a GPU does not pass its arithmetic off as one's."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    request = GoldRequest(CORPUS, QUERIES, 5, precision="gpu-float16")
    with pytest.raises(WorkError, match="needs a GPU"):
        find_gold(request, str(tmp_path), LocalGold(1), Silent())


def test_silence_ends_a_search(monkeypatch):
    """An hour without a finished part, or ten times the longest, is an error that says where to look."""
    from raybench.distributed import gold as actors

    actors._check_silence(3_000, 1.0)
    actors._check_silence(9_000, 1_000.0)
    for silent_s, longest_s in ((3_700, 1.0), (11_000, 1_000.0)):
        with pytest.raises(WorkError, match=r"no searcher has finished a part in .* minutes; look at `ray status`"):
            actors._check_silence(silent_s, longest_s)


@pytest.mark.ray
def test_relative_paths_are_those_of_the_caller(tmp_path, ray_cluster, monkeypatch):
    """Workers run in other folders, and still find a corpus that is named from the caller's."""
    from raybench.distributed.gold import RayGold

    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    rows = random.standard_normal((500, 16)).astype(np.float16)
    np.save("base.npy", rows)
    for name, corpus in (("bare", "base.npy"), ("spec", "transformed('base.npy', 'float16()')")):
        done = find_gold(GoldRequest(corpus, "base.npy", 1), name, RayGold(1, 1), Silent())
        ids = read_gold(done["uri"])[0].ids_QK[:, 0]
        np.testing.assert_array_equal(ids, (rows.astype(float) @ rows.astype(float).T).argmax(axis=1))


@pytest.mark.ray
def test_a_killed_actor_is_replaced(made, tmp_path, ray_cluster, monkeypatch):
    """An actor whose process is killed in its first part is started again, and nothing of the result changes."""
    import os

    import ray

    from raybench.distributed import gold as actors

    class Fragile(actors._Worker):
        def search(self, part, following, floor_Q):
            mark = tmp_path / "died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().search(part, following, floor_Q)

    monkeypatch.setattr(actors, "_Worker", Fragile)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        done = find_gold(REQUEST, str(tmp_path / "out"), actors.RayGold(2, 1), Silent())
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert (tmp_path / "died").exists()
    assert done["files"] == made["files"]


def test_everything_on_s3(s3, truth):
    """Corpus, queries and artifact in a bucket: read by ranges, the same answer, and the rerun finds it done."""
    write_vectors(f"{s3}/vectors/base.fbin", open_vectors(CORPUS), "float32")
    write_vectors(f"{s3}/vectors/queries.npy", open_vectors(QUERIES))
    request = GoldRequest(f"{s3}/vectors/base.fbin", f"{s3}/vectors/queries.npy", 15)
    backend = Recording()
    done = find_gold(request, f"{s3}/truth", backend, Silent())
    neighbors, _ = read_gold(done["uri"])
    np.testing.assert_array_equal(neighbors.ids_QK, truth[0][:, :15])
    np.testing.assert_array_equal(neighbors.scores_QK, truth[1][:, :15])
    asked = len(backend.asked)
    assert find_gold(request, f"{s3}/truth", backend, Silent())["files"] == done["files"]
    assert len(backend.asked) == asked


def test_a_damaged_artifact_is_refused(made, tmp_path):
    """A changed byte of the ids is found when they are read."""
    for name in ("ids.npy", "scores.npy", "manifest.json"):
        (tmp_path / name).write_bytes(storage.read_bytes(storage.join(made["uri"], name)))
    data = bytearray((tmp_path / "ids.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "ids.npy").write_bytes(data)
    with pytest.raises(RequestError, match="is not what was written"):
        read_gold(str(tmp_path))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (GoldRequest(CORPUS, QUERIES.replace("32", "16"), 5), "use one encoder"),
        (GoldRequest(CORPUS, QUERIES, 0), "asks for nothing"),
        (GoldRequest(CORPUS, QUERIES, 5, "dot"), "use one of ip, cosine, l2, hamming"),
        (GoldRequest(CORPUS, QUERIES, 5, "hamming"), "packed bits take --metric hamming"),
        (GoldRequest(CORPUS, QUERIES, 5, memory_bytes=10**8), "is too little"),
        (GoldRequest("laion_lik(rows=9)", QUERIES, 5), "did you mean 'laion_like'"),
    ],
)
def test_wrong_requests(tmp_path, request_, sentence):
    """Each is refused in a sentence, before anything is searched."""
    with pytest.raises(RequestError, match=sentence):
        plan_gold(request_, str(tmp_path), Workers(1, 1))


def test_what_is_missing_is_what_no_part_covers():
    """Ranges cover the rest of the rows, cut into parts; overlapping part files are not counted twice."""
    done = [Range(10, 20), Range(40, 50)]
    left = parts.missing(done, 65, 12)
    covered = sorted(itertools.chain.from_iterable(range(one.start, one.stop) for one in [*done, *left]))
    assert covered == list(range(65))
    assert max(one.stop - one.start for one in left) == 12
    assert parts.missing([], 0, 5) == []


def test_infinite_rows_are_named(tmp_path):
    """A row that is not finite stops the search with its number, in float16 and in float32."""
    rows = np.ones((70_000, 4), np.float16)
    rows[66_000, 2] = np.inf
    for dtype in (np.float16, np.float32):
        file = rows.astype(dtype)
        parts._check_finite(file[: parts.CHUNK_ROWS], 0, "here")
        with pytest.raises(DataError, match="row 66000 has NaN or infinite"):
            parts._check_finite(file[parts.CHUNK_ROWS :], parts.CHUNK_ROWS, "here")


def test_the_command_ends_with_json_and_a_table(tmp_path, capsys):
    """`raybench gold --json` prints the certificate; the dry run prints the plan and writes nothing."""
    arguments = ["gold", "--corpus", CORPUS, "--queries", QUERIES, "-k", "3", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--dry-run", "--json"])
    assert not stopped.value.code
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 150_000
    assert not (tmp_path / "out").exists()

    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--local", "--json"])
    assert not stopped.value.code
    output = capsys.readouterr().out.splitlines()
    last = json.loads(output[-1])
    assert last["ok"]
    assert last["certificate"]["claim"].startswith("ids and scores are those of a float64 scan")
    assert any("audited" in line for line in output)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--memory", "lots"], "is no size"),
        (["--precision", "float8"], "is not known"),
        (["--workers", "0"], "does not fit"),
        (["-k", "-1"], "asks for nothing"),
        (["--to", "truth.npy"], "without neighbours"),
        (["--to", "truth.ivecs", "-k", "200000"], "-k 200000 is more than the 150,000 rows"),
        (["--to", "truth"], "does not say in which format"),
    ],
)
def test_wrong_options(tmp_path, capsys, extra, sentence):
    """A wrong option ends with code 2 and one sentence."""
    arguments = ["gold", "--corpus", CORPUS, "--queries", QUERIES, "--out", str(tmp_path / "out"), "--local", *extra]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
