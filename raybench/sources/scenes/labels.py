"""A scene as class numbers by place, which a picture alone decides: what training may ask of an embedding.

The first two things are told by where they stand (left before right, above before below), not by caption order.
"""

import numpy as np
import numpy.typing as npt

from raybench.sources.scenes.scene import Background, Colour, Scene, Shape, Side, Size, Texture

UNKNOWN = -100  # the class that torch's cross entropy leaves out
THING_CLASSES = (len(Colour), len(Shape), len(Size), len(Texture))
CLASSES = (*THING_CLASSES * 3, 2, len(Side) + 1, len(Background))
"""The number of classes of each label: three things, the axis of the first two, the third's side, background."""

TOLD_KL = np.zeros((5, len(CLASSES)), dtype=bool)
"""Whether the caption K of a scene tells the label L; the fourth lists its things in any order, so tells no place."""
TOLD_KL[0, [0, 1, 4, 5, 12]] = True
TOLD_KL[1, [0, 1, 2, 4, 5, 6, 12]] = True
TOLD_KL[2, [0, 1, 3, 4, 5, 7, 12, 14]] = True
TOLD_KL[4] = True


def labels(scene: Scene) -> npt.NDArray[np.int64]:
    """Class numbers [15], UNKNOWN for a third thing that is not there."""
    one, other = scene.things[:2]
    if scene.side in (Side.RIGHT, Side.BELOW):
        one, other = other, one
    found: list[int] = []
    for thing in (one, other, *scene.things[2:]):
        found += [
            list(Colour).index(thing.colour),
            list(Shape).index(thing.shape),
            list(Size).index(thing.size),
            list(Texture).index(thing.texture),
        ]
    found += [UNKNOWN] * (3 * len(THING_CLASSES) - len(found))
    third = len(Side) if scene.third_side is None else list(Side).index(scene.third_side)
    axis = int(scene.side in (Side.ABOVE, Side.BELOW))
    return np.array([*found, axis, third, list(Background).index(scene.background)], dtype=np.int64)
