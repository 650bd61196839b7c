"""One bit a dimension: whether a value is above the median that the dimension has in the corpus.

Rows and queries are read as +1 and -1, so their inner product is dimensions - 2 * (bits that differ), and the exact search for
vectors is one for bits; what is held is one bit. Queries get the corpus's medians: bits of two kinds would not compare.

Axes: N rows, S sampled rows, D dimensions.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.arrays import Vectors
from raybench.errors import DataError
from raybench.transforms import fitted
from raybench.transforms.base import Rows, Symmetric
from raybench.transforms.exact import Float64
from raybench.transforms.packed import pack_signs, packed, signs
from raybench.transforms.sample import sample_rows


@dataclass(frozen=True, slots=True)
class BinaryRecipe:
    """Medians of up to `sample` rows spread over the corpus."""

    sample: int = 65_536

    @property
    def needs_fit(self) -> bool:
        """Always."""
        return True

    @property
    def spec(self) -> str:
        """The recipe as it is written."""
        return f"binary(sample={self.sample})"

    def metric(self, asked: str) -> str:  # noqa: ARG002 (always the same)
        """hamming, on packed bits."""
        return "hamming"

    def fit(self, corpus: Rows | None, seed: int = 0) -> "Binary":
        """Learn the medians."""
        rows_SD = np.concatenate(list(sample_rows(corpus, self.sample, seed, self.spec))).astype(np.float32)
        return Binary(self, np.median(rows_SD, axis=0, overwrite_input=True).astype(np.float64), len(rows_SD), seed)

    def of_arrays(self, arrays: dict[str, npt.NDArray[Any]], facts: dict[str, Any]) -> "Binary":
        """From what `save` wrote."""
        return Binary(self, arrays["median"], facts["rows"], facts["seed"])


@dataclass(frozen=True, slots=True)
class Binary(Symmetric):
    """Learnt medians; equal to others if they are the same bytes."""

    recipe: BinaryRecipe
    median_D: Float64 = field(compare=False, repr=False)
    rows: int = field(compare=False)  # that they were learnt from
    seed: int = field(compare=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", fitted.key_of(self.recipe.spec, self.arrays()))

    def apply(self, vectors: Vectors) -> Vectors:
        """One bit a dimension, read as +1 and -1; a value that is the median gets -1."""
        dim = self.out_dim(vectors.dim)
        return packed(pack_signs(vectors.matrix_ND[:] > self.median_D), dim, signs, vectors.first_row)

    def out_dim(self, dim: int) -> int:
        """The same, for vectors of the dimensions that it was fitted on."""
        if dim != len(self.median_D):
            raise DataError(f"{self.recipe.spec} was fitted on {len(self.median_D)} dimensions; these have {dim}")
        if dim % 8:
            raise DataError(f"{self.recipe.spec}: {dim} bits do not fill whole bytes; use dimensions that 8 divides")
        return dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ARG002 (always the same)
        """float32, as it is read."""
        return np.dtype(np.float32)

    def save(self, uri: str, **facts: Any) -> None:
        """Write an artifact folder; `facts` (of the corpus, say) are told in its manifest."""
        fitted.save(uri, self.recipe.spec, self.key, self.arrays(), {"rows": self.rows, "seed": self.seed} | facts)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What storage holds of it."""
        return {"median": self.median_D}
