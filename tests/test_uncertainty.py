"""Intervals resample clusters, cover what they say, and comparisons of a model with itself find nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.errors import DataError, RequestError
from raybench.metrics.paired import paired_difference
from raybench.metrics.uncertainty import (
    _weighted_median,
    bootstrap_interval,
    bootstrap_intervals,
    mean_interval,
    number_clusters,
)


def captions(random: np.random.Generator, images: int, per_image: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """0 or 1 per query with mean one half; a share of images give all their captions the same value."""
    value_Q = random.integers(0, 2, (images, per_image)).astype(float)
    is_same = random.random(images) < share
    value_Q[is_same] = value_Q[is_same][:, :1]
    return value_Q.ravel(), np.repeat(np.arange(images), per_image)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_an_interval_is_that_of_numbers_computed_again_over_drawn_clusters(statistic: str) -> None:
    """The fast sums and weighted medians equal concatenating the drawn clusters' values, over clusters of any size."""
    random = np.random.default_rng(2)
    clusters_Q = random.choice([3, 5, 7, 8, 20, 21, 90], 60)
    values_Q = random.integers(0, 9, 60).astype(float)
    interval = bootstrap_interval(values_Q, clusters_Q, statistic=statistic, resamples=300, level=0.8, seed=11)
    draws = np.random.default_rng([11, 0])
    names, slow = np.unique(clusters_Q), []
    for _ in range(300):
        drawn = names[draws.integers(len(names), size=len(names))]
        resample = np.concatenate([values_Q[clusters_Q == name] for name in drawn])
        slow.append(np.median(resample) if statistic == "median" else resample.mean())
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(slow, [0.1, 0.9])), abs=1e-12)
    assert interval.method == "80% percentile bootstrap over 7 clusters, 300 resamples, seed 11"


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 4)), min_size=1, max_size=9).filter(
        lambda w: any(n for _, n in w)
    )
)
def test_a_weighted_median_is_that_of_repeated_values(weighted: list[tuple[int, int]]) -> None:
    """Values that come as often as their weight says, also none, have the median of the written-out list."""
    values, weights = np.array(sorted(weighted)).T
    assert _weighted_median(values.astype(float), weights) == np.median(np.repeat(values, weights))


def test_the_same_seed_gives_the_same_interval() -> None:
    """Bit for bit, alone or beside other measures; another seed gives another interval close by."""
    random = np.random.default_rng(4)
    values_MQ = [random.random(500) for _ in range(9)]
    clusters_Q = np.repeat(np.arange(100), 5)
    together = bootstrap_intervals(values_MQ, clusters_Q, ["mean"] * 8 + ["median"], seed=3)
    assert together == bootstrap_intervals(values_MQ, clusters_Q, ["mean"] * 8 + ["median"], seed=3)
    for values_Q, interval in zip(values_MQ[:8], together[:8], strict=True):
        assert bootstrap_interval(values_Q, clusters_Q, seed=3) == interval
    assert bootstrap_interval(values_MQ[8], clusters_Q, statistic="median", seed=3) == together[8]
    first, other = together[0], bootstrap_interval(values_MQ[0], clusters_Q, seed=4)
    assert first is not None
    assert other is not None
    assert first.low != other.low
    assert (first.low, first.high) == pytest.approx((other.low, other.high), abs=0.02)


def test_intervals_cover_the_truth_where_captions_agree() -> None:
    """With five captions that always agree, 95 % intervals over images cover about 95 % of draws; over queries, few."""
    random = np.random.default_rng(1)
    covered, naively = 0, 0
    for draw in range(200):
        values_Q, images_Q = captions(random, images=60, per_image=5, share=1.0)
        by_image = bootstrap_interval(values_Q, images_Q, resamples=200, seed=draw)
        by_query = bootstrap_interval(values_Q, np.arange(300), resamples=200, seed=draw)
        assert by_image is not None
        assert by_query is not None
        covered += by_image.low <= 0.5 <= by_image.high
        naively += by_query.low <= 0.5 <= by_query.high
        assert by_image.high - by_image.low > 1.5 * (by_query.high - by_query.low)  # the square root of 5, and noise
    assert 0.89 <= covered / 200 <= 0.99
    assert naively / 200 < 0.8


