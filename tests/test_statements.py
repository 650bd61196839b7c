"""Descriptions of scenes are read back exactly, free ones as a person would, and answers are scored fact by fact."""

import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.sources.scenes import build
from raybench.sources.scenes.attributes import ATTRIBUTES, Count, accuracy, accuracy_untold
from raybench.sources.scenes.captions import describe
from raybench.sources.scenes.collection import scenes_by_id
from raybench.sources.scenes.questions import Question, answer_is_right, question_for, questions
from raybench.sources.scenes.reading import LONGEST, read
from raybench.sources.scenes.scene import (
    Background,
    Colour,
    Scene,
    Shape,
    Side,
    Size,
    Texture,
    Thing,
    differences,
    sample,
    vary,
)
from raybench.sources.scenes.sentence import sentence
from raybench.sources.scenes.statements import Statement
from raybench.sources.scenes.told import told, verdicts

SCENES = 1_500
CIRCLE = Thing(Shape.CIRCLE, Colour.RED, Size.LARGE, Texture.STRIPED)
STAR = Thing(Shape.STAR, Colour.BLUE, Size.SMALL, Texture.PLAIN)
RING = Thing(Shape.RING, Colour.GREEN, Size.SMALL, Texture.DOTTED)
PAIR = Scene((CIRCLE, STAR), Side.LEFT, None, Background.WHITE)
TRIO = Scene((CIRCLE, STAR, RING), Side.LEFT, Side.ABOVE, Background.GRAY)

CIRCLE_AND_STAR = {"red circle": "large striped", "blue star": "small plain"}
NAMES = {"red circle": "", "blue star": ""}
RING_TOO = NAMES | {"green ring": ""}


def things(statement: Statement) -> dict[str, str]:
    """What is told, as words: colour and shape, then size and texture."""
    names = {}
    for thing in statement.things:
        told_words = ([thing.colour, thing.shape], [thing.size, thing.texture])
        name, details = (" ".join(word.value for word in pair if word) for pair in told_words)
        assert name not in names, statement
        names[name] = details
    return names


def relations(statement: Statement) -> set[str]:
    """How things stand, as words: "red circle left blue star", "green ring above them"."""
    names = [*things(statement), "them"]
    return {f"{names[r.one]} {r.side} {names[-1 if r.other is None else r.other]}" for r in statement.relations}


def expected(scene: Scene, details: str, *, sides: bool, every: bool) -> tuple[dict[str, str], set[str]]:
    """What a caption tells that names things with `details` and, if it does, how they stand; relations both ways round."""
    shown = scene.things if every else scene.things[:2]
    names = [f"{thing.colour} {thing.shape}" for thing in shown]
    told_things = {
        name: " ".join(getattr(thing, detail).value for detail in details.split())
        for name, thing in zip(names, shown, strict=True)
    }
    if not sides:
        return told_things, set()
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    found = {f"{names[0]} {scene.side} {names[1]}", f"{names[1]} {opposite[scene.side]} {names[0]}"}
    return told_things, found | ({f"{names[2]} {scene.third_side} them"} if len(names) == 3 else set())


def agree(statement: Statement, facts: tuple[dict[str, str], set[str]]) -> bool:
    """The same things; of the first two, the relation from one of them; a third as told."""
    number = {0: 0, 2: 1, 3: 2}[len(facts[1])]
    return things(statement) == facts[0] and relations(statement) <= facts[1] and len(statement.relations) == number


def drawn(seed: int) -> list[tuple[Scene, tuple[str, ...]]]:
    rng = np.random.default_rng(seed)
    scenes = [sample(rng) for _ in range(SCENES)]
    return [(scene, describe(scene, rng)) for scene in scenes]


@pytest.fixture(scope="module")
def described() -> list[tuple[Scene, tuple[str, ...]]]:
    return drawn(1)


def test_every_caption_and_sentence_is_read_back_exactly(described):
    """No fact more and no fact less than each style tells, over thousands of texts in all wordings."""
    for scene, captions in described:
        statements = [read(text) for text in (*captions, sentence(scene))]
        for place, details in ((0, ""), (1, "size"), (2, "texture")):
            facts = expected(scene, details, sides=True, every=False)
            assert agree(statements[place], facts), captions[place]
        lists = [expected(scene, detail, sides=False, every=True) for detail in ("size", "texture")]
        assert any(agree(statements[3], facts) for facts in lists), captions[3]
        for place in (4, 5):
            assert agree(statements[place], expected(scene, "size texture", sides=True, every=True)), scene
        grounds = [statement.background for statement in statements]
        assert grounds == [None, None, scene.background, None, scene.background, scene.background]
        assert [statement.count for statement in statements] == [None, None, None, len(scene.things), None, None]


