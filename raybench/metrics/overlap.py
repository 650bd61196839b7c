"""Overlap is the share of the exact top k that an index found: recall as vector search means it, nothing is judged.

By id, a row counts if it is one of the exact k. Tie-aware, it counts if its exact score is at least the k-th exact
score, so that an index is not blamed for the other half of a tie.

Axes: Q queries, K results.
"""

import numpy as np

from raybench.arrays import Neighbors, Rows
from raybench.errors import DataError, RequestError
from raybench.metrics.measure import Measure, PerQuery
from raybench.metrics.ranks import check_order

_SLACK = 1e-9  # of the largest score: far above float64 rounding, far below any index's own approximation
_CELLS = 1 << 16  # ids sorted together: they stay in cache


def evaluate_overlap(measure: Measure, found: Neighbors, gold: Neighbors, *, exact_scores: bool) -> PerQuery:
    """Overlap by id for every query, and tie-aware as its best value; the worst is the one by id.

    Neighbours may be fewer than k only where the corpus is smaller; then the share is of those that there are.
    `exact_scores` says that the scores of `found` were computed as those of `gold` were, in float64 on the stored
    vectors. The scores that an index reports from its codes are not, and then only the value by id is known.

    Raises RequestError for lists shorter than k, and DataError for a row found twice or scores that cannot be exact.
    """
    if measure.needs != "gold" or measure.k is None:
        raise RequestError(f"{measure} compares with judgments, not with exact neighbours; use evaluate")
    if len(found) != len(gold) or not len(gold):
        raise RequestError(f"{measure} needs the same queries on both sides; there are {len(found)} and {len(gold)}")
    for name, side in (("index", found), ("exact search", gold)):
        if side.k < measure.k:
            raise RequestError(f"{measure} needs {measure.k} results per query; the {name} gave {side.k}: ask for more")
    check_order(gold.top(measure.k), np.iinfo(np.int64).max)
    by_id_Q, tied_Q = np.empty(len(gold)), np.empty(len(gold))
    step = max(1, _CELLS // measure.k)
    for start in range(0, len(gold), step):
        part = slice(start, start + step)
        found_B = Neighbors(found.ids_QK[part, : measure.k], found.scores_QK[part, : measure.k])
        gold_B = Neighbors(gold.ids_QK[part, : measure.k], gold.scores_QK[part, : measure.k])
        known_B = np.maximum((gold_B.ids_QK >= 0).sum(axis=1), 1)
        by_id_Q[part] = _shared(found_B.ids_QK, gold_B.ids_QK, start) / known_B
        if exact_scores:
            tied_Q[part] = np.maximum(by_id_Q[part], _as_good(found_B, gold_B, start) / known_B)
    return PerQuery(measure, by_id_Q, by_id_Q, tied_Q if exact_scores else None)


def _shared(found_QK: Rows, gold_QK: Rows, first_query: int) -> Rows:
    """How many ids two lists share, per query."""
    # Ids of the exact list become even, those of the other odd; sorted, a shared id is a pair that differs in one bit.
    marked_QM = np.sort(np.concatenate([2 * gold_QK, 2 * found_QK + 1], axis=1), axis=1)
    left_QM, right_QM, is_row_QM = marked_QM[:, :-1], marked_QM[:, 1:], marked_QM[:, :-1] >= 0
    twice_Q = ((left_QM == right_QM) & is_row_QM).any(axis=1)
    if twice_Q.any():
        query = first_query + int(np.argmax(twice_Q))
        raise DataError(f"the results of query {query} hold a row twice; remove duplicates when lists are merged")
    return np.asarray(((left_QM ^ 1 == right_QM) & is_row_QM).sum(axis=1))


def _as_good(found: Neighbors, gold: Neighbors, first_query: int) -> Rows:
    """How many found rows score at least as much as the last of the exact rows, per query."""
    is_gold_QK = gold.ids_QK >= 0
    slack_Q = _SLACK * np.abs(np.where(is_gold_QK, gold.scores_QK, 0)).max(axis=1)
    scores_QK = -np.sort(-np.where(found.ids_QK >= 0, found.scores_QK, -np.inf), axis=1)
    # The j-th best of any rows is at most the j-th best of all rows; NaN is not, either.
    is_wrong_Q = ~(scores_QK <= gold.scores_QK + slack_Q[:, None]).all(axis=1)
    if is_wrong_Q.any():
        query = first_query + int(np.argmax(is_wrong_Q))
        raise DataError(
            f"query {query} found rows with higher scores than the exact ones; the scores are approximate or the exact "
            "search is wrong: score found rows in float64 on the stored vectors"
        )
    last_Q = np.where(is_gold_QK, gold.scores_QK, np.inf).min(axis=1)
    return np.asarray((scores_QK >= last_Q[:, None]).sum(axis=1))
