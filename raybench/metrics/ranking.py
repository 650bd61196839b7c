"""Ranking measures as in trec_eval, each a few lines over the ranks of relevant rows; and three things called recall.

- `overlap@k`: the share of the exact top k that an index found. Nothing is judged; this is recall in ANN benchmarks.
- `recall@k`: relevant rows found over all relevant rows, as in TREC.
- `hit@k`: 1 if any relevant row is in the top k; what CLIP papers print as R@k.

With one relevant row per query recall@k equals hit@k, map@k equals mrr@k and precision@k is recall@k / k. Averages run
over all judged queries, and a query that found nothing counts 0.

The examples below are one query with relevant rows at ranks 2 and 5, of grades 1 and 3, and one more that is not found,
of grade 2.

Axes: Q queries, P relevant rows that have a rank, by query and rank.
"""

import numpy as np

from raybench.errors import RequestError
from raybench.metrics.measure import Measure, PerQuery, Values
from raybench.metrics.ranks import Order, Ranks


def evaluate(measure: Measure, ranks: Ranks) -> PerQuery:
    """A ranking measure for every query, in the declared order and in the worst and best one.

    Raises RequestError where the ranks do not go deep enough for the cut-off, and for no queries at all.
    """
    score = measure.definition.score
    if score is None:
        raise RequestError(f"{measure} compares with exact neighbours, not with judgments; use evaluate_overlap")
    if not len(ranks):
        raise RequestError(f"{measure} has no judged queries to average; check the judgments")
    if measure.k is None and not ranks.is_whole:
        raise RequestError(f"{measure} needs ranks among all rows, not lists; count the corpus or use a cut-off")
    k = ranks.corpus_size if measure.k is None else measure.k
    if ranks.depth is not None and k > ranks.depth:
        raise RequestError(f"{measure} needs {k} results per query; the lists have {ranks.depth}: search deeper")
    values_Q = score(ranks.declared, ranks, k)
    if ranks.depth == k:
        return PerQuery(measure, values_Q, None, None)
    return PerQuery(measure, values_Q, score(ranks.worst, ranks, k), score(ranks.best, ranks, k))


def hit(order: Order, ranks: Ranks, k: int) -> Values:
    """1 if any relevant row is in the top k: hit@1 is 0, hit@2 is 1."""
    return (_found(order, ranks, k) > 0).astype(np.float64)


def recall(order: Order, ranks: Ranks, k: int) -> Values:
    """Relevant rows in the top k over all relevant rows: recall@5 is 2/3."""
    return _found(order, ranks, k) / np.maximum(ranks.relevant_Q, 1)


def precision(order: Order, ranks: Ranks, k: int) -> Values:
    """Relevant rows in the top k over k, however short the list is: precision@5 is 2/5, precision@10 is 2/10."""
    return _found(order, ranks, k) / k


def average_precision(order: Order, ranks: Ranks, k: int) -> Values:
    """Precision at each relevant row in the top k, summed, over all relevant rows: map@5 is (1/2 + 2/5) / 3."""
    return _sum(order, ranks, k, order.nth_P / order.rank_P) / np.maximum(ranks.relevant_Q, 1)


def reciprocal_rank(order: Order, ranks: Ranks, k: int) -> Values:
    """One over the rank of the first relevant row, 0 past k: mrr@1 is 0, mrr@5 is 1/2."""
    return _sum(order, ranks, k, (order.nth_P == 1) / order.rank_P)


def ndcg(order: Order, ranks: Ranks, k: int) -> Values:
    """Discounted gain over that of the ideal order, which has all relevant rows and is cut at k as well.

    Gain is the grade itself and the discount log2(rank + 1), the form of Järvelin and Kekäläinen (2002) that
    trec_eval computes: ndcg@5 is (1/log2(3) + 3/log2(6)) / (3/log2(2) + 2/log2(3) + 1/log2(4)).
    """
    gain_Q, ideal_Q = (_sum(one, ranks, k, one.grade_P / np.log2(one.rank_P + 1)) for one in (order, ranks.ideal))
    return gain_Q / np.where(ideal_Q > 0, ideal_Q, 1)


def first_rank(order: Order, ranks: Ranks, _k: int) -> Values:
    """The rank of the first relevant row, 2 here; one past the last row for a query that has none in the corpus."""
    rank_Q = np.full(len(ranks), ranks.corpus_size + 1, np.float64)
    is_first_P = order.nth_P == 1
    rank_Q[order.query_P[is_first_P]] = order.rank_P[is_first_P]
    return rank_Q


def _found(order: Order, ranks: Ranks, k: int) -> Values:
    return _sum(order, ranks, k, np.ones(len(order.rank_P)))


def _sum(order: Order, ranks: Ranks, k: int, weight_P: Values) -> Values:
    """The sum of weights over the relevant rows of each query that are in the top k."""
    sum_Q = np.bincount(order.query_P, weights=weight_P * (order.rank_P <= k), minlength=len(ranks))
    return np.asarray(sum_Q, np.float64)