def test_what_a_caption_tells_is_what_its_style_tells(described):
    """The facts by the names of `differences`; of the listing, size or texture; how many things only where it shows."""
    for scene, captions in described:
        count = range(len(scene.things))
        names = {f"things.{place}.{name}" for place in (0, 1) for name in ("shape", "colour")}
        all_names = {f"things.{place}.{name}" for place in count for name in ("shape", "colour")}
        sizes, textures = ({f"things.{place}.{name}" for place in count} for name in ("size", "texture"))
        third = {"third_side", "things"} if len(scene.things) == 3 else set()
        first_two = {fact for fact in sizes | textures if not fact.startswith("things.2")}
        assert told(captions[0], scene) == names | {"side"}
        assert told(captions[1], scene) == names | (first_two & sizes) | {"side"}
        assert told(captions[2], scene) == names | (first_two & textures) | {"side", "background"}
        assert told(captions[3], scene) in (all_names | sizes | {"things"}, all_names | textures | {"things"})
        assert told(captions[4], scene) == all_names | sizes | textures | {"side", "background"} | third


def test_a_sentence_of_another_scene_is_wrong_in_what_differs():
    """One attribute changed is one fact wrong, and all others are right, whichever thing is told first."""
    rng = np.random.default_rng(3)
    changed = Counter()
    for _ in range(600):
        scene = sample(rng)
        other, path = vary(scene, rng)
        found = verdicts(sentence(other), scene)
        assert {fact for fact, verdict in found.items() if not verdict} == {path} == set(differences(scene, other))
        assert found[path] is False
        assert len(found) == (11 if len(scene.things) == 2 else 16)
        result = accuracy(sentence(other), scene)
        assert (result.all, result.overall) == (Count(len(found) - 1, len(found), len(found)), 1 - 1 / len(found))
        assert accuracy(sentence(scene), scene).overall == 1.0
        changed[path.rpartition(".")[2]] += 1
    assert set(changed) == {"shape", "colour", "size", "texture", "side", "background"}


FREE = [
    (
        "The image shows a big red circle with stripes to the left of a small, solid blue star on a white background.",
        (CIRCLE_AND_STAR, {"red circle left blue star"}, Background.WHITE, None),
    ),
    (
        "Two shapes. A huge striped red disc sits on the left side of the image; on the right, there is a tiny blue star. The star is plain.\nThe background is a light grey.",
        (CIRCLE_AND_STAR, {"red circle left blue star"}, Background.GRAY, 2),
    ),
    (
        "There are three objects: a red circle, a blue star and a green ring. The circle is large and striped, and the star is small and plain. The ring is above both of them.",
        (CIRCLE_AND_STAR | {"green ring": ""}, {"green ring above them"}, None, 3),
    ),
    (
        "To the left of a blue star is a red circle. Above them, there is a green ring.",
        (RING_TOO, {"red circle left blue star", "green ring above them"}, None, None),
    ),
    ("A red circle. Below it is a blue star.", (NAMES, {"blue star below red circle"}, None, None)),
    ("A red circle with a blue star underneath it", (NAMES, {"blue star below red circle"}, None, None)),
    (
        "A red circle, to the left of a blue star, with a green ring above them.",
        (RING_TOO, {"red circle left blue star", "green ring above them"}, None, None),
    ),
    (
        "The red circle, which is striped and large, is on top of the blue star, and the background is plain black.",
        (NAMES | {"red circle": "large striped"}, {"red circle above blue star"}, Background.BLACK, None),
    ),
    (
        "**Red circle** (large, striped)\n- **Blue star**: small, plain\nBackground: beige",
        (CIRCLE_AND_STAR, set(), Background.BEIGE, None),
    ),
    (
        "a LARGE red circular shape covered with stripes, and a small star-shaped blue object that is not striped",
        (CIRCLE_AND_STAR | {"blue star": "small"}, set(), None, None),
    ),
    (
        "The big red circle has a striped pattern while the blue star looks small and has no stripes.",
        (CIRCLE_AND_STAR | {"blue star": "small"}, set(), None, None),
    ),
    ("A blue star; there is no red circle above it.", ({"blue star": ""}, set(), None, None)),
    ("A red circle is not left of a blue star.", (NAMES, set(), None, None)),
    (
        "The square image shows a purple crescent moon on a solid gray backdrop",
        ({"purple moon": ""}, set(), Background.GRAY, None),
    ),
    ("a black circle and a cyan star", ({"circle": "", "star": ""}, set(), None, None)),
    ("a red thing left of a small one", ({"red": "", "": "small"}, {"red left "}, None, None)),
    ("red", ({}, set(), None, None)),
    (
        "There is a red circle at the top and a blue star at the bottom of the image.",
        (NAMES, {"red circle above blue star"}, None, None),
    ),
    (
        "A red circle is above a blue star, and a green ring is to the right of both.",
        (RING_TOO, {"red circle above blue star", "green ring right them"}, None, None),
    ),
    (
        "A blue star with a red circle to its left and a green ring below them.",
        (RING_TOO, {"red circle left blue star", "green ring below them"}, None, None),
    ),
    (
        "A big red circle with diagonal stripes lies beneath a small blue star with white dots, both on a beige background.",
        (
            {"red circle": "large striped", "blue star": "small dotted"},
            {"red circle below blue star"},
            Background.BEIGE,
            None,
        ),
    ),
    ("A red circle that is bigger than the blue star.", (NAMES, set(), None, None)),
    ("I cannot see any picture.", ({}, set(), None, None)),
]


