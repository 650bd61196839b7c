"""Measures: one table from a name to its definition, and the numbers they give with honest intervals.

`parse_measure("ndcg@10")` is a measure. On judgments it is computed from `Ranks` by `evaluate`, and against exact
neighbours by `evaluate_overlap`; both give a value per query. `raybench.metrics.uncertainty` makes intervals of those,
and `chance` says what a random order would score.
"""

from collections.abc import Mapping
from types import MappingProxyType

from raybench.errors import SpecError, suggest
from raybench.metrics import chance as by_chance
from raybench.metrics import ranking
from raybench.metrics.chance import chance, is_at_chance
from raybench.metrics.counts import Counts, Pairs
from raybench.metrics.measure import Definition, Measure, PerQuery
from raybench.metrics.overlap import evaluate_overlap
from raybench.metrics.ranking import evaluate
from raybench.metrics.ranks import Ranks
from raybench.spec import Spec

__all__ = [
    "MEASURES",
    "Counts",
    "Definition",
    "Measure",
    "Pairs",
    "PerQuery",
    "Ranks",
    "chance",
    "evaluate",
    "evaluate_overlap",
    "is_at_chance",
    "parse_measure",
]

_DEEPEST = 1_000_000_000  # no list is longer; larger cut-offs are slips of the keyboard

MEASURES: Mapping[str, Definition] = MappingProxyType(
    {
        "overlap": Definition("share of the exact top k found", None, by_chance.overlap, "needed", "share"),
        "recall": Definition(
            "relevant rows found over all relevant", ranking.recall, by_chance.recall, "needed", "share"
        ),
        "hit": Definition("any relevant row in the top k", ranking.hit, by_chance.hit, "needed", "share"),
        "precision": Definition(
            "relevant rows found over k", ranking.precision, by_chance.precision, "needed", "share"
        ),
        "ndcg": Definition("discounted gain over the ideal", ranking.ndcg, by_chance.ndcg, "needed", "score"),
        "map": Definition(
            "precision at relevant rows over all relevant",
            ranking.average_precision,
            by_chance.average_precision,
            "needed",
            "score",
        ),
        "mrr": Definition(
            "one over the first relevant rank", ranking.reciprocal_rank, by_chance.reciprocal_rank, "possible", "score"
        ),
        "mean_rank": Definition(
            "mean first relevant rank", ranking.first_rank, by_chance.mean_rank, "none", "rank", "lower"
        ),
        "median_rank": Definition(
            "median first relevant rank", ranking.first_rank, by_chance.median_rank, "none", "rank", "lower", "median"
        ),
    }
)


def parse_measure(text: str | Spec) -> Measure:
    """Read a measure, for example ndcg@10. Raises SpecError for unknown names and missing or misplaced cut-offs."""
    spec = Spec.parse(text) if isinstance(text, str) else text
    definition = MEASURES.get(spec.name)
    if definition is None:
        raise SpecError(f"no measure is called {spec.name!r}; {suggest(spec.name, MEASURES)}")
    if spec.args or spec.params:
        raise SpecError(f"measure {spec.name!r} takes no parameters in {spec}; write its cut-off as {spec.name}@10")
    if spec.at is None and definition.cut == "needed":
        raise SpecError(f"measure {spec.name!r} needs a cut-off; write it like {spec.name}@10")
    if spec.at is not None and definition.cut == "none":
        raise SpecError(f"measure {spec.name!r} has no cut-off, and {spec} has one; write {spec.name}")
    if spec.at is not None and spec.at > _DEEPEST:
        raise SpecError(f"the cut-off of {spec} is too deep; the limit is {spec.name}@{_DEEPEST}")
    return Measure(spec.name, spec.at, definition)
