"""Images become files here: most as plain JPEG, some in formats that readers get wrong, some that none can read."""

import io
from collections.abc import Callable
from enum import StrEnum

from numpy.random import Generator
from PIL import ExifTags, Image, ImageChops, ImageEnhance

QUALITY = 90


class OddFormat(StrEnum):
    """Decodable, but not as three channels of upright JPEG."""

    PALETTE = "palette PNG"
    RGBA = "PNG with transparency"
    CMYK = "CMYK JPEG"
    GRAYSCALE = "grayscale JPEG"
    ROTATED = "JPEG stored on its side, upright by its EXIF orientation"
    WEBP = "WebP"


class Defect(StrEnum):
    """Why no decoder gives the image."""

    EMPTY = "no bytes"
    TRUNCATED = "JPEG cut off half way"
    TEXT = "a text file named .jpg"
    PAGE = "an HTML error page named .jpg"
    NOISE = "random bytes"
    HEADER_ONLY = "the first 24 bytes of a JPEG"


ODD_FORMATS = tuple(OddFormat)
DEFECTS = tuple(Defect)


def jpeg(image: Image.Image, quality: int = QUALITY) -> bytes:
    """The image as baseline JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def odd(image: Image.Image, form: OddFormat) -> tuple[str, bytes]:
    """The extension and the bytes of an RGB image in an odd format."""
    stream = io.BytesIO()
    if form is OddFormat.PALETTE:
        image.quantize(64).save(stream, "PNG")
        return "png", stream.getvalue()
    if form is OddFormat.RGBA:
        alpha = Image.new("L", image.size, 160)
        alpha.paste(255, (6, 6, image.width - 6, image.height - 6))  # only the margin is see-through
        image.putalpha(alpha)
        image.save(stream, "PNG")
        return "png", stream.getvalue()
    if form is OddFormat.WEBP:
        image.save(stream, "WEBP", quality=QUALITY)
        return "webp", stream.getvalue()
    if form is OddFormat.ROTATED:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6  # a reader must turn the pixels a quarter clockwise
        image.transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", quality=QUALITY, exif=exif)
        return "jpg", stream.getvalue()
    return "jpg", jpeg(image.convert("CMYK" if form is OddFormat.CMYK else "L"))


def broken(image: Image.Image, defect: Defect, rng: Generator) -> bytes:
    """Bytes that cannot be decoded, made of the image where the defect needs one."""
    sound = jpeg(image)
    makers: dict[Defect, Callable[[], bytes]] = {
        Defect.EMPTY: lambda: b"",
        Defect.TRUNCATED: lambda: sound[: len(sound) // 2],
        Defect.TEXT: lambda: b"This file was meant to be a picture.\n",
        Defect.PAGE: lambda: b"<!doctype html><html><title>404</title><body>Not found</body></html>\n",
        Defect.NOISE: lambda: rng.bytes(2048),
        Defect.HEADER_ONLY: lambda: sound[:24],
    }
    return makers[defect]()


def retouched(image: Image.Image, variant: int, rng: Generator) -> tuple[Image.Image, int, str]:
    """A near duplicate: the image, the JPEG quality to store it with, and what was done to it."""
    if variant == 0:
        return image, 60, "stored again at quality 60"
    if variant == 1:
        dx, dy = (1, 0) if rng.random() < 0.5 else (0, -1)
        return ImageChops.offset(image, dx, dy), QUALITY, f"moved by ({dx}, {dy}) pixels"
    factor = 1.05 if rng.random() < 0.5 else 0.95
    return ImageEnhance.Brightness(image).enhance(factor), QUALITY, f"brightness times {factor}"
