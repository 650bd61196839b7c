"""What a chat server is sent for an ask: messages with pictures as data URIs, and how tokens are chosen.

Equal asks, decoding, seed and place make equal bytes. Pictures are PNG, so that no pixel changes on the way but by a stated
reduction; they come before the words of their message. What has the shape of a model's mark is broken up by a blank in all words,
for servers read marks in them as if the template had written them.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from raybench.generation.base import Ask, Decoding
from raybench.generation.conversation import broken, marks_in
from raybench.spec import content_key


def body(
    ask: Ask, decoding: Decoding, seed: int, model: str, max_pixels: int, *, stream: bool, more: Mapping[str, Any]
) -> bytes:
    """The JSON of a request; `more` goes in as it is."""
    messages = []
    for shot in ask.shots:
        messages += [
            _user(shot.pictures, shot.words, max_pixels),
            {"role": "assistant", "content": _plain(shot.answer)},
        ]
    made: dict[str, Any] = {"model": model, "messages": [*messages, _user(ask.pictures, ask.words, max_pixels)]}
    made |= {"max_tokens": decoding.max_tokens, "temperature": decoding.temperature, "seed": seed}
    if decoding.temperature:
        made["top_p"] = decoding.top_p
    if stream:
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(made | dict(more)).encode()


def seed_at(seed: int, place: int) -> int:
    """The seed of the ask at a place of its call: 31 bits, which all servers take."""
    return int(content_key("ask", seed, place), 16) & 0x7FFF_FFFF


def fitted(picture: Image.Image, max_pixels: int) -> Image.Image:
    """The picture in RGB, reduced (bicubic, same shape) to at most so many pixels; never enlarged."""
    width, height = picture.size
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    if width * height <= max_pixels:
        return picture
    scale = math.sqrt(max_pixels / (width * height))
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    # The short side of a very long picture stays at one pixel; the other then gives way.
    size = (min(width, max_pixels) if height == 1 else width, min(height, max_pixels) if width == 1 else height)
    return picture.resize(size, Image.Resampling.BICUBIC)


def _user(pictures: Sequence[Image.Image], words: str, max_pixels: int) -> dict[str, Any]:
    if not pictures:  # servers of models without sight take nothing but a string
        return {"role": "user", "content": _plain(words)}
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": _data_uri(fitted(picture, max_pixels))}} for picture in pictures
    ]
    return {"role": "user", "content": [*parts, {"type": "text", "text": _plain(words)}]}


def _plain(words: str) -> str:
    return broken(words, marks_in(words))


def _data_uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    # Without the picture's own notes: a profile or comment is no pixel and would be sent with it.
    clean = Image.frombytes("RGB", picture.size, picture.tobytes())
    clean.save(file, "png", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
