"""What a random order of the corpus is expected to score; a result at that level is a model loaded wrongly.

N rows, R of them relevant, all orders equally likely; the sums run over ranks r up to k (or N, if smaller). With the
harmonic number H(n) = 1 + 1/2 + ... + 1/n, and before dividing by relevant rows that are not in the corpus:

- precision: R/N per rank; recall: k/N; overlap: k/N;
- hit: 1 - C(N-R, k) / C(N, k), hypergeometric;
- map: (1/N) sum of (1 + (r-1)(R-1)/(N-1)) / r, because two given ranks are both relevant with R(R-1) / (N(N-1));
- ndcg: (mean grade of all N rows) * sum of 1/log2(r+1), over the ideal sum;
- mrr: sum of P(first relevant row is at r) / r; without a cut-off R/(N-R+1) * (H(N) - H(R-1));
- mean_rank: (N+1)/(R+1), the expected minimum of R of the numbers 1 to N;
- median_rank: the rank by which half of all queries have met a relevant row. The median of finitely many queries
  scatters around it; all other expectations are exact.

Axes: Q queries, U distinct numbers of relevant rows.
"""

from collections.abc import Callable

import numpy as np

from raybench.errors import RequestError
from raybench.metrics.counts import Pairs
from raybench.metrics.measure import Measure

_EULER = 0.5772156649015329  # H(n) tends to ln n + this


def chance(measure: Measure, pairs: Pairs, corpus_size: int) -> float:
    """The expectation of a measure under a random order, over all judged queries. RequestError for no queries."""
    if pairs.queries < 1 or corpus_size < 1:
        raise RequestError(f"{measure} by chance needs queries and rows; there are {pairs.queries} and {corpus_size}")
    k = corpus_size if measure.k is None else measure.k
    return measure.definition.chance(pairs, k, corpus_size)


def is_at_chance(measure: Measure, value: float, low: float | None, high: float | None, expected: float) -> bool:
    """Whether a result cannot be told from a random order: its interval reaches the expectation or is beyond it."""
    if measure.better == "higher":
        # Where a random order finds all there is, as in a corpus no longer than the list, nothing can be better.
        return (value if low is None else low) <= expected < 1
    return (value if high is None else high) >= expected


def overlap(_pairs: Pairs, k: int, rows: int) -> float:
    """The share of the exact top k among k random rows."""
    return min(k, rows) / rows


def recall(pairs: Pairs, k: int, rows: int) -> float:
    """Exact; a query without relevant rows has 0."""
    return _mean(pairs, lambda relevant: float(relevant > 0) * min(k, rows) / rows, of_all=True)


def precision(pairs: Pairs, k: int, rows: int) -> float:
    """Exact; ranks past the end of the corpus count as not relevant."""
    return _mean(pairs, lambda relevant: relevant / rows * min(k, rows) / k)


def hit(pairs: Pairs, k: int, rows: int) -> float:
    """Exact."""
    return _mean(pairs, lambda relevant: _hit(relevant, min(k, rows), rows))


def average_precision(pairs: Pairs, k: int, rows: int) -> float:
    """Exact."""
    k = min(k, rows)
    harmonic = _harmonic(k)

    def one(relevant: int) -> float:
        both = (relevant - 1) / (rows - 1) if rows > 1 else 0.0
        return float(relevant > 0) / rows * (harmonic + (k - harmonic) * both)

    return _mean(pairs, one, of_all=True)


def reciprocal_rank(pairs: Pairs, k: int, rows: int) -> float:
    """Exact."""

    def one(relevant: int) -> float:
        if relevant == 0:
            return 0.0
        if k >= rows:
            return relevant / (rows - relevant + 1) * (_harmonic(rows) - _harmonic(relevant - 1))
        rank_K = np.arange(1, min(k, rows - relevant + 1) + 1, dtype=np.float64)
        stays_K = 1 - relevant / (rows - rank_K + 1)  # the row at this rank is not relevant, nor was any before
        before_K = np.concatenate([[1.0], np.cumprod(stays_K)[:-1]])
        return float(np.sum(before_K * (1 - stays_K) / rank_K))

    return _mean(pairs, one)


def ndcg(pairs: Pairs, k: int, rows: int) -> float:
    """Exact, because gain is a sum over ranks and every rank has the same expected grade."""
    order_P = np.lexsort((-pairs.grade_P, pairs.query_P))
    rank_P = np.arange(len(pairs)) - np.searchsorted(pairs.query_P, pairs.query_P) + 1
    discounted_P = np.where(rank_P <= k, pairs.grade_P[order_P] / np.log2(rank_P + 1), 0)
    ideal_Q = np.bincount(pairs.query_P, weights=discounted_P, minlength=pairs.queries)
    here_P = np.where(pairs.row_P >= 0, pairs.grade_P, 0)
    grade_Q = np.bincount(pairs.query_P, weights=here_P, minlength=pairs.queries) / rows
    discounts = float(np.sum(1 / np.log2(np.arange(2, min(k, rows) + 2))))
    return float(np.mean(grade_Q * discounts / np.where(ideal_Q > 0, ideal_Q, 1)))


def mean_rank(pairs: Pairs, _k: int, rows: int) -> float:
    """Exact; a query without relevant rows has rank N+1."""
    return _mean(pairs, lambda relevant: (rows + 1) / (relevant + 1))


def median_rank(pairs: Pairs, _k: int, rows: int) -> float:
    """The first rank by which at least half of the queries are expected to have met a relevant row."""
    low, high = 0, rows + 1  # by rank N+1 every query counts as answered
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if hit(pairs, middle, rows) >= 0.5 else (middle, high)
    return float(high)


def _hit(relevant: int, k: int, rows: int) -> float:
    """1 - C(N-R, k) / C(N, k), as a product over the smaller of R and k, in which the two change places."""
    few, many = sorted((relevant, k))
    if few + many > rows:
        return 1.0
    return float(-np.expm1(np.sum(np.log1p(-many / (rows - np.arange(few, dtype=np.float64))))))


def _harmonic(number: int) -> float:
    if number < 1000:
        return float(np.sum(1 / np.arange(1, number + 1)))
    # Euler and Maclaurin; the next term is under 1e-14 from here on.
    return float(np.log(number) + _EULER + 1 / (2 * number) - 1 / (12 * number**2))


def _mean(pairs: Pairs, one: Callable[[int], float], *, of_all: bool = False) -> float:
    """The mean over queries of a number that only their count of relevant rows in the corpus decides.

    `of_all` scales it to the share that these are of all relevant rows, in the corpus or not.
    """
    here_Q = np.bincount(pairs.query_P, weights=pairs.row_P >= 0, minlength=pairs.queries).astype(np.int64)
    relevant_U, kind_Q = np.unique(here_Q, return_inverse=True)
    value_Q = np.array([one(int(relevant)) for relevant in relevant_U])[kind_Q]
    if of_all:
        value_Q *= here_Q / np.maximum(np.bincount(pairs.query_P, minlength=pairs.queries), 1)
    return float(value_Q.mean())
