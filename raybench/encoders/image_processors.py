"""The image processors of transformers whose work is a resize, a crop and a scaling, as a `Preprocess`.

What a model's configuration leaves out is the default of its processor class; a test keeps the defaults equal to the
classes. Everything else, such as NaFlex (patches of a picture's own shape), tiles and padding, is refused: pictures
prepared in another way than the model was trained with make a good model look bad.

transformers resizes tensors with torchvision where it can; here Pillow does it, as when the models were trained and
as the classes ending in `Pil` still do.
"""

from collections.abc import Mapping
from typing import Any

from raybench.encoders.model_files import three_numbers
from raybench.encoders.preprocess import Preprocess
from raybench.errors import RequestError

_OPENAI = {"image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711)}
_HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_CLIP = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True}
_SQUARE = {"height": 224, "width": 224}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "CLIPImageProcessor": {**_CLIP, **_OPENAI, "resample": 3},
    "ChineseCLIPImageProcessor": {**_CLIP, **_OPENAI, "resample": 3},
    "SiglipImageProcessor": {"size": _SQUARE, **_HALF, "resample": 3},
    "ViTImageProcessor": {"size": _SQUARE, **_HALF, "resample": 2},
    "BlipImageProcessor": {"size": {"height": 384, "width": 384}, **_OPENAI, "resample": 3},
}
_SHORTEST_EDGE = ("CLIPImageProcessor", "ChineseCLIPImageProcessor")  # where a size of one number is the shorter side
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def processor_class(config: Mapping[str, Any]) -> str:
    """The class that a configuration names, without the marks of its backends and its former name."""
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    return name.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")


def preprocess(config: Mapping[str, Any], what: str) -> Preprocess:
    """The preprocessing of a preprocessor_config.json. Raises RequestError for what is not one of the simple kinds."""
    name = processor_class(config)
    if name.startswith("Siglip2"):
        raise RequestError(
            f"{what} has NaFlex pictures ({name}: patches of any shape), which are not supported; "
            "use a checkpoint of fixed resolution, such as google/siglip2-base-patch16-224"
        )
    if name not in DEFAULTS:
        raise RequestError(f"{what} has the image processor {name or 'none'!r}; supported are {', '.join(DEFAULTS)}")
    given = {**DEFAULTS[name], **{key: value for key, value in config.items() if value is not None}}
    _refuse_other_steps(given, what)
    height, width, resize = _size(given, name, what)
    filter_name = _FILTERS.get(given["resample"]) if isinstance(given["resample"], int) else None
    if filter_name is None:
        raise RequestError(f"{what} resamples with Pillow's filter {given['resample']!r}; supported are {_FILTERS}")
    return Preprocess(
        height=height,
        width=width,
        mean=three_numbers(given["image_mean"], what) if given.get("do_normalize", True) else (0.0, 0.0, 0.0),
        std=three_numbers(given["image_std"], what) if given.get("do_normalize", True) else (1.0, 1.0, 1.0),
        resize="squash" if resize == "squash" else "shortest",
        interpolation=filter_name,  # type: ignore[arg-type]  # mypy does not see the literals in _FILTERS
        crop="floor",
    )


def _refuse_other_steps(given: Mapping[str, Any], what: str) -> None:
    factor = given.get("rescale_factor", 1 / 255)
    wrong = {
        "do_resize": given.get("do_resize", True) is not True,
        "do_rescale": given.get("do_rescale", True) is not True,
        "do_pad": given.get("do_pad", False) is not False,
        "rescale_factor": not isinstance(factor, float) or abs(factor * 255 - 1) > 1e-6,
    }
    for step in (step for step, is_wrong in wrong.items() if is_wrong):
        raise RequestError(f"{what} has {step}={given.get(step)!r}, which is not supported; choose another checkpoint")


def _size(given: Mapping[str, Any], name: str, what: str) -> tuple[int, int, str]:
    """Height and width of the result, and whether the picture is cropped or squashed to them."""
    size, crop = given["size"], given.get("crop_size")
    if isinstance(size, int):
        size = {"shortest_edge": size} if name in _SHORTEST_EDGE else {"height": size, "width": size}
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    size = {key: value for key, value in size.items() if value is not None} if isinstance(size, dict) else {}
    crop = crop if given.get("do_center_crop") else None
    if set(size) == {"shortest_edge"} and crop == {"height": size["shortest_edge"], "width": size["shortest_edge"]}:
        return _pixels(crop["height"], what), _pixels(crop["width"], what), "shortest"
    if set(size) == {"height", "width"} and crop in (None, size):
        return _pixels(size["height"], what), _pixels(size["width"], what), "squash"
    raise RequestError(
        f"{what} resizes to {given['size']} and crops to {crop}; supported are one size for both, or a squash without crop"
    )


def _pixels(value: Any, what: str) -> int:
    if type(value) is not int or not 0 < value <= 8192:
        raise RequestError(f"{what} asks for pictures {value!r} pixels long; it must be a whole number up to 8192")
    return value
