"""Every caption is true of its scene; the five of one scene differ in wording and in how much they tell.

The first tells least (colour, shape, side) and the last tells everything.
"""

from numpy.random import Generator

from raybench.sources.scenes.scene import OPPOSITE, Scene, Side, Size, Texture, Thing, pick

PER_SCENE = 5
SIZE_WORDS = {Size.SMALL: ("small", "little", "tiny"), Size.LARGE: ("large", "big", "huge")}
TEXTURE_WORDS = {
    Texture.PLAIN: ("plain", "solid"),
    Texture.STRIPED: ("striped",),
    Texture.DOTTED: ("dotted", "spotted"),
    Texture.CHECKERED: ("checkered",),
}
SIDE_PHRASES = {
    Side.LEFT: ("left of", "to the left of", "on the left of"),
    Side.RIGHT: ("right of", "to the right of", "on the right of"),
    Side.ABOVE: ("above", "over", "higher than"),
    Side.BELOW: ("below", "under", "lower than"),
}
THIRD_PHRASES = {
    Side.LEFT: ("to their left", "left of them"),
    Side.RIGHT: ("to their right", "right of them"),
    Side.ABOVE: ("above them", "over them"),
    Side.BELOW: ("below them", "under them"),
}


def describe(scene: Scene, rng: Generator) -> tuple[str, ...]:
    """Five captions, from the least to the most detailed, lower case, without a full stop."""
    return (
        gist(scene, rng),
        _with_sizes(scene, rng),
        _with_textures(scene, rng),
        _listing(scene, rng),
        _everything(scene, rng),
    )


def gist(scene: Scene, rng: Generator) -> str:
    """Colour, shape and side of the first two things: true of any scene that agrees in those."""
    one, other = (_name(thing, rng, "") for thing in scene.things[:2])
    return _pair(scene, one, other, rng, (" ", " is "))


def _with_sizes(scene: Scene, rng: Generator) -> str:
    one, other = (_name(thing, rng, "size") for thing in scene.things[:2])
    start = pick(rng, ("a picture of ", "a drawing with ", "we see "))
    return start + _pair(scene, one, other, rng, (" ", " placed "))


def _with_textures(scene: Scene, rng: Generator) -> str:
    one, other = (_name(thing, rng, "texture") for thing in scene.things[:2])
    pair = _pair(scene, one, other, rng, (" is ", " sits "))
    return f"{pick(rng, ('on', 'against'))} a {scene.background} background {pair}"


def _listing(scene: Scene, rng: Generator) -> str:
    detail = pick(rng, ("size", "texture"))
    names = [_name(thing, rng, detail) for thing in scene.things]
    names = [names[int(position)] for position in rng.permutation(len(names))]
    count = "two" if len(names) == 2 else "three"
    start = pick(rng, (f"{count} shapes: ", f"there are {count} shapes, ", f"{count} objects, "))
    return f"{start}{', '.join(names[:-1])} and {names[-1]}"


def _everything(scene: Scene, rng: Generator) -> str:
    names = [_name(thing, rng, "size texture") for thing in scene.things]
    text = _pair(scene, names[0], names[1], rng, (" ",))
    if scene.third_side is not None:
        text += f" with {names[2]} {pick(rng, THIRD_PHRASES[scene.third_side])}"
    end = (f", {scene.background} background", f", in front of a {scene.background} wall")
    return text + pick(rng, end)


def _pair(scene: Scene, one: str, other: str, rng: Generator, links: tuple[str, ...]) -> str:
    """The first two things and how they stand, told from either one's place."""
    if rng.random() < 0.5:
        return f"{one}{pick(rng, links)}{pick(rng, SIDE_PHRASES[scene.side])} {other}"
    return f"{other}{pick(rng, links)}{pick(rng, SIDE_PHRASES[OPPOSITE[scene.side]])} {one}"


def _name(thing: Thing, rng: Generator, details: str) -> str:
    words = [thing.colour.value, thing.shape.value]
    if "texture" in details:
        words.insert(0, pick(rng, TEXTURE_WORDS[thing.texture]))
    if "size" in details:
        words.insert(0, pick(rng, SIZE_WORDS[thing.size]))
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"
