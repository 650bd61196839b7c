"""Float64 scores of one query and many rows of a part, in buffers that are used again: candidates cost little else.

The scores are those of `metric.score_pairs`. A few rows at a time stay in cache on their way from float16 to float64, which
no library converts in one fast step, so they go by way of float32.

Axes: C candidates of one query, D dimensions.
"""

import numpy as np
import torch

from raybench.arrays import Rows
from raybench.search.certified.blocks import Part
from raybench.search.certified.metric import Float64, Questions, score_pairs, scores_of

_ROWS = 128  # 0.75 MiB of float64 at 768 dimensions


class RowScores:
    """The scores of a part's rows; used by one thread at a time."""

    def __init__(self, questions: Questions, part: Part) -> None:
        self._questions, self._part = questions, part
        stored = part.rows_ND
        self._taken = np.empty((_ROWS, stored.shape[1]), stored.dtype)
        self._single = torch.empty((_ROWS, questions.dim), dtype=torch.float32)
        self._double = torch.empty((_ROWS, questions.dim), dtype=torch.float64)

    def of(self, query: int, place_C: Rows) -> Float64:
        """The scores of one query and the rows at some places."""
        row_C = self._part.rows(place_C)
        score_C = np.empty(len(row_C))
        for start in range(0, len(row_C), _ROWS):
            part = slice(start, start + _ROWS)
            score_C[part] = self._few(query, row_C[part])
        return score_C

    def _few(self, query: int, row_C: Rows) -> Float64:
        questions, count = self._questions, len(row_C)
        # Every row is there, and only with "clip" does numpy write to the buffer without another one between.
        np.take(self._part.rows_ND, row_C, axis=0, out=self._taken[:count], mode="clip")
        if questions.metric == "hamming":
            return score_pairs(questions, np.full(count, query), self._taken[:count])
        taken = torch.from_numpy(self._taken[:count])
        if taken.dtype == torch.float16:
            taken = self._single[:count].copy_(taken)
        rows_CD = self._double[:count].copy_(taken).numpy()
        query_D = questions.rows_QD[query]
        # Where no sum can round, BLAS may sum as it likes.
        dots_C = rows_CD @ query_D if self._part.is_exact and questions.metric != "l2" else None
        return scores_of(questions, query_D, questions.norms_Q[query], rows_CD, dots_C)
