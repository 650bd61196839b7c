"""Questions about a scene, each with its one answer: what a picture shows and, mostly, a caption does not say.

A thing is named by colour and shape, of which no two things of a scene share both; by one of them only where the other is
asked for and that one is enough.
"""

from collections import Counter
from dataclasses import dataclass

from raybench.metrics.words import words
from raybench.sources.scenes import vocabulary
from raybench.sources.scenes.scene import OPPOSITE, Scene, Thing
from raybench.sources.scenes.sentence import ordered
from raybench.sources.scenes.told import told
from raybench.spec import content_key

COUNTS = {2: "two", 3: "three"}
_SYNONYMS: dict[str, dict[str, str]] = {
    "size": {word: size.value for word, size in vocabulary.SIZES.items()},
    "texture": {word: texture.value for word, texture in (vocabulary.TEXTURES | vocabulary.MARKS).items()},
    "colour": {word: colour.value for word, colour in vocabulary.COLOURS.items()},
    "shape": {word: shape.value for word, shape in (vocabulary.SHAPES | vocabulary.SHAPED).items()},
    "relation": {word: side.value for word, side in vocabulary.SIDES.items()},
    "background": {word: ground.value for word, ground in vocabulary.BACKGROUNDS.items()},
    "things": {word: COUNTS.get(number, word) for word, number in vocabulary.NUMBERS.items()},
}
_FILLERS = frozenset(
    words(
        "a an the it is its there are to on at in of side than them colour color coloured colored background size sized"
        " texture pattern shape shaped thing things object objects shapes"
    )
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its answer."""

    attribute: str  # "size", "texture", "colour", "shape", "relation", "background" or "things"
    text: str
    answer: str  # one word


def questions(scene: Scene) -> tuple[Question, ...]:
    """All of them, in a fixed order."""
    return tuple(question for _, question in _by_fact(scene))


def question_for(scene: Scene, query: str, query_id: str) -> Question:
    """One question for a query, decided by its id: one whose answer the query does not tell or, if it tells all, any."""
    asked = _by_fact(scene)
    known = told(query, scene)
    untold = [question for fact, question in asked if fact not in known] or [question for _, question in asked]
    return untold[int(content_key("question", query_id), 16) % len(untold)]


def answer_is_right(answer: str, question: Question) -> bool:
    """Whether an answer is the one word asked for, or another word for it.

    Case, punctuation, articles and words of the question's kind do not matter: "Red.", "a red colour", "to the left of" and
    "two things" are one word each. An answer with two values, or with any other word, is wrong.
    """
    word = " ".join(word for word in words(answer) if word not in _FILLERS)
    return _SYNONYMS[question.attribute].get(word, word) == question.answer


def _by_fact(scene: Scene) -> list[tuple[str, Question]]:
    """Each question with the fact that it asks for, named as in `raybench.sources.scenes.told`."""
    found: list[tuple[str, Question]] = []
    colours = Counter(thing.colour for thing in scene.things)
    shapes = Counter(thing.shape for thing in scene.things)
    for place, thing in enumerate(scene.things):
        fact = f"things.{place}"
        found.append((f"{fact}.size", Question("size", f"what size is the {_name(thing)}?", thing.size)))
        found.append((f"{fact}.texture", Question("texture", f"what texture has the {_name(thing)}?", thing.texture)))
        if shapes[thing.shape] == 1:
            found.append((f"{fact}.colour", Question("colour", f"what colour is the {thing.shape}?", thing.colour)))
        if colours[thing.colour] == 1:
            found.append((f"{fact}.shape", Question("shape", f"what shape is the {thing.colour} thing?", thing.shape)))
    one, other, side = ordered(scene)
    found.append(("side", Question("relation", f"where is the {_name(one)}, seen from the {_name(other)}?", side)))
    found.append(
        ("side", Question("relation", f"where is the {_name(other)}, seen from the {_name(one)}?", OPPOSITE[side]))
    )
    found.append(("background", Question("background", "what colour is the background?", scene.background)))
    found.append(("things", Question("things", "how many things are there?", COUNTS[len(scene.things)])))
    return found


def _name(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"
