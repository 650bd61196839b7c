"""SISAP result files, attribute by attribute, and the evaluators' recall on cases small enough to count by hand."""

import h5py
import numpy as np
import pytest

from raybench.arrays import Neighbors
from raybench.errors import DataError, RequestError
from raybench.sisap import (
    challenge_recall,
    published_projection_recall,
    published_results,
    read_results,
    task_of,
    write_results,
)

ATTRIBUTES = {
    2023: {"data": "clip768v2", "size": "300K", "algo": "exact", "buildtime": 1.5, "querytime": 2, "params": "none"},
    2024: {"algo": "exact", "buildtime": 1.5, "querytime": 2.0, "params": "none", "size": "300K"},
    2025: {
        "algo": "exact", "dataset": "ccnews", "buildtime": 1.5, "optimtime": 0.0, "querytime": 2.0, "params": "",
        "searchparams": "", "size": 300,
    },
    2026: {"algo": "exact", "dataset": "llama-dev", "buildtime": 1.5, "querytime": 2.0, "params": "none"},
}  # fmt: skip
REQUIRED = {
    2023: {"data", "size", "algo", "buildtime", "querytime", "params"},
    2024: {"algo", "params", "buildtime", "querytime"},
    2025: {"algo", "task", "dataset", "buildtime", "optimtime", "querytime", "params", "searchparams", "size"},
    2026: {"algo", "task", "dataset", "buildtime", "querytime", "params"},
}
CASES = [
    (2023, "A"),
    (2024, "task1"),
    (2025, "task1"),
    (2025, "task2"),
    (2026, "task1"),
    (2026, "task2"),
    (2026, "task3"),
]


def _neighbors(queries, k, rows=200, seed=0):
    random = np.random.default_rng(seed)
    ids = np.stack([random.permutation(rows)[:k] for _ in range(queries)]).astype(np.int64)
    return Neighbors(ids, np.sort(random.random((queries, k)), axis=1)[:, ::-1].copy())


@pytest.mark.parametrize(("year", "task"), CASES)
def test_files_have_what_the_years_evaluator_reads(year, task, tmp_path):
    """Knns int32 from 1, dists float32, every required attribute with its value and type; exactly k columns."""
    path, k = str(tmp_path / "result.h5"), task_of(year, task).k
    found = _neighbors(20, k + 5)
    write_results(path, year, found, task=task, **ATTRIBUTES[year])

    with h5py.File(path) as file:
        assert file["knns"].shape == file["dists"].shape == (20, k)
        assert (file["knns"].dtype, file["dists"].dtype) == (np.int32, np.float32)
        assert REQUIRED[year] <= set(file.attrs)
        for name, value in ATTRIBUTES[year].items():
            assert file.attrs[name] == value
            assert isinstance(file.attrs[name], str) == isinstance(value, str)
        assert file.attrs["buildtime"].dtype == file.attrs["querytime"].dtype == np.float64
        assert file["knns"][:].min() >= 1
        if "task" in REQUIRED[year]:
            assert file.attrs["task"] == task
        if not task_of(year, task).is_self_join:
            assert np.array_equal(file["knns"][:], found.ids_QK[:, :k] + 1)
            assert np.array_equal(file["dists"][:], (1 - found.scores_QK[:, :k]).astype(np.float32))
        else:
            assert not (file["knns"][:] == np.arange(1, 21)[:, None]).any()
    back = read_results(path)
    assert back.attributes == ATTRIBUTES[year] | ({"task": task} if "task" in REQUIRED[year] else {})


@pytest.mark.parametrize(
    ("year", "name"), [(year, name) for year, names in REQUIRED.items() for name in sorted(names - {"task"})]
)
def test_a_missing_attribute_is_named(year, name, tmp_path):
    """Each required attribute is asked for by name, and nothing is written."""
    task = task_of(year, "A" if year == 2023 else "task1")
    given = {key: value for key, value in ATTRIBUTES[year].items() if key != name}

    with pytest.raises(RequestError, match=f"'{name}'"):
        write_results(str(tmp_path / "result.h5"), year, _neighbors(3, task.k + 1), task=task.name, **given)
    assert not (tmp_path / "result.h5").exists()


