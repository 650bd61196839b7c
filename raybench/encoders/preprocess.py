"""Pictures to pixels exactly as a model's own transform does it, with nothing but Pillow and numpy.

The result is uint8, so that what moves between processes is small; scaling to the model's mean and deviation is done
next to the model, with the same arithmetic as torchvision's ToTensor and Normalize.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a picture becomes pixels; every field is recorded in the manifest."""

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] = "bicubic"
    fill: int = 0  # the colour of padding, with "longest"

    def apply(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """An RGB picture as uint8 pixels [height, width, 3]."""
        raise NotImplementedError
