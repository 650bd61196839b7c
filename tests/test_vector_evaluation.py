"""`raybench run` on an evaluation of vectors: the truth, other spaces against it, a challenge's files, and the tables."""

import io
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from rich.console import Console

from raybench import results, storage
from raybench.arrays import Neighbors, Vectors
from raybench.cli import main
from raybench.errors import DataError, RequestError
from raybench.experiments import challenge, evaluation_file, vector_runner
from raybench.experiments.agreement import agreement
from raybench.experiments.gold import GoldRequest, LocalGold, Workers, plan_gold
from raybench.experiments.reporting import Silent
from raybench.experiments.rescoring import score_found
from raybench.experiments.run_file import Run, Sheet
from raybench.formats import write_neighbors, write_vectors
from raybench.formats.artifact import Gold
from raybench.formats.base import StoredNeighbors
from raybench.formats.matrices import Npy
from raybench.formats.transformed import Transformed
from raybench.report import sheets
from raybench.report.page import write_report
from raybench.sisap import challenge_recall, read_results
from raybench.transforms.store import load

ROWS, QUERIES, DIM = 900, 60, 24


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clustered unit vectors, some of them copies, as float16, and float32 queries near to them."""
    folder = tmp_path_factory.mktemp("vectors")
    random = np.random.default_rng(5)
    rows = random.standard_normal((12, DIM))[random.integers(12, size=ROWS)] + 0.5 * random.standard_normal((ROWS, DIM))
    rows[600:700] = rows[random.integers(40, size=100)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[random.integers(ROWS, size=QUERIES)] + 0.1 * random.standard_normal((QUERIES, DIM))
    np.save(folder / "base.npy", rows.astype(np.float16))
    np.save(folder / "queries.npy", queries.astype(np.float32))
    return folder


def _content(vectors: Path, **changes: object) -> dict[str, object]:
    return {
        "name": "small", "corpus": f"{vectors}/base.npy", "queries": f"{vectors}/queries.npy", "metric": "cosine",
        "gold": {"k": 40, "memory": "2GiB"}, "measures": ["overlap@1", "overlap@10", "overlap@30"], "seed": 3,
    } | changes  # fmt: skip


def _run(vectors: Path, out: Path, backend: object = None, indexes: object = None, **changes: object) -> Run:
    evaluation = evaluation_file.parse(json.dumps(_content(vectors, **changes)), "test")
    vector_runner.check_inputs(evaluation, str(out))
    more = (indexes,) if indexes else ()
    return vector_runner.run(evaluation, str(out), backend or LocalGold(2), Silent(), "test", *more)


def _scores(queries: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    """All scores in float64, by the definitions."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        return np.array([-((rows - query) ** 2).sum(axis=1) for query in queries])
    scores = np.array([(rows * query).sum(axis=1) for query in queries])
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1)
    return scores / lengths if metric == "cosine" else scores


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def _overlaps(found: np.ndarray, truth: np.ndarray, k: int) -> list[float]:
    return [len({*one[:k]} & {*other[:k]}) / k for one, other in zip(found.tolist(), truth.tolist(), strict=True)]


def _stored(run: Run, transform: str, measure: str) -> list[float]:
    experiment = next(one["experiment"] for one in run.experiments if one["transform"] == transform)
    table = results.read_queries(storage.join(run.out, "results"), experiment)
    return [row["value"] for row in table.to_pylist() if row["measure"] == measure]


def _fitted(run: Run, name: str) -> object:
    folder = Path(run.out) / "transforms"
    return next(one for one in map(load, map(str, folder.iterdir())) if one.recipe.spec.startswith(name))


