"""What all indexes of faiss share: rows go in as float32, scores come out as float64 and larger is better.

A recipe learns and adds (`fill`), and opens what was filled, or read from storage, for searching (`serve`). Everything is
made so that it is the same again: rows that are learnt from are drawn by a seed, and what is learnt is learnt by one
thread. (The graph of faiss 1.15 does not depend on its threads, as long as all rows are added at once.)

Axes: N rows, Q queries, T of them, D dimensions, K results, S sampled rows.
"""

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Neighbors, Rows, Vectors
from raybench.errors import DataError, IndexRequestError
from raybench.indexes.base import Activity, Held, Index, IndexRecipe
from raybench.search.topk import best

Float32 = npt.NDArray[np.float32]
Found = tuple[Float32, Rows]  # scores and local rows, each [Q, up to K]; -1 where there is none
Parameters = Callable[
    [int | None, int], Any
]  # effort and k to faiss's search parameters; IndexRequestError out of range

# faiss 1.15 compares a batch by matrix products only where queries times dimensions reach 128,000, and is measured to be up
# to 17 times as slow below; from four queries on the products are faster, on one thread and on two.
faiss.cvar.distance_compute_blas_threshold = 2_048

_SHORT = 128  # results of a single query that are put in order without numpy
PER_CENTROID = 39
"""Rows for each centroid that is learnt; faiss warns where there are fewer."""
_ADDED_ROWS = 65_536  # in float32 at a time


class FaissRecipe(IndexRecipe, Protocol):
    """A recipe whose built index is one of faiss, which can be written and read."""

    def fill(self, vectors: Vectors) -> Any:
        """Learn from rows and add them. IndexRequestError for too few rows, or a parameter that does not fit them."""
        ...

    def serve(self, index: Any, vectors: Vectors) -> Index:
        """What `fill` made of these rows, ready to search."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FaissIndex:
    """A filled index of faiss over a run of rows, searched by inner product."""

    spec: str
    index: Any
    first_row: int
    parameters: Parameters
    held_bytes: Held

    def __post_init__(self) -> None:
        # Asked with every query, and always the same; a refusal is not kept.
        object.__setattr__(self, "parameters", functools.lru_cache(maxsize=256)(self.parameters))

    def last_search(self) -> list[Activity]:
        """Nothing that a caller could not see himself."""
        return [Activity()]

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows that it finds, in the one order; padded where it finds fewer."""
        return in_order(*self.find(queries_QD, k, effort), self.first_row, k)

    def find(self, queries_QD: FloatMatrix, k: int, effort: int | None) -> Found:
        """Up to k scores and local rows of each query, best first, as faiss gives them."""
        check_queries(self.spec, queries_QD, self.index.d, k)
        scores_QK, ids_QK = self.index.search(
            np.ascontiguousarray(queries_QD, np.float32), min(k, self.index.ntotal), params=self.parameters(effort, k)
        )
        return scores_QK, ids_QK


def in_order(scores_QK: Float32, ids_QK: npt.NDArray[np.int64], first_row: int, k: int) -> Neighbors:
    """What faiss found, as rows of the collection in the one order; places that it left empty are padding."""
    if len(ids_QK) == 1 and k == ids_QK.shape[1] <= _SHORT and ids_QK[0, -1] >= 0:
        return _alone(scores_QK, ids_QK + first_row)
    if k != ids_QK.shape[1] or ids_QK.min(initial=0) < 0:
        is_row_QK = ids_QK >= 0
        rows_QK = np.where(is_row_QK, ids_QK + first_row, -1)
        return best(rows_QK, np.where(is_row_QK, scores_QK.astype(np.float64), -np.inf), k)
    # faiss orders by score; only ties have to be put in order.
    rows_QK, wide_QK = ids_QK + first_row, scores_QK.astype(np.float64)
    is_sure_QK = scores_QK[:, :-1] > scores_QK[:, 1:]
    if not is_sure_QK.all():
        tied_T = np.flatnonzero(~is_sure_QK.all(axis=1))
        order_TK = np.lexsort((rows_QK[tied_T], -wide_QK[tied_T]), axis=-1)
        rows_QK[tied_T] = rows_QK[tied_T[:, None], order_TK]
        wide_QK[tied_T] = wide_QK[tied_T[:, None], order_TK]
    return Neighbors(rows_QK, wide_QK)


