"""Rows that were found by other means, scored in float64 by the vectors as they are stored.

What a search reports from its codes or projections is not comparable with exact scores; these are. Pairs that the exact
lists already know are not computed again, and the corpus is read once, in order, for any number of lists.

Axes: Q queries, K found rows of a query, P pairs of a query and a row.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raybench.arrays import Neighbors
from raybench.embedding.local import Progress
from raybench.errors import DataError
from raybench.formats import open_vectors
from raybench.formats.base import VectorFile, read_rows
from raybench.search.certified import Questions
from raybench.search.certified.metric import Float64, score_pairs

Ids = npt.NDArray[np.int64]

_READ_ROWS = 8_192
_PAIRS = 1_024  # scored together: 6 MiB of float64 at 768 dimensions


def score_found(
    lists_LQK: Sequence[Ids], exact: Neighbors, corpus: str, queries: str, metric: str, progress: Progress | None = None
) -> list[Float64]:
    """Float64 scores of every list's rows (-1 pads, and gets -inf), in the lists' shapes.

    `exact` are lists that are already scored so. DataError for a row that the corpus does not have.
    """
    file = open_vectors(corpus)
    keys_LQK = [_keys(ids_QK, file.rows, corpus) for ids_QK in lists_LQK]
    is_known_QK = exact.ids_QK >= 0
    known_P, order_P = np.unique(_keys(exact.ids_QK, file.rows, corpus)[is_known_QK], return_index=True)
    known_scores_P = exact.scores_QK[is_known_QK][order_P]
    wanted = [keys_QK[keys_QK >= 0] for keys_QK in keys_LQK]
    missing_P = np.setdiff1d(np.concatenate([np.empty(0, np.int64), *wanted]), known_P)
    if len(missing_P):
        found_P = _score(missing_P, file, Questions.of(read_rows(open_vectors(queries)), metric), progress)
        known_P, order_P = np.unique(np.concatenate([known_P, missing_P]), return_index=True)
        known_scores_P = np.concatenate([known_scores_P, found_P])[order_P]
    return [_look_up(keys_QK, known_P, known_scores_P) for keys_QK in keys_LQK]


def _keys(ids_QK: Ids, rows: int, corpus: str) -> Ids:
    """One number for each pair of query and row; -1 for padding."""
    if int(ids_QK.max(initial=-1)) >= rows:
        raise DataError(
            f"the neighbours name row {int(ids_QK.max())}, but {corpus} has {rows} rows; take its own corpus"
        )
    return np.where(ids_QK >= 0, np.arange(len(ids_QK))[:, None] * rows + ids_QK, -1)


def _look_up(keys_QK: Ids, known_P: Ids, scores_P: Float64) -> Float64:
    found_QK = np.full(keys_QK.shape, -np.inf)
    is_row_QK = keys_QK >= 0
    if is_row_QK.any():
        found_QK[is_row_QK] = scores_P[np.searchsorted(known_P, keys_QK[is_row_QK])]
    return found_QK


def _score(keys_P: Ids, file: VectorFile, questions: Questions, progress: Progress | None) -> Float64:
    """Scores of pairs, with the corpus read in row order and only where rows are wanted."""
    query_P, row_P = np.divmod(keys_P, file.rows)
    order_P = np.argsort(row_P, kind="stable")
    query_P, row_P = query_P[order_P], row_P[order_P]
    scores_P = np.empty(len(keys_P))
    position = 0
    while position < len(row_P):
        first = int(row_P[position])
        stop = int(np.searchsorted(row_P, first + _READ_ROWS))
        rows_BD = read_rows(file, first, int(row_P[stop - 1]) + 1)
        for start in range(position, stop, _PAIRS):
            part = slice(start, min(start + _PAIRS, stop))
            scores_P[order_P[part]] = score_pairs(questions, query_P[part], rows_BD[row_P[part] - first])
        if progress is not None:
            progress(stop - position, stop / len(row_P))
        position = stop
    return scores_P
