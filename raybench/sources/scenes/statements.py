"""What a text tells of a scene, as a value: some things with some of their attributes, and how they stand.

A `Draft` is that value while a text is read; it says when a thing is one told before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from raybench.sources.scenes.scene import OPPOSITE, Background, Colour, Shape, Side, Size, Texture

ATTRIBUTES = ("shape", "colour", "size", "texture")  # of a thing
MOST_THINGS = 8  # a description of more is of something else
_MOST_RELATIONS = 64


@dataclass(frozen=True, slots=True)
class Described:
    """What a text tells of one thing; None is not told."""

    shape: Shape | None = None
    colour: Colour | None = None
    size: Size | None = None
    texture: Texture | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """The thing at position `one` lies on `side` of that at position `other`; None is all the others, as "them" is."""

    one: int
    side: Side
    other: int | None


@dataclass(frozen=True, slots=True)
class Statement:
    """What a text tells of a scene."""

    things: tuple[Described, ...] = ()  # in the order in which they are first told, at most MOST_THINGS
    relations: tuple[Relation, ...] = ()
    background: Background | None = None
    count: int | None = None  # only where a number is told, such as "three shapes"

    def side(self, one: int, other: int | None) -> Side | None:
        """Where the thing at position `one` lies, seen from that at `other`, from whichever of them the text tells it."""
        for relation in self.relations:
            if (relation.one, relation.other) == (one, other):
                return relation.side
            if (relation.other, relation.one) == (one, other):
                return OPPOSITE[relation.side]
        return None


class Draft:
    """The facts found so far."""

    def __init__(self) -> None:
        self.things: list[dict[str, StrEnum]] = []
        self.places: list[set[Side]] = []  # of each thing in the picture
        self.relations: list[Relation] = []
        self.background: StrEnum | None = None
        self.count: int | None = None

    def add(self, told: dict[str, StrEnum], times: int, *, is_known: bool) -> list[int]:
        """The positions of a thing, or of as many alike; one that may be known is the first that it can be."""
        thing = {name: value for name, value in told.items() if name in ATTRIBUTES}
        known = next((place for place, other in enumerate(self.things) if _is_same(other, thing)), None)
        if is_known and known is not None:
            self.things[known].update(thing)
            return [known]
        first = len(self.things)
        for _ in range(min(times, MOST_THINGS - first) if thing else 0):
            self.things.append(dict(thing))
            self.places.append(set())
        return list(range(first, len(self.things)))

    def relate(self, one: int | None, side: Side, other: int | None) -> None:
        """Keep how a thing stands to another; nothing where it is not known which."""
        if one is not None and one != other and len(self.relations) < _MOST_RELATIONS:
            self.relations.append(Relation(one, side, other))

    def statement(self) -> Statement:
        """The value."""
        things = tuple(Described(**thing) for thing in self.things)  # type: ignore[arg-type]  # each value is of its attribute
        relations = (*self.relations, *self._by_place())
        background = None if self.background is None else Background(self.background)
        return Statement(things, relations, background, self.count)

    def _by_place(self) -> Iterator[Relation]:
        """Things at opposite sides of the picture, where that is all that is told of the two."""
        told = {frozenset((relation.one, relation.other)) for relation in self.relations}
        for one in range(len(self.things)):
            for other in range(one + 1, len(self.things)):
                sides = [side for side in self.places[one] if OPPOSITE[side] in self.places[other]]
                if len(sides) == 1 and frozenset((one, other)) not in told:
                    yield Relation(one, sides[0], other)


def _is_same(known: dict[str, StrEnum], told: dict[str, StrEnum]) -> bool:
    """Whether what is told may be of a known thing, and has something in common with it."""
    both = [known[name] == told[name] for name in told if name in known]
    return bool(both) and all(both)
