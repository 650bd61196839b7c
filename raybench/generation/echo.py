"""A generator without weights, for tests of everything around generators; it tells what it was shown and understands nothing.

Its answer is words: how many pictures, the size and a digest of the pixels of each, then the words it was asked. Shots go before it as
what they are. A token is a word, a picture is 16 tokens. A sampled answer begins with a word that the seed and the place decide.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from raybench.errors import RequestError
from raybench.generation.base import Answer, Ask, Decoding, Generator
from raybench.spec import content_key

_PICTURE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Echo:
    """`echo(batch=8)`; `delay_s` is slept in each call, so that a test has time to kill something."""

    batch: int = 8
    delay_s: float = 0.0

    @property
    def gpus(self) -> int:
        """None."""
        return 0

    def check(self) -> None:
        """Numbers in range."""
        if self.batch < 1:
            raise RequestError(f"echo(batch={self.batch}) cannot answer; give a whole number from 1")
        if not 0 <= self.delay_s <= 3600:
            raise RequestError(f"echo(delay_s={self.delay_s}) cannot be slept; give seconds from 0 to 3600")

    def fingerprint(self) -> str:
        """The same for all; batch and delay change no text."""
        return content_key("echo", length=64)

    def load(self, device: str, threads: int) -> Generator:  # noqa: ARG002  # the seam; nothing is computed
        """Nothing to load."""
        self.check()
        return _Loaded(self, {"generator": "echo", "model": "echo", "device": "cpu", "loading_s": 0.0})


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    recipe: Echo
    facts: Mapping[str, Any]

    def answer(self, asks: Sequence[Ask], decoding: Decoding, seed: int) -> list[Answer]:
        """All asks at once, after the delay."""
        time.sleep(self.recipe.delay_s)
        return [_answer(ask, decoding, seed, place, len(asks)) for place, ask in enumerate(asks)]


def _answer(ask: Ask, decoding: Decoding, seed: int, place: int, together: int) -> Answer:
    began = time.perf_counter()
    drawn = [content_key("drawn", seed, place, length=8)] if decoding.temperature else []
    shots = [
        word for shot in ask.shots for word in ("shot", *map(_told, shot.pictures), *shot.words.split(), shot.answer)
    ]
    told = [str(len(ask.pictures)), "pictures", *map(_told, ask.pictures), *ask.words.split()]
    words = " ".join([*drawn, *shots, *told]).split()
    kept = words[: decoding.max_tokens]
    pictures = len(ask.pictures) + sum(len(shot.pictures) for shot in ask.shots)
    asked = len(ask.words.split()) + sum(len(f"{shot.words} {shot.answer}".split()) for shot in ask.shots)
    return Answer(
        " ".join(kept),
        ended="end" if len(kept) == len(words) else "length",
        prompt_tokens=_PICTURE_TOKENS * pictures + asked,
        image_tokens=_PICTURE_TOKENS * pictures,
        answer_tokens=len(kept),
        first_token_s=time.perf_counter() - began,
        together=together,
    )


def _told(picture: Image.Image) -> str:
    digest = hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()[:8]
    return f"{picture.width}x{picture.height}:{digest}"