@pytest.mark.parametrize(("text", "facts"), FREE, ids=[text[:40] for text, _ in FREE])
def test_free_descriptions_are_read_as_a_person_would(text, facts):
    """Each reading was written down by hand; what is not surely told is not read."""
    statement = read(text)
    assert (things(statement), relations(statement), statement.background, statement.count) == facts


PIECES = (
    *("a", "the", "two", "it", "them", "its", "which", "is", "not", "with", "and", ",", ".", ";", "above", "under"),
    *("left of", "to the left", "on the left", "pattern", "stripes", "dots", "small", "big", "red", "blue", "grey"),
    *(
        "white",
        "striped",
        "plain",
        "circle",
        "star",
        "squares",
        "shapes",
        "thing",
        "one",
        "background",
        "image",
        "wall",
    ),
)
SOUP = st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), SOUP, st.text(string.printable, max_size=200)))
def test_no_text_is_refused(text: str):
    """Any text is read; every position in the reading is one of its things, and reading again gives the same."""
    statement = read(text)
    positions = {p for r in statement.relations for p in (r.one, r.other) if p is not None}
    assert positions <= set(range(len(statement.things)))
    assert len(statement.things) <= 8
    assert all(relation.one != relation.other for relation in statement.relations)
    assert read(text) == statement
    for scene in (PAIR, TRIO):
        result = accuracy(text, scene)
        assert all(0 <= count.right <= count.stated <= count.of for count in result.counts.values())
        assert result.all.of == (11 if scene is PAIR else 16)