@pytest.mark.parametrize(
    ("year", "wrong", "words"),
    [
        (2023, {"size": "10m"}, "'size'"),
        (2023, {"buildtime": "fast"}, "'buildtime'"),
        (2023, {"querytime": -1.0}, "'querytime'"),
        (2024, {"algo": ""}, "'algo'"),
        (2024, {"querytime": float("nan")}, "'querytime'"),
        (2025, {"size": "300K"}, "'size'"),
        (2026, {"recall": 1.0}, "no attribute 'recall'"),
        (2026, {"params": 3}, "'params'"),
    ],
)
def test_a_wrong_attribute_is_named(year, wrong, words, tmp_path):
    """Wrong type, value or name."""
    name = "A" if year == 2023 else "task1"
    given = ATTRIBUTES[year] | wrong
    with pytest.raises(RequestError, match=words):
        write_results(str(tmp_path / "r.h5"), year, _neighbors(3, 31), task=name, **given)


def test_unknown_years_and_tasks_are_refused():
    """A year without rules, and a task that the year does not have; tasks of one k need no name."""
    for year, task, words in [(2022, None, "2022"), (2026, "task4", "task"), (2025, None, "name one: task1, task2")]:
        with pytest.raises(RequestError, match=words):
            task_of(year, task)
    assert task_of(2023, None).k == 10


@pytest.mark.parametrize(
    ("ids", "words"),
    [(np.arange(9), "needs 10"), (np.r_[np.arange(9), -1], "fewer than 10"), (np.r_[np.arange(9), 0], "twice"),
     (np.r_[np.arange(9), 2**31 - 1], "int32")],
)  # fmt: skip
def test_ids_that_an_evaluator_would_count_wrongly_are_refused(ids, words, tmp_path):
    """Too few columns, padding, a row twice, an id beyond int32."""
    found = Neighbors(ids[None].astype(np.int64), -np.arange(len(ids), dtype=np.float64)[None])
    with pytest.raises(DataError, match=words):
        write_results(str(tmp_path / "r.h5"), 2023, found, **ATTRIBUTES[2023])


def test_a_self_join_takes_the_row_itself_out(tmp_path):
    """The row itself goes wherever it stands; order and distances of the others stay."""
    ids = np.array([[*range(16)], [*range(1, 16), 0], [*range(15, -1, -1)]], np.int64)
    scores = np.tile(-np.arange(16.0), (3, 1))
    write_results(
        str(tmp_path / "r.h5"), 2026, Neighbors(ids, scores), task="task1", meaning="distance", **ATTRIBUTES[2026]
    )
    back = read_results(str(tmp_path / "r.h5"))

    for row in range(3):
        kept = [(one, place) for place, one in enumerate(ids[row]) if one != row][:15]
        assert back.knns_QK[row].tolist() == [one + 1 for one, _ in kept]
        assert back.dists_QK[row].tolist() == [place for _, place in kept]
    with pytest.raises(DataError, match="search for 16"):
        write_results(
            str(tmp_path / "r.h5"), 2026, Neighbors(ids[:, :15], scores[:, :15]), task="task1", **ATTRIBUTES[2026]
        )


def test_attributes_are_also_read_from_scalar_datasets(tmp_path):
    """Julia's JLD2 stores them so."""
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["knns"], file["algo"], file["buildtime"] = np.ones((2, 3), np.int32), "graph", 1.5
    back = read_results(str(tmp_path / "r.h5"))

    assert back.attributes == {"algo": "graph", "buildtime": 1.5}
    assert back.dists_QK is None


def test_other_files_are_no_results(tmp_path):
    """No HDF5, no knns, knns that are no ids."""
    (tmp_path / "text").write_text("no")
    with h5py.File(tmp_path / "empty", "w"):
        pass
    with h5py.File(tmp_path / "floats", "w") as file:
        file["knns"] = np.ones((2, 3))
    for name, words in [("text", "HDF5"), ("empty", "knns"), ("floats", "whole numbers")]:
        with pytest.raises(DataError, match=words):
            read_results(str(tmp_path / name))


