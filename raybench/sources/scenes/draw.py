"""A scene and a random stream decide every pixel: the stream moves, tilts and tints what the scene names.

Two scenes drawn with equal streams look alike wherever they are alike, which is what makes a negative hard.
"""

import math
from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops, ImageDraw

from raybench.sources.scenes.scene import Background, Colour, Scene, Shape, Side, Size, Texture, Thing

SIDE_PX = 128
SUPERSAMPLING = 2  # drawn twice as large and averaged, so edges are smooth
RADIUS_PX = {Size.SMALL: 14.0, Size.LARGE: 26.0}
PALETTE: dict[str, tuple[int, int, int]] = {
    Colour.RED: (215, 40, 40),
    Colour.ORANGE: (245, 140, 25),
    Colour.YELLOW: (245, 220, 50),
    Colour.GREEN: (50, 160, 60),
    Colour.BLUE: (45, 90, 215),
    Colour.PURPLE: (130, 55, 170),
    Colour.PINK: (250, 150, 195),
    Colour.BROWN: (125, 75, 35),
    Background.WHITE: (248, 248, 248),
    Background.GRAY: (150, 150, 150),
    Background.BLACK: (22, 22, 22),
    Background.BEIGE: (228, 212, 178),
}


def draw(scene: Scene, rng: Generator) -> Image.Image:
    """An RGB image of 128 x 128 pixels that shows `scene`."""
    side_px = SIDE_PX * SUPERSAMPLING
    image = Image.new("RGB", (side_px, side_px), _tint(scene.background, rng))
    for thing, (x, y) in zip(scene.things, _centres(scene), strict=True):
        dx, dy = rng.uniform(-4, 4, size=2)
        _draw_thing(image, thing, x + float(dx), y + float(dy), rng)
    small = image.reduce(SUPERSAMPLING)
    grain_HW1 = rng.integers(-4, 5, size=(SIDE_PX, SIDE_PX, 1), dtype=np.int16)
    pixels_HWC = np.asarray(small, dtype=np.int16) + grain_HW1
    return Image.fromarray(np.clip(pixels_HWC, 0, 255).astype(np.uint8))


def _centres(scene: Scene) -> list[tuple[float, float]]:
    near, middle, far = 0.27 * SIDE_PX, 0.5 * SIDE_PX, 0.73 * SIDE_PX
    # The pair moves off the middle to leave room for the third thing.
    lane = {None: middle, Side.ABOVE: far, Side.LEFT: far, Side.BELOW: near, Side.RIGHT: near}[scene.third_side]
    opposite_lane = near if lane == far else far
    first, second = (near, far) if scene.side in (Side.LEFT, Side.ABOVE) else (far, near)
    along = [(first, lane), (second, lane)]
    if scene.third_side is not None:
        along.append((middle, opposite_lane))
    return along if scene.side in (Side.LEFT, Side.RIGHT) else [(y, x) for x, y in along]


def _tint(name: str, rng: Generator) -> tuple[int, int, int]:
    red, green, blue = (
        min(255, max(0, level + int(shift)))
        for level, shift in zip(PALETTE[name], rng.integers(-10, 11, size=3), strict=True)
    )
    return red, green, blue


def _draw_thing(image: Image.Image, thing: Thing, x: float, y: float, rng: Generator) -> None:
    scale, tilt = rng.uniform(0.9, 1.08), rng.uniform(-0.18, 0.18)
    colour, phase = _tint(thing.colour, rng), int(rng.integers(0, 16))
    radius = RADIUS_PX[thing.size] * SUPERSAMPLING * float(scale)
    mask = _shape_mask(thing.shape, radius, float(tilt))
    corner = (round(x * SUPERSAMPLING - radius), round(y * SUPERSAMPLING - radius))
    image.paste(colour, corner, mask)
    if thing.texture is not Texture.PLAIN:
        pattern = _pattern(thing.texture).crop((phase, phase, phase + mask.width, phase + mask.height))
        accent = tuple(int(level * 0.35) for level in colour)
        image.paste(accent, corner, ImageChops.multiply(mask, pattern))


@cache
def _pattern(texture: Texture) -> Image.Image:
    """Where the darker colour goes: 255 there, 0 elsewhere; wide enough for any thing at any phase."""
    row_Y, column_X = np.mgrid[0:160, 0:160]
    marked_YX = {
        Texture.STRIPED: (row_Y // 8) % 2 == 0,
        Texture.DOTTED: (row_Y % 18 - 9) ** 2 + (column_X % 18 - 9) ** 2 < 32,
        Texture.CHECKERED: (row_Y // 12 + column_X // 12) % 2 == 0,
    }[texture]
    return Image.fromarray((marked_YX * 255).astype(np.uint8))


def _shape_mask(shape: Shape, radius: float, tilt: float) -> Image.Image:
    side_px = math.ceil(2 * radius) + 1
    mask = Image.new("L", (side_px, side_px), 0)
    pen = ImageDraw.Draw(mask)
    if shape in (Shape.CIRCLE, Shape.RING, Shape.MOON):
        pen.ellipse(_box(radius, 0.0, 0.92 * radius), fill=255)
        if shape is Shape.RING:
            pen.ellipse(_box(radius, 0.0, 0.48 * radius), fill=0)
        if shape is Shape.MOON:
            pen.ellipse(_box(radius, 0.5 * radius, 0.75 * radius), fill=0)
        return mask
    cos, sin = radius * math.cos(tilt), radius * math.sin(tilt)
    pen.polygon([(radius + x * cos - y * sin, radius + x * sin + y * cos) for x, y in _outline(shape)], fill=255)
    return mask


def _box(radius: float, shift: float, reach: float) -> tuple[float, float, float, float]:
    return (radius + shift - reach, radius - reach, radius + shift + reach, radius + reach)


@cache
def _outline(shape: Shape) -> tuple[tuple[float, float], ...]:
    """The corners of a straight-edged shape, about (0, 0), within the unit circle."""
    if shape is Shape.SQUARE:
        return ((-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7))
    if shape is Shape.DIAMOND:
        return ((0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0))
    if shape is Shape.TRIANGLE:
        return ((0.0, -0.95), (0.85, 0.65), (-0.85, 0.65))
    if shape is Shape.CROSS:
        arm, reach = 0.28, 0.92
        quarter = ((-arm, -reach), (arm, -reach), (arm, -arm))
        turns = ((1, 0), (0, 1), (-1, 0), (0, -1))
        return tuple((x * cos - y * sin, x * sin + y * cos) for cos, sin in turns for x, y in quarter)
    angles = [(step * math.pi / 5, 1.0 if step % 2 == 0 else 0.42) for step in range(10)]
    return tuple((reach * math.sin(angle), -reach * math.cos(angle)) for angle, reach in angles)