@pytest.fixture(scope="module")
def done(vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every kind of transform."""
    grid = {
        "transforms": [
            "float16()",
            "truncate(dim=8)",
            "pca(dim=6)",
            "sketch(bits=64)",
            'chain("truncate(dim=8)", "int8()")',
        ]
    }
    return _run(vectors, tmp_path_factory.mktemp("out"), grid=grid)


@pytest.mark.parametrize(
    "transform",
    ["float16()", "truncate(dim=8)", "pca(dim=6)", "sketch(bits=64)", 'chain("truncate(dim=8)", "int8()")'],
)
def test_overlaps_are_those_of_a_slow_search(done, vectors, transform):
    """Every query's overlap at every k, against full sorts of the vectors and of the transformed vectors."""
    rows, queries = np.load(vectors / "base.npy"), np.load(vectors / "queries.npy")
    truth = _top(_scores(queries, rows, "cosine"), 40)
    if transform == "float16()":
        there = _top(_scores(queries.astype(np.float16), rows, "cosine"), 30)
    elif transform == "truncate(dim=8)":
        cut = [
            (side[:, :8] / np.linalg.norm(side[:, :8].astype(np.float64), axis=1, keepdims=True))
            for side in (queries, rows)
        ]
        there = _top(_scores(*(side.astype(np.float32).astype(np.float16) for side in cut), "cosine"), 30)
    elif transform.startswith("chain"):
        made = _fitted(done, "chain")
        seen = [np.asarray(one.matrix_ND) for one in (made.ask(Vectors(queries)), made.apply(Vectors(rows)))]
        there = _top(_scores(*seen, "cosine"), 30)
    else:
        made = _fitted(done, transform.partition("(")[0])
        seen = [np.asarray(made.apply(Vectors(side)).matrix_ND) for side in (queries, rows)]
        there = _top(_scores(*seen, "l2"), 30)
    for k in (1, 10, 30):
        values = _stored(done, transform, f"overlap@{k}")
        assert values == pytest.approx(_overlaps(there, truth, k), abs=1e-12)
        record = next(one for one in done.records if (one.transform, one.measure) == (transform, f"overlap@{k}"))
        assert record.value == pytest.approx(np.mean(values), abs=1e-12)
        assert record.low <= record.value <= record.high
        assert record.best_tie >= record.value
        assert (record.queries, record.clusters, record.corpus, record.chance) == (QUERIES, QUERIES, ROWS, k / ROWS)
    if transform == "sketch(bits=64)":
        assert 0.1 < np.mean(values) < 0.9


def test_a_rerun_makes_nothing_and_says_the_same(done, vectors):
    """Every artifact and result keeps its bytes and its time; the records are equal."""
    files = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(done.out).rglob("*") if path.is_file()}
    again = _run(vectors, Path(done.out), grid={"transforms": [one["transform"] for one in done.experiments]})
    assert again.records == done.records
    assert again.sheets == done.sheets
    for path, before in files.items():
        if path.name != "run.json":
            assert (path.stat().st_mtime_ns, path.read_bytes()) == before


@pytest.mark.ray
def test_actors_give_the_same_numbers(done, vectors, tmp_path, ray_cluster):
    """Two actors on Ray: every number and every query's values are those of one process; of indexes too."""
    from raybench.distributed.backend import ray_backend
    from raybench.distributed.gold import RayGold

    grid = {"transforms": ["pca(dim=6)", "sketch(bits=64)", 'chain("truncate(dim=8)", "int8()")']}
    cost = {"queries": 9, "warm_up": 1, "indexes": ["sq4()@20", "hnsw(m=4)@12"]}
    there = _run(vectors, tmp_path / "a", RayGold(2, 1), ray_backend, grid=grid, workers=2, shards=2, cost=cost)
    here = _run(vectors, tmp_path / "b", shards=2, cost=cost)
    assert [one["quality"] for one in there.costs] == [one["quality"] for one in here.costs]
    assert all(one["on_shard_ms"] > 0 for one in there.costs)
    ours = {(one.transform, one.measure): one for one in done.records}
    assert len(there.records) == 9
    for record in there.records:
        other = ours[record.transform, record.measure]
        assert (record.value, record.low, record.high, record.best_tie) == (
            other.value,
            other.low,
            other.high,
            other.best_tie,
        )
        name = record.transform, record.measure
        assert _stored(there, *name) == _stored(done, *name)


def test_everything_on_s3(vectors, done, s3):
    """Corpus, queries, transforms, results and result files on S3: the same numbers."""
    for name in ("base.npy", "queries.npy"):
        storage.write_bytes(f"{s3}/vectors/{name}", (vectors / name).read_bytes())
    content = _content(vectors, grid={"transforms": ["pca(dim=6)"]}, challenge={"year": 2024})
    content |= {"corpus": f"{s3}/vectors/base.npy", "queries": f"{s3}/vectors/queries.npy"}
    evaluation = evaluation_file.parse(json.dumps(content), "test")
    run = vector_runner.run(evaluation, f"{s3}/out", LocalGold(2), Silent(), "test")
    assert [one.value for one in run.records] == [one.value for one in done.records if one.transform == "pca(dim=6)"]
    assert read_results(f"{s3}/out/sisap/pca_dim=6.h5").knns_QK.shape == (QUERIES, 30)
    assert "pca(dim=6)" in storage.read_bytes(write_report(f"{s3}/out")).decode()


@pytest.fixture(autouse=True)
def _sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corpora of these tests are smaller than the challenge's: 300K is of 900 rows here."""
    monkeypatch.setattr(challenge, "_UNITS", {"K": 3, "M": 1_000_000})


