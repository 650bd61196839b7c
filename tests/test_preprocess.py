"""Pixels must be those of the transforms that models were evaluated with, to the last bit."""

import itertools
import warnings

import numpy as np
import pytest
from PIL import Image

from raybench.encoders import preprocess
from raybench.encoders.preprocess import Preprocess

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
SIZES = [(224, 224), (640, 480), (480, 640), (225, 223), (223, 225), (33, 517), (517, 33), (1, 1), (2, 300), (300, 7),
         (57, 99), (448, 448), (1000, 229)]  # fmt: skip


def picture_of(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Noise over a gradient, so that a shift by one pixel or level shows."""
    rng = np.random.default_rng([seed, *size])
    smooth_HW = np.add.outer(np.arange(size[1]), np.arange(size[0])) % 256
    noise_HWC = rng.integers(0, 64, (size[1], size[0], 3))
    return Image.fromarray(((smooth_HW[:, :, None] + noise_HWC) % 256).astype(np.uint8))


def open_clip_pixels(
    picture: Image.Image, size: int | tuple[int, int], resize: str, interpolation: str, fill: int
) -> np.ndarray:
    """What open_clip's own transform makes, taken just before it becomes a tensor."""
    from open_clip.transform import image_transform

    steps = image_transform(
        size, is_train=False, mean=MEAN, std=STD, resize_mode=resize, interpolation=interpolation, fill_color=fill
    ).transforms
    for step in steps:
        if type(step).__name__ in {"ToTensor", "MaybeToTensor"}:
            break
        picture = step(picture)
    return np.asarray(picture)


@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(resize: str, interpolation: str) -> None:
    """Every resize mode and filter gives open_clip's pixels, for odd sizes and extreme shapes."""
    for size, side in itertools.product(SIZES, [32, 63, 224]):
        if resize == "longest" and min(size) * side / max(size) < 0.5:
            continue  # open_clip fails there: the short side rounds to nothing
        picture = picture_of(size)
        made = Preprocess(side, side, MEAN, STD, resize, interpolation, fill=77).apply(picture)
        expected = open_clip_pixels(picture, side, resize, interpolation, 77)
        np.testing.assert_array_equal(made, expected, err_msg=f"{size} to {side}")


@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
def test_pixels_are_those_of_open_clip_for_targets_that_are_not_square(resize: str) -> None:
    """Height and width are not mixed up, and sides are rounded as open_clip rounds them."""
    for size, target in itertools.product(SIZES, [(48, 96), (97, 31)]):
        if resize == "longest" and min(size) / max(size) < 0.05:
            continue
        picture = picture_of(size)
        made = Preprocess(*target, MEAN, STD, resize, "bicubic").apply(picture)
        assert made.shape == (*target, 3)
        np.testing.assert_array_equal(made, open_clip_pixels(picture, target, resize, "bicubic", 0))


@pytest.mark.parametrize("model", ["clip", "siglip"])
def test_pixels_are_those_of_the_pillow_image_processors_of_transformers(model: str) -> None:
    """CLIP's processor crops at the rounded-down corner, SigLIP's squashes; both are reproduced."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    side = 64
    if model == "clip":
        processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        recipe = Preprocess(side, side, MEAN, STD, "shortest", "bicubic", crop="floor")
    else:
        processor = SiglipImageProcessorPil(size={"height": side, "width": side})
        recipe = Preprocess(side, side, MEAN, STD, "squash", "bicubic")
    for size in SIZES:
        if size == (1, 1):
            continue  # the processors take one pixel for a channel axis
        picture = picture_of(size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = processor(picture, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        np.testing.assert_array_equal(recipe.apply(picture), out.transpose(1, 2, 0).astype(np.uint8), err_msg=str(size))


def test_a_very_long_picture_takes_little_memory_and_looks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making only the part that is kept gives what resizing all and cropping gives, up to one level."""
    for size in [(5, 9000), (9000, 5), (3, 4001)]:
        picture = picture_of(size)
        recipe = Preprocess(64, 64, MEAN, STD)
        whole = recipe.apply(picture).astype(int)
        with monkeypatch.context() as patched:
            patched.setattr(preprocess, "_LARGEST_RESIZED", 0)
            part = recipe.apply(picture).astype(int)
        assert np.abs(whole - part).max() <= 1
    assert Preprocess(224, 224, MEAN, STD).apply(Image.new("RGB", (1, 60_000))).shape == (224, 224, 3)


def test_a_side_that_would_vanish_keeps_a_pixel() -> None:
    """With "longest", a line of pixels becomes a line on the canvas instead of an error."""
    made = Preprocess(32, 32, MEAN, STD, "longest", fill=9).apply(Image.new("RGB", (2, 4000), (255, 255, 255)))
    assert (made == 255).any(axis=(1, 2)).all()
    assert (made[:, 0] == 9).all()
    assert (made[:, -1] == 9).all()


def test_pixels_are_the_callers_own() -> None:
    """The array is uint8, C-ordered and writable, and writing to it leaves the picture as it was."""
    picture = picture_of((32, 32))
    before = picture.tobytes()
    pixels = Preprocess(32, 32, MEAN, STD).apply(picture)
    pixels += 1
    assert (pixels.dtype, pixels.flags.c_contiguous, picture.tobytes()) == (np.uint8, True, before)
