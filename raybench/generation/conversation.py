"""A conversation as a chat template reads it: its pictures within bounds, and words that hold no mark of the model.

A mark (the end of a turn, the place of a picture) in a caption would be read as one, so it is broken up by a blank. The marks of a
model that is loaded here are known; those of a model behind a server are known by their shape alone.
"""

import re
from collections.abc import Sequence
from typing import Any

from PIL import Image

from raybench.generation.base import Ask

# Of the longer side to the shorter. Qwen's processors refuse more; those that bring the shorter side to a size would make of it
# a picture larger than memory.
_MOST_RATIO = 200

MARK_SHAPES = re.compile(
    r"<(?:"
    r"[|\uff5c][^\s<>\[\]]+"  # <|im_end|>, <|image_pad|>, <|turn>; DeepSeek writes a wide bar
    r"|[^\s<>\[\]|\uff5c]+[|\uff5c]"  # <turn|>
    r"|/?[A-Za-z_][\w.:-]*"  # <s>, </s>, <image>, <start_of_turn>, and so <b> of HTML
    r")>"
    r"|\[/?(?:"  # [INST], [/INST], [TOOL_CALLS] of Mistral, [SEP], [gMASK]; [HD] or [1] is none
    r"INST|IMG|AUDIO|THINK|ARGS|PREFIX|MIDDLE|SUFFIX|BOS|EOS|CLS|SEP|PAD|UNK|[gs]?MASK|[A-Z]+(?:_[A-Z]+)+"
    r")\]"
)
"""What chat models use as marks, by shape; no match holds a blank or another match."""


def marks_of(tokenizer: Any) -> tuple[str, ...]:
    """All that a tokenizer reads as one token of its own, the longest first; single letters and blanks are words."""
    marks = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    return tuple(sorted((mark for mark in marks if len(mark.strip()) > 1), key=lambda mark: (-len(mark), mark)))


def marks_in(words: str) -> tuple[str, ...]:
    """All in some words that has the shape of a mark of whatever model."""
    return tuple(sorted(set(MARK_SHAPES.findall(words))))


def broken(words: str, marks: Sequence[str]) -> str:
    """The words, with a blank after the first character of each mark."""
    for mark in marks:
        words = words.replace(mark, f"{mark[0]} {mark[1:]}")
    return words


def pictures_of(ask: Ask) -> list[Image.Image]:
    """Those of the examples come first, as in the conversation."""
    return [picture for shot in ask.shots for picture in shot.pictures] + list(ask.pictures)


def turns_of(ask: Ask, marks: Sequence[str]) -> list[dict[str, Any]]:
    """The conversation as chat templates read it."""
    turns: list[dict[str, Any]] = []
    for shot in ask.shots:
        turns += [
            _turn("user", len(shot.pictures), shot.words, marks), _turn("assistant", 0, shot.answer, marks),
        ]  # fmt: skip
    return [*turns, _turn("user", len(ask.pictures), ask.words, marks)]


def _turn(role: str, pictures: int, words: str, marks: Sequence[str]) -> dict[str, Any]:
    text = {"type": "text", "text": broken(words, marks)}
    return {"role": role, "content": [{"type": "image"}] * pictures + [text]}


def made_smaller(picture: Image.Image, max_pixels: int | None) -> Image.Image:
    """The picture, made smaller where the processor does not do it."""
    if max_pixels is None or picture.width * picture.height <= max_pixels:
        return picture
    scale = (max_pixels / (picture.width * picture.height)) ** 0.5
    size = max(1, int(picture.width * scale)), max(1, int(picture.height * scale))
    return picture.resize(size, Image.Resampling.BICUBIC)


def bound_pixels(processor: Any, max_pixels: int) -> int | None:
    """Set the bound in a processor that resizes to any size itself; else the bound, which is then up to us."""
    images = processor.image_processor
    size = getattr(images, "size", None)
    own = (
        None
        if size is None
        else (size.get("longest_edge") if hasattr(size, "get") else getattr(size, "longest_edge", None))
    )
    shortest = (
        None
        if size is None
        else (size.get("shortest_edge") if hasattr(size, "get") else getattr(size, "shortest_edge", None))
    )
    # Qwen's processors write pixels of area there, others the length of a side, which no area of interest is below.
    if hasattr(images, "merge_size") and own is not None and shortest is not None:
        images.size = {"shortest_edge": min(shortest, max_pixels), "longest_edge": min(own, max_pixels)}
        return None
    return max_pixels


def too_thin(ask: Ask) -> str | None:
    """Says which picture has no reasonable shape; None where every picture has."""
    for picture in pictures_of(ask):
        if max(picture.size) > _MOST_RATIO * min(picture.size):
            return f"{picture.width} x {picture.height} pixels, more than {_MOST_RATIO} to 1"
    return None
