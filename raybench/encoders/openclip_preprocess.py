"""The preprocessing that open_clip itself would use, from its configuration alone.

open_clip starts from defaults, lays the values of the tag or folder over them (None leaves the default), and takes
the picture size from the vision tower, whatever the preprocessing said (`factory.create_model`, 3.3.0). Its quirks
are kept, because the weights were evaluated with them: an empty mean or deviation is OpenAI's, "random" interpolation
is bicubic, and a picture that is not square is resized bicubically whatever was asked (`transform.image_transform`).
"""

from collections.abc import Mapping
from typing import Any

from raybench.encoders.model_files import three_numbers
from raybench.encoders.preprocess import Preprocess
from raybench.errors import RequestError

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's training data, the default of open_clip
_STD = (0.26862954, 0.26130258, 0.27577711)
_SIZE = 224  # the default of open_clip's CLIPVisionCfg


def merged(model: Mapping[str, Any], overlay: Mapping[str, Any], what: str) -> Preprocess:
    """The preprocessing of a model configuration and the values laid over the defaults."""
    given = {key: value for key, value in overlay.items() if value is not None}
    height, width = _pair(model["vision_cfg"].get("image_size", _SIZE), what)
    resize = given.get("resize_mode") or "shortest"
    interpolation = given.get("interpolation") or "bicubic"
    if resize not in ("shortest", "longest", "squash") or interpolation not in ("bicubic", "bilinear", "random"):
        raise RequestError(
            f"{what} asks for resize_mode={resize!r}, interpolation={interpolation!r}; open_clip has neither"
        )
    if given.get("mode", "RGB") != "RGB":
        raise RequestError(f"{what} asks for pictures in mode {given['mode']!r}; only RGB is supported")
    bilinear = interpolation == "bilinear" and (resize != "shortest" or height == width)
    return Preprocess(
        height=height,
        width=width,
        mean=three_numbers(given.get("mean") or _MEAN, what),
        std=three_numbers(given.get("std") or _STD, what),
        resize=resize,  # type: ignore[arg-type]  # one of the three, as checked above
        interpolation="bilinear" if bilinear else "bicubic",
        fill=_fill(given.get("fill_color", 0), what),
    )


def _pair(size: Any, what: str) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise RequestError(f"{what} has image_size {size!r}; it must be one or two positive whole numbers")
    return pair


def _fill(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value <= 255:
        raise RequestError(f"{what} has fill_color {value!r}; it must be a whole number from 0 to 255")
    return value