@pytest.mark.parametrize(
    "piece",
    ["a red circle left of ", "not ", "on the left ", "\ufdfa", "the ", "striped, ", "\ud800", "it is above it. "],
)
def test_a_very_long_text_is_cut(piece: str):
    """A million characters are read as their first few thousand, and those in one pass."""
    text = piece * (1_000_000 // len(piece))
    assert read(text) == read(text[:LONGEST])


def test_answers_are_scored_by_hand():
    """The counts of one answer, worked out on paper: things swapped, one wrong colour, much left out."""
    result = accuracy("A small blue star is right of a big red square on a gray wall.", PAIR)
    assert result.counts == {
        "shape": Count(1, 2, 2),
        "colour": Count(2, 2, 2),
        "size": Count(2, 2, 2),
        "texture": Count(0, 0, 2),
        "relation": Count(1, 1, 1),
        "third": Count(0, 0, 0),
        "background": Count(0, 1, 1),
        "things": Count(1, 1, 1),
    }
    assert tuple(result.counts) == ATTRIBUTES
    assert (result.all, result.overall) == (Count(7, 9, 11), 7 / 11)
    for where, count in (
        ("below them", Count(0, 1, 1)),
        ("above them", Count(1, 1, 1)),
        ("above the star", Count(1, 1, 1)),
        ("beside them", Count(0, 0, 1)),
    ):
        text = f"A red circle and a blue star. The green ring is {where}."
        assert accuracy(text, TRIO).counts["third"] == count
    assert accuracy("the blue star is above the green ring", TRIO).counts["third"] == Count(0, 1, 1)
    nothing = accuracy("", TRIO)
    assert (nothing.all, nothing.overall) == (Count(0, 0, 16), 0.0)
    assert accuracy("There are three shapes.", TRIO).all == Count(1, 1, 16)
    assert accuracy("A red circle and a blue star.", TRIO).counts["things"] == Count(0, 1, 1)


def test_things_that_agree_equally_are_meant_in_the_order_in_which_they_are_told():
    """Nothing agrees, so the first told is taken for the first, and how they stand is scored by that."""
    assert accuracy("a yellow moon left of a brown cross", PAIR).counts["relation"] == Count(1, 1, 1)
    assert accuracy("a yellow moon right of a brown cross", PAIR).counts["relation"] == Count(0, 1, 1)


def test_a_thing_too_many_does_not_hide_the_others():
    """The true things are found among more; only the number of things is wrong."""
    extra = "A small brown cross, a large striped red circle left of a small plain blue star, on a white background."
    result = accuracy(extra, PAIR)
    assert (result.all, result.counts["things"]) == (Count(10, 11, 11), Count(0, 1, 1))


def test_what_the_query_tells_does_not_count():
    """An answer that repeats its query has nothing right of what is left; one that looks has all."""
    query = "a red circle left of a blue star"
    assert accuracy_untold(query, query, TRIO).all == Count(0, 1, 11)  # it describes two things where there are three
    result = accuracy_untold(sentence(PAIR), query, PAIR)
    assert {name: count.of for name, count in result.counts.items() if count.of} == {
        "size": 2,
        "texture": 2,
        "background": 1,
        "things": 1,
    }
    assert result.overall == 1.0
    guess = accuracy_untold("a small red circle left of a small striped blue star", query, PAIR)
    assert guess.all == Count(2, 4, 6)  # the star's size and the number of things
    everything = "two objects, " + sentence(PAIR)
    assert accuracy_untold("nothing", everything, PAIR).overall is None
    # What a query states wrongly is not told.
    assert accuracy_untold("", "a red circle right of a blue star", PAIR).counts["relation"] == Count(0, 0, 1)


def test_repeating_the_caption_has_nothing_right_but_the_number_of_things(described):
    """Over all styles; what accuracy counts is what is told and what is not."""
    for scene, captions in described[:300]:
        for caption in captions:
            untold = accuracy_untold(caption, caption, scene).counts
            assert all(not count.right for name, count in untold.items() if name != "things"), caption
            assert sum(c.of for c in untold.values()) + len(told(caption, scene)) == accuracy("", scene).all.of


def test_scenes_by_id_are_those_that_were_drawn():
    """Every image of the collection, and no caption of an image says anything of its scene that is wrong."""
    scenes = scenes_by_id(600, 4)
    samples = [item for _, shard in build(600, 4) for item in shard]
    assert list(scenes) == [item.image_id for item in samples]
    assert len(scenes) == 600
    assert "no such image" not in scenes
    captions = [(text, scenes[item.image_id]) for item in samples for text in item.captions]
    assert len(captions) > 400
    for text, scene in captions:
        assert {fact for fact, verdict in verdicts(text, scene).items() if verdict is False} <= {"things"}, text


def test_a_query_is_asked_what_it_does_not_tell(described):
    """The same for an id, spread over attributes, and about anything where a query tells all."""
    asked = Counter()
    for number, (scene, captions) in enumerate(described[:300]):
        question = question_for(scene, captions[0], f"q{number}")
        assert question == question_for(scene, captions[0], f"q{number}")
        assert question in questions(scene)
        assert question.attribute != "relation"
        asked[question.attribute] += 1
        full = f"{len(scene.things)} shapes, {sentence(scene)}"
        assert question_for(scene, full, f"q{number}") in questions(scene)
    # Colour and shape are untold only of a third thing.
    assert set(asked) == {"size", "texture", "colour", "shape", "background", "things"}


@pytest.mark.parametrize(
    ("attribute", "answer", "right", "wrong"),
    [
        ("size", "small", ["small", "Little.", "tiny", "It is small"], ["large", "", "small or large", "smallish"]),
        ("texture", "dotted", ["Dotted", "spotted", "dots", "a dotted pattern"], ["striped", "dotted striped", "no"]),
        ("texture", "plain", ["solid", "PLAIN!"], ["dotted"]),
        ("colour", "red", ["Red.", "the colour is red"], ["blue", "dark red", "redder"]),
        ("shape", "moon", ["moon", "a crescent", "Crescent moon"], ["star", "moon star"]),
        ("relation", "left", ["left", "left of", "To the left.", "on the left side"], ["right", "upper left", "below"]),
        ("relation", "above", ["above", "over", "on top of", "top"], ["below", "lower"]),
        ("background", "gray", ["grey", "Gray background"], ["black", "gray white"]),
        ("things", "two", ["2", "two", "Two things", "There are 2."], ["3", "three", "2 3"]),
    ],
)
def test_one_word_answers_have_synonyms(attribute, answer, right, wrong):
    """Other words for the one answer are right; two answers and anything else are not."""
    question = Question(attribute, "?", answer)
    assert [answer_is_right(text, question) for text in right] == [True] * len(right)
    assert [answer_is_right(text, question) for text in wrong] == [False] * len(wrong)


def test_every_answer_to_every_question_is_right_and_no_other_value_is(described):
    """Of a sample of scenes, against all values of the attribute."""
    values = {
        "size": Size,
        "texture": Texture,
        "colour": Colour,
        "shape": Shape,
        "relation": Side,
        "background": Background,
    }
    for scene, _ in described[:100]:
        for question in questions(scene):
            others = (
                {value.value for value in values[question.attribute]}
                if question.attribute in values
                else {"two", "three"}
            )
            assert {value for value in others if answer_is_right(value, question)} == {question.answer}
