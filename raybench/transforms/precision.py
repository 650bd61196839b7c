"""Fewer bits for each dimension: bfloat16, and whole numbers of 8 or 4 bits between ranges that are learnt once.

Each dimension has its own range, from up to `sample` rows spread over the corpus; values outside are clipped to it. A row is
held as codes and read as float32 (`packed`): what is compared are the values that the codes stand for, in the space of the
vectors themselves. Queries stay in full: rounding them would save nothing, and the texts of a model lie beside its images,
where ranges of images would cut them off.

Axes: N rows, S sampled rows, D dimensions, B bytes of a row's code.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from raybench.arrays import Vectors
from raybench.errors import DataError
from raybench.transforms import fitted
from raybench.transforms.base import Rows
from raybench.transforms.packed import Codes, Float32, packed
from raybench.transforms.sample import sample_rows

Float64 = npt.NDArray[np.float64]
_BLOCK_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class Bfloat16:
    """The upper half of a float32: 8 bits of exponent and 7 of mantissa, rounded to nearest, ties to even."""

    @property
    def needs_fit(self) -> bool:
        """Never."""
        return False

    def fit(self, corpus: Rows | None = None, seed: int = 0) -> "Bfloat16":  # noqa: ARG002 (there is nothing to learn)
        """Itself."""
        return self

    def apply(self, vectors: Vectors) -> Vectors:
        """Two bytes a dimension, read as float32."""
        codes_ND = np.empty((len(vectors), vectors.dim), np.uint16)
        for start in range(0, len(vectors), _BLOCK_ROWS):
            rows_BD = torch.from_numpy(np.array(vectors.matrix_ND[start : start + _BLOCK_ROWS], np.float32))
            codes_ND[start : start + _BLOCK_ROWS] = rows_BD.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
        return packed(codes_ND, vectors.dim, _bfloat16_rows, vectors.first_row)

    def ask(self, vectors: Vectors) -> Vectors:
        """Queries in full."""
        return vectors

    def out_dim(self, dim: int) -> int:
        """The same."""
        return dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ARG002 (always the same)
        """float32, as it is read."""
        return np.dtype(np.float32)

    def metric(self, asked: str) -> str:
        """The same."""
        return asked

    @property
    def key(self) -> str:
        """Its spec."""
        return "bfloat16()"


def _bfloat16_rows(codes_CD: Codes) -> Float32:
    return (codes_CD.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What int8 and int4 share. `inside` is the share of the sample that the range of each dimension holds."""

    inside: float = 1.0
    sample: int = 65_536

    name: ClassVar[str]
    bits: ClassVar[int]

    @property
    def needs_fit(self) -> bool:
        """Always."""
        return True

    @property
    def spec(self) -> str:
        """The recipe as it is written."""
        return f"{self.name}(inside={self.inside}, sample={self.sample})"

    def metric(self, asked: str) -> str:
        """The same."""
        return asked

    def fit(self, corpus: Rows | None, seed: int = 0) -> "Ranges":
        """Learn the range of each dimension."""
        if not 0.5 <= self.inside <= 1:
            raise DataError(f"{self.spec}: inside must be 0.5 to 1")
        rows_SD = np.concatenate(list(sample_rows(corpus, self.sample, seed, self.spec))).astype(np.float32)
        outside = (1 - self.inside) / 2
        if outside:
            low_D, high_D = np.quantile(rows_SD, (outside, 1 - outside), axis=0, overwrite_input=True)
        else:
            low_D, high_D = rows_SD.min(axis=0), rows_SD.max(axis=0)
        low_D, high_D = low_D.astype(np.float64), high_D.astype(np.float64)
        return Ranges(self, low_D, (high_D - low_D) / ((1 << self.bits) - 1), len(rows_SD), seed)

    def of_arrays(self, arrays: dict[str, npt.NDArray[Any]], facts: dict[str, Any]) -> "Ranges":
        """From what `save` wrote."""
        return Ranges(self, arrays["low"], arrays["step"], facts["rows"], facts["seed"])


@dataclass(frozen=True, slots=True)
class Int8(_Whole):
    """256 steps between the least and the greatest value of each dimension."""

    name: ClassVar[str] = "int8"
    bits: ClassVar[int] = 8


@dataclass(frozen=True, slots=True)
class Int4(_Whole):
    """16 steps, two dimensions to a byte; of so few, a range that leaves out the rarest values wastes less."""

    inside: float = 0.99

    name: ClassVar[str] = "int4"
    bits: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class Ranges:
    """Learnt ranges; equal to others if recipe, lower ends and steps are the same bytes."""

    recipe: _Whole
    low_D: Float64 = field(compare=False, repr=False)
    step_D: Float64 = field(compare=False, repr=False)  # 0 where a dimension has one value
    rows: int = field(compare=False)  # that they were learnt from
    seed: int = field(compare=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", fitted.key_of(self.recipe.spec, self.arrays()))

    def apply(self, vectors: Vectors) -> Vectors:
        """Codes of the rows, read as the float32 values that they stand for."""
        dim, bits = self.out_dim(vectors.dim), self.recipe.bits
        codes_NB = np.empty((len(vectors), -(-dim * bits // 8)), np.uint8)
        for start in range(0, len(vectors), _BLOCK_ROWS):
            codes_CD = self._codes(vectors.matrix_ND[start : start + _BLOCK_ROWS])
            codes_NB[start : start + _BLOCK_ROWS] = codes_CD if bits == 8 else _pairs(codes_CD)
        return packed(codes_NB, dim, self._rows, vectors.first_row)

    def ask(self, vectors: Vectors) -> Vectors:
        """Queries in full."""
        self.out_dim(vectors.dim)
        return vectors

    def out_dim(self, dim: int) -> int:
        """The same, for vectors of the dimensions that it was fitted on."""
        if dim != len(self.low_D):
            raise DataError(f"{self.recipe.spec} was fitted on {len(self.low_D)} dimensions; these vectors have {dim}")
        return dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ARG002 (always the same)
        """float32, as it is read."""
        return np.dtype(np.float32)

    def save(self, uri: str, **facts: Any) -> None:
        """Write an artifact folder; `facts` (of the corpus, say) are told in its manifest."""
        fitted.save(uri, self.recipe.spec, self.key, self.arrays(), {"rows": self.rows, "seed": self.seed} | facts)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What storage holds of it."""
        return {"low": self.low_D, "step": self.step_D}

    def _codes(self, rows_CD: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        steps_CD = (rows_CD.astype(np.float64) - self.low_D) / np.where(self.step_D > 0, self.step_D, 1)
        np.clip(np.rint(steps_CD, out=steps_CD), 0, (1 << self.recipe.bits) - 1, out=steps_CD)
        return steps_CD.astype(np.uint8)

    def _rows(self, codes_CB: Codes) -> Float32:
        if self.recipe.bits == 4:
            halves_CB2 = np.stack((codes_CB & 15, codes_CB >> 4), axis=-1)
            codes_CB = halves_CB2.reshape(len(codes_CB), 2 * codes_CB.shape[1])[:, : len(self.low_D)]
        rows_CD: Float32 = codes_CB.astype(np.float32)
        rows_CD *= self.step_D.astype(np.float32)
        rows_CD += self.low_D.astype(np.float32)
        return rows_CD


def _pairs(codes_CD: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two codes to a byte: the first dimension in the lower half, an odd last one alone."""
    even_CD = np.pad(codes_CD, ((0, 0), (0, codes_CD.shape[1] % 2)))
    return (even_CD[:, ::2] | (even_CD[:, 1::2] << 4)).astype(np.uint8)
