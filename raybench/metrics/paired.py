"""Two systems on the same queries: the difference of their means or medians, and whether it may be chance.

Both sides are resampled together: a resample draws clusters, and takes their queries on both sides. So what makes a query hard
for both cancels, and a small difference can be seen that two intervals side by side would hide.

Axes: Q queries, C clusters, M measures, R resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from raybench.arrays import Rows
from raybench.errors import DataError
from raybench.metrics.measure import Statistic, Values, summary
from raybench.metrics.uncertainty import check, numbered, resampled

_NEAR = 1 - 1e-12  # sums of the same numbers in another order differ in the last bits


@dataclass(frozen=True, slots=True)
class Difference:
    """The first minus the second on the same queries; interval and p are None where there is only one cluster."""

    value: float
    low: float | None
    high: float | None
    p: float | None  # how often chance alone, deciding which side is which, makes a difference as large
    method: str


def paired_difference(
    a_Q: Values,
    b_Q: Values,
    clusters_Q: Rows,
    *,
    statistic: Statistic = "mean",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """How much more the first has than the second on the same queries, and whether that may be chance.

    The interval resamples clusters. `p` is from a randomisation test: for each cluster a coin decides whether its two
    sides change places, and p is the share of such draws that differ at least as much, the observed one counted among
    them, so that it is never 0 (Smucker, Allan and Carterette 2007). With C clusters it cannot be under about 2^(1-C).
    """
    return paired_differences([a_Q], [b_Q], clusters_Q, [statistic], resamples=resamples, level=level, seed=seed)[0]


def paired_differences(
    a_MQ: Sequence[Values],
    b_MQ: Sequence[Values],
    clusters_Q: Rows,
    statistics_M: Sequence[Statistic],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Difference]:
    """The differences of several measures on the same resamples, each the same as it would be alone."""
    if not len(a_MQ) == len(b_MQ) == len(statistics_M):
        raise DataError(f"{len(a_MQ)}, {len(b_MQ)} measures and {len(statistics_M)} statistics do not belong together")
    for values_Q in (*a_MQ, *b_MQ):
        check(values_Q, clusters_Q, resamples, level)
    values_M = [summary(a, kind) - summary(b, kind) for a, b, kind in zip(a_MQ, b_MQ, statistics_M, strict=True)]
    clusters, clusters_Q = numbered(clusters_Q)
    if clusters < 2 or not values_M:
        return [Difference(value, None, None, None, "one cluster: no interval") for value in values_M]
    samples_RM = resampled([*a_MQ, *b_MQ], clusters_Q, clusters, [*statistics_M] * 2, resamples, seed)
    apart_RM = samples_RM[:, : len(a_MQ)] - samples_RM[:, len(a_MQ) :]
    low_M, high_M = np.quantile(apart_RM, [(1 - level) / 2, (1 + level) / 2], axis=0)
    method = (
        f"{100 * level:g}% percentile bootstrap and randomisation test over {clusters} clusters, "
        f"{resamples} resamples each, seed {seed}"
    )
    made = []
    for place, value in enumerate(values_M):
        swapped = _swapped(a_MQ[place], b_MQ[place], clusters_Q, clusters, statistics_M[place], resamples, seed)
        as_large = sum(abs(difference) >= abs(value) * _NEAR for difference in swapped)
        p = (1 + as_large) / (1 + resamples)
        made.append(Difference(value, float(low_M[place]), float(high_M[place]), p, method))
    return made


def _swapped(
    a_Q: Values, b_Q: Values, clusters_Q: Rows, clusters: int, statistic: Statistic, resamples: int, seed: int
) -> Iterator[float]:
    """The difference after a coin has decided, for each cluster, whether its sides change places."""
    random = np.random.default_rng([seed, 1])
    difference_C = np.bincount(clusters_Q, weights=a_Q - b_Q, minlength=clusters)
    for _ in range(resamples):
        swaps_C = random.integers(2, size=clusters, dtype=np.int8).astype(np.bool_)
        if statistic == "mean":
            yield float(np.where(swaps_C, -difference_C, difference_C).sum() / len(a_Q))
        else:
            swaps_Q = swaps_C[clusters_Q]
            yield float(np.median(np.where(swaps_Q, b_Q, a_Q)) - np.median(np.where(swaps_Q, a_Q, b_Q)))
