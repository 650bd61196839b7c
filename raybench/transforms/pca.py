"""Principal components of unit vectors, mean-centred: the pca32 and pca96 families of the SISAP LAION2B challenge.

As there (`laion-pca-projection.jl`), rows are scaled to length one, the mean is taken off, and the rest is projected on
the directions of greatest variance; the output is float32. Squared distances in the projection approach 2 - 2 cos of
the vectors, so what is projected is searched with the metric l2. A zero row stays a zero row before the mean goes off.

Fitting is exact up to the eigenvectors: sampled rows are put on a grid of 2^-20, so the sums behind mean and covariance
round nothing within a block, and blocks are added in order.

Axes: B rows of a block, D dimensions before, E components.
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
from raybench.transforms.sample import sample_rows

_GRID = 2.0**20  # sums over 4,096 rows of whole numbers up to 2^20: products stay below 2^52 and sums within 2^53


@dataclass(frozen=True, slots=True)
class PcaRecipe:
    """The `dim` components of greatest variance, learnt from up to `sample` rows spread over the corpus.

    With `centre=False` no mean is taken off: the components are those of greatest second moment, and inner products in the
    projection are near those of the unit vectors, so what searches by inner product can search in it.
    """

    dim: int = 96
    sample: int = 1_000_000
    centre: bool = True

    @property
    def needs_fit(self) -> bool:
        """Always."""
        return True

    @property
    def spec(self) -> str:
        """The recipe as it is written."""
        return f"pca(dim={self.dim}, sample={self.sample}{', centre=False' * (not self.centre)})"

    def metric(self, asked: str) -> str:
        """l2 of centred projections, whose distances alone are near those of the (unit) vectors; else as asked."""
        return "l2" if self.centre else asked

    def fit(self, corpus: Rows | None, seed: int = 0) -> "Pca":
        """Learn mean and components. DataError where there are fewer dimensions, or no variance, than asked for."""
        if corpus is not None and not 1 <= self.dim <= corpus.dim:
            raise DataError(f"{self.spec} does not fit vectors of {corpus.dim} dimensions")
        mean_D, covariance_DD, rows = _moments(self, corpus, seed)
        variance_E, directions_DE = np.linalg.eigh(covariance_DD)  # ascending
        variance_E, directions_DE = variance_E[::-1], directions_DE[:, ::-1][:, : self.dim]
        total = float(np.trace(covariance_DD))
        if not total > 0:
            raise DataError(f"{self.spec}: all {rows} sampled rows are the same; there is nothing to project on")
        # An eigenvector's sign is arbitrary: its largest coordinate is made positive.
        largest_E = np.abs(directions_DE).argmax(axis=0)
        directions_DE = directions_DE * np.sign(directions_DE[largest_E, np.arange(self.dim)])
        kept = np.maximum(variance_E[: self.dim], 0) / total
        return Pca(self, mean_D, on_grid(directions_DE), kept, rows, seed)

    def of_arrays(self, arrays: dict[str, npt.NDArray[Any]], facts: dict[str, Any]) -> "Pca":
        """From what `save` wrote."""
        return Pca(self, arrays["mean"], arrays["grid"], arrays["kept"], facts["rows"], facts["seed"])


@dataclass(frozen=True, slots=True)
class Pca(Symmetric):
    """A fitted projection; equal to another if recipe, mean and components are the same bytes."""

    recipe: PcaRecipe
    mean_D: Float64 = field(compare=False, repr=False)
    grid_DE: Float64 = field(compare=False, repr=False)  # components, as whole numbers of 22 bits
    kept_E: Float64 = field(compare=False, repr=False)  # share of the sample's variance along each component
    rows: int = field(compare=False)  # that it was fitted on
    seed: int = field(compare=False)
    key: str = field(init=False)
    _offset_E: Float64 = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", fitted.key_of(self.recipe.spec, self.arrays()))
        offset = (self.mean_D[:, None] * self.components()).sum(axis=0)
        object.__setattr__(self, "_offset_E", offset)

    @property
    def dim(self) -> int:
        """Components."""
        return int(self.grid_DE.shape[1])

    def components(self) -> Float64:
        """Orthonormal columns [D, E] (to 2^-22), most variance first, the largest coordinate of each positive."""
        return self.grid_DE * 2.0**-22

    @property
    def explained(self) -> float:
        """The share of the variance of the sampled unit vectors that the projection keeps, 0 to 1."""
        return float(self.kept_E.sum())

    def apply(self, vectors: Vectors) -> Vectors:
        """float32 rows of `dim` components; the same bytes whatever the run of rows."""
        self.out_dim(vectors.dim)
        out_NE = np.empty((len(vectors), self.dim), np.float32)
        for start in range(0, len(vectors), BLOCK_ROWS):
            sums_BE, norms_B = products(vectors.matrix_ND[start : start + BLOCK_ROWS], self.grid_DE)
            sums_BE /= np.where(norms_B > 0, norms_B, 1)[:, None]
            out_NE[start : start + BLOCK_ROWS] = sums_BE - self._offset_E
        return Vectors(out_NE, vectors.first_row)

    def out_dim(self, dim: int) -> int:
        """`dim`, for vectors of the dimensions that it was fitted on."""
        if dim != len(self.mean_D):
            raise DataError(f"{self.recipe.spec} was fitted on {len(self.mean_D)} dimensions; these vectors have {dim}")
        return self.dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ARG002 (always the same)
        """float32."""
        return np.dtype(np.float32)

    def save(self, uri: str, **facts: Any) -> None:
        """Write an artifact folder; `facts` (of the corpus, say) are told in its manifest."""
        told = {"explained": self.explained, "rows": self.rows, "seed": self.seed} | facts
        fitted.save(uri, self.recipe.spec, self.key, self.arrays(), told)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What storage holds of it."""
        return {"mean": self.mean_D, "grid": self.grid_DE, "kept": self.kept_E}


def _moments(recipe: PcaRecipe, corpus: Rows | None, seed: int) -> tuple[Float64, Float64, int]:
    """Mean and covariance of sampled unit vectors, and how many there were."""
    count, sum_D, sum_DD = 0, np.zeros(0), np.zeros((0, 0))
    for block_BD in sample_rows(corpus, recipe.sample, seed, recipe.spec):
        unit_BD = block_BD.astype(np.float64)
        norms_B = np.sqrt((unit_BD * unit_BD).sum(axis=1))
        unit_BD /= np.where(norms_B > 0, norms_B, 1)[:, None]
        np.rint(unit_BD * _GRID, out=unit_BD)
        if not count:
            sum_D, sum_DD = np.zeros(unit_BD.shape[1]), np.zeros((unit_BD.shape[1],) * 2)
        count += len(unit_BD)
        sum_D += unit_BD.sum(axis=0)
        sum_DD += unit_BD.T @ unit_BD
    mean_D = sum_D / count if recipe.centre else np.zeros_like(sum_D)
    covariance_DD = (sum_DD / count - np.outer(mean_D, mean_D)) / _GRID**2
    return mean_D / _GRID, covariance_DD, count
