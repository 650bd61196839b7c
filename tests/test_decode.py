"""Decoding gives the picture a person sees, or one fixed word; it never raises, warns or pads with grey."""

import io
import struct
import threading
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raybench.embedding.decode import decode

WORDS = {"zero_bytes", "not_an_image", "truncated_image", "too_many_pixels", "decode_error"}
LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def colours(size: tuple[int, int] = (37, 23), seed: int = 0) -> Image.Image:
    """A picture of smooth colours, so that lossy formats stay near it."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, (x + y + seed) % 200], axis=-1).astype(np.uint8))


def stored(picture: Image.Image, form: str, **options: Any) -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def pixels(data: bytes) -> np.ndarray:
    """The decoded picture as an array; the test fails if there is none."""
    decoded = decode(data)
    assert decoded.picture is not None, decoded
    assert (decoded.problem, decoded.picture.mode) == (None, "RGB")
    return np.asarray(decoded.picture)


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_give_the_stored_pixels(form: str) -> None:
    """PNG, BMP, TIFF and lossless WebP come back bit for bit."""
    np.testing.assert_array_equal(pixels(stored(colours(), form, **LOSSLESS[form])), np.asarray(colours()))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 100}])
def test_jpeg_is_what_pillow_gives(options: dict[str, Any]) -> None:
    """JPEG pixels are those of a plain Pillow conversion, the reference of published numbers."""
    data = stored(colours(), "JPEG", **options)
    np.testing.assert_array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_other_colour_spaces_is_close_to_the_picture(mode: str) -> None:
    """Grayscale and CMYK (which Adobe's marker stores inverted) are not turned into negatives."""
    reference = np.asarray(colours().convert(mode).convert("RGB")).astype(int)
    assert np.abs(pixels(stored(colours().convert(mode), "JPEG", quality=98)) - reference).mean() < 4


def test_transparency_is_dropped_as_open_clip_drops_it() -> None:
    """An RGBA picture keeps the colours that lie under its transparent pixels: `convert("RGB")`, no blending."""
    picture = colours()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(pixels(stored(picture, form)), np.asarray(picture.convert("RGB")))
    both = colours().convert("LA")
    np.testing.assert_array_equal(pixels(stored(both, "PNG")), np.asarray(both.convert("RGB")))


def test_palettes_and_single_bits_become_colours() -> None:
    """Palette pictures, with transparency as a number or as bytes, and black-and-white ones look as stored."""
    palette = colours().quantize(32)
    for options in ({}, {"transparency": 3}, {"transparency": bytes(range(0, 256, 8))}):
        expected = np.asarray(palette.convert("RGB"))
        np.testing.assert_array_equal(pixels(stored(palette, "PNG", **options)), expected)
    bits = colours().convert("1")
    np.testing.assert_array_equal(pixels(stored(bits, "PNG")), np.asarray(bits.convert("RGB")))


def sixteen_bit_png(levels_HWC: np.ndarray) -> bytes:
    """A 16-bit PNG of one or three channels, written chunk by chunk as Pillow cannot write 16-bit colours."""
    height, width, channels = levels_HWC.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels_HWC)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_not_clipped(channels: int) -> None:
    """Of 16-bit levels the high byte is taken, for grey as for colours; a dark scan does not turn white."""
    levels = np.random.default_rng(0).integers(0, 65536, (9, 14, channels)).astype(np.uint16)
    made = pixels(sixteen_bit_png(levels))
    np.testing.assert_array_equal(made, np.broadcast_to(levels >> 8, (9, 14, 3)))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(form: str) -> None:
    """The first frame decides; later ones are not blended in."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    data = stored(frames[0], form, save_all=True, append_images=frames[1:], duration=50)
    assert np.abs(pixels(data).astype(int) - np.array([255, 0, 0])).max() < 8


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    """A picture stored on its side or mirrored, with a tag that says so, comes back upright."""
    upright = colours()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = upright.transpose(undo[orientation]) if orientation > 1 else upright
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else LOSSLESS[form]
    made = pixels(stored(turned, form, exif=exif, **options)).astype(int)
    assert made.shape == np.asarray(upright).shape
    assert np.abs(made - np.asarray(upright)).max() <= (6 if form == "JPEG" else 0)


def test_broken_exif_costs_the_orientation_and_not_the_picture() -> None:
    """Tags that cannot be read leave the picture as it is stored."""
    data = stored(colours(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xee" * 40)
    assert pixels(data).shape == (23, 37, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_file_is_truncated_or_complete_and_never_half_a_picture(form: str) -> None:
    """Cut anywhere, a file gives a problem, or every pixel of the whole picture."""
    whole = stored(colours((64, 48)), form, **({"progressive": True} if form == "JPEG" else {}))
    expected = pixels(whole)
    problems = []
    for length in range(1, len(whole), max(1, len(whole) // 150)):
        decoded = decode(whole[:length])
        if decoded.picture is not None:
            np.testing.assert_array_equal(np.asarray(decoded.picture), expected)
        else:
            problems.append(decoded.problem)
    assert set(problems) <= {"truncated_image", "not_an_image", "decode_error"}  # a cut GIF may end in its end mark
    assert problems.count("truncated_image") > 0.9 * len(problems)
    assert decode(whole[: len(whole) // 2]).problem == "truncated_image"


def test_what_is_no_image_says_so() -> None:
    """Text, HTML, noise and formats that stay closed are not images; nothing is zero bytes."""
    assert decode(b"").problem == "zero_bytes"
    for data in (b"<!doctype html><title>404</title>", b"\0" * 100, b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        decoded = decode(data)
        assert (decoded.picture, decoded.problem) == (None, "not_an_image")
        assert "bytes" in decoded.detail


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    """A header that claims a huge picture is refused by its claim, below and above Pillow's own limit."""
    small = stored(Image.new("L", (100, 100)), "PNG")
    assert decode(small, limit_pixels=9_999).problem == "too_many_pixels"
    assert decode(small, limit_pixels=10_000).picture is not None
    for side in (13_378, 60_000):  # just over 178,956,970 pixels, and far over it
        bomb = bytearray(small)
        bomb[16:24] = struct.pack(">II", side, side)
        bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
        decoded = decode(bytes(bomb))
        assert (decoded.problem, "pixels" in decoded.detail) == ("too_many_pixels", True)


