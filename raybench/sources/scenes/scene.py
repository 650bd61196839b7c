"""A scene is a value: two or three things, how they stand to each other, and a background; a seed decides it.

No two things of a scene share both colour and shape, so "the red circle" never has two meanings.
"""

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import TypeVar

import numpy as np
from numpy.random import Generator

T = TypeVar("T")


class Purpose(IntEnum):
    """The first word of every seed, so that no training scene and no evaluation scene share a random stream."""

    EVALUATION = 1
    TRAINING = 2


class Shape(StrEnum):
    """The outline of a thing."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    CROSS = "cross"
    RING = "ring"
    DIAMOND = "diamond"
    MOON = "moon"


class Colour(StrEnum):
    """The main colour of a thing; its texture is a darker tone of it."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    BLUE = "blue"
    PURPLE = "purple"
    PINK = "pink"
    BROWN = "brown"


class Size(StrEnum):
    """How far a thing reaches."""

    SMALL = "small"
    LARGE = "large"


class Texture(StrEnum):
    """What fills the outline."""

    PLAIN = "plain"
    STRIPED = "striped"
    DOTTED = "dotted"
    CHECKERED = "checkered"


class Side(StrEnum):
    """Where one thing lies, seen from another."""

    LEFT = "left"
    RIGHT = "right"
    ABOVE = "above"
    BELOW = "below"


class Background(StrEnum):
    """The colour behind all things."""

    WHITE = "white"
    GRAY = "gray"
    BLACK = "black"
    BEIGE = "beige"


OPPOSITE = {Side.LEFT: Side.RIGHT, Side.RIGHT: Side.LEFT, Side.ABOVE: Side.BELOW, Side.BELOW: Side.ABOVE}
# A third thing lies across the line of the first two, so it never stands between them.
ACROSS = {
    Side.LEFT: (Side.ABOVE, Side.BELOW),
    Side.RIGHT: (Side.ABOVE, Side.BELOW),
    Side.ABOVE: (Side.LEFT, Side.RIGHT),
    Side.BELOW: (Side.LEFT, Side.RIGHT),
}
ATTRIBUTES = ("colour", "shape", "side", "size", "texture", "background")
# Colour, shape and side are in almost every caption, so most hard negatives contradict most captions.
ATTRIBUTE_ODDS = (0.3, 0.3, 0.16, 0.08, 0.08, 0.08)


@dataclass(frozen=True, slots=True)
class Thing:
    """One drawn object."""

    shape: Shape
    colour: Colour
    size: Size
    texture: Texture


@dataclass(frozen=True, slots=True)
class Scene:
    """Two or three things: the first lies on `side` of the second, a third on `third_side` of both."""

    things: tuple[Thing, ...]
    side: Side
    third_side: Side | None
    background: Background


def generator(purpose: Purpose, seed: int, *path: int) -> Generator:
    """The random stream of one piece of work; equal arguments give equal streams on every machine."""
    return np.random.default_rng([int(purpose), seed, *path])


def pick(rng: Generator, values: tuple[T, ...]) -> T:
    """One of `values`, each as likely as another."""
    return values[int(rng.integers(len(values)))]


def sample(rng: Generator) -> Scene:
    """A scene drawn at random; one in two has a third thing."""
    things: list[Thing] = []
    count = 2 + int(rng.integers(2))
    while len(things) < count:
        thing = Thing(
            pick(rng, tuple(Shape)), pick(rng, tuple(Colour)), pick(rng, tuple(Size)), pick(rng, tuple(Texture))
        )
        if _names_are_unique((*things, thing)):
            things.append(thing)
    side = pick(rng, tuple(Side))
    third_side = pick(rng, ACROSS[side]) if count == 3 else None
    return Scene(tuple(things), side, third_side, pick(rng, tuple(Background)))


def vary(scene: Scene, rng: Generator) -> tuple[Scene, str]:
    """A scene that differs from `scene` in exactly one attribute of the first two things or of the whole.

    Returns the scene and the path of the attribute, as `differences` names it.
    """
    while True:
        attribute = ATTRIBUTES[int(rng.choice(len(ATTRIBUTES), p=ATTRIBUTE_ODDS))]
        position = int(rng.integers(2))
        varied = _change(scene, attribute, position, rng)
        paths = differences(scene, varied)
        if len(paths) == 1 and _names_are_unique(varied.things):
            return varied, paths[0]


def differences(one: Scene, other: Scene) -> tuple[str, ...]:
    """The paths at which two scenes differ, such as "things.0.colour"; a thing too many is one path."""
    paths = [name for name in ("side", "third_side", "background") if getattr(one, name) != getattr(other, name)]
    if len(one.things) != len(other.things):
        return (*paths, "things")
    for position, (mine, theirs) in enumerate(zip(one.things, other.things, strict=True)):
        names = ("shape", "colour", "size", "texture")
        paths.extend(f"things.{position}.{name}" for name in names if getattr(mine, name) != getattr(theirs, name))
    return tuple(paths)


def _change(scene: Scene, attribute: str, position: int, rng: Generator) -> Scene:
    if attribute == "side":
        return replace(scene, side=OPPOSITE[scene.side])  # another axis would move the third thing as well
    if attribute == "background":
        return replace(scene, background=pick(rng, tuple(Background)))
    thing = scene.things[position]
    changed = {
        "colour": replace(thing, colour=pick(rng, tuple(Colour))),
        "shape": replace(thing, shape=pick(rng, tuple(Shape))),
        "size": replace(thing, size=pick(rng, tuple(Size))),
        "texture": replace(thing, texture=pick(rng, tuple(Texture))),
    }[attribute]
    return replace(scene, things=(*scene.things[:position], changed, *scene.things[position + 1 :]))


def _names_are_unique(things: tuple[Thing, ...]) -> bool:
    return len({(thing.colour, thing.shape) for thing in things}) == len(things)
