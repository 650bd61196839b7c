"""What a text tells of a scene that is known: each fact of the scene is stated rightly, stated wrongly, or not stated.

The facts have the names of `differences`: "things.0.shape", "things.0.colour", "things.0.size", "things.0.texture" of each
thing, "side" of the first two, "third_side" and "background"; and "things", how many there are.

Which described thing is meant for which true one is decided by the assignment in which most of their attributes agree; of
several, the first in the order in which the text tells its things, for the first true thing, then the second. So an answer is
never blamed for the order in which it tells things, and a thing too many costs nothing but the number of things.
"""

from collections.abc import Mapping
from itertools import permutations

from raybench.sources.scenes.reading import read
from raybench.sources.scenes.scene import Scene, Side
from raybench.sources.scenes.statements import ATTRIBUTES, Statement

Verdict = bool | None
"""True is stated rightly, False stated wrongly, None not stated."""


def verdicts(text: str, scene: Scene) -> Mapping[str, Verdict]:
    """The verdict on each fact of `scene`, in a fixed order.

    The side of the first two may be told from either of them. The third stands on its side of both, so a text may tell it of
    "them", or of either. The number of things is what the text says or, if it says none, how many it describes.
    """
    statement = read(text)
    meant = _meant(statement, scene)
    found: dict[str, Verdict] = {}
    for place, thing in enumerate(scene.things):
        described = None if meant[place] is None else statement.things[meant[place] or 0]
        for name in ATTRIBUTES:
            value = None if described is None else getattr(described, name)
            found[f"things.{place}.{name}"] = None if value is None else value == getattr(thing, name)
    found["side"] = _agrees(_side(statement, meant[0], meant[1]), scene.side)
    if scene.third_side is not None:
        found["third_side"] = _agrees(_third_side(statement, meant), scene.third_side)
    found["background"] = None if statement.background is None else statement.background == scene.background
    count = statement.count if statement.count is not None else len(statement.things) or None
    found["things"] = None if count is None else count == len(scene.things)
    return found


def told(text: str, scene: Scene) -> frozenset[str]:
    """The facts of `scene` that the text states rightly; of how many things there are, if it says so or describes three."""
    right = {fact for fact, verdict in verdicts(text, scene).items() if verdict}
    statement = read(text)
    if statement.count is None and len(statement.things) < 3:
        right.discard("things")  # a caption of two things is true of a scene of three
    return frozenset(right)


def _meant(statement: Statement, scene: Scene) -> tuple[int | None, ...]:
    """The position among the described of each true thing, None for one that is not described."""
    spare = (None,) * max(0, len(scene.things) - len(statement.things))
    best: tuple[int | None, ...] = (None,) * len(scene.things)
    most = -1
    for positions in permutations((*range(len(statement.things)), *spare), len(scene.things)):
        agreeing = sum(
            getattr(statement.things[position], name) == getattr(thing, name)
            for position, thing in zip(positions, scene.things, strict=True)
            if position is not None
            for name in ATTRIBUTES
        )
        if agreeing > most:
            best, most = positions, agreeing
    return best


def _side(statement: Statement, one: int | None, other: int | None) -> Side | None:
    return None if one is None or other is None else statement.side(one, other)


def _third_side(statement: Statement, meant: tuple[int | None, ...]) -> Side | None:
    """Where the third stands, told of "them", of the first or of the second."""
    first, second, third = meant
    if third is None:
        return None
    return statement.side(third, None) or _side(statement, third, first) or _side(statement, third, second)


def _agrees(told_side: Side | None, side: Side) -> Verdict:
    return None if told_side is None else told_side == side