def test_nothing_is_printed_or_warned(capfd: pytest.CaptureFixture[str]) -> None:
    """Pillow's warnings (palette with transparency, odd tags, large pictures) do not reach anybody."""
    palette = stored(colours().quantize(16), "PNG", transparency=b"\0\x80")
    large = stored(Image.new("1", (10_000, 9_500)), "PNG")  # over the size at which Pillow warns
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(palette).problem is None
        assert decode(large).problem is None
        assert decode(stored(colours(), "TIFF")[:-50]).problem is not None
    assert (caught, capfd.readouterr()) == ([], ("", ""))


def test_threads_decode_alike() -> None:
    """Decoding in many threads at once gives the pictures of one thread and leaves the warning filters whole."""
    data = [stored(colours(seed=seed), "PNG") for seed in range(12)]
    expected = [pixels(item) for item in data]
    found: list[Any] = [None] * len(data)

    def work(start: int) -> None:
        for number in range(start, len(data), 4):
            found[number] = pixels(data[number])

    decode(data[0])
    filters = list(warnings.filters)
    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == filters
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


SEEDS = [stored(colours((24, 24)), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    st.integers(0, 5000),
)
def test_hostile_bytes_never_raise(seed: bytes, flips: list[tuple[int, int]], cut: int) -> None:
    """Damaged files of every format give a picture or one of the fixed words, with a short detail."""
    data = bytearray(seed)
    for place, value in flips:
        data[place % len(data)] = value
    decoded = decode(bytes(data[: max(1, cut)]))
    if decoded.picture is None:
        assert decoded.problem in WORDS
        assert len(decoded.detail) <= 200
    else:
        assert decoded.picture.mode == "RGB"
