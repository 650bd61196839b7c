"""The true neighbours by inner product in float64, and the rank of any row, at the speed of a float32 matrix product.

Neighbours come from the certified search (`raybench.search.certified`). Ranks are counted: a block of rows is scored in
float32, where each score is within a known bound of the float64 score; what is surely higher is counted at once, and
near calls are settled in float64. So both are those of a full float64 scan, whatever the block size or BLAS.

The bound is gamma_(D+2) |x| |y| with gamma_n = n u / (1 - n u), u = 2^-24 (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1), which holds for every order of summation, with and without fused operations.

Axes: Q queries, B rows of a block, D dimensions, K results, C candidates, P judged pairs, S some of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from raybench.arrays import FloatMatrix, Neighbors, Rows, Vectors
from raybench.errors import DataError
from raybench.indexes.base import Activity, Dial, Held, check_effort
from raybench.metrics.counts import Counts, Pairs
from raybench.search.certified import Questions, Scanner, search_part
from raybench.search.certified.metric import scores_of
from raybench.search.topk import best, merge
from raybench.transforms.packed import is_packed

_RESCORE_ROWS = 8_192  # candidates scored together in float64, so that memory stays flat
_QUERY_ROWS = 1_024  # queries of one matrix product: 1,024 x 16,384 float32 scores stay within 64 MiB
_DECODED_ROWS = 32_768  # rows that are held as codes: 100 MB of float32 at 768 dimensions
_FEW_NUMBERS = 1_000_000  # in all rows: about a millisecond of float64
_WORTH_THREADS = 50_000_000  # multiplications: about a millisecond of one core
_UNDERFLOW = 2.0**-125  # per product, if the processor flushes denormal numbers to zero


@dataclass(frozen=True, slots=True)
class Exact:
    """The exact neighbours; nothing to build and nothing to tune."""

    block_rows: int = 8_192

    @property
    def dial(self) -> Dial | None:
        """None."""
        return None

    def build(self, vectors: Vectors) -> "ExactIndex":
        """An index over the rows as they are; float16 stays float16 in memory."""
        if self.block_rows < 1:
            raise DataError(f"exact(block_rows={self.block_rows}) cannot scan; use at least 1")
        return ExactIndex(vectors, self.block_rows)


@dataclass(frozen=True, slots=True, eq=False)
class ExactIndex:
    """Rows of a collection with an exact search over them."""

    vectors: Vectors
    block_rows: int

    def last_search(self) -> list[Activity]:
        """Nothing that a caller could not see himself."""
        return [Activity()]

    @property
    def held_bytes(self) -> Held:
        """The bytes of the rows, or of the codes that they are held as."""
        return {"codes" if is_packed(self.vectors) else "rows": int(self.vectors.matrix_ND.nbytes)}

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The float64 top k, ties by row number."""
        _check(queries_QD, self.vectors)
        check_effort("exact()", None, effort)
        questions, floor_Q = Questions.of(queries_QD, "ip"), np.full(len(queries_QD), -np.inf)
        if not is_packed(self.vectors):
            return self._search(questions, 0, len(self.vectors), k, floor_Q)
        # Rows that are held as codes are decoded some at a time; the best so far are the floor of the next.
        found = Neighbors(np.full((len(queries_QD), k), -1), np.full((len(queries_QD), k), -np.inf))
        for start in range(0, len(self.vectors), _DECODED_ROWS):
            part = self._search(questions, start, start + _DECODED_ROWS, k, found.scores_QK[:, -1])
            found = merge([found, part], k)
        return found

    def _search(
        self, questions: Questions, start: int, stop: int, k: int, floor_Q: npt.NDArray[np.float64]
    ) -> Neighbors:
        rows_ND = self.vectors.matrix_ND[start:stop]
        if len(questions) == 1 and rows_ND.size <= _FEW_NUMBERS:
            # A single query over few rows is sooner scored in float64 than scanned: threads alone take milliseconds.
            scores_1N = scores_of(questions, questions.rows_QD[0], questions.norms_Q, rows_ND.astype(np.float64))[None]
            rows_1N = np.arange(len(rows_ND))[None] + (self.vectors.first_row + start)
            return best(rows_1N, scores_1N, k)
        # Threads take milliseconds to start: for less work than that, one is faster.
        threads = torch.get_num_threads() if len(questions) * rows_ND.size > _WORTH_THREADS else 1
        scanner = Scanner(threads=threads, block_rows=self.block_rows)
        found, _ = search_part(questions, rows_ND, self.vectors.first_row + start, k, floor_Q, scanner)
        return found.neighbors(k)

    def score(self, queries_QD: FloatMatrix, pairs: Pairs) -> npt.NDArray[np.float64]:
        """The float64 scores of pairs whose rows are here; NaN for the others."""
        _check(queries_QD, self.vectors)
        local_P = pairs.row_P - self.vectors.first_row
        here_P = (local_P >= 0) & (local_P < len(self.vectors))
        score_P = np.full(len(pairs), np.nan)
        score_P[here_P] = score_pairs(queries_QD, pairs.query_P[here_P], self._rows(local_P[here_P]))
        return score_P

    def count(self, queries_QD: FloatMatrix, pairs: Pairs, score_P: npt.NDArray[np.float64]) -> Counts:
        """Count rows with a higher and with the same float64 score; near calls are settled in float64."""
        _check(queries_QD, self.vectors)
        counts = replace(Counts.none(pairs), rows=len(self.vectors))
        local_P = pairs.row_P - self.vectors.first_row
        counts.seen_P[:] = (local_P >= 0) & (local_P < len(self.vectors))
        known = np.flatnonzero(~np.isnan(score_P))
        for first, rows_BD, norm in self._blocks():
            for start in range(0, len(known), _QUERY_ROWS):
                some = known[start : start + _QUERY_ROWS]
                queries, place_S = np.unique(pairs.query_P[some], return_inverse=True)
                block = _Block(queries_QD[queries], rows_BD, norm)
                higher_S, near_C, row_C = block.against(place_S, score_P[some])
                near_C = some[near_C]
                exact_C = score_pairs(queries_QD, pairs.query_P[near_C], self._rows(first + row_C))
                tied_C = exact_C == score_P[near_C]
                counts.higher_P[some] += higher_S
                np.add.at(counts.higher_P, near_C, exact_C > score_P[near_C])
                np.add.at(counts.tied_P, near_C, tied_C)
                np.add.at(counts.before_P, near_C, tied_C & (first + row_C < local_P[near_C]))
        return counts

    def _blocks(self) -> Iterator[tuple[int, npt.NDArray[np.float32], float]]:
        """First row, the rows in float32, and their greatest norm."""
        for first in range(0, len(self.vectors), self.block_rows):
            rows_BD = self.vectors.matrix_ND[first : first + self.block_rows].astype(np.float32)
            yield first, rows_BD, float(_norms(rows_BD).max())

    def _rows(self, local_C: Rows) -> "_Gather":
        return _Gather(self.vectors.matrix_ND, local_C)


