"""How much of a drawn scene an answer has right, attribute by attribute; exact, because all that is true of a scene is known.

`accuracy_untold` counts only what the query has not told already: what a model without any picture can but guess. That number
shows what pictures contribute; `accuracy` is also high for an answer that repeats its query.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from raybench.sources.scenes.scene import Scene
from raybench.sources.scenes.told import Verdict, told, verdicts

ATTRIBUTES = ("shape", "colour", "size", "texture", "relation", "third", "background", "things")
"""Four of each thing; how the first two stand; where a third stands; the colour behind; how many things there are."""
_NAMES = {"side": "relation", "third_side": "third"}


@dataclass(frozen=True, slots=True)
class Count:
    """Facts of one attribute: right <= stated <= of; what is not stated is not right."""

    right: int
    stated: int
    of: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Counts of every attribute of `ATTRIBUTES`, in that order; `of` is 0 where a scene has none, or the query told all."""

    counts: Mapping[str, Count]

    @property
    def all(self) -> Count:
        """The sums over attributes."""
        counts = self.counts.values()
        return Count(sum(c.right for c in counts), sum(c.stated for c in counts), sum(c.of for c in counts))

    @property
    def overall(self) -> float | None:
        """Facts right over facts, 0 to 1; None where there is no fact to state."""
        return self.all.right / self.all.of if self.all.of else None


def accuracy(answer: str, scene: Scene) -> Accuracy:
    """Over all facts of the scene: 4 per thing, 3 of the whole, and the place of a third: 11 or 16."""
    return _counted(verdicts(answer, scene).items())


def accuracy_untold(answer: str, query: str, scene: Scene) -> Accuracy:
    """Over the facts of the scene that the query does not state, or states wrongly.

    The answer's things are matched with all that it says of them, so the words of the query still help to say which is meant.
    An answer that repeats its query has none of them right, but for the number of things where it describes them all.
    """
    known = told(query, scene)
    return _counted((fact, verdict) for fact, verdict in verdicts(answer, scene).items() if fact not in known)


def _counted(found: Iterable[tuple[str, Verdict]]) -> Accuracy:
    verdicts_of: dict[str, list[Verdict]] = {name: [] for name in ATTRIBUTES}
    for fact, verdict in found:
        verdicts_of[_NAMES.get(fact, fact.rpartition(".")[2])].append(verdict)
    counts = {
        name: Count(sum(v is True for v in each), sum(v is not None for v in each), len(each))
        for name, each in verdicts_of.items()
    }
    return Accuracy(MappingProxyType(counts))