def _alone(scores_1K: Float32, rows_1K: npt.NDArray[np.int64]) -> Neighbors:
    """The few results of one query: calls of numpy would take longer than the search of a small index."""
    scores = scores_1K[0].tolist()
    if all(map(operator.gt, scores, scores[1:])):
        return Neighbors(rows_1K, scores_1K.astype(np.float64))
    negative, rows = zip(*sorted(zip((-scores_1K[0]).tolist(), rows_1K[0].tolist(), strict=True)), strict=True)
    return Neighbors(np.array([rows]), -np.array([negative]))


def check_queries(spec: str, queries_QD: FloatMatrix, dim: int, k: int) -> None:
    """DataError for queries of other dimensions, or a k that asks for nothing."""
    if queries_QD.ndim != 2 or queries_QD.shape[1] != dim:
        raise DataError(f"queries have shape {queries_QD.shape}, the rows {dim} dimensions; use one encoder")
    if k < 1:
        raise DataError(f"{spec}: k={k} asks for nothing; use at least 1")


def float32_rows(vectors: Vectors, start: int = 0, stop: int | None = None) -> Float32:
    """Rows as faiss takes them."""
    return np.ascontiguousarray(vectors.matrix_ND[start:stop], np.float32)


def sample(vectors: Vectors, rows: int, seed: int) -> Float32:
    """Up to so many rows to learn from [S, D], drawn without replacement, in row order."""
    if rows >= len(vectors):
        return float32_rows(vectors)
    drawn_S = np.sort(np.random.default_rng([seed, 0x1D]).choice(len(vectors), rows, replace=False))
    return np.ascontiguousarray(vectors.matrix_ND[drawn_S], np.float32)


def learn(index: Any, vectors: Vectors, rows: int, seed: int) -> None:
    """Learn from so many rows with one thread, whose sums have one order."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.train(sample(vectors, rows, seed))
    finally:
        faiss.omp_set_num_threads(threads)


def add_rows(index: Any, vectors: Vectors) -> None:
    """Add all rows, some at a time."""
    for start in range(0, len(vectors), _ADDED_ROWS):
        index.add(float32_rows(vectors, start, start + _ADDED_ROWS))


def need_rows(spec: str, vectors: Vectors, needed: int, why: str) -> None:
    """IndexRequestError where a run of rows is too short for what is learnt from it."""
    if len(vectors) < needed:
        raise IndexRequestError(f"{spec} needs {needed:,} rows or more ({why}); there are {len(vectors):,}")


def need_codebooks(spec: str, vectors: Vectors, bits: int) -> None:
    """IndexRequestError for codebooks of so many bits that cannot be, or that there are too few rows for."""
    if not 4 <= bits <= 12:
        raise IndexRequestError(f"{spec}: bits={bits} of a code must be 4 to 12")
    need_rows(spec, vectors, PER_CENTROID << bits, f"for codebooks of {1 << bits}")


def need_divisor(spec: str, vectors: Vectors, codes: int) -> None:
    """IndexRequestError where dimensions cannot be cut into so many pieces."""
    if not 1 <= codes <= vectors.dim or vectors.dim % codes:
        raise IndexRequestError(f"{spec}: {vectors.dim} dimensions cannot be cut into {codes} pieces; use a divisor")


def code_bytes(index: Any) -> int:
    """The bytes of the codes of a flat index, measured on what is held."""
    return int(index.codes.size())