YEARS = [
    ({"year": 2023, "data": "clip768v2", "size": "300K"}, 10, {"data", "size", "algo", "buildtime", "querytime", "params"}),
    ({"year": 2024}, 30, {"algo", "params", "buildtime", "querytime"}),
    ({"year": 2025, "task": "task1", "dataset": "pubmed23"}, 30,
     {"algo", "task", "dataset", "buildtime", "optimtime", "querytime", "params", "searchparams", "size"}),
    ({"year": 2026, "task": "task2", "dataset": "llama"}, 30, {"algo", "task", "dataset", "buildtime", "querytime", "params"}),
]  # fmt: skip


@pytest.mark.parametrize(("year", "k", "names"), YEARS)
def test_result_files_are_those_of_the_challenge(vectors, done, tmp_path, year, k, names):
    """All attributes of the year, ids from 1, and a recall by the evaluator's rules that equals the overlap by id."""
    transforms = ["pca(dim=6)", "sketch(bits=64)"]
    run = _run(vectors, tmp_path, grid={"transforms": transforms}, challenge=year, measures=[f"overlap@{k}"])
    sheet = run.sheets[-1]
    assert [row[0] for row in sheet.rows] == ["exact", *transforms]
    truth = done_truth(run)
    for name, file, recall, build_s, query_s in sheet.rows:
        with h5py.File(tmp_path / file) as opened:
            assert names <= set(opened.attrs)
            knns = np.asarray(opened["knns"])
            assert (opened.attrs["buildtime"], opened.attrs["querytime"]) == pytest.approx((build_s, query_s), abs=1e-3)
            assert opened.attrs["querytime"] > 0
            assert (opened.attrs["buildtime"] > 0) == (name != "exact")
            if year["year"] == 2025:
                assert opened.attrs["size"] == ROWS
        assert (knns.shape, knns.dtype, knns.min() >= 1) == ((QUERIES, k), np.int32, True)
        assert recall == np.mean(_overlaps(knns - 1, truth, k))
        if name != "exact":
            [record] = [one for one in run.records if one.transform == name]
            assert recall == pytest.approx(record.value, abs=1e-12)
    assert sheet.rows[0][2] == 1


def done_truth(run: Run) -> np.ndarray:
    """The exact ids of a run, by a full sort of its vectors."""
    evaluation = run.evaluation
    rows, queries = np.load(evaluation.corpus), np.load(evaluation.queries)
    return _top(_scores(queries, rows, evaluation.metric), 40)


def test_a_self_join_leaves_each_row_out(vectors, tmp_path):
    """2026's task 1: the corpus asks itself, k + 1 deep, and its files pass the evaluator's rules."""
    content = {"queries": f"{vectors}/base.npy", "challenge": {"year": 2026, "task": "task1", "dataset": "gooaq"}}
    run = _run(vectors, tmp_path, measures=["overlap@5"], grid={"transforms": ["pca(dim=6)"]}, **content)
    [exact, projected] = run.sheets[-1].rows
    knns = read_results(str(tmp_path / exact[1])).knns_QK
    assert (knns != np.arange(1, ROWS + 1)[:, None]).all()
    # Copies of a row tie with the row itself, and the rules take the first true column for the row: not quite 1.
    assert 0.95 < exact[2] <= 1
    assert 0.1 < projected[2] < exact[2]


def test_a_published_truth_is_compared(vectors, done, tmp_path):
    """A right one agrees wholly; one with exchanged copies only with ties allowed; a wrong one is counted."""
    gold_uri = next(one["neighbors"] for one in done.experiments)
    gold_uri = str(Path(gold_uri).parent / _exact_key(done))
    held = Gold(gold_uri).neighbors()
    write_neighbors(f"sisap('{tmp_path}/right.h5')", held)
    wrong = held.ids_QK.copy()
    wrong[0, 0], wrong[1, :2] = (set(range(ROWS)) - set(wrong[0].tolist())).pop(), wrong[1, 0]
    write_neighbors(f"sisap('{tmp_path}/wrong.h5')", StoredNeighbors(wrong, held.scores_QK, "distance"))
    run = _run(vectors, tmp_path / "a", truth=f"{tmp_path}/right.h5")
    assert run.sheets[1].title == "Published truth"
    assert [row[1:] for row in run.sheets[1].rows] == [(1.0, 1.0, 0)] * 4
    run = _run(vectors, tmp_path / "b", truth=f"{tmp_path}/wrong.h5")
    by_k = {row[0]: row[1:] for row in run.sheets[1].rows}
    assert by_k[1] == (pytest.approx(1 - 1 / QUERIES), pytest.approx(1 - 1 / QUERIES), 1)
    assert by_k[40] == (pytest.approx(1 - 2 / 40 / QUERIES), pytest.approx(1 - 2 / 40 / QUERIES), 2)


