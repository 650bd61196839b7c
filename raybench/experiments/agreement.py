"""How far a published gold standard agrees with the proven one: by id, as challenges count, and with ties allowed.

By id, a published row counts if it is among the exact k: a corpus with copies keeps even a perfect list under 1. With
ties allowed it counts if its float64 score, computed here, reaches the k-th exact score.

Axes: Q queries, K neighbours.
"""

from typing import Any

import numpy as np

from raybench.arrays import Neighbors
from raybench.errors import RequestError
from raybench.formats import open_vectors
from raybench.formats.base import StoredNeighbors, read_rows
from raybench.search.certified import Questions
from raybench.search.certified.metric import score_rows

_DEPTHS = (1, 10, 30, 100, 1_000)


def agreement(exact: Neighbors, published: StoredNeighbors, corpus: str, queries: str, metric: str) -> dict[str, Any]:
    """Shares of published rows that are right at usual depths, and the sentences that say so; a JSON value."""
    if len(exact) != len(published.ids_QK):
        raise RequestError(
            f"the published neighbours are of {len(published.ids_QK)} queries, these of {len(exact)}; take its queries"
        )
    deepest = min(exact.k, published.ids_QK.shape[1])
    depths = sorted({depth for depth in (*_DEPTHS, deepest) if depth <= deepest})
    scores_QK = _scores(exact.top(deepest), published.ids_QK[:, :deepest], corpus, queries, metric)
    found = {}
    for depth in depths:
        ids_QK, theirs_QK = exact.ids_QK[:, :depth], published.ids_QK[:, :depth]
        right_QK = _isin(theirs_QK, ids_QK)
        tied_QK = right_QK | ((scores_QK[:, :depth] >= exact.scores_QK[:, depth - 1 : depth]) & (theirs_QK >= 0))
        held_Q = np.maximum((ids_QK >= 0).sum(axis=1), 1)
        by_id_Q, tied_Q = right_QK.sum(axis=1) / held_Q, tied_QK.sum(axis=1) / held_Q
        found[str(depth)] = {
            "by_id": float(by_id_Q.mean()), "with_ties": float(tied_Q.mean()),
            "queries_that_differ": int((tied_Q < 1).sum()),
        }  # fmt: skip
    return {"depths": found, "lines": [_sentence(depth, values) for depth, values in found.items()]}


def _sentence(depth: str, values: dict[str, Any]) -> str:
    return (
        f"published @{depth}: {values['by_id']:.6f} by id, {values['with_ties']:.6f} with ties allowed, "
        f"{values['queries_that_differ']} queries differ"
    )


def _isin(theirs_QK: np.ndarray[Any, np.dtype[np.int64]], ids_QK: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    """Whether each published row, counted once, is in the exact list of its query."""
    right_QK = np.zeros(theirs_QK.shape, np.bool_)
    for query, (theirs, ids) in enumerate(zip(theirs_QK, ids_QK, strict=True)):
        _, first = np.unique(theirs, return_index=True)
        once = np.zeros(len(theirs), np.bool_)
        once[first] = True
        right_QK[query] = once & np.isin(theirs, ids) & (theirs >= 0)
    return right_QK


def _scores(exact: Neighbors, theirs_QK: Any, corpus: str, queries: str, metric: str) -> Any:
    """Float64 scores of published rows that are not in the exact list; -inf for the others, and for a row listed twice."""
    scores_QK = np.full(theirs_QK.shape, -np.inf)
    rows, asked = open_vectors(corpus), Questions.of(read_rows(open_vectors(queries)), metric)
    if int(theirs_QK.max(initial=-1)) >= rows.rows:
        raise RequestError(
            f"the published neighbours name row {int(theirs_QK.max())}, but {corpus} has {rows.rows} rows"
        )
    for query in range(len(exact)):
        _, first = np.unique(theirs_QK[query], return_index=True)
        for place in first:
            row = int(theirs_QK[query, place])
            if row >= 0 and row not in exact.ids_QK[query]:
                stored = read_rows(rows, row, row + 1)
                scores_QK[query, place] = score_rows(asked, query, stored, is_exact=False)[0]
    return scores_QK
