"""Questions about a scene, each with its one answer: what a picture shows and, mostly, a caption does not say.

A thing is named by colour and shape, of which no two things of a scene share both; by one of them only where the other is
asked for and that one is enough.
"""

from collections import Counter
from dataclasses import dataclass

from raybench.sources.scenes.scene import OPPOSITE, Scene, Thing
from raybench.sources.scenes.sentence import ordered

COUNTS = {2: "two", 3: "three"}


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its answer."""

    attribute: str  # "size", "texture", "colour", "shape", "relation", "background" or "things"
    text: str
    answer: str  # one word


def questions(scene: Scene) -> tuple[Question, ...]:
    """All of them, in a fixed order."""
    found: list[Question] = []
    colours = Counter(thing.colour for thing in scene.things)
    shapes = Counter(thing.shape for thing in scene.things)
    for thing in scene.things:
        found.append(Question("size", f"what size is the {_name(thing)}?", thing.size))
        found.append(Question("texture", f"what texture has the {_name(thing)}?", thing.texture))
        if shapes[thing.shape] == 1:
            found.append(Question("colour", f"what colour is the {thing.shape}?", thing.colour))
        if colours[thing.colour] == 1:
            found.append(Question("shape", f"what shape is the {thing.colour} thing?", thing.shape))
    one, other, side = ordered(scene)
    found.append(Question("relation", f"where is the {_name(one)}, seen from the {_name(other)}?", side))
    found.append(Question("relation", f"where is the {_name(other)}, seen from the {_name(one)}?", OPPOSITE[side]))
    found.append(Question("background", "what colour is the background?", scene.background))
    found.append(Question("things", "how many things are there?", COUNTS[len(scene.things)]))
    return tuple(found)


def _name(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"
