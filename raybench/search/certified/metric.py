"""A score is a float64 number of a query and a row, larger is better, and each metric defines it in one way.

    ip        x . y
    cosine    x . y / (|x| |y|), and 0 where either is zero
    l2        -|x - y|^2
    hamming   -(number of bits that differ), for packed bits

Where every product is a multiple of one power of two and no sum can outgrow 53 bits, a float64 sum is the real number
itself, whatever its order: for float16 data as long as |x| |y| < 32, for whole numbers practically always. Elsewhere
the order is fixed: numpy's pairwise sum along a contiguous axis, which depends on the number of dimensions alone.

Axes: Q queries, N or B rows, C candidates of one query, D dimensions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raybench.arrays import Rows
from raybench.errors import DataError

METRICS = ("ip", "cosine", "l2", "hamming")

Matrix = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

_MANTISSA = 2.0**53
_MANY_LENGTHS = 30.0  # unit queries have exact sums with rows of this length
_SCORED_ROWS = 256  # rows in float64 at a time: 1.5 MiB of 768 dimensions stay in cache
_READ_ROWS = 8_192  # rows looked at together


def granularity(matrix: Matrix) -> float:
    """A power of two of which every value is a multiple; 0 where none is known."""
    if matrix.dtype.kind in "iu":
        return 1.0
    if matrix.dtype == np.float16:
        return 2.0**-24
    for start in range(0, len(matrix), _SCORED_ROWS):
        rows_BD = matrix[start : start + _SCORED_ROWS]
        with np.errstate(over="ignore"):
            if not (rows_BD == rows_BD.astype(np.float16)).all():
                return 0.0
    return 2.0**-24


def longest(matrix: Matrix) -> float:
    """At least the greatest length of a row: quickly for float16, where the greatest number decides; else exactly."""
    if matrix.dtype == np.float16 and matrix.size:
        greatest = max(
            _greatest_bits(matrix[start : start + _READ_ROWS]) for start in range(0, len(matrix), _READ_ROWS)
        )
        bound = float(np.uint16(greatest).view(np.float16)) * matrix.shape[1] ** 0.5 * (1 + 1e-12)
        if bound < _MANY_LENGTHS:
            return float(bound)
    return float(norms(matrix).max(initial=0))


def _greatest_bits(rows_BD: Matrix) -> int:
    """The greatest absolute number as float16's bits without the sign; whole numbers are compared much faster."""
    rows_BD = np.ascontiguousarray(rows_BD)
    # Positive numbers are the greatest as int16; negative ones are above them as uint16, the sign being the first bit.
    positive, negative = int(rows_BD.view(np.int16).max()), int(rows_BD.view(np.uint16).max())
    return max(positive, negative & 0x7FFF if negative & 0x8000 else 0, 0)


def norms(matrix: Matrix) -> Float64:
    """The lengths of rows, float64, some rows at a time."""
    norms_N = np.empty(len(matrix))
    for start in range(0, len(matrix), _SCORED_ROWS):
        rows_BD = matrix[start : start + _SCORED_ROWS].astype(np.float64)
        norms_N[start : start + _SCORED_ROWS] = np.sqrt((rows_BD * rows_BD).sum(axis=1))
    return norms_N


