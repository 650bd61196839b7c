"""Intervals that resample clusters, because five captions of one image are one observation, not five.

A resample draws as many clusters as there are, with replacement, and takes all queries of each; the number is computed
again over the queries drawn. The interval runs between the percentiles of these numbers (Efron and Tibshirani 1993,
chapter 13). All measures of one call share their resamples, and a seed gives the same interval wherever it is computed.

It says less than it seems to where clusters are few (under about 30 it is too narrow) and where all values are equal:
an interval without width is not certainty. One cluster cannot be resampled, and gives no interval.

Axes: Q queries, C clusters, M measures, R resamples.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from raybench.arrays import Rows
from raybench.errors import DataError, RequestError
from raybench.metrics.measure import Statistic, Values


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number over all queries would mostly be if other clusters had been drawn."""

    low: float
    high: float
    method: str


def number_clusters(clusters: Iterable[str]) -> Rows:
    """The clusters of queries as numbers from 0, in the order in which they first come."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(cluster, len(numbers)) for cluster in clusters), np.int64)


def bootstrap_interval(
    values_Q: Values,
    clusters_Q: Rows,
    *,
    statistic: Statistic = "mean",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """The interval of the mean or median of one measure; None where all queries are of one cluster."""
    return bootstrap_intervals([values_Q], clusters_Q, [statistic], resamples=resamples, level=level, seed=seed)[0]


def bootstrap_intervals(
    values_MQ: Sequence[Values],
    clusters_Q: Rows,
    statistics_M: Sequence[Statistic],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval | None]:
    """The intervals of several measures on the same resamples, each the same as it would be alone.

    Memory is a few numbers per query and measure and one per resample.
    """
    if len(values_MQ) != len(statistics_M):
        raise DataError(f"{len(values_MQ)} measures and {len(statistics_M)} statistics do not belong together")
    for values_Q in values_MQ:
        check(values_Q, clusters_Q, resamples, level)
    clusters, clusters_Q = numbered(clusters_Q)
    if clusters < 2 or not values_MQ:
        return [None] * len(values_MQ)
    samples_RM = resampled(values_MQ, clusters_Q, clusters, statistics_M, resamples, seed)
    method = f"{level:.0%} percentile bootstrap over {clusters} clusters, {resamples} resamples, seed {seed}"
    low_M, high_M = np.quantile(samples_RM, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(float(low), float(high), method) for low, high in zip(low_M, high_M, strict=True)]


def mean_interval(values_Q: Values, clusters_Q: Rows, *, level: float) -> Interval | None:
    """The interval of the mean by the normal limit, corrected for skewness (Hall 1992, section 3.6); no draw is in it.

    Far out in a tail it is steadier than percentiles of resamples, which there are a handful of numbers, and it does not fall
    short where a few clusters are far below the others, as percentiles do. None where all queries are of one cluster.
    """
    check(values_Q, clusters_Q, 1, level)
    clusters, clusters_Q = numbered(clusters_Q)
    if clusters < 2:
        return None
    mean = float(values_Q.mean())
    excess_C = np.bincount(clusters_Q, values_Q - mean, clusters)
    spread = float(np.sqrt((excess_C**2).mean()))
    z = NormalDist().inv_cdf((1 + level) / 2)
    skew = float((excess_C**3).mean()) / spread**3 if spread else 0.0
    shift = skew * (2 * z * z + 1) / (6 * np.sqrt(clusters))
    error = spread * np.sqrt(clusters) * np.sqrt(clusters / (clusters - 1)) / len(values_Q)
    method = f"{level:.1%} normal interval with correction for skewness over {clusters} clusters"
    return Interval(float(mean - error * (z - shift)), float(mean + error * (z + shift)), method)


def check(values_Q: Values, clusters_Q: Rows, resamples: int, level: float) -> None:
    """Raise DataError for values that are not one finite number per query, RequestError for options out of range."""
    if values_Q.shape != clusters_Q.shape or values_Q.ndim != 1:
        raise DataError(f"values {values_Q.shape} and clusters {clusters_Q.shape} must be one per query")
    if not len(values_Q) or not np.isfinite(values_Q).all():
        raise DataError(f"an interval needs finite values; {np.isfinite(values_Q).sum()} of {len(values_Q)} are")
    if resamples < 1 or not 0 < level < 1:
        raise RequestError(f"resamples={resamples} must be at least 1, and level={level} between 0 and 1")


def numbered(clusters_Q: Rows) -> tuple[int, Rows]:
    """How many clusters there are, and each query's as a number below that."""
    names_C, numbers_Q = np.unique(clusters_Q, return_inverse=True)
    return len(names_C), numbers_Q


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[Rows]:
    """How often each cluster is drawn in each resample."""
    random = np.random.default_rng([seed, 0])
    for _ in range(resamples):
        yield np.bincount(random.integers(clusters, size=clusters), minlength=clusters)


def resampled(
    values_MQ: Sequence[Values],
    clusters_Q: Rows,
    clusters: int,
    statistics_M: Sequence[Statistic],
    resamples: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """The number of each measure in each resample [R, M].

    The mean of a resample needs only the sum and the number of queries of each cluster; the median needs all values.
    """
    counts_C = np.bincount(clusters_Q, minlength=clusters)
    sums_MC = np.stack([np.bincount(clusters_Q, weights=values_Q, minlength=clusters) for values_Q in values_MQ])
    order_MQ = {m: np.argsort(values_MQ[m], kind="stable") for m, name in enumerate(statistics_M) if name == "median"}
    sorted_MQ = {m: (values_MQ[m][order_Q], clusters_Q[order_Q]) for m, order_Q in order_MQ.items()}
    samples_RM = np.empty((resamples, len(values_MQ)))
    for resample, weights_C in enumerate(_draws(clusters, resamples, seed)):
        drawn_C, num_queries = weights_C.astype(np.float64), int(counts_C @ weights_C)
        # One sum at a time and not through BLAS: a matrix product rounds differently with more measures or threads.
        samples_RM[resample] = [np.einsum("c,c->", sums_C, drawn_C) / num_queries for sums_C in sums_MC]
        for m, (values_Q, of_Q) in sorted_MQ.items():
            samples_RM[resample, m] = _weighted_median(values_Q, weights_C[of_Q])
    return samples_RM


def _weighted_median(sorted_Q: Values, weights_Q: Rows) -> float:
    """The median of values that each come as often as their weight says."""
    upto_Q = np.cumsum(weights_Q)
    total = int(upto_Q[-1])
    low, high = np.searchsorted(upto_Q, [(total + 1) // 2, total // 2 + 1])
    return float(sorted_Q[low] + sorted_Q[high]) / 2