def _exact_key(run: Run) -> str:
    """The folder of the truth: the search of the run with the largest k."""
    folders = [path for path in (Path(run.out) / "gold").iterdir() if path.is_dir()]
    return max(folders, key=lambda path: storage.read_json(str(path / "manifest.json"))["recipe"]["k"]).name


def test_what_does_not_fit_is_refused_before_the_search(vectors, done, tmp_path):
    """A truth of other queries or rows, projections of other dimensions or bits: nothing is searched for any of them."""
    few = StoredNeighbors(np.zeros((QUERIES - 1, 2), np.int64), None)
    far = StoredNeighbors(np.full((QUERIES, 1), ROWS), None)
    for name, stored in (("few", few), ("far", far)):
        write_neighbors(str(tmp_path / f"{name}.ivecs"), stored)
    np.save(tmp_path / "narrow.npy", np.load(vectors / "queries.npy")[:, :9])
    places = {"corpus": f"{vectors}/base.npy", "queries": f"{tmp_path}/narrow.npy"}
    for changes, words in (
        ({"truth": f"{tmp_path}/few.ivecs"}, "is of 59 queries, and .* has 60"),
        ({"truth": f"{tmp_path}/far.ivecs"}, "names row 900, and .* has 900 rows"),
        ({"projections": [{"name": "narrow"} | places]}, "24 dimensions and .* 9"),
        (
            {"projections": [{"name": "bits", "metric": "hamming"} | places | {"queries": f"{vectors}/queries.npy"}]},
            "metric hamming",
        ),
        ({"grid": {"transforms": ["pca(dim=25)"]}}, "does not fit the 24 dimensions"),
    ):
        with pytest.raises(RequestError, match=words):
            _run(vectors, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_an_unrelated_truth_is_a_warning(vectors, done, tmp_path):
    """The truth of other queries of the same number, as a mixed-up file would be."""
    held = Gold(str(Path(done.out) / "gold" / _exact_key(done))).neighbors()
    write_neighbors(
        f"sisap('{tmp_path}/mixed.h5')", StoredNeighbors(held.ids_QK[::-1].copy(), held.scores_QK, "distance")
    )
    run = _run(vectors, tmp_path / "out", truth=f"{tmp_path}/mixed.h5")
    assert any("of other queries, rows or metric" in warning for warning in run.warnings)


def test_a_copied_folder_is_not_searched_again(vectors, done, tmp_path):
    """Searches in fitted spaces are known by the transform and not by its place; the plan says that nothing is left."""
    shutil.copytree(done.out, tmp_path / "copy")
    before = sorted(path.name for path in (tmp_path / "copy" / "gold").iterdir())
    run = _run(vectors, tmp_path / "copy", grid={"transforms": [one["transform"] for one in done.experiments]})
    assert sorted(path.name for path in (tmp_path / "copy" / "gold").iterdir()) == before
    assert [one.value for one in run.records] == [one.value for one in done.records]
    memory = 2 * 1024**3
    request = GoldRequest(f"{vectors}/base.npy", f"{vectors}/queries.npy", 40, "cosine", memory)
    assert "0 parts of up to" in "\n".join(plan_gold(request, str(tmp_path / "copy"), Workers(1, 1)).lines)


def test_agreement_allows_ties(tmp_path):
    """Another copy of the same vector is wrong by id and right with ties allowed; a row given twice counts once."""
    rows = np.eye(6, dtype=np.float16)[[0, 0, 0, 1, 2, 3]]
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "queries.npy", rows[:1])
    place = [str(tmp_path / "rows.npy"), str(tmp_path / "queries.npy"), "ip"]
    exact = Neighbors(np.array([[0, 1]]), np.array([[1.0, 1.0]]))

    def compared(ids: list[int]) -> tuple[float, float, int]:
        found = agreement(exact, StoredNeighbors(np.array([ids]), None), *place)["depths"]["2"]
        return found["by_id"], found["with_ties"], found["queries_that_differ"]

    assert compared([0, 1]) == (1, 1, 0)
    assert compared([2, 1]) == (0.5, 1, 0)
    assert compared([2, 2]) == (0, 0.5, 1)
    assert compared([4, -1]) == (0, 0, 1)
    with pytest.raises(DataError, match="name row 6"):
        compared([0, 6])
    with pytest.raises(RequestError, match="of 2 queries"):
        agreement(exact, StoredNeighbors(np.zeros((2, 2), np.int64), None), *place)


