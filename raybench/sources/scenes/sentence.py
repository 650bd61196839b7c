"""One sentence that tells all of a scene, always in the same words: what a generator that was trained on scenes says.

The first two things are told by where they stand (left before right, above before below), since a picture does not show
in which order a caption would tell them. The words are among those of the captions.
"""

from raybench.sources.scenes.scene import Scene, Side, Thing


def ordered(scene: Scene) -> tuple[Thing, Thing, Side]:
    """The first two things by place, and how the first stands to the second: left or above."""
    one, other = scene.things[:2]
    if scene.side in (Side.RIGHT, Side.BELOW):
        one, other = other, one
    return one, other, Side.LEFT if scene.side in (Side.LEFT, Side.RIGHT) else Side.ABOVE


def sentence(scene: Scene) -> str:
    """Such as "a small striped red circle left of a large plain blue star, gray background"."""
    one, other, side = ordered(scene)
    text = f"{full_name(one)} {'left of' if side is Side.LEFT else 'above'} {full_name(other)}"
    if scene.third_side is not None:
        where = "of them" if scene.third_side in (Side.LEFT, Side.RIGHT) else "them"
        text += f" with {full_name(scene.things[2])} {scene.third_side} {where}"
    return f"{text}, {scene.background} background"


def full_name(thing: Thing) -> str:
    """Such as "a small striped red circle"."""
    return f"a {thing.size} {thing.texture} {thing.colour} {thing.shape}"