def unpack(packed: Matrix) -> npt.NDArray[np.float32]:
    """Packed bits as -1 and +1, so that their inner product is D - 2 * (bits that differ)."""
    bits_ND = np.unpackbits(packed, axis=1).astype(np.float32)
    bits_ND *= 2
    bits_ND -= 1
    return bits_ND


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Queries, ready to be asked: float64 rows [Q, D], their lengths, and what their values are multiples of."""

    metric: str
    rows_QD: Float64
    norms_Q: Float64
    granularity: float

    @classmethod
    def of(cls, queries: Matrix, metric: str) -> "Questions":
        """From a matrix of finite numbers, or of packed bits (uint8) for hamming."""
        if metric not in METRICS:
            raise DataError(f"metric {metric!r} is not known; use {', '.join(METRICS)}")
        if queries.ndim != 2:
            raise DataError(f"queries have shape {queries.shape}; they must have two axes: rows and dimensions")
        step = 1.0 if metric == "hamming" else granularity(queries)
        rows_QD = np.ascontiguousarray(unpack(queries) if metric == "hamming" else queries, np.float64)
        if not np.isfinite(rows_QD).all():
            row = int(np.argmin(np.isfinite(rows_QD).all(axis=1)))
            raise DataError(f"query {row} has NaN or infinite values; embed it again or drop it")
        return cls(metric, rows_QD, norms(rows_QD), step)

    def __len__(self) -> int:
        return len(self.rows_QD)

    @property
    def dim(self) -> int:
        """Dimensions; for hamming, bits."""
        return int(self.rows_QD.shape[1])

    def part(self, start: int, stop: int) -> "Questions":
        """Queries start to stop."""
        return Questions(self.metric, self.rows_QD[start:stop], self.norms_Q[start:stop], self.granularity)

    def are_exact(self, step: float, longest: float) -> bool:
        """Whether float64 sums over these queries and rows (their granularity and greatest length) cannot round."""
        room = _MANTISSA * min(step, self.granularity) ** 2
        mine = float(self.norms_Q.max(initial=0))
        if self.metric == "l2":
            return (mine + longest) ** 2 < room
        if self.metric == "cosine":
            return max(mine, longest) ** 2 < room
        return mine * longest < _MANTISSA * step * self.granularity

    def value_bounds(self, score: Float64, norm: Float64) -> tuple[Float64, Float64]:
        """Least and greatest scan value (see `bound`) that a float64 score can stand for, given its query's length."""
        if self.metric == "hamming":
            return 2 * score + self.dim, 2 * score + self.dim
        if self.metric == "l2":
            value = (score + norm * norm) / 2
            off = 1e-12 * (np.abs(score) + norm * norm)
        else:
            value, off = score, 1e-12 * np.abs(score)
        return value - off, value + off


def score_pairs(questions: Questions, query_C: Rows, rows: Matrix) -> Float64:
    """The float64 scores of pairs of a query and a row as it is stored (packed for hamming)."""
    rows_CD = _to_float64(unpack(rows) if questions.metric == "hamming" else rows)
    return scores_of(questions, questions.rows_QD[query_C], questions.norms_Q[query_C], rows_CD)


def scores_of(
    questions: Questions, queries: Float64, norms: Float64, rows_CD: Float64, dots_C: Float64 | None = None
) -> Float64:
    """Scores of float64 rows (which are overwritten) and one query, or a query for each; `dots_C` where they are known."""
    if questions.metric == "l2":
        rows_CD -= queries
        rows_CD *= rows_CD
        return np.asarray(-rows_CD.sum(axis=1)) + 0.0
    lengths_C = np.sqrt((rows_CD * rows_CD).sum(axis=1)) * norms if questions.metric == "cosine" else None
    if dots_C is None:
        rows_CD *= queries
        dots_C = rows_CD.sum(axis=1)
    dots_C = np.asarray(dots_C) + 0.0  # -0 becomes 0
    if lengths_C is not None:
        # Lengths are of float64 rows, so a zero length is a zero vector.
        return np.asarray(np.divide(dots_C, lengths_C, out=np.zeros(len(dots_C)), where=lengths_C > 0))
    return (dots_C - questions.dim) / 2 if questions.metric == "hamming" else dots_C


def _to_float64(rows: Matrix) -> Float64:
    # By way of float32, because no library converts float16 to float64 in one fast step.
    converted: Float64 = tensor(rows).to(torch.float32 if rows.dtype == np.float16 else torch.float64).double().numpy()
    return converted if converted is not rows and not np.shares_memory(converted, rows) else converted.copy()


def tensor(matrix: Matrix) -> torch.Tensor:
    """A matrix for torch, which warns of memory that it may not write; such memory (a mapped file) is copied."""
    return torch.from_numpy(matrix if matrix.flags.writeable and matrix.flags.c_contiguous else np.array(matrix))