def test_found_rows_are_scored_once_and_in_place(vectors):
    """Float64 scores of any lists, whatever is known before; padding stays; empty lists are fine."""
    rows, queries = np.load(vectors / "base.npy"), np.load(vectors / "queries.npy")
    scores = _scores(queries, rows, "l2")
    random = np.random.default_rng(1)
    lists = [random.integers(-1, ROWS, (QUERIES, k)) for k in (7, 3)] + [np.full((QUERIES, 2), -1)]
    known_ids = _top(scores, 20)
    known = Neighbors(known_ids, np.take_along_axis(scores, known_ids, axis=1))
    for exact in (known, known.top(0)):
        found = score_found(lists, exact, f"{vectors}/base.npy", f"{vectors}/queries.npy", "l2")
        for ids, scored in zip(lists, found, strict=True):
            expected = np.where(ids >= 0, np.take_along_axis(scores, np.maximum(ids, 0), axis=1), -np.inf)
            np.testing.assert_allclose(scored, expected, rtol=0, atol=1e-14)


def test_projections_in_files_stand_beside_the_published_ones(vectors, done, tmp_path):
    """Somebody else's projections are searched as they are, and SISAP's own are compared with what was published."""
    pca, sketch = _fitted(done, "pca"), _fitted(done, "sketch")
    for side in ("base", "queries"):
        file = Npy(str(vectors / f"{side}.npy")).open()
        write_vectors(str(tmp_path / f"pca-{side}.npy"), Transformed(file, pca))
        bits = Transformed(file, sketch, packed=True)
        write_vectors(f"sisap('{tmp_path}/hamming-{side}.h5', dataset='hamming')", bits)
    projections = [
        {"name": "pca32v2", "corpus": f"{tmp_path}/pca-base.npy", "queries": f"{tmp_path}/pca-queries.npy"},
        {"name": "hammingv2", "corpus": f"{tmp_path}/hamming-base.h5", "queries": f"{tmp_path}/hamming-queries.h5"},
    ]
    year = {"year": 2023, "data": "clip768v2", "size": "300K"}
    run = _run(vectors, tmp_path / "out", projections=projections, challenge=year, grid={"transforms": ["pca(dim=6)"]})
    for measure in ("overlap@1", "overlap@10", "overlap@30"):
        assert _stored(run, "pca32v2", measure) == _stored(done, "pca(dim=6)", measure)
        assert _stored(run, "hammingv2", measure) == _stored(done, "sketch(bits=64)", measure)
    beside = next(sheet for sheet in run.sheets if "published projections" in sheet.title)
    assert [(row[0], row[1], round(row[5], 4)) for row in beside.rows] == [
        ("pca32v2", "the same files", 0.2567), ("hammingv2", "the same files", 0.3052),
    ]  # fmt: skip
    with h5py.File(tmp_path / "out" / "sisap" / "hammingv2.h5") as opened:
        assert opened.attrs["data"] == "hammingv2"
    stand_in = year | {"data": "laion-like"}
    other = _run(vectors, tmp_path / "out", projections=projections, challenge=stand_in)
    assert not [sheet for sheet in other.sheets if "published" in sheet.title]
    short = [projections[0] | {"corpus": projections[0]["queries"]}]
    with pytest.raises(RequestError, match=f"has {QUERIES} rows and .* {ROWS}; a projection has the same rows"):
        _run(vectors, tmp_path / "out", projections=short)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 'folder("x")'}, ["images and corpus", "remove one"]),
        ({"corpas": "x"}, ["unknown key 'corpas'", "did you mean 'corpus'"]),
        ({"metric": "cosin"}, ["metric='cosin'", "cosine"]),
        ({"measures": ["ndcg@10"]}, ["ndcg@10", "overlap@k"]),
        ({"measures": ["overlap@50"]}, ["gold.k=40", "set gold.k to 50"]),
        ({"measures": ["overlap@3", "overlap@3"]}, ["twice"]),
        ({"gold": {"k": 0}}, ["gold.k=0", "use 1 to"]),
        ({"gold": {"k": 40, "memory": "much"}}, ["gold.memory 'much'", "4GiB"]),
        ({"gold": {"k": 40, "precision": "fp8"}}, ["gold.precision='fp8'", "torch-float32"]),
        ({"grid": {"transforms": ["pcaa(dim=3)"]}}, ["pcaa", "pca"]),
        ({"grid": {"transforms": ["pca(dim=99)"]}}, ["pca(dim=99", "24 dimensions"]),
        ({"grid": {"transforms": ["truncate(dim=99)"]}}, ["truncate(dim=99)", "24 dimensions"]),
        ({"grid": {"effort": [3]}}, ["unknown key 'grid.effort'", "efforts"]),
        ({"corpus": "no-such.npy"}, ["no-such.npy"]),
        ({"corpus": "npyy('x.npy')"}, ["npyy", "npy"]),
        ({"truth": "no-such.h5"}, ["no-such.h5"]),
        ({"challenge": {"year": 2022}}, ["2022", "2023"]),
        ({"challenge": {"year": 2025}}, ["2025", "task"]),
        ({"challenge": {"year": 2023, "size": "300K"}}, ["2023", "'data'"]),
        ({"challenge": {"year": 2023, "data": "clip768v2", "size": "2K"}}, ["'2K'", "300K"]),
        ({"challenge": 2023}, ["challenge must hold keys"]),
        ({"projections": [{"name": "pca32v2"}]}, ["projections.corpus", "missing"]),
        ({"projections": [{"name": "exact", "corpus": "a.npy", "queries": "b.npy"}]}, ["'exact'", "another name"]),
        ({"challenge": {"year": 2023, "data": "clip768v2", "size": "10M"}}, ["size=10M", "900 rows"]),
        ({"challenge": {"year": 2025, "task": "task2", "dataset": "gooaq"}}, ["its own neighbours", "give the corpus"]),
        ({"projections": [{"name": " ", "corpus": "a.npy", "queries": "b.npy"}]}, ["empty name"]),
        (
            {"projections": [{"name": n, "corpus": "a.npy", "queries": "b.npy"} for n in ("a b", "a_b")]},
            ["sisap/a_b.h5"],
        ),
        ({"workers": 3}, ["workers=3", "--local"]),
        ({"name": "a/b"}, ["a/b"]),
    ],
)
def test_a_wrong_file_is_one_sentence(vectors, changes, words, tmp_path, monkeypatch, capsys):
    """The thing, the value and the next step; exit code 2; nothing but the fit was tried."""
    monkeypatch.chdir(tmp_path)
    Path("evaluation.yaml").write_text(yaml.safe_dump(_content(vectors, **changes)))
    with pytest.raises(SystemExit) as stop:
        main(["run", "evaluation.yaml", "--out", "out", "--local"])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.splitlines()[-1].startswith("raybench: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_whole_numbers_cannot_be_transformed(tmp_path, monkeypatch, capsys):
    """A corpus of bytes is searched as it is, and a transform of it is refused before the search."""
    np.save(tmp_path / "base.npy", np.random.default_rng(0).integers(0, 255, (70, 16), np.uint8))
    content = {"corpus": f"{tmp_path}/base.npy", "queries": f"{tmp_path}/base.npy", "metric": "l2"}
    with pytest.raises(RequestError, match=r"pca\(dim=4\) cannot be applied to the uint8"):
        _run(tmp_path, tmp_path / "out", grid={"transforms": ["pca(dim=4)"]}, **content)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_tables_and_a_report(vectors, tmp_path, monkeypatch, capsys):
    """A dry run starts nothing; a run ends with tables, the report's path and one JSON object; embed refuses."""
    monkeypatch.chdir(tmp_path)
    year = {"year": 2023, "data": "clip768v2", "size": "300K"}
    content = _content(vectors, grid={"transforms": ["pca(dim=6)"]}, challenge=year)
    Path("evaluation.yaml").write_text(yaml.safe_dump(content))

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main([*arguments])
        captured = capsys.readouterr()
        assert stop.value.code in (0, None) or arguments[0] == "embed", captured.err
        return captured.out + captured.err

    planned = call("run", "evaluation.yaml", "--out", "out", "--dry-run", "--json")
    assert "900 rows of 24 dimensions" in planned
    assert "2 result files for SISAP 2023" in planned
    assert json.loads(planned.splitlines()[-1])["plan"]["rows"] == ROWS
    assert not Path("out").exists()
    printed = call("run", "evaluation.yaml", "--out", "out", "--local", "--json", "--set", "gold.k=50")
    for words in ("overlap@10", "pca(dim=6)", "Exact searches", "SISAP 2023", "sisap/pca_dim=6.h5", "report: "):
        assert words in printed
    told = json.loads(next(line for line in reversed(printed.splitlines()) if line.startswith("{")))
    assert [sheet["title"] for sheet in told["sheets"]] == ["Exact searches", "SISAP 2023"]
    summary = storage.read_json("out/report/summary.json")
    assert summary["sheets"] == told["sheets"]
    assert len(summary["records"]) == 3
    page = Path("out/report/index.html").read_text()
    assert '<h2 id="sheet-1">Exact searches</h2>' in page
    assert "Nearest vectors" in page
    assert "there is nothing to embed" in call("embed", "evaluation.yaml", "--out", "out", "--local")


def test_a_truth_alone_has_a_report(vectors, tmp_path):
    """Without transforms there are no records, and the page still tells what was searched."""
    _run(vectors, tmp_path)
    page = storage.read_bytes(write_report(str(tmp_path))).decode()
    assert "Exact searches" in page
    assert "small" in page


def test_sheets_say_only_what_is_there(tmp_path):
    """Cells are printed without loss near one, hostile text is boxed, wide tables become lines, bad files are refused."""
    assert [sheets.cell(value) for value in (None, 3, 12345, 0.999987, 1.0, 0.5, 2.5e-7, float("nan"), "a\x1bb")] == [
        "", "3", "12,345", "0.999987", "1", "0.5", "2.5e-07", "none", "a\N{REPLACEMENT CHARACTER}b",
    ]  # fmt: skip
    sheet = Sheet("Title", "A note.", ("name", "count"), (("a" * 30, 1), ("b", None)))
    for width, first in ((80, "name"), (20, "a" * 20)):
        console = Console(width=width, record=True, file=io.StringIO())
        sheets.print_sheet(sheet, console)
        text = console.export_text()
        assert first in text
        assert "A note." in text
    storage.write_json(
        str(tmp_path / "run.json"), {"name": "x", "sheets": [{"title": "t", "columns": ["a"], "rows": [[1, 2]]}]}
    )
    with pytest.raises(DataError, match="a value for each column"):
        write_report(str(tmp_path))


def test_the_shipped_files_are_right(repository):
    """Every evaluation file that comes along is read and checked, and prints back to itself."""
    files = sorted((repository / "jobs" / "evaluations").glob("*.yaml"))
    assert {"laion-like.yaml", "sisap-300K.yaml", "sisap-10M.yaml", "sisap-100M.yaml"} <= {file.name for file in files}
    for file in files:
        evaluation = evaluation_file.load(str(file))
        assert evaluation.name == file.stem
        assert evaluation_file.parse(evaluation_file.dump(evaluation), "dump") == evaluation


def test_the_stand_in_runs_as_shipped(repository, tmp_path):
    """The file for machines without the download, made smaller: recall of the truth is 1, of projections less."""
    smaller = ("corpus=laion_like(rows=4000, dim=64)", "gold.k=100", "grid.transforms=[pca(dim=32), sketch(bits=128)]")
    queries = "queries=laion_like(part='queries', rows=4000, dim=64, queries=50, asking='image')"
    evaluation = evaluation_file.load(str(repository / "jobs/evaluations/laion-like.yaml"), (*smaller, queries))
    run = vector_runner.run(evaluation, str(tmp_path), LocalGold(2), Silent(), "test")
    files = {row[0]: row[1] for row in run.sheets[-1].rows}
    read = {name: read_results(str(tmp_path / file)).knns_QK for name, file in files.items()}
    recalls = {name: challenge_recall(knns, read["exact"], year=2023) for name, knns in read.items()}
    assert recalls["exact"] == 1
    assert 0.1 < recalls["sketch(bits=128)"] < recalls["pca(dim=32)"] < 1


INDEXED = {
    "grid": {"indexes": ["hnsw(m=4, build_effort=16)@10", "hnsw(m=4, build_effort=16)@64", "sq8()", "ivf_flat(lists=999)@1"]},
    "cost": {"queries": 20, "warm_up": 2, "k": 10, "transforms": ["stored()", "truncate(dim=8)"]},
    "tune": {"target": 0.8, "indexes": ["hnsw(m=4, build_effort=16)"]},
    "compare": {
        "effort": 16, "target": 0.8, "cost": {"queries": 20, "warm_up": 2},
        "indexes": ["hnsw(m=4, build_effort=16)", "compact(m=4, build_effort=16)", "hnsw(m=4, store='pq', codes=7)"],
    },
}  # fmt: skip


def test_indexes_over_vectors_are_measured_tuned_and_compared(vectors, tmp_path):
    """Overlap with the proven truth, by cosine; what cannot be built is a row; partitions of one corpus are one index."""
    run = _run(vectors, tmp_path, shards=2, **INDEXED)
    rows, queries = np.load(vectors / "base.npy"), np.load(vectors / "queries.npy")
    truth = _top(_scores(queries, rows, "cosine"), 10)
    told = {(one["transform"], one["index"]): one for one in run.costs}
    assert len(told) == 6
    for (transform, index), one in told.items():
        assert (one["quality"]["measure"], one["quality"]["queries"], one["rows"]) == ("overlap@10", QUERIES, ROWS)
        if index == "sq8()" and transform == "stored()":
            unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
            exact = np.mean(_overlaps(_top(_scores(queries, unit, "ip"), 10), truth, 10))
            assert one["quality"]["value"] == pytest.approx(exact, abs=0.03)
    hnsw = [told["stored()", f"hnsw(m=4, build_effort=16)@{effort}"]["quality"]["value"] for effort in (10, 64)]
    assert hnsw[0] < hnsw[1]
    assert told["truncate(dim=8)", "sq8()"]["quality"]["value"] < told["stored()", "sq8()"]["quality"]["value"]
    [tuned] = run.tuned
    assert tuned["effort"] is not None
    assert tuned["encoder"] == run.evaluation.corpus
    reasons = " ".join(one["reason"] for one in run.failed)
    assert "ivf_flat(lists=999) needs" in reasons
    assert "cannot be cut into 7 pieces" in reasons
    [sheet] = [one for one in run.sheets if one.title.startswith("Compact against full")]
    assert [row[0] for row in sheet.rows] == ["hnsw(m=4, build_effort=16)", "compact(m=4, build_effort=16)"]
    assert sheet.rows[0][7] == "1.00 [1.00, 1.00]"
    assert sheet.rows[1][3] < 1
    assert int(sheet.rows[1][-1].replace(",", "")) >= 16
    page = storage.read_bytes(write_report(run.out)).decode()
    assert "Compact against full, nearest vectors" in page
    assert "Quality against cost" in page
    again = _run(vectors, tmp_path, shards=2, **INDEXED)
    assert (again.costs, again.tuned) == (run.costs, run.tuned)


def test_a_damaged_index_is_a_row_and_nothing_at_all_is_an_error(vectors, tmp_path, capsys):
    """The others go on; where no cell has a result, the command ends with 1."""
    told = {"indexes": ["sq8()"], "queries": 5, "k": 10}
    _run(vectors, tmp_path, cost=told)
    [written] = tmp_path.glob("indexes/*/index.faiss")
    written.write_bytes(written.read_bytes()[:-1] + b"?")
    run = _run(vectors, tmp_path, cost=told | {"indexes": ["sq8()", "sq4()"], "queries": 6})
    assert [one["index"] for one in run.costs] == ["sq4()"]
    [failed] = run.failed
    assert "index.faiss is not what was written; delete" in failed["reason"]
    (tmp_path / "one.json").write_text(json.dumps(_content(vectors, tune={"indexes": ["ivf_flat(lists=999)"]})))
    with pytest.raises(SystemExit) as stop:
        main(["tune", str(tmp_path / "one.json"), "--out", str(tmp_path / "out"), "--local", "--json"])
    printed = capsys.readouterr()
    assert stop.value.code == 1
    assert "none of the 1 cells has a result" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["ok"] is False


def test_axes_of_vectors_are_multiplied_out(vectors):
    """As those of images are: spaces by precision, indexes by effort and candidates; and nothing where nothing is asked."""
    grid = {"transforms": ["truncate(dim=8)"], "precisions": ["float16()", "int8()"], "indexes": ["hnsw(m=4)", "exact()"],
            "efforts": [16, 32], "candidates": [20]}  # fmt: skip
    made = evaluation_file.parse(json.dumps(_content(vectors, grid=grid)), "test").grid
    assert made.transforms == ("truncate(dim=8)", 'chain("truncate(dim=8)", "int8()")')
    assert made.indexes[:3] == ("hnsw(m=4)@16", "hnsw(m=4)@32", "exact()")
    assert len(made.indexes) == 6
    alone = evaluation_file.parse(json.dumps(_content(vectors)), "test")
    assert (alone.grid.transforms, alone.grid.indexes, alone.cost) == ((), (), None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "l2"}, "indexes compare by inner product"),
        ({"cost": {"k": 500}}, "cost.k looks at 500 neighbours and gold.k is"),
        ({"tune": {"measure": "hit@1"}}, "needs judgments"),
        ({"cost": {}, "grid": {}}, "no index to measure"),
        ({"compare": {"indexes": ["hnsw()"]}}, "two indexes or more"),
        ({"compare": {"indexes": ["hnsw()", "flat()"]}}, "list indexes that have an effort"),
        ({"grid": {"indexes": ["flat()", "flat( )"]}}, "lists flat"),
        ({"grid": {"indexes": ["hnsw(m=4)"]}}, "needs an effort"),
    ],
)
def test_sections_of_indexes_that_cannot_be_are_refused(vectors, changes, words):
    """When the file is read."""
    with pytest.raises(RequestError, match=words):
        evaluation_file.parse(json.dumps(_content(vectors, **(INDEXED | changes))), "test")
