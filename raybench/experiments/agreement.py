"""How far a published gold standard agrees with the proven one: by id, as challenges count, and with ties allowed.

By id, a published row counts if it is among the exact k: a corpus with copies keeps even a perfect list under 1. With
ties allowed it counts if its float64 score, computed here, reaches the k-th exact score.

Axes: Q queries, K neighbours.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.arrays import Neighbors
from raybench.errors import RequestError
from raybench.experiments.rescoring import Ids, score_found
from raybench.formats.base import StoredNeighbors

_DEPTHS = (1, 10, 30, 100, 1_000)


def agreement(exact: Neighbors, published: StoredNeighbors, corpus: str, queries: str, metric: str) -> dict[str, Any]:
    """Shares of published rows that are right at usual depths, and the sentences that say so; a JSON value."""
    if len(exact) != len(published.ids_QK):
        raise RequestError(
            f"the published neighbours are of {len(published.ids_QK)} queries, and {len(exact)} were asked; give the truth of "
            "these queries"
        )
    deepest = min(exact.k, published.ids_QK.shape[1])
    theirs_QK = _once(published.ids_QK[:, :deepest])
    [scores_QK] = score_found([theirs_QK], exact, corpus, queries, metric)
    found = {}
    for depth in sorted({depth for depth in (*_DEPTHS, deepest) if depth <= deepest}):
        ids_QK = exact.ids_QK[:, :depth]
        right_QK = _isin(theirs_QK[:, :depth], ids_QK)
        is_tied_QK = (scores_QK[:, :depth] >= exact.scores_QK[:, depth - 1 : depth]) & (theirs_QK[:, :depth] >= 0)
        held_Q = np.maximum((ids_QK >= 0).sum(axis=1), 1)
        tied_Q = (right_QK | is_tied_QK).sum(axis=1) / held_Q
        found[str(depth)] = {
            "by_id": float((right_QK.sum(axis=1) / held_Q).mean()), "with_ties": float(tied_Q.mean()),
            "queries_that_differ": int((tied_Q < 1).sum()),
        }  # fmt: skip
    return {"depths": found, "lines": [_sentence(depth, values) for depth, values in found.items()]}


def _sentence(depth: str, values: dict[str, Any]) -> str:
    return (
        f"published @{depth}: {values['by_id']:.6f} by id, {values['with_ties']:.6f} with ties allowed, "
        f"{values['queries_that_differ']} queries differ"
    )


def _once(ids_QK: Ids) -> Ids:
    """Lists in which a row that comes again is padding: it counts once."""
    order_QK = np.argsort(ids_QK, axis=1, kind="stable")
    sorted_QK = np.take_along_axis(ids_QK, order_QK, axis=1)
    is_again_QK = np.zeros(ids_QK.shape, np.bool_)
    np.put_along_axis(is_again_QK, order_QK[:, 1:], sorted_QK[:, 1:] == sorted_QK[:, :-1], axis=1)
    return np.where(is_again_QK, -1, ids_QK)


def _isin(theirs_QK: Ids, ids_QK: Ids) -> npt.NDArray[np.bool_]:
    """Whether each published row is in the exact list of its query; padding is not."""
    span = int(max(theirs_QK.max(initial=0), ids_QK.max(initial=0))) + 2
    first_Q = np.arange(len(ids_QK))[:, None] * span
    return np.asarray(np.isin(theirs_QK + first_Q, ids_QK + first_Q) & (theirs_QK >= 0))
