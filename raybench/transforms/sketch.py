"""Binary sketches by pivot walks, as the hamming family of the SISAP LAION2B challenge was made.

There (`laion-hamming-projection.jl` with the BinWalk of SurrogateDistanceModels.jl, 1,024 references in random orders of
64) bit j of a word says whether a vector is nearer to reference j than to reference j + 1 of the word's cycle. For unit
vectors that is the side of a hyperplane, v . (p_j - p_(j+1)) > 0. Any common offset of the corpus falls out of such a
difference, so the bits are balanced without a mean. Here the references are drawn by a seed from distinct rows of a
sample; the challenge's own references are not known, so the bits are of the same make, not the same bits.

A sketch is held as bits and read as a row of +1 and -1, so an inner product is bits - 2 * (bits that differ), and the exact
search for vectors serves for sketches. Bit j of a row is bit j % 8 of byte j // 8; as little-endian uint64 words that is the
layout of the challenge's files.

Axes: N rows, B rows of a block, D dimensions, E bits, W words.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.arrays import Vectors
from raybench.errors import DataError
from raybench.transforms import fitted
from raybench.transforms.base import Rows, Symmetric
from raybench.transforms.exact import BLOCK_ROWS, Float64, on_grid, products
from raybench.transforms.packed import pack_signs, packed, signs
from raybench.transforms.sample import sample_rows

_CYCLE = 64  # references of a cycle: one word


@dataclass(frozen=True, slots=True)
class SketchRecipe:
    """`bits` sides of hyperplanes between references from up to `sample` rows spread over the corpus."""

    bits: int = 1_024
    sample: int = 65_536

    @property
    def needs_fit(self) -> bool:
        """Always."""
        return True

    @property
    def spec(self) -> str:
        """The recipe as it is written."""
        return f"sketch(bits={self.bits}, sample={self.sample})"

    def metric(self, asked: str) -> str:  # noqa: ARG002 (always the same)
        """hamming, on packed bits."""
        return "hamming"

    def fit(self, corpus: Rows | None, seed: int = 0) -> "Sketch":
        """Draw the references. DataError where the sample has fewer distinct directions than bits."""
        if self.bits < _CYCLE or self.bits % _CYCLE:
            raise DataError(f"{self.spec}: bits must be a multiple of {_CYCLE}")
        sampled_ND = np.concatenate(list(sample_rows(corpus, self.sample, seed, self.spec))).astype(np.float64)
        norms_N = np.sqrt((sampled_ND * sampled_ND).sum(axis=1))
        unit_ND = sampled_ND[norms_N > 0] / norms_N[norms_N > 0, None]
        order_N = np.random.Generator(np.random.Philox(key=[seed, 0x5CE])).permutation(len(unit_ND))
        references_ED = _distinct(unit_ND[order_N], self.bits)
        if len(references_ED) < self.bits:
            raise DataError(f"{self.spec} needs as many different rows as bits; the sample has {len(references_ED)}")
        cycles_WCD = references_ED.reshape(-1, _CYCLE, references_ED.shape[1])
        normals_ED = (cycles_WCD - np.roll(cycles_WCD, -1, axis=1)).reshape(references_ED.shape)
        normals_ED /= np.sqrt((normals_ED * normals_ED).sum(axis=1, keepdims=True))
        return Sketch(self, on_grid(np.ascontiguousarray(normals_ED.T)), len(sampled_ND), seed)

    def of_arrays(self, arrays: dict[str, npt.NDArray[Any]], facts: dict[str, Any]) -> "Sketch":
        """From what `save` wrote."""
        return Sketch(self, arrays["grid"], facts["rows"], facts["seed"])


@dataclass(frozen=True, slots=True)
class Sketch(Symmetric):
    """Fitted hyperplanes; equal to others if recipe and hyperplanes are the same bytes."""

    recipe: SketchRecipe
    grid_DE: Float64 = field(compare=False, repr=False)  # unit normals, as whole numbers of 22 bits
    rows: int = field(compare=False)  # that it was fitted on
    seed: int = field(compare=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", fitted.key_of(self.recipe.spec, self.arrays()))

    @property
    def dim(self) -> int:
        """Bits."""
        return int(self.grid_DE.shape[1])

    def apply(self, vectors: Vectors) -> Vectors:
        """Rows of +1 and -1, held as bits; a vector on a hyperplane gets -1. The same bytes whatever the run of rows."""
        packed_NB = np.empty((len(vectors), self.out_dim(vectors.dim) // 8), np.uint8)
        for start in range(0, len(vectors), BLOCK_ROWS):
            sums_BE, _ = products(vectors.matrix_ND[start : start + BLOCK_ROWS], self.grid_DE)
            packed_NB[start : start + BLOCK_ROWS] = pack_signs(sums_BE > 0)
        return packed(packed_NB, self.dim, signs, vectors.first_row)

    def out_dim(self, dim: int) -> int:
        """The bits, for vectors of the dimensions that it was fitted on."""
        if dim != len(self.grid_DE):
            raise DataError(
                f"{self.recipe.spec} was fitted on {len(self.grid_DE)} dimensions; these vectors have {dim}"
            )
        return self.dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ARG002 (always the same)
        """float32, as it is read."""
        return np.dtype(np.float32)

    def save(self, uri: str, **facts: Any) -> None:
        """Write an artifact folder; `facts` (of the corpus, say) are told in its manifest."""
        fitted.save(uri, self.recipe.spec, self.key, self.arrays(), {"rows": self.rows, "seed": self.seed} | facts)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What storage holds of it."""
        return {"grid": self.grid_DE}


def _distinct(unit_ND: Float64, wanted: int) -> Float64:
    """The first so many rows that differ from all before them."""
    seen: set[bytes] = set()
    kept = []
    for row in range(len(unit_ND)):
        mark = unit_ND[row].tobytes()
        if mark not in seen:
            seen.add(mark)
            kept.append(row)
            if len(kept) == wanted:
                break
    return unit_ND[kept]
