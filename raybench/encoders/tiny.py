"""An encoder without weights or libraries, for tests of everything around encoders; it has no idea what a picture shows.

A picture's vector is a projection of its 8 x 8 block means, a text's vector is a sum over its lower-cased words. All
factors are bytes of SHAKE-128, so every machine, version and process makes the same ones; all sums are of whole
numbers and exact, so the vectors are bit-equal for any batch size. The same word in two captions brings them closer,
similar pictures are close, and pictures are unrelated to texts.

Axes: B batch, H height, W width, C channels, F features, D dimensions.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.encoders.base import Encoder
from raybench.encoders.preprocess import Preprocess
from raybench.errors import DataError, RequestError
from raybench.spec import content_key

_GRID = 8  # blocks a side
_BLOCK = 4  # pixels a side of a block
_SIDE = _GRID * _BLOCK


@dataclass(frozen=True, slots=True)
class Tiny:
    """`tiny(dim=32, seed=0)`; `delay_s` is slept in each batch of images, so that a test has time to kill something."""

    dim: int = 32
    seed: int = 0
    delay_s: float = 0.0

    def check(self) -> None:
        """Numbers in range."""
        if not 1 <= self.dim <= 65_536:
            raise RequestError(f"tiny(dim={self.dim}) cannot be made; dim must be from 1 to 65536")
        if not self.delay_s >= 0:
            raise RequestError(f"tiny(delay_s={self.delay_s}) cannot be slept; give seconds from 0")

    def preprocess(self) -> Preprocess:
        """Squashed to 32 x 32."""
        return Preprocess(_SIDE, _SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize="squash", interpolation="bilinear")

    def fingerprint(self) -> str:
        """Of dimensions and seed; the delay changes no vector."""
        return content_key("tiny", self.dim, self.seed, length=64)

    def load(self, device: str, threads: int) -> Encoder:  # noqa: ARG002  # the seam; numpy runs where it is
        """The projection, made from the seed."""
        self.check()
        facts = {"encoder": "tiny", "dim": self.dim, "seed": self.seed, "device": "cpu", "numpy": np.__version__}
        rows = _GRID * _GRID * 3 + 1
        weights_FD = _bytes(f"{self.seed} pixels", rows * self.dim).reshape(rows, self.dim)
        return _Loaded(self, weights_FD, facts)


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    recipe: Tiny
    weights_FD: npt.NDArray[np.float64]
    facts: Mapping[str, Any]

    @property
    def dim(self) -> int:
        return self.recipe.dim

    def images(self, pixels_BHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Unit vectors of uint8 pixels [B, 32, 32, 3]."""
        if pixels_BHWC.dtype != np.uint8 or pixels_BHWC.shape[1:] != (_SIDE, _SIDE, 3):
            raise DataError(
                f"pixels are {pixels_BHWC.dtype} {list(pixels_BHWC.shape)}; tiny reads uint8 [batch, 32, 32, 3]"
            )
        time.sleep(self.recipe.delay_s)
        blocks = pixels_BHWC.reshape(-1, _GRID, _BLOCK, _GRID, _BLOCK, 3).sum(axis=(2, 4), dtype=np.int64)
        grey = 128 * _BLOCK * _BLOCK  # without it all pictures would point the same way
        features_BF = np.ones((len(pixels_BHWC), len(self.weights_FD)))
        features_BF[:, :-1] = blocks.reshape(len(pixels_BHWC), len(self.weights_FD) - 1) - grey
        return _unit(features_BF @ self.weights_FD)

    def texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors of captions, from their words; an empty caption has a vector of its own."""
        sums_BD = np.zeros((len(texts), self.dim))
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"text {row} of the batch is {type(text).__name__}, not a string; drop it or fill it in"
                )
            for word in text.lower().split() or [""]:
                sums_BD[row] += _bytes(f"{self.recipe.seed} word {word}", self.dim)
        return _unit(sums_BD)


def _bytes(name: str, count: int) -> npt.NDArray[np.float64]:
    """Odd whole numbers from -255 to 255, the same for the same name everywhere."""
    drawn = hashlib.shake_128(name.encode("utf-8", "surrogatepass")).digest(count)
    return np.frombuffer(drawn, np.uint8).astype(np.float64) * 2 - 255


def _unit(vectors_BD: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Rows of unit length; what cancelled out to all zeros (likely for dim=1 only) points along the first axis."""
    vectors_BD[~vectors_BD.any(axis=1), 0] = 1
    norms_B1: npt.NDArray[np.float64] = np.sqrt(np.square(vectors_BD).sum(axis=1, keepdims=True))
    units_BD: npt.NDArray[np.float32] = (vectors_BD / norms_B1).astype(np.float32)
    return units_BD
