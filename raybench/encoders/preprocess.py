"""Pictures to pixels exactly as a model's own transform does it, with nothing but Pillow and numpy.

The result is uint8, so that what moves between processes is small; scaling to the model's mean and deviation is done
next to the model, with the same arithmetic as torchvision's ToTensor and Normalize.

Equal bit for bit to `open_clip.image_transform(is_train=False)` on RGB pictures, before ToTensor; with `crop="floor"`
to the Pillow-based CLIP and SigLIP image processors of transformers. Two cases differ on purpose. open_clip resizes
to a target that is not square with "shortest" always by bicubic filtering, whatever it was told; here `interpolation`
means what it says, so a recipe that follows open_clip asks for "bicubic" there. And pictures that are hundreds of
times longer than wide, for which the transforms would need gigabytes or fail: see `_resized_part` and `_longest`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST_RESIZED = 64_000_000  # pixels, 256 MB; a square target of 224 reaches it at an aspect ratio of 1,275


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
    crop: Literal["round", "floor"] = "round"  # the corner of the central crop: torchvision rounds, transformers floors

    def apply(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """An RGB picture as uint8 pixels [height, width, 3]."""
        if self.resize == "squash":
            made = picture.resize((self.width, self.height), _FILTERS[self.interpolation])
        elif self.resize == "longest":
            made = self._longest(picture)
        else:
            made = self._shortest(picture)
        return np.array(made, np.uint8)

    def _longest(self, picture: Image.Image) -> Image.Image:
        """Fit the whole picture in and pad; a side that would vanish keeps one pixel, where open_clip fails."""
        ratio = max(picture.height / self.height, picture.width / self.width)
        size = max(1, round(picture.width / ratio)), max(1, round(picture.height / ratio))
        canvas = Image.new("RGB", (self.width, self.height), (self.fill,) * 3)
        corner = (self.width - size[0]) // 2, (self.height - size[1]) // 2
        canvas.paste(picture.resize(size, _FILTERS[self.interpolation]), corner)
        return canvas

    def _shortest(self, picture: Image.Image) -> Image.Image:
        """Fill the target and cut what sticks out at the middle."""
        width, height = picture.size
        if self.width == self.height:  # torchvision's Resize(int) truncates the longer side
            side = self.width
            size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
        else:  # open_clip's ResizeKeepRatio rounds both
            ratio = min(height / self.height, width / self.width)
            size = round(width / ratio), round(height / ratio)
        left, top = self._offset(size[0] - self.width), self._offset(size[1] - self.height)
        return _resized_part(picture, size, (left, top, left + self.width, top + self.height), self.interpolation)

    def _offset(self, excess: int) -> int:
        return excess // 2 if self.crop == "floor" else round(excess / 2.0)


def _resized_part(
    picture: Image.Image, size: tuple[int, int], part: tuple[int, int, int, int], interpolation: str
) -> Image.Image:
    """What `picture.resize(size).crop(part)` gives.

    Where the resized picture would be huge only the part is made, and levels may then differ by one: Pillow takes the
    part's corners as 32-bit floats. The surroundings are cut off first, since Pillow resizes pictures more than a
    hundred times taller than wide in another order.
    """
    resampling = _FILTERS[interpolation]
    if size[0] * size[1] <= _LARGEST_RESIZED:
        return picture.resize(size, resampling).crop(part)
    across, down = picture.width / size[0], picture.height / size[1]
    left, top, right, bottom = part[0] * across, part[1] * down, part[2] * across, part[3] * down
    reach = math.ceil(4 * max(across, down, 1))  # no filter looks further than three pixels of the result
    corner = max(0, int(left) - reach), max(0, int(top) - reach)
    nearby = picture.crop((*corner, min(picture.width, int(right) + reach), min(picture.height, int(bottom) + reach)))
    box = (left - corner[0], top - corner[1], right - corner[0], bottom - corner[1])
    return nearby.resize((part[2] - part[0], part[3] - part[1]), resampling, box=box)