@dataclass(frozen=True, slots=True, eq=False)
class _Gather:
    """Rows of a matrix in a given order, copied only a few thousand at a time."""

    matrix_ND: FloatMatrix
    local_C: Rows

    def take(self, part: slice) -> npt.NDArray[np.float64]:
        rows_CD: npt.NDArray[np.float64] = self.matrix_ND[self.local_C[part]].astype(np.float64)
        return rows_CD


class _Block:
    """Cheap scores of some queries against one block of rows, and the bound of their error."""

    def __init__(self, queries_QD: FloatMatrix, rows_BD: npt.NDArray[np.float32], norm: float) -> None:
        self.scores_QB = queries_QD.astype(np.float32) @ rows_BD.T
        terms = queries_QD.shape[1] + 2
        gamma = terms * 2.0**-24 / (1 - terms * 2.0**-24)
        # Norms are themselves rounded, by far less than one part in a thousand.
        self.bound_Q = gamma * _norms(queries_QD) * norm * 1.001 + terms * _UNDERFLOW

    def against(self, query_S: Rows, score_S: npt.NDArray[np.float64]) -> tuple[Rows, Rows, Rows]:
        """For pairs S: how many rows surely score higher, and which (pair, row) are too near to tell."""
        scores_SB = self.scores_QB[query_S]
        low_S = np.nextafter((score_S - self.bound_Q[query_S]).astype(np.float32), np.float32(-np.inf))
        high_S = np.nextafter((score_S + self.bound_Q[query_S]).astype(np.float32), np.float32(np.inf))
        above_SB = scores_SB > high_S[:, None]
        near = np.flatnonzero(~(above_SB | (scores_SB < low_S[:, None])))
        return above_SB.sum(axis=1), near // scores_SB.shape[1], near % scores_SB.shape[1]


def score_pairs(queries_QD: FloatMatrix, query_C: Rows, rows: _Gather) -> npt.NDArray[np.float64]:
    """Float64 inner products of pairs, each summed in the same order wherever it is computed."""
    score_C = np.empty(len(query_C))
    for start in range(0, len(query_C), _RESCORE_ROWS):
        part = slice(start, start + _RESCORE_ROWS)
        queries_CD = queries_QD[query_C[part]].astype(np.float64)
        # numpy sums the last axis of a contiguous product pairwise, in an order that depends on D alone.
        score_C[part] = (queries_CD * rows.take(part)).sum(axis=1)
    return score_C


def score_rows(queries_QD: FloatMatrix, vectors: Vectors, ids_QC: Rows) -> npt.NDArray[np.float64]:
    """Float64 inner products of each query with rows of its own [Q, C], as `score_pairs` sums them; -1 gets -inf."""
    is_row_QC = ids_QC >= 0
    query_P, _ = np.nonzero(is_row_QC)
    scores_QC = np.full(ids_QC.shape, -np.inf)
    rows = _Gather(vectors.matrix_ND, ids_QC[is_row_QC] - vectors.first_row)
    scores_QC[is_row_QC] = score_pairs(queries_QD, query_P, rows)
    return scores_QC


def _norms(matrix: FloatMatrix) -> npt.NDArray[np.float64]:
    norms_N: npt.NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", matrix, matrix, dtype=np.float64))
    return norms_N


def _check(queries_QD: FloatMatrix, vectors: Vectors) -> None:
    if queries_QD.ndim != 2 or queries_QD.shape[1] != vectors.dim:
        raise DataError(f"queries have shape {queries_QD.shape}, the rows {vectors.dim} dimensions; use one encoder")
