"""Cheap scores that are never below the float64 score: the error bound is added by the matrix product itself.

A query x and a row y become x', y' of a few more dimensions, such that their product in the cheap precision, rounding
included, is at least the value v(x, y), and at most v plus twice a known error. So one comparison with a threshold
decides, each pair has the bound of its own lengths, and no pass over the scores is needed to apply it.

    metric         v(x, y)              score
    ip, hamming    x . y                see `metric`
    cosine         x . y / (|x| |y|)    v
    l2             x . y - |y|^2 / 2    2 v - |x|^2

In float32, x . y summed in any order, with or without fused operations, is within gamma_D |x| |y| of the real number,
gamma_n = n u / (1 - n u), u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). The extra
terms below cover the added columns, the rounding of inputs and lengths, and float64's own rounding. In bfloat16 and
float16 inputs are rounded too: |x . y - x~ . y~| <= |x| |y - y~| + |x - x~| |y~|, with the lengths of the residuals measured.
Lengths over 2^60 (2^30 for l2, which squares them) are refused, so no product overflows.

Axes: Q queries, B rows of a block, D dimensions, E dimensions with the bound's.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from raybench.errors import DataError
from raybench.search.certified.metric import Float64, Matrix, Questions, norms, tensor, unpack

UNDERFLOW = 2.0**-125  # per product, where a processor flushes denormal numbers to zero
_UP = 1 + 2.0**-7  # after this factor, rounding to bfloat16 or float16 cannot end below the number
_HALF_STEP = 2.0**-24  # of float16 near zero, where a factor alone would not do
_LENGTH_UP = 1 + 1e-3  # lengths computed in float32 are off by less
_SHORT = 2.0**-40  # from here down, squares in float32 lose digits


@dataclass(frozen=True, slots=True)
class Terms:
    """What decides a bound: metric, dimensions, and the type of what is multiplied (sums are in float32)."""

    metric: str
    dim: int
    dtype: torch.dtype = torch.float32

    @property
    def is_rounded(self) -> bool:
        """Whether inputs have fewer digits than float32."""
        return self.dtype != torch.float32

    @property
    def slope(self) -> float:
        """The error of a sum per |x| |y|; a few terms more than needed stand for everything that is small."""
        terms = self.dim + 12
        gamma = terms * 2.0**-24 / (1 - terms * 2.0**-24)
        # Normalising rows in float32 moves them by less than gamma again. Hardware that multiplies bfloat16 may truncate
        # sums where float32 rounds them, which doubles the unit; tensor cores also add in fewer, wider steps.
        unit = {torch.float32: 1, torch.bfloat16: 2, torch.float16: 4}[self.dtype]
        return gamma * (2 if self.metric == "cosine" else 1) * unit

    @property
    def longest(self) -> float:
        """The greatest length of a query or row."""
        if self.dtype == torch.float16 and self.metric != "cosine":  # which ends at 65,504
            return 2.0**7 if self.metric == "l2" else 2.0**15
        return 2.0**30 if self.metric == "l2" else 2.0**60

    @property
    def extra(self) -> int:
        """Columns after the main ones."""
        return 2 if self.is_rounded else 1

    @property
    def main(self) -> int:
        """Columns that carry v: for l2, |y|^2 / 2 is in one column, or in three pieces of fewer digits."""
        return self.dim + ({True: 3, False: 1}[self.is_rounded] if self.metric == "l2" else 0)

    @property
    def width(self) -> int:
        """All columns, E."""
        return self.main + self.extra


def query_columns(questions: Questions, terms: Terms) -> torch.Tensor:
    """The queries as [Q, E] in the cheap precision. Raises DataError for lengths that could overflow."""
    if (questions.norms_Q > terms.longest).any():
        query, power = int(np.argmax(questions.norms_Q)), int(math.log2(terms.longest))
        raise DataError(f"query {query} is longer than 2^{power}; scale queries and rows down")
    rows_QD = questions.rows_QD
    if questions.metric == "cosine":
        rows_QD = rows_QD / np.where(questions.norms_Q > 0, questions.norms_Q, 1)[:, None]
    main = np.ones((len(rows_QD), terms.main))
    main[:, : terms.dim] = rows_QD
    length_Q = np.sqrt((main * main).sum(axis=1)) * _LENGTH_UP
    if not terms.is_rounded:
        columns = torch.empty((len(main), terms.width), dtype=torch.float32)
        columns[:, :-1] = torch.from_numpy(main)
        columns[:, -1] = torch.from_numpy(terms.slope * length_Q * (1 + 2.0**-20))
        return columns
    columns = torch.empty((len(main), terms.width), dtype=terms.dtype)
    columns[:, :-2] = torch.from_numpy(main.astype(np.float32))
    residual_Q = np.sqrt(((main - columns[:, :-2].to(torch.float64).numpy()) ** 2).sum(axis=1)) * _LENGTH_UP
    columns[:, -2] = _up(torch.from_numpy(length_Q), terms.dtype)
    columns[:, -1] = _up(torch.from_numpy(residual_Q + terms.slope * length_Q), terms.dtype)
    return columns


def _up(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    step = _HALF_STEP if dtype == torch.float16 else 0.0
    return (values * _UP + step).to(torch.float32).to(dtype)


class RowColumns:
    """Blocks of rows as [B, E] in the cheap precision, in buffers that are used again, on a device of torch."""

    def __init__(self, terms: Terms, block_rows: int, device: str = "cpu") -> None:
        self._terms, self._device = terms, device
        self._main = torch.empty((block_rows, terms.main if terms.is_rounded else terms.width), device=device)
        self._cheap = self._main
        if terms.is_rounded:
            self._cheap = torch.empty((block_rows, terms.width), dtype=terms.dtype, device=device)

    def fill(self, rows_BD: Matrix) -> torch.Tensor:
        """The block, until the next call. Raises DataError for lengths that could overflow."""
        terms, count = self._terms, len(rows_BD)
        stored = unpack(rows_BD) if terms.metric == "hamming" else np.ascontiguousarray(rows_BD)
        main = self._main[:count, : terms.main]
        vectors = main[:, : terms.dim]
        vectors.copy_(tensor(stored).to(self._device))
        length_B = _lengths(vectors, stored, terms)
        if terms.metric == "cosine":
            _normalise(vectors, length_B, stored)
            length_B = (length_B > 0).to(torch.float32)
        elif terms.metric == "l2":
            half_B = -0.5 * length_B * length_B
            for column in range(terms.dim, terms.main):
                piece = half_B.to(terms.dtype).to(torch.float32)
                main[:, column] = piece
                half_B = half_B - piece
            # The half square has an error of its own, relative to itself, so it counts once more.
            length_B = length_B + length_B * length_B
        if not terms.is_rounded:
            self._main[:count, -1] = length_B * _LENGTH_UP
            return self._main[:count]
        cheap = self._cheap[:count]
        cheap[:, :-2] = main
        back = cheap[:, :-2].to(torch.float32)
        # Squares of short rows are lost in float32, and then the greatest share that rounding can move must do.
        is_short_B = length_B <= _SHORT
        rounded_B, moved_B = (torch.linalg.vector_norm(rows, dim=1) for rows in (back, main.sub_(back)))
        cheap[:, -1] = _up(torch.where(is_short_B, length_B * 1.01, rounded_B) * _LENGTH_UP, terms.dtype)
        share = 1.0 if terms.dtype == torch.float16 else 2.0**-7  # float16 has no digits left for short rows
        cheap[:, -2] = _up(torch.where(is_short_B, length_B * share, moved_B) * _LENGTH_UP, terms.dtype)
        return cheap


def _lengths(vectors: torch.Tensor, stored: Matrix, terms: Terms) -> torch.Tensor:
    length_B: torch.Tensor = torch.linalg.vector_norm(vectors, dim=1)
    odd = np.flatnonzero(~((length_B > _SHORT) & (length_B < terms.longest)).cpu().numpy())
    if len(odd):
        exact = norms(stored[odd])
        if (exact > terms.longest).any():
            raise DataError(f"a row is longer than 2^{int(math.log2(terms.longest))}; scale queries and rows down")
        length_B[torch.from_numpy(odd).to(length_B.device)] = torch.from_numpy(exact).to(length_B)
    return length_B


def _normalise(vectors: torch.Tensor, length_B: torch.Tensor, stored: Matrix) -> None:
    """Divide rows by their lengths; a row of length 0 stays."""
    vectors.div_(torch.where(length_B > _SHORT, length_B, 1.0)[:, None])
    short = np.flatnonzero((length_B <= _SHORT).cpu().numpy())
    if len(short):
        rows_BD = stored[short].astype(np.float64)
        exact = norms(rows_BD)
        where = torch.from_numpy(short).to(vectors.device)
        length_B[where] = torch.from_numpy(exact > 0).to(length_B)
        vectors[where] = torch.from_numpy(rows_BD / np.where(exact > 0, exact, 1)[:, None]).to(vectors)


def underflow(terms: Terms, length_Q: Float64, longest_row: float) -> Float64:
    """What flushing of denormal inputs and products can cost per query, absolute."""
    return terms.width * UNDERFLOW * (1 + length_Q + longest_row)