GOLD = [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("year", "task", "k", "found", "gold", "hits"),
    [
        # ids only, as sets, of the first k
        (2023, "A", 2, [[2, 1, 9], [6, 9, 5]], GOLD, 3),
        (2023, "A", 2, [[1, 1, 2], [5, 5, 6]], GOLD, 2),  # a row twice counts once; the third column is not looked at
        (2023, "A", 2, [[0, 1], [4, 5]], GOLD, 2),  # ids from 0 are simply other rows
        (2023, "A", 2, [[3, 4], [7, 8]], GOLD, 0),  # ties at rank k get no credit
        (2024, "task1", 2, [[9, 9, 2, 1], [9, 9, 9, 6]], GOLD, 3),  # all found columns count
        (2024, "task1", 2, [[1], [6]], GOLD, 2),
        (2025, "task1", 2, [[2, 9, 1], [6, 5, 9]], GOLD, 3),
        # self-joins: row 1 is id 1, row 2 is id 2
        (2025, "task2", 2, [[3, 4], [3, 4]], [[1, 3, 4], [2, 3, 4]], 4),
        (2025, "task2", 2, [[1, 3, 4], [2, 3, 4]], [[1, 3, 4], [2, 3, 4]], 2),  # a self costs one neighbour
        (2025, "task2", 2, [[3, 4], [1, 3]], [[3, 1, 4], [1, 3, 2]], 4),  # the true self goes wherever it stands
        (2025, "task2", 2, [[3, 4], [1, 3]], [[3, 4, 5], [1, 3, 4]], 4),  # no self among the true: the first k
        (2026, "task1", 2, [[3, 4], [3, 9]], [[1, 3, 4], [2, 3, 4]], 3),
        (2026, "task1", 2, [[1, 3, 4], [2, 3, 4]], [[1, 3, 4], [2, 3, 4]], 4),  # k + 1 columns: the first is dropped
        (2026, "task1", 2, [[3, 4, 1], [3, 4, 2]], [[1, 3, 4], [2, 3, 4]], 2),  # by position, not by id
        (2026, "task1", 2, [[1, 3], [2, 3]], [[1, 3, 4], [2, 3, 4]], 2),
        (2026, "task2", 2, [[2, 1, 9], [6, 9, 5]], GOLD, 3),
        (2026, "task3", 2, [[2, 1], [6, 9]], GOLD, 3),
    ],
)  # fmt: skip
def test_recall_is_the_evaluators_on_cases_counted_by_hand(year, task, k, found, gold, hits):
    """Hits / (queries * k)."""
    assert challenge_recall(np.array(found), np.array(gold), year=year, task=task, k=k) == hits / (len(gold) * k)


@pytest.mark.parametrize(
    ("year", "task", "found", "gold"),
    [
        (2023, "A", np.ones((2, 10), int), np.ones((3, 10), int)),
        (2023, "A", np.ones((2, 9), int), np.ones((2, 10), int)),
        (2023, "A", np.ones((2, 10), int), np.ones((2, 9), int)),
        (2026, "task1", np.ones((2, 17), int), np.ones((2, 16), int)),
        (2026, "task1", np.ones((2, 15), int), np.ones((2, 15), int)),
        (2026, "task1", np.ones((0, 15), int), np.ones((0, 16), int)),
    ],
)
def test_recall_refuses_what_the_evaluators_stop_at(year, task, found, gold):
    """Other numbers of queries, too few columns, no queries."""
    with pytest.raises(DataError):
        challenge_recall(found, gold, year=year, task=task)


@pytest.mark.parametrize(("year", "task"), CASES)
def test_what_is_written_from_the_true_neighbours_has_recall_one(year, task, tmp_path):
    """An exact search, written and read back, is perfect by the year's evaluator."""
    one = task_of(year, task)
    rows = np.random.default_rng(1).standard_normal((60, 8))
    scores = rows @ rows.T
    if one.is_self_join:
        np.fill_diagonal(scores, 1e3)
    order = np.argsort(-scores, axis=1)[:, : one.k + 1]
    found = Neighbors(order.astype(np.int64), np.take_along_axis(scores, order, axis=1))
    write_results(str(tmp_path / "r.h5"), year, found, task=task, **ATTRIBUTES[year])

    assert challenge_recall(read_results(str(tmp_path / "r.h5")).knns_QK, order + 1, year=year, task=task) == 1


def test_published_recalls_of_the_projections():
    """The numbers of the challenge's table, with and without the version of the family."""
    assert published_projection_recall("pca96", "100M").recall == pytest.approx(0.42144)
    assert published_projection_recall("hammingv2", "300K").recall == pytest.approx(0.30523)
    assert published_projection_recall("pca32v2", "10M").querytime_s == pytest.approx(40.8727)
    for family, size, words in [("pca64", "10M", "pca32|pca96"), ("pca32", "1M", "10M|100K")]:
        with pytest.raises(RequestError, match=words):
            published_projection_recall(family, size)


def test_published_results_are_the_fastest_that_counted():
    """The headline numbers of 2023 on 100M vectors."""
    best = published_results("100M", "clip768v2")

    assert [row.algo for row in best[:2]] == ["HSP", "SearchGraph"]
    assert (best[0].querytime_s, best[0].recall) == (pytest.approx(0.511, abs=1e-3), pytest.approx(0.928, abs=1e-3))
    assert all(row.recall >= 0.9 for row in best)
    exact = next(row for row in best if row.algo == "bruteforce")
    assert exact.querytime_s == pytest.approx(27165.7, abs=0.1)
