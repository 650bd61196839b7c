"""The English words that a description of a scene is read by: those of the captions, and what else means the same.

A word that is not here is not read: "cyan", "oval" and "medium" are no values of a scene, so a text that says them has left the
attribute unstated.
"""

import re
from enum import StrEnum

from raybench.sources.scenes.captions import SIZE_WORDS, TEXTURE_WORDS
from raybench.sources.scenes.scene import Background, Colour, Shape, Side, Texture

SIZES = {word: size for size, words in SIZE_WORDS.items() for word in words}
TEXTURES = {word: texture for texture, words in TEXTURE_WORDS.items() for word in words} | {
    "filled": Texture.PLAIN,
    "stripe": Texture.STRIPED,
    "stripy": Texture.STRIPED,
    "stripey": Texture.STRIPED,
    "dot": Texture.DOTTED,
    "spotty": Texture.DOTTED,
    "check": Texture.CHECKERED,
    "checked": Texture.CHECKERED,
    "checker": Texture.CHECKERED,
    "checkerboard": Texture.CHECKERED,
    "chequered": Texture.CHECKERED,
}
MARKS = {
    "stripes": Texture.STRIPED,
    "dots": Texture.DOTTED,
    "spots": Texture.DOTTED,
    "checks": Texture.CHECKERED,
}
COLOURS = {colour.value: colour for colour in Colour} | {"violet": Colour.PURPLE}
BACKGROUNDS = {ground.value: ground for ground in Background} | {"grey": Background.GRAY}
SHAPED = {
    "circular": Shape.CIRCLE,
    "triangular": Shape.TRIANGLE,
}
SHAPES = {shape.value: shape for shape in Shape} | {
    "circles": Shape.CIRCLE,
    "disc": Shape.CIRCLE,
    "disk": Shape.CIRCLE,
    "squares": Shape.SQUARE,
    "triangles": Shape.TRIANGLE,
    "stars": Shape.STAR,
    "crosses": Shape.CROSS,
    "plus sign": Shape.CROSS,
    "rings": Shape.RING,
    "donut": Shape.RING,
    "doughnut": Shape.RING,
    "diamonds": Shape.DIAMOND,
    "rhombus": Shape.DIAMOND,
    "moons": Shape.MOON,
    "crescent": Shape.MOON,
    "crescent moon": Shape.MOON,
}
SIDES = {
    "left": Side.LEFT,
    "right": Side.RIGHT,
    "top": Side.ABOVE,
    "upper": Side.ABOVE,
    "bottom": Side.BELOW,
    **dict.fromkeys(("above", "over", "higher than", "on top of", "top of", "atop", "higher"), Side.ABOVE),
    **dict.fromkeys(("below", "under", "underneath", "beneath", "lower than", "lower"), Side.BELOW),
}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5}

ADJECTIVES: dict[str, tuple[str, StrEnum]] = {
    word: (attribute, value)
    for attribute, table in (("size", SIZES), ("texture", TEXTURES), ("colour", COLOURS), ("background", BACKGROUNDS))
    for word, value in table.items()
}
NEW, KNOWN = ("a", "an", "another"), ("the",)
VERBS = (
    *("is", "are", "was", "were", "s", "has", "have", "appears", "looks", "features", "being"),
    *("sits", "lies", "stands", "rests", "placed", "positioned", "located", "situated"),
)
RELATIVES = ("which", "that", "who")
BREAKS = ("and", "while", "with", "but", "whereas", "having", "plus")
NEGATIONS = ("not", "no", "without", "isn", "aren", "neither", "nor")

_FRAMES = "image|picture|photo|photograph|frame|scene|canvas|drawing|illustration|figure"
_PARTS = "side|half|part|corner|edge|portion|area|section"
_GROUNDS = "background|backdrop|wall"
_SHAPES = "|".join(sorted(SHAPES, key=len, reverse=True)).replace(" ", r"\ ")
_UPRIGHT = r"above|over|higher\ than|on\ top\ of|top\ of|atop|below|underneath|under|beneath|lower\ than"

PIECE = re.compile(
    rf"""\b(?:
    (?:to|on|at)\ (?P<whose>their|its)\ (?P<beside>left|right)
    | (?:to|on|at|in|from|toward|towards)\ the\ (?:far\ |very\ )?
      (?P<place>(?:upper|lower|top|bottom|left|right)(?:\ (?:left|right))?)(?:\ hand)?(?:\ (?:{_PARTS}))?
      (?:\ of\ (?:the|this)\ (?:{_FRAMES}))?(?!\ (?:hand|{_PARTS}|of|left|right)\b)
    | (?:(?:(?:to|on|at)\ (?:the\ )?)?(?P<level>left|right)(?:\ hand)?(?:\ side)?\ of|(?P<upright>{_UPRIGHT}))
      (?:\ (?P<object>them|both|these|it|the\ two|the\ other\ two|the\ others))?
    | (?P<shaped>{_SHAPES})\ shaped
    | (?P<shape>{_SHAPES})(?:\ (?:shape|object|symbol|icon))?(?!\ (?:{_FRAMES}|{_GROUNDS})\b)
    | (?P<many>shapes|objects|things|figures|items|forms|elements)
    | (?P<one>shape|object|thing|figure|item|form|element)
    | (?P<pattern>patterns?|texture|fill|design|surface|finish)
    | (?P<ground>{_GROUNDS})
    | (?P<frame>{_FRAMES})
    | (?P<word>\w+)
    )\b | (?P<comma>,) | (?P<stop>\.)""",
    re.VERBOSE,
)
"""The pieces of a text whose words and marks are parted by one space each; every word is in exactly one of them."""
