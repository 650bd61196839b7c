"""Means of answers' values with their intervals, and differences between contexts; all of the same queries share their resamples.

A measure that is not defined for a query leaves that query out, in a difference on both sides.

Axes: Q queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.experiments.answer_quality import MEASURES
from raybench.experiments.answer_values import Scored
from raybench.experiments.evaluation import Intervals
from raybench.metrics.uncertainty import bootstrap_intervals

ORDER = ("none", "random", "retrieved", "gold")
PAIRS = (("retrieved", "none"), ("gold", "retrieved"), ("retrieved", "random"))


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over the queries for which it is defined; None where there is none."""

    value: float | None
    low: float | None
    high: float | None
    queries: int
    clusters: int

    def entry(self, measure: str) -> dict[str, Any]:
        """What run.json says of it."""
        unit, says = MEASURES.get(measure, ("share", "attributes of this kind that the answer states rightly"))
        return {
            "measure": measure, "unit": unit, "says": says, "value": self.value, "low": self.low, "high": self.high,
            "queries": self.queries, "clusters": self.clusters,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Of one prompt: means by context and measure, and differences by pair of contexts and measure."""

    prompt: str
    by_context: Mapping[str, Scored]
    measures: tuple[str, ...]
    known: Mapping[tuple[str, str | tuple[str, str]], Mean]

    @property
    def contexts(self) -> list[str]:
        """From what shows least to what shows most."""
        return [name for name in ORDER if name in self.by_context]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Contexts that are held against one another."""
        return [pair for pair in PAIRS if set(pair) <= self.by_context.keys()]


def means(scored: Sequence[Scored], intervals: Intervals, seed: int) -> list[Means]:
    """One for each prompt, in order."""
    prompts = dict.fromkeys(one.title[0] for one in scored)
    return [
        _of_prompt(prompt, [one for one in scored if one.title[0] == prompt], intervals, seed) for prompt in prompts
    ]


def _of_prompt(prompt: str, scored: Sequence[Scored], intervals: Intervals, seed: int) -> Means:
    by_context = {one.title[1]: one for one in scored}
    measures = tuple(scored[0].values)
    wanted: dict[tuple[str, str | tuple[str, str]], npt.NDArray[np.float64]] = {}
    for measure in measures:
        for context, one in by_context.items():
            wanted[measure, context] = one.values[measure]
        for a, b in PAIRS:
            if a in by_context and b in by_context:
                wanted[measure, (a, b)] = by_context[a].values[measure] - by_context[b].values[measure]
    return Means(prompt, by_context, measures, _resampled(wanted, scored[0].clusters_Q, intervals, seed))


def _resampled(
    wanted: Mapping[tuple[str, str | tuple[str, str]], npt.NDArray[np.float64]], clusters_Q: npt.NDArray[np.int64],
    intervals: Intervals, seed: int,
) -> dict[tuple[str, str | tuple[str, str]], Mean]:  # fmt: skip
    """Those that are defined for the same queries are resampled together."""
    groups: dict[bytes, list[tuple[str, str | tuple[str, str]]]] = {}
    for name, values_Q in wanted.items():
        groups.setdefault(np.isfinite(values_Q).tobytes(), []).append(name)
    found: dict[tuple[str, str | tuple[str, str]], Mean] = {}
    for names in groups.values():
        there_Q = np.isfinite(wanted[names[0]])
        if not there_Q.any():
            found |= dict.fromkeys(names, Mean(None, None, None, 0, 0))
            continue
        values = [wanted[name][there_Q] for name in names]
        made = bootstrap_intervals(
            values,
            clusters_Q[there_Q],
            ["mean"] * len(values),
            resamples=intervals.resamples,
            level=intervals.level,
            seed=seed,
        )
        clusters = len(np.unique(clusters_Q[there_Q]))
        for name, values_Q, interval in zip(names, values, made, strict=True):
            low, high = (None, None) if interval is None else (interval.low, interval.high)
            found[name] = Mean(float(values_Q.mean()), low, high, int(there_Q.sum()), clusters)
    return found
