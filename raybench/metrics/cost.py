"""What a search costs: seconds of single queries, queries a second in batches, and waiting where queries come by themselves.

Single queries and batches are two numbers and are never mixed. What is warmed up is not timed. A closed loop asks the next
query when the last is answered; an open loop asks at its own times, so a query that comes while another is answered waits,
and the waiting counts.

Intervals of quantiles are those of order statistics: the true quantile lies between the r-th and the s-th of n times if
between r and s of them are under it, a binomial number (David and Nagaraja 2003, section 7.1), here by its normal limit.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError

Times = npt.NDArray[np.float64]
Ask = Callable[[int], object]  # answers the n-th query, or the n-th batch

_SHORTEST_S = 0.25  # that batches are repeated for, so that the clock and the start do not count
_MOST_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Latency:
    """The distribution of the seconds of single queries, in milliseconds."""

    queries: int
    mean_ms: float
    std_ms: float
    min_ms: float
    p50_ms: float
    p50_low_ms: float | None  # the 95 % interval of the median; None where the sample is too short to bound it
    p50_high_ms: float | None
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_low_ms: float | None
    p99_high_ms: float | None
    max_ms: float

    @classmethod
    def of(cls, seconds_Q: Times) -> "Latency":
        """From the seconds of each query."""
        if not len(seconds_Q):
            raise DataError("latency needs queries; there are none")
        ms_Q = np.sort(seconds_Q) * 1e3
        p50_low, p50_high = quantile_interval(ms_Q, 0.5)
        p99_low, p99_high = quantile_interval(ms_Q, 0.99)
        p50, p90, p95, p99 = (float(np.quantile(ms_Q, q)) for q in (0.5, 0.9, 0.95, 0.99))
        return cls(
            len(ms_Q), float(ms_Q.mean()), float(ms_Q.std(ddof=1)) if len(ms_Q) > 1 else 0.0, float(ms_Q[0]), p50, p50_low,
            p50_high, p90, p95, p99, p99_low, p99_high, float(ms_Q[-1]),
        )  # fmt: skip


def quantile_interval(sorted_Q: Times, quantile: float, z: float = 1.96) -> tuple[float | None, float | None]:
    """The interval of a quantile between two order statistics; None where the sample does not reach so far."""
    count = len(sorted_Q)
    middle, spread = count * quantile, z * math.sqrt(count * quantile * (1 - quantile))
    first, last = math.floor(middle - spread) - 1, math.ceil(middle + spread)
    return float(sorted_Q[first]) if first >= 0 else None, float(sorted_Q[last]) if last < count else None


def closed_loop(ask: Ask, queries: int, warm_up: int) -> Times:
    """The seconds of each query, one after the other, after some that are not timed."""
    for query in range(warm_up):
        ask(query % queries)
    seconds_Q = np.empty(queries)
    for query in range(queries):
        started = time.perf_counter()
        ask(query)
        seconds_Q[query] = time.perf_counter() - started
    return seconds_Q


def open_loop(ask: Ask, queries: int, rate: float, seed: int) -> Times:
    """The seconds from when each query came to when it was answered; they come at random, `rate` a second on average.

    One is answered at a time, in their order: at a rate above what the index can do, waiting grows with every query.
    """
    arrival_Q = np.cumsum(np.random.default_rng([seed, 0x0F]).exponential(1 / rate, queries))
    seconds_Q = np.empty(queries)
    started = time.perf_counter()
    for query, arrival in enumerate(arrival_Q):
        wait_s = started + arrival - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        ask(query)
        seconds_Q[query] = time.perf_counter() - started - arrival
    return seconds_Q


@dataclass(frozen=True, slots=True)
class Throughput:
    """Queries a second in batches: the median of rounds, and the slowest and fastest round."""

    batch: int
    rounds: int
    median_qps: float
    min_qps: float
    max_qps: float


def batches(ask: Ask, sizes: Sequence[int], rounds: int = 3) -> Throughput:
    """All batches again and again, at least so many rounds and half a second; one round before is not timed."""
    for number in range(len(sizes)):
        ask(number)
    rates: list[float] = []
    spent = 0.0
    while len(rates) < rounds or (spent < _SHORTEST_S and len(rates) < _MOST_ROUNDS):
        started = time.perf_counter()
        for number in range(len(sizes)):
            ask(number)
        took = time.perf_counter() - started
        spent += took
        rates.append(sum(sizes) / max(took, 1e-9))
    return Throughput(max(sizes), len(rates), statistics.median(rates), min(rates), max(rates))


def dominated(quality: Sequence[float], gain: Sequence[float]) -> list[bool]:
    """Of points with two merits, larger being better: whether another is at least as good in both and better in one."""
    points = list(zip(quality, gain, strict=True))
    return [
        any(q >= quality_ and g >= gain_ and (q > quality_ or g > gain_) for q, g in points)
        for quality_, gain_ in points
    ]