def test_clusters_cost_nothing_where_captions_are_independent() -> None:
    """If captions of an image are as different as those of two images, both intervals are about as wide."""
    values_Q, images_Q = captions(np.random.default_rng(6), images=400, per_image=5, share=0.0)
    by_image = bootstrap_interval(values_Q, images_Q)
    by_query = bootstrap_interval(values_Q, np.arange(2000))
    assert by_image is not None
    assert by_query is not None
    assert by_image.high - by_image.low == pytest.approx(by_query.high - by_query.low, rel=0.15)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=2, max_size=12), st.integers(0, 9))
def test_an_interval_contains_the_number_itself(values: list[list[int]], seed: int) -> None:
    """Mean and median lie within their interval, and the interval within the smallest and largest value."""
    values_Q = np.array(values, np.float64).ravel()
    clusters_Q = np.repeat(np.arange(len(values)), 3)
    mean, median = bootstrap_intervals([values_Q] * 2, clusters_Q, ["mean", "median"], resamples=400, seed=seed)
    assert mean is not None
    assert median is not None
    assert values_Q.min() - 1e-12 <= mean.low <= values_Q.mean() + 1e-12
    assert values_Q.mean() - 1e-12 <= mean.high <= values_Q.max() + 1e-12
    assert values_Q.min() <= median.low <= np.median(values_Q) <= median.high <= values_Q.max()


def test_degenerate_values_give_what_is_documented() -> None:
    """One cluster gives no interval, equal values one without width, and one query per cluster is the plain bootstrap."""
    assert bootstrap_interval(np.array([0.0, 1.0]), np.array([7, 7])) is None
    assert bootstrap_intervals([np.ones(3)] * 2, np.zeros(3, np.int64), ["mean"] * 2) == [None, None]
    equal = bootstrap_interval(np.full(6, 0.25), np.arange(6))
    assert equal is not None
    assert (equal.low, equal.high) == (0.25, 0.25)
    alone = paired_difference(np.array([0.0, 1.0]), np.array([0.0, 0.5]), np.array([7, 7]))
    assert (alone.value, alone.low, alone.high, alone.p) == (0.25, None, None, None)
    assert alone.method == "one cluster: no interval"


@pytest.mark.parametrize(
    ("values", "clusters", "options", "error", "says"),
    [
        ([0.5, np.nan], [0, 1], {}, DataError, "1 of 2 are"),
        ([0.5, np.inf], [0, 1], {}, DataError, "1 of 2 are"),
        ([], [], {}, DataError, "0 of 0 are"),
        ([0.5], [0, 1], {}, DataError, "one per query"),
        ([[0.5]], [[0]], {}, DataError, "one per query"),
        ([0.5, 1.0], [0, 1], {"resamples": 0}, RequestError, "resamples=0 must"),
        ([0.5, 1.0], [0, 1], {"level": 1.0}, RequestError, "level=1.0 between"),
        ([0.5, 1.0], [0, 1], {"level": 95}, RequestError, "level=95 between"),
    ],
)
def test_what_has_no_interval_is_refused(
    values: list[float], clusters: list[int], options: dict[str, float], error: type[Exception], says: str
) -> None:
    """NaN, nothing, wrong shapes and impossible levels are errors, not intervals of NaN."""
    values_Q, clusters_Q = np.array(values, np.float64), np.array(clusters, np.int64)
    with pytest.raises(error, match=says):
        bootstrap_interval(values_Q, clusters_Q, **options)  # type: ignore[arg-type]
    with pytest.raises(error, match=says):
        paired_difference(values_Q, values_Q, clusters_Q, **options)  # type: ignore[arg-type]


def test_measures_and_statistics_belong_together() -> None:
    """Each measure has its statistic; none has no interval, and one too few is refused."""
    assert bootstrap_intervals([], np.zeros(0, np.int64), []) == []
    with pytest.raises(DataError, match="2 measures and 1 statistics"):
        bootstrap_intervals([np.ones(3)] * 2, np.arange(3), ["mean"])


