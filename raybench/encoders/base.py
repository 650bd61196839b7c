"""An encoder turns pixels and words into unit vectors of one space; its recipe is small and travels, the model stays.

The recipe is made on the driver and loads nothing. `preprocess` reads configuration only, so that decoding runs on
CPU workers that never import the model's library. `load` runs on the worker that uses the model, and is the first
place that looks for a device.

Axes: B batch, H height, W width, C channels (red, green, blue), D dimensions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from raybench.encoders.preprocess import Preprocess
from raybench.errors import RequestError, suggest

Precision = Literal["fp32", "bf16", "fp16"]


def check_precision(precision: str) -> None:
    """RequestError for one that is not known."""
    if precision not in get_args(Precision):
        raise RequestError(f"precision={precision!r} is not known; {suggest(precision, get_args(Precision))}")


class Encoder(Protocol):
    """A loaded model."""

    @property
    def dim(self) -> int:
        """The number of dimensions of every vector."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was loaded, for the manifest: classes, tokenizer, context length, precision, device, versions."""
        ...

    def images(self, pixels_BHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Unit vectors [B, D] of pictures prepared by the recipe's `preprocess`."""
        ...

    def texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors [B, D] of captions."""
        ...


class EncoderRecipe(Protocol):
    """What a spec such as `openclip("ViT-B-32", pretrained="laion2b_s34b_b79k")` stands for."""

    def check(self) -> None:
        """Raise RequestError at once for what can be seen to be wrong without loading: unknown names, missing files."""
        ...

    def preprocess(self) -> Preprocess:
        """How pictures are resized, cropped and scaled; reads configuration, loads no weights."""
        ...

    def fingerprint(self) -> str:
        """What decides the vectors: SHA-256 of local weights and configuration, or the names that a hub resolves."""
        ...

    def load(self, device: str, threads: int) -> Encoder:
        """Load the model; `device` is "cpu", "cuda" or "auto" (a GPU if this process sees one), threads are for CPU."""
        ...


def own_packages(recipe: EncoderRecipe) -> tuple[str, ...]:
    """What a recipe's field `packages`, if it has one, asks for: requirements that only the process of its model gets."""
    return tuple(getattr(recipe, "packages", ()))
