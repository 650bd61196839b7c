"""Compressed bytes become one upright RGB picture or one fixed word that says why not; bytes never raise.

Colours are those of Pillow's `convert("RGB")`, the call in open_clip's own transform and in the data loaders behind
published numbers: transparency is dropped and not blended, so what lies under a see-through pixel is shown; colour
profiles are ignored; CMYK is converted by the plain formula. It is done before resizing, as those loaders do.

Three things differ from a bare `convert("RGB")`, because without them the picture is not what a person sees:
the EXIF orientation is applied; of 16-bit grey levels the high byte is taken (Pillow clips all above 255 to white, and
itself takes the high byte of 16-bit colours); a picture of which a part is missing is refused, never padded with grey.
Of an animation or of several pages the first is taken.

Damage inside a JPEG that leaves its structure whole (a flipped bit) cannot be seen here: libjpeg conceals it.
"""

import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

LIMIT_PIXELS = 178_956_970
"""Width times height above which a picture is refused unread; Pillow itself refuses more than this."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded. Everything else that Pillow knows stays closed: some of its formats start other programs."""

_BEGINS = {
    "JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "WEBP": b"RIFF", "GIF": b"GIF8", "BMP": b"BM",
    "TIFF, big-endian": b"MM\x00*", "TIFF": b"II*\x00",
}  # fmt: skip
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A picture, or a problem: zero_bytes, not_an_image, truncated_image, too_many_pixels or decode_error."""

    picture: Image.Image | None
    problem: str | None = None
    detail: str = ""  # what was seen, at most 200 characters


def decode(image: bytes, limit_pixels: int = LIMIT_PIXELS) -> Decoded:
    """The picture in a compressed file, mode RGB; never raises for what the bytes hold."""
    if not image:
        return _problem("zero_bytes", "the file is empty")
    _ignore_pillow_warnings()
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            if opened.width * opened.height > limit_pixels:
                size = f"{opened.width} x {opened.height}"
                return _problem("too_many_pixels", f"{size} pixels are more than {limit_pixels}")
            opened.load()
            return Decoded(_upright(_rgb(opened), _orientation(opened)))
    except Image.DecompressionBombError as error:
        return _problem("too_many_pixels", str(error))
    except UnidentifiedImageError:
        return _unidentified(image)
    except Exception as error:  # noqa: BLE001 - Pillow's plugins raise every kind of error on hostile bytes
        cut = "truncated" in str(error).lower() or _lacks_its_end(image)
        return _problem("truncated_image" if cut else "decode_error", f"{type(error).__name__}: {error}")


def _problem(problem: str, detail: str) -> Decoded:
    return Decoded(None, problem, " ".join(detail.split())[:200])


def _ignore_pillow_warnings() -> None:
    # Not `warnings.catch_warnings`: it swaps a list of the whole process and is not safe where threads decode.
    if _PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _rgb(opened: Image.Image) -> Image.Image:
    if opened.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8)).convert("RGB")
    if opened.mode in {"I", "F"}:
        raise ValueError(f"levels of mode {opened.mode} have no known white; store it with 8 or 16 bits")
    opened.info.pop("transparency", None)  # has no say in an RGB picture, and Pillow would warn of it
    return opened.convert("RGB")


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - broken tags raise every kind of error; the picture is then shown as stored
        return 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _unidentified(image: bytes) -> Decoded:
    kind = next((kind for kind, begin in _BEGINS.items() if image.startswith(begin)), None)
    if kind is None:
        return _problem("not_an_image", f"{len(image)} bytes that begin with {image[:16]!r}")
    problem = "truncated_image" if _lacks_its_end(image) else "decode_error"
    return _problem(problem, f"{len(image)} bytes that begin like {kind}, but the header cannot be read")


def _lacks_its_end(image: bytes) -> bool:
    """Whether a file stops before its format's end; consulted only when decoding has failed already."""
    for kind, end in _ENDS.items():
        if image.startswith(_BEGINS[kind]):
            return end not in image[-1 if kind == "GIF" else -64 :]  # some programs append a little to a JPEG or PNG
    if image.startswith(b"RIFF"):
        return len(image) < int.from_bytes(image[4:8], "little") + 8
    if image.startswith(b"BM"):
        return len(image) < int.from_bytes(image[2:6], "little")
    return image.startswith((b"II*\x00", b"MM\x00*"))  # a TIFF has no end; its offsets lead past it where it is cut
