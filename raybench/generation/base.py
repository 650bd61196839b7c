"""A generator turns pictures and words into words; its recipe is small and travels, the model stays where it was loaded.

A recipe is made on the driver and loads nothing. `load` runs on the worker that uses the model, and is the first place that
looks for a device. A call answers a batch of asks: with equal recipe, decoding, asks and seed it gives the same texts, whichever
worker it runs on. An ask that cannot be answered is an answer with a problem; only what is wrong with the generator itself raises.

Times of an answer are those of the call that gave it: what it shares with the other asks of the call is not divided by their
number, and `together` says how many they were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image

Ended = Literal["end", "length"]  # the model said that it had finished, or was cut off at `max_tokens`


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are chosen; greedy where `temperature` is 0, which is also deterministic."""

    max_tokens: int = 64  # of one answer
    temperature: float = 0.0
    top_p: float = 1.0  # of the sampled distribution; only with a temperature


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """An example that goes before what is asked: pictures, words and the right answer."""

    pictures: tuple[Image.Image, ...]
    words: str
    answer: str


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One conversation: pictures (mode RGB, upright, any size), then words."""

    pictures: tuple[Image.Image, ...]
    words: str
    shots: tuple[Shot, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a generator made of one ask; with a `problem`, a fixed word that is counted, the text is empty."""

    text: str
    ended: Ended | None = None
    prompt_tokens: int | None = None  # all tokens that went in, those of pictures among them
    image_tokens: int | None = None  # None where the generator does not say
    answer_tokens: int | None = None  # tokens that came out, without the mark of the end
    preprocess_s: float = 0.0  # resizing, patches, tokens
    first_token_s: float | None = 0.0  # from what was prepared to the first token; None where no first token was seen
    decode_s: float = 0.0  # from the first token to the last; without a first token, from what was prepared to the end
    together: int = 1  # asks that the call answered side by side
    problem: str | None = None  # such as "http_400", "out_of_memory", "reply_malformed"
    detail: str = ""  # what was seen, at most 300 characters
    tries: int = 1  # requests that it took; times are those of the last
    waited_s: float = 0.0  # between tries, which is in no other time


class Generator(Protocol):
    """A loaded model, or a server that is known to answer."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was loaded, for the manifest: model, classes, precision, device, versions, seconds of loading; a JSON value."""
        ...

    def answer(self, asks: Sequence[Ask], decoding: Decoding, seed: int) -> list[Answer]:
        """An answer to each ask, in order; `seed` decides what is sampled."""
        ...


class GeneratorRecipe(Protocol):
    """What a spec such as `qwen_vl("Qwen/Qwen2.5-VL-7B-Instruct")` stands for."""

    @property
    def batch(self) -> int:
        """How many asks are answered side by side."""
        ...

    @property
    def gpus(self) -> int:
        """How many GPUs one worker takes where there are any; 0 for a generator that computes elsewhere."""
        ...

    def check(self) -> None:
        """Raise RequestError at once for what can be seen to be wrong without loading: unknown names, missing files."""
        ...

    def fingerprint(self) -> str:
        """What decides the texts beside prompt and decoding: weights and configuration, precision, pixels."""
        ...

    def load(self, device: str, threads: int) -> Generator:
        """Load the model; `device` is "cpu", "cuda" or "auto" (GPUs if this process sees any), threads are for CPU."""
        ...
