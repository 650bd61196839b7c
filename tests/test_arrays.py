"""Vectors, neighbours and judgments are checked when they are made, and say what is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.arrays import Neighbors, Qrels, Vectors
from raybench.errors import DataError

GRADES = st.dictionaries(
    st.text(max_size=4), st.dictionaries(st.integers(0, 50) | st.integers(-9, -2), st.integers(-1, 3)), max_size=5
)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_keep_their_row_numbers(dtype: type) -> None:
    """A run of rows knows where it begins in the collection, and a part of it too, without a copy."""
    vectors = Vectors(np.arange(12, dtype=dtype).reshape(4, 3), first_row=100)
    part = vectors.rows(1, 3)
    assert (len(vectors), vectors.dim, len(part), part.first_row) == (4, 3, 2, 101)
    assert np.shares_memory(part.matrix_ND, vectors.matrix_ND)
    assert part.matrix_ND.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert len(Vectors(np.zeros((0, 3), dtype))) == 0


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (np.zeros(3, np.float32), "two axes"),
        (np.zeros((2, 3, 4), np.float32), "two axes"),
        (np.zeros((2, 3), np.int8), "dtype int8"),
        (np.zeros((2, 3), np.complex64), "dtype complex64"),
        (np.zeros((2, 3), np.longdouble), "must be native"),
        (np.zeros((2, 3), ">f4"), "must be native"),
        (np.zeros((2, 3), object), "dtype object"),
        (np.asfortranarray(np.zeros((2, 3), np.float32)), "C order"),
        (np.zeros((4, 6), np.float32)[:, ::2], "C order"),
    ],
)
def test_other_matrices_are_refused(matrix: np.ndarray, says: str) -> None:
    """Only native floats of two axes in C order are vectors."""
    with pytest.raises(DataError, match=says):
        Vectors(matrix)


@given(row=st.integers(0, 70_000), value=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_row_that_is_not_finite_is_named(row: int, value: float) -> None:
    """Wherever it is, also past the first block that is looked at, the first such row is in the message."""
    matrix = np.zeros((70_001, 1), np.float16)
    matrix[row] = value
    with pytest.raises(DataError, match=f": row {row} has NaN"):
        Vectors(matrix)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_vectors_have_length_one(dtype: type) -> None:
    """Every row is scaled on its own, small and large ones too, and keeps its direction and number."""
    random = np.random.default_rng(0)
    scale = {np.float16: 2.0, np.float32: 15.0, np.float64: 120.0}[dtype]
    matrix = (random.standard_normal((50, 8)) * 10.0 ** random.uniform(-scale, scale, (50, 1))).astype(dtype)
    unit = Vectors(matrix, first_row=7).unit()
    exact = matrix.astype(np.longdouble)
    exact /= np.sqrt((exact**2).sum(axis=1, keepdims=True))
    assert unit.matrix_ND.dtype == np.float32
    assert unit.first_row == 7
    np.testing.assert_allclose(unit.matrix_ND, exact.astype(np.float64), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("value", [0.0, 1e-200, 1e200])
def test_a_row_without_direction_is_named(value: float) -> None:
    """Zeros, and numbers whose squares vanish or overflow, are refused instead of becoming NaN or zero."""
    matrix = np.ones((3, 2))
    matrix[1] = value
    with pytest.raises(DataError, match="row 11 is all zeros, or too small"):
        Vectors(matrix, first_row=10).unit()


def test_neighbors_hold_one_score_per_id() -> None:
    """Ids and scores share a shape, and the first k are a view of the same results."""
    neighbors = Neighbors(np.array([[3, 1, -1]]), np.array([[0.5, 0.25, -np.inf]]))
    assert (len(neighbors), neighbors.k, neighbors.top(2).k, neighbors.top(9).k) == (1, 3, 2, 3)
    assert neighbors.top(2).ids_QK.tolist() == [[3, 1]]
    for ids, scores in [
        (np.zeros((1, 2), np.int64), np.zeros((1, 3))),
        (np.zeros(2, np.int64), np.zeros(2)),
        (np.zeros((1, 2), np.int32), np.zeros((1, 2))),
        (np.zeros((1, 2), np.int64), np.zeros((1, 2), np.float32)),
    ]:
        with pytest.raises(DataError):
            Neighbors(ids, scores)


@given(GRADES)
def test_judgments_keep_what_is_relevant(judged: dict[str, dict[int, int]]) -> None:
    """Queries keep their order, also those without a relevant row; grades under 1 are left out, all others kept."""
    qrels = Qrels.of(judged, {query: f"cluster of {query}" for query in judged})
    assert qrels.query_ids == tuple(judged)
    assert qrels.clusters == tuple(f"cluster of {query}" for query in judged)
    kept = [
        dict(zip(rows.tolist(), grades.tolist(), strict=True))
        for rows, grades in zip(qrels.relevant, qrels.grades, strict=True)
    ]
    assert kept == [{row: grade for row, grade in rows.items() if grade >= 1} for rows in judged.values()]


def int64s(*lists: list[int]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(values, np.int64) for values in lists)


@pytest.mark.parametrize(
    ("relevant", "grades", "says"),
    [
        (int64s([1], [2, 2]), int64s([1], [1, 1]), "'b' judges a row twice"),
        (int64s([1], [7, 2, 7]), int64s([1], [1, 1, 2]), "'b' judges a row twice"),
        (int64s([1], [2]), int64s([1], []), "'b' has 1 relevant rows and 0 grades"),
        (int64s([1], [2, 3]), int64s([1], [1, 0]), "'b' has a grade under 1"),
        (int64s([1], [2, -1]), int64s([1], [1, 1]), "'b' judges row -1"),
        (int64s([1]), int64s([1], [1]), "one entry per query"),
        ((np.array([1.0]), np.array([2.0])), int64s([1], [1]), "must be int64"),
        (int64s([1], [2]), (np.array([1], np.int32), np.array([1], np.int32)), "must be int64"),
    ],
)
def test_wrong_judgments_are_refused(relevant: tuple, grades: tuple, says: str) -> None:
    """Duplicates, grades that are none, the number that pads results, and other types are refused by query."""
    with pytest.raises(DataError, match=says):
        Qrels(("a", "b"), relevant, grades, ("c", "d"))


def test_the_same_row_may_answer_two_queries() -> None:
    """Only within one query is a row judged once."""
    assert len(Qrels(("a", "b"), int64s([1, 2], [2, 1]), int64s([1, 1], [1, 1]), ("c", "c"))) == 2


def test_queries_need_ids_clusters_and_whole_grades() -> None:
    """A repeated query id, a query without cluster and a fractional grade are refused, not bent into shape."""
    with pytest.raises(DataError, match="2 queries and 1 query ids"):
        Qrels(("a", "a"), int64s([1], [2]), int64s([1], [1]), ("c", "d"))
    with pytest.raises(DataError, match="'a' is judged but has no cluster"):
        Qrels.of({"a": {1: 1}}, {})
    with pytest.raises(DataError, match="'a' has grades that are not whole"):
        Qrels.of({"a": {1: 1.5}}, {"a": "c"})  # type: ignore[dict-item]
