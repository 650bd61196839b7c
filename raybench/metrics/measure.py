"""A measure is a value: its text, such as ndcg@10, is the YAML value, the table header and the results column.

What a name means is one `Definition` in the table of `raybench.metrics`; a `Measure` is that with its cut-off.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from raybench.metrics.counts import Pairs
from raybench.metrics.ranks import Order, Ranks

Values = npt.NDArray[np.float64]
Statistic: TypeAlias = Literal["mean", "median"]
Score: TypeAlias = Callable[[Order, Ranks, int], Values]
"""From one order and a cut-off to one number per query."""
Chance: TypeAlias = Callable[[Pairs, int, int], float]
"""From judgments, a cut-off and the number of rows to what a random order is expected to give."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a name in the table of measures means."""

    says: str  # one line for people
    score: Score | None  # None for measures against exact neighbours
    chance: Chance
    cut: Literal["needed", "possible", "none"]
    unit: str
    better: Literal["higher", "lower"] = "higher"
    statistic: Statistic = "mean"  # what one number is made of the queries' values


@dataclass(frozen=True, slots=True)
class Measure:
    """A name of the table and, where it has one, a cut-off; equal if these are, and printed as its spec."""

    name: str
    k: int | None
    definition: Definition = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.name if self.k is None else f"{self.name}@{self.k}"

    @property
    def needs(self) -> Literal["qrels", "gold"]:
        """What it compares with: judgments, or exact neighbours."""
        return "gold" if self.definition.score is None else "qrels"

    @property
    def depth(self) -> int | None:
        """How many results per query to search for; None where every row of the corpus must be counted.

        Measures on judgments ask for one more than their cut-off, which shows whether a tie goes across it.
        """
        return None if self.k is None else self.k + (self.needs == "qrels")

    @property
    def unit(self) -> str:
        """The unit of its values: share (0 to 1), score (0 to 1) or rank (1 to the number of rows)."""
        return self.definition.unit

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which values are better."""
        return self.definition.better

    @property
    def statistic(self) -> Statistic:
        """Whether the one number is the mean or the median of the queries' values."""
        return self.definition.statistic


@dataclass(frozen=True, slots=True, eq=False)
class PerQuery:
    """A measure's value for every judged query, and what it would be with every tie against and for the query.

    The bounds are None where they cannot be known: lists that end at the cut-off do not show a tie across it.
    """

    measure: Measure
    values_Q: Values
    worst_Q: Values | None
    best_Q: Values | None

    @property
    def value(self) -> float:
        """The one number over all judged queries."""
        return summary(self.values_Q, self.measure.statistic)

    @property
    def worst(self) -> float | None:
        """The one number if every tie went against the queries."""
        return None if self.worst_Q is None else summary(self.worst_Q, self.measure.statistic)

    @property
    def best(self) -> float | None:
        """The one number if every tie went for the queries."""
        return None if self.best_Q is None else summary(self.best_Q, self.measure.statistic)


def summary(values_Q: Values, statistic: Statistic) -> float:
    """The mean or the median of all queries' values."""
    return float(np.median(values_Q) if statistic == "median" else np.mean(values_Q))
