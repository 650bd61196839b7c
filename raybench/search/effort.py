"""The smallest effort whose quality reaches a target: found on some queries, confirmed on others.

A mean over a few queries reaches a target by luck as often as not, so an effort passes only if the lower end of its
interval does. Means over two samples of one size differ by the root of two standard errors, so the lower end of a 98 % interval
(2.33 / 1.41 = 1.64) would be reached by another sample in 95 of 100 cases, if one effort were looked at. But the smallest of many
is taken, which favours lucky ones; hence 99 %.

Quality rises with effort, so the range is doubled until it passes and then halved; every measured point is kept, and an
effort above which a measured one fails is not taken.

Axes: Q queries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raybench.arrays import Rows
from raybench.errors import RequestError
from raybench.metrics.measure import Values
from raybench.metrics.uncertainty import mean_interval

LEVEL = 0.99
ValuesAt = Callable[[int], Values]  # the value of every query at an effort [Q]


@dataclass(frozen=True, slots=True)
class Point:
    """The quality of one effort on some queries."""

    effort: int
    value: float
    low: float | None  # None where there is one cluster
    high: float | None

    def reaches(self, target: float) -> bool:
        """Whether the lower end of the interval is at least the target."""
        return self.low is not None and self.low >= target


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found; `effort` is None where no effort in the range reaches the target."""

    effort: int | None
    points: tuple[Point, ...]  # on the tuning queries, by effort
    held_out: Point | None  # the found effort on the other queries

    @property
    def below(self) -> Point | None:
        """The measured point next below the found effort: the one that fails; None at the start of the range."""
        return next(
            (one for one in reversed(self.points) if self.effort is not None and one.effort < self.effort), None
        )

    def is_confirmed(self, target: float) -> bool:
        """Whether the mean over the held-out queries reaches the target."""
        return self.held_out is not None and self.held_out.value >= target


def split_queries(clusters_Q: Rows, seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which queries are for tuning and which are held out: half of the clusters each, none in both.

    RequestError where there are fewer than four clusters, of which no interval could be made.
    """
    names_C = np.unique(clusters_Q)
    if len(names_C) < 4:
        raise RequestError(f"tuning needs queries of 4 clusters or more; there are {len(names_C)}")
    drawn_C = np.random.default_rng([seed, 0x70]).permutation(names_C)[: len(names_C) // 2]
    is_tuning_Q = np.isin(clusters_Q, drawn_C)
    return is_tuning_Q, ~is_tuning_Q


def smallest_effort(
    tuning: tuple[ValuesAt, Rows],
    held_out: tuple[ValuesAt, Rows],
    target: float,
    efforts: tuple[int, int],
) -> Tuned:
    """Search the efforts from least to most; each side is its values at an effort, and the clusters of its queries."""
    least, most = efforts
    if not 1 <= least <= most:
        raise RequestError(f"efforts from {least} to {most} are no range; give least and most, from 1")
    points: dict[int, Point] = {}

    def passes(effort: int) -> bool:
        if effort not in points:
            points[effort] = measured(effort, *tuning)
        return points[effort].reaches(target)

    _climb(passes, least, most)
    found = _taken([points[effort] for effort in sorted(points)], target)
    confirmed = None if found is None else measured(found, *held_out)
    return Tuned(found, tuple(points[effort] for effort in sorted(points)), confirmed)


def measured(effort: int, values_at: ValuesAt, clusters_Q: Rows) -> Point:
    """One effort on some queries."""
    values_Q = values_at(effort)
    interval = mean_interval(values_Q, clusters_Q, level=LEVEL)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return Point(effort, float(values_Q.mean()), low, high)


def _climb(passes: Callable[[int], bool], least: int, most: int) -> None:
    """Double until an effort passes, then halve the gap to the last that did not, down to neighbours."""
    failed, effort = least - 1, least
    while not passes(effort):
        if effort == most:
            return
        failed, effort = effort, min(2 * effort, most)
    while effort - failed > 1:
        middle = (failed + effort) // 2
        if passes(middle):
            effort = middle
        else:
            failed = middle


def _taken(points: Sequence[Point], target: float) -> int | None:
    """The smallest measured effort from which on every measured one passes."""
    taken = None
    for point in reversed(points):
        if not point.reaches(target):
            break
        taken = point.effort
    return taken