def test_clusters_are_numbered_as_they_come() -> None:
    """Equal names get equal numbers; a name may be long without costing the others anything."""
    assert number_clusters(["b", "a", "b", "é" * 100_000, "a"]).tolist() == [0, 1, 0, 2, 1]
    assert number_clusters([]).dtype == np.int64


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_a_model_does_not_differ_from_itself(statistic: str) -> None:
    """The difference, its interval and its p say nothing at all."""
    values_Q, images_Q = captions(np.random.default_rng(0), 30, 5, 0.5)
    same = paired_difference(values_Q, values_Q, images_Q, statistic=statistic)  # type: ignore[arg-type]
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_p_is_the_share_of_all_ways_to_change_sides(statistic: str) -> None:
    """With few clusters every way can be tried; the drawn share comes close, and is never 0."""
    random = np.random.default_rng(8)
    clusters_Q = random.permutation(np.repeat(np.arange(7), [1, 2, 3, 4, 5, 2, 3]))
    a_Q, b_Q = random.integers(0, 12, 20).astype(float), random.integers(0, 9, 20).astype(float)
    summary = np.median if statistic == "median" else np.mean
    value = summary(a_Q) - summary(b_Q)
    every = []
    for swaps in itertools.product([False, True], repeat=7):
        swap_Q = np.array(swaps)[clusters_Q]
        every.append(summary(np.where(swap_Q, b_Q, a_Q)) - summary(np.where(swap_Q, a_Q, b_Q)))
    exact = np.mean(np.abs(every) >= abs(value) - 1e-9)
    found = paired_difference(a_Q, b_Q, clusters_Q, statistic=statistic, resamples=4000)  # type: ignore[arg-type]
    assert found.value == pytest.approx(value)
    assert found.p == pytest.approx(exact, abs=0.03)
    back = paired_difference(b_Q, a_Q, clusters_Q, statistic=statistic, resamples=4000)  # type: ignore[arg-type]
    assert (back.value, back.p) == pytest.approx((-found.value, found.p))
    assert (back.low, back.high) == pytest.approx((-1 * found.high, -1 * found.low))  # type: ignore[operator]
    clear = paired_difference(np.arange(40.0) + 9, np.arange(40.0), np.arange(40), resamples=99)
    assert clear.p == 0.01


def test_a_paired_comparison_sees_what_two_intervals_do_not() -> None:
    """A small gain on every image is clear in pairs, though the images differ so much that the intervals overlap."""
    random = np.random.default_rng(9)
    hard_Q = np.repeat(random.random(80), 5)
    a_Q, b_Q, images_Q = hard_Q + 0.02 + 0.01 * random.standard_normal(400), hard_Q, np.repeat(np.arange(80), 5)
    a, b = bootstrap_intervals([a_Q, b_Q], images_Q, ["mean", "mean"])
    found = paired_difference(a_Q, b_Q, images_Q)
    assert a is not None
    assert b is not None
    assert a.low < b.high
    assert found.low is not None
    assert found.low > 0.015
    assert found.p == pytest.approx(1 / 1001)


def test_chance_differences_are_rarely_significant() -> None:
    """Of models that differ by chance only, per image, about one in twenty has p under 0.05; ignoring images, far more."""
    random = np.random.default_rng(12)
    found, naively = 0, 0
    for draw in range(200):
        difference_Q, images_Q = captions(random, images=40, per_image=5, share=1.0)
        a_Q, b_Q = difference_Q, 1 - difference_Q
        found += (paired_difference(a_Q, b_Q, images_Q, resamples=199, seed=draw).p or 0) < 0.05
        naively += (paired_difference(a_Q, b_Q, np.arange(200), resamples=199, seed=draw).p or 0) < 0.05
    assert found / 200 <= 0.1
    assert naively / 200 >= 0.2


def test_the_interval_of_a_skewed_mean_covers_it_on_its_far_side() -> None:
    """Rare misses among clusters of two: the lower end lies above the truth about as often as its level says.

    The normal limit without correction, on the same draws, does so far more often.
    """
    random, level, truth = np.random.default_rng(4), 0.98, 0.96
    clusters_Q = np.repeat(np.arange(150), 2)
    above = plain = 0
    for _ in range(4_000):
        values_Q = np.repeat((random.random(150) < truth).astype(np.float64), 2)
        interval = mean_interval(values_Q, clusters_Q, level=level)
        assert interval is not None
        above += interval.low > truth
        plain += values_Q.mean() - 2.326 * values_Q.std(ddof=1) / np.sqrt(150) > truth
    assert above / 4_000 < 0.02 < plain / 4_000
    assert mean_interval(np.ones(4), np.zeros(4, np.int64), level=level) is None
    sure = mean_interval(np.ones(4), np.arange(4), level=level)
    assert sure is not None
    assert (sure.low, sure.high) == (1, 1)
    even = mean_interval(np.array([0.0, 1.0] * 50), np.arange(100), level=0.95)
    assert even is not None
    assert (even.low, even.high) == pytest.approx(
        (0.5 - 1.96 * 0.5 / np.sqrt(99), 0.5 + 1.96 * 0.5 / np.sqrt(99)), abs=1e-4
    )
