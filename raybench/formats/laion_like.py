"""A synthetic stand-in for LAION's CLIP vectors: any number of rows, computed where they are read, stored nowhere.

What it has of the real thing: images and texts in two narrow cones with a gap, a few large constant coordinates,
clusters of very unequal size, anisotropy, copies by the hundred of the same vectors, near duplicates, float16, and
lengths of almost but not exactly one. A row depends on the seed and its number alone, so smaller corpora are prefixes of
larger ones, as in the SISAP challenge, and every run of rows is the same bytes on every machine: random numbers are raw
output of Philox at the row's own counter, sums are of whole numbers that float32 (float64 for lengths) holds exactly,
and what rounds is rounded once per coordinate.

A row is a direction: mean of its cone + centre of its cluster + its own place (both in 96 latent dimensions of falling
weight) + noise in every coordinate. A share `copies` of the rows equals an earlier row, a share `near` is close to one;
which one is drawn with i * u^4, so that early rows are copied most and group sizes are heavy-tailed.

Axes: B rows of a run, U different rows, L latent dimensions, D dimensions, C clusters.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from raybench.errors import DataError
from raybench.formats.base import Matrix
from raybench.storage import FileFacts

_Float32 = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.int64]

_LATENT = 96
_LATENT_BYTES = 4 * _LATENT  # a latent coordinate is the sum of four bytes: near enough to normal
_NOISE = 512  # what a byte of noise weighs; makes noise a third of an image's variance
_RUN_ROWS = 4_096  # computed together: 12 MB of float32 at 768 dimensions
_GAP_ROWS = 8  # rows that are cheaper to generate and drop than to jump over
_TEXT_WEIGHT = 0.3  # of the latent dimensions in texts, against images
_TEXT_SHARED = 0.2  # of the images' mean in the texts' mean
_LARGE = ((0.2, 0.17), (0.07, 0.52), (0.03, 0.81))  # share of the mean's energy in one coordinate, and where it is

_TABLES, _IMAGES, _TEXTS, _NEW_IMAGES = range(4)  # streams: parts of the generator's key
_KIND, _SOURCE, _CLUSTER, _SAME = range(4)  # what a hash of a row is for


@dataclass(frozen=True, slots=True)
class LaionLike:
    """`part="corpus"` gives `rows` images; `part="queries"` gives `queries` texts, or images that are not of the corpus.

    A share `same` of the queries equals a row of the corpus, bit for bit as float16. `dtype` is float16 for the corpus
    and float32 for queries unless said otherwise, as in the SISAP challenge.
    """

    rows: int = 300_000
    dim: int = 768
    seed: int = 0
    part: Literal["corpus", "queries"] = "corpus"
    queries: int = 10_000
    asking: Literal["text", "image"] = "text"
    copies: float = 0.24
    near: float = 0.05
    same: float = 0.0
    clusters: int = 4_096
    dtype: Literal["float16", "float32"] | None = None

    def open(self) -> "LaionLikeVectors":
        """The vectors. DataError for numbers out of range."""
        for name, low, high in (
            ("rows", 1, 2**40), ("queries", 1, 2**40), ("dim", 8, 65_536), ("seed", 0, 2**63 - 1), ("copies", 0, 0.9),
            ("near", 0, 0.9), ("same", 0, 1), ("clusters", 1, 1_000_000),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise DataError(f"laion_like: {name}={getattr(self, name)} is out of range; use {low} to {high}")
        if self.copies + self.near > 1:
            raise DataError(f"laion_like: copies={self.copies} and near={self.near} are more than all rows")
        return LaionLikeVectors(self)


@dataclass(frozen=True, slots=True, eq=False)
class LaionLikeVectors:
    """The rows of a recipe, each computed when it is read."""

    recipe: LaionLike

    @property
    def rows(self) -> int:
        """Rows of the part."""
        return self.recipe.rows if self.recipe.part == "corpus" else self.recipe.queries

    @property
    def dim(self) -> int:
        """Dimensions."""
        return self.recipe.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        return np.dtype(self.recipe.dtype or ("float16" if self.recipe.part == "corpus" else "float32"))

    @property
    def is_bits(self) -> bool:
        """Never."""
        return False

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """None; the recipe decides every byte."""
        return ()

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:  # noqa: ARG002 (a row's number is its id)
        """None."""
        return None

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Compute the rows from `start`."""
        if not 0 <= start <= start + len(out_BD) <= self.rows:
            raise DataError(f"rows {start} to {start + len(out_BD)} are not there; laion_like has {self.rows}")
        for first in range(0, len(out_BD), _RUN_ROWS):
            part_BD = out_BD[first : first + _RUN_ROWS]
            rows_B = np.arange(start + first, start + first + len(part_BD))
            if self.recipe.part == "corpus":
                _corpus_rows(self.recipe, rows_B, part_BD)
            else:
                _query_rows(self.recipe, rows_B, part_BD)


def sources(recipe: LaionLike, rows_B: _Rows) -> _Rows:
    """For each row of the corpus the first row that it is a copy of, or itself."""
    return _follow(recipe, rows_B, recipe.copies)


def _follow(recipe: LaionLike, rows_B: _Rows, share: float) -> _Rows:
    """Rows followed to their sources while a hash of the row is under a share; copies come first, then near rows."""
    found_B, moving = rows_B.copy(), np.arange(len(rows_B))
    while len(moving):
        row_M = found_B[moving]
        is_moving_M = (_hash(recipe, _IMAGES, _KIND, row_M) < share) & (row_M > 0)
        moving, row_M = moving[is_moving_M], row_M[is_moving_M]
        square_M = _hash(recipe, _IMAGES, _SOURCE, row_M) ** 2
        found_B[moving] = np.minimum((row_M * (square_M * square_M)).astype(np.int64), row_M - 1)
    return found_B


def _corpus_rows(recipe: LaionLike, rows_B: _Rows, out_BD: Matrix) -> None:
    tables = _tables(recipe)
    roots_U, place_B = np.unique(sources(recipe, rows_B), return_inverse=True)
    bases_U = _follow(recipe, roots_U, recipe.copies + recipe.near)
    drawn_R, place_R = np.unique(np.concatenate([roots_U, bases_U]), return_inverse=True)
    root_U, base_U = place_R[: len(roots_U)], place_R[len(roots_U) :]
    latent_RL, bytes_RD = _draw(recipe, _IMAGES, drawn_R)
    latent_UL = latent_RL[base_U]
    latent_UL += tables.centres_CL[_clusters(recipe, _IMAGES, bases_U)]
    vectors_UD = _weighted(bytes_RD[base_U])
    is_near_U = roots_U != bases_U
    own_V = root_U[is_near_U]
    latent_UL[is_near_U] += np.floor(latent_RL[own_V] / 8)
    vectors_UD[is_near_U] += _weighted(bytes_RD[own_V] >> 3)
    vectors_UD += latent_UL @ tables.images_LD
    halves_UD = _halves(_unit(vectors_UD, tables.image_mean_D))
    out_BD[:] = halves_UD[place_B]


def _query_rows(recipe: LaionLike, rows_B: _Rows, out_BD: Matrix) -> None:
    tables, stream = _tables(recipe), _TEXTS if recipe.asking == "text" else _NEW_IMAGES
    is_text = stream == _TEXTS
    latent_BL, bytes_BD = _draw(recipe, stream, rows_B)
    latent_BL += tables.centres_CL[_clusters(recipe, stream, rows_B)]
    vectors_BD = _weighted(bytes_BD)
    vectors_BD += latent_BL @ (tables.texts_LD if is_text else tables.images_LD)
    vectors_BD = _unit(vectors_BD, tables.text_mean_D if is_text else tables.image_mean_D)
    out_BD[:] = vectors_BD if out_BD.dtype == np.float32 else _halves(vectors_BD)
    is_same_B = _hash(recipe, stream, _SAME, rows_B) < recipe.same
    if is_same_B.any():
        copied_S = (_hash(recipe, stream, _SOURCE, rows_B[is_same_B]) * recipe.rows).astype(np.int64)
        same_SD = np.empty((len(copied_S), recipe.dim), np.float16)
        _corpus_rows(recipe, copied_S, same_SD)
        out_BD[is_same_B] = same_SD


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """What all rows of a recipe share; whole numbers, as float32."""

    centres_CL: _Float32
    images_LD: _Float32
    texts_LD: _Float32
    image_mean_D: _Float32
    text_mean_D: _Float32
    shares_C: npt.NDArray[np.float64]  # cumulated, the last is 1


@functools.lru_cache(maxsize=4)
def _shared(seed: int, dim: int, clusters: int) -> _Tables:
    generator = np.random.Philox(key=np.array([seed, _TABLES], np.uint64))

    def drawn(rows: int, columns: int) -> _Float32:  # uniform odd numbers, -255 to 255
        raw = generator.random_raw(-(-rows * columns // 8)).astype("<u8").view(np.uint8)[: rows * columns]
        return np.asarray(2 * raw.astype(np.float32) - 255, np.float32).reshape(rows, columns)

    weight_L = np.sqrt(4 / (np.arange(_LATENT) + 4))  # variance falls as 1 / (l + 4)
    images_LD = np.rint(drawn(_LATENT, dim) * (127 / 255) * weight_L[:, None])
    centres_CL = sum(drawn(clusters, _LATENT) for _ in range(4)) / 2
    # 53,000 makes the mean 45 % of an image's energy, so that two images have a cosine of about 0.45.
    image_mean_D = np.rint(drawn(1, dim)[0] * (53_000 / 148))
    energy = dim * 53_000.0**2
    for share, place in _LARGE:
        image_mean_D[int(place * dim)] = np.rint(np.sqrt(share * energy))
    text_mean_D = np.rint(_TEXT_SHARED * image_mean_D + drawn(1, dim)[0] * (40_000 / 148))
    shares_C = np.cumsum(1 / np.arange(1, clusters + 1))
    # Noise is bytes from 0 up; half of their range is taken off with the mean.
    half = np.float32(127.5 * _NOISE)
    return _Tables(
        np.ascontiguousarray(centres_CL, np.float32),
        np.ascontiguousarray(images_LD, np.float32),
        np.ascontiguousarray(np.rint(_TEXT_WEIGHT * images_LD), np.float32),
        (image_mean_D - half).astype(np.float32),
        (text_mean_D - half).astype(np.float32),
        shares_C / shares_C[-1],
    )


def _tables(recipe: LaionLike) -> _Tables:
    return _shared(recipe.seed, recipe.dim, recipe.clusters)


def _draw(recipe: LaionLike, stream: int, rows_U: _Rows) -> tuple[_Float32, npt.NDArray[np.uint8]]:
    """The own place [U, L] and the bytes of noise [U, D] of ascending rows: whole numbers from Philox at each row's counter."""
    counters = -(-(_LATENT_BYTES + recipe.dim) // 32)  # of a row; each gives four 64-bit numbers
    generator = np.random.Philox(key=np.array([recipe.seed, stream], np.uint64))
    bytes_UX = np.empty((len(rows_U), counters * 32), np.uint8)
    ends = np.flatnonzero(np.diff(rows_U) > _GAP_ROWS) + 1
    position = 0
    for low, high in zip([0, *ends.tolist()], [*ends.tolist(), len(rows_U)], strict=True):
        if low == high:
            continue
        first, last = int(rows_U[low]), int(rows_U[high - 1])
        if first != position:
            generator.advance((first - position) * counters)
        raw = generator.random_raw((last + 1 - first) * counters * 4).astype("<u8", copy=False)
        run = raw.view(np.uint8).reshape(last + 1 - first, counters * 32)
        bytes_UX[low:high] = run if len(run) == high - low else run[rows_U[low:high] - first]
        position = last + 1
    latent_UL = np.full((len(rows_U), _LATENT), -510, np.float32)
    for start in range(0, _LATENT_BYTES, _LATENT):
        latent_UL += bytes_UX[:, start : start + _LATENT]
    return latent_UL, bytes_UX[:, _LATENT_BYTES : _LATENT_BYTES + recipe.dim]


def _weighted(bytes_UD: npt.NDArray[np.uint8]) -> _Float32:
    vectors_UD = np.empty(bytes_UD.shape, np.float32)
    return np.multiply(bytes_UD, np.float32(_NOISE), out=vectors_UD)


def _unit(vectors_UD: _Float32, mean_D: _Float32) -> _Float32:
    """Rows with the mean added, scaled to length one up to float32's rounding, in place."""
    vectors_UD += mean_D
    squares_U = np.einsum("ud,ud->u", vectors_UD, vectors_UD, dtype=np.float64)
    vectors_UD *= (1 / np.sqrt(squares_U)).astype(np.float32)[:, None]
    return vectors_UD


def _halves(vectors_UD: _Float32) -> npt.NDArray[np.float16]:
    halves: npt.NDArray[np.float16] = torch.from_numpy(vectors_UD).half().numpy()  # numpy takes ten times as long
    return halves


def _clusters(recipe: LaionLike, stream: int, rows_U: _Rows) -> _Rows:
    """The cluster of each row; the c-th has a share of 1 / c, up to a factor."""
    drawn_U = _hash(recipe, stream, _CLUSTER, rows_U)
    return np.searchsorted(_tables(recipe).shares_C[:-1], drawn_U, side="right").astype(np.int64)


def _hash(recipe: LaionLike, stream: int, purpose: int, rows_U: _Rows) -> npt.NDArray[np.float64]:
    """A number in [0, 1) that a row, a stream and a purpose decide (the finaliser of SplitMix64, twice)."""
    mixed_U = _mix(rows_U.astype(np.uint64) + np.uint64((recipe.seed * 0x9E3779B97F4A7C15) % 2**64))
    mixed_U = _mix(mixed_U ^ np.uint64((4 * stream + purpose + 1) * 0xD1B54A32D192ED03 % 2**64))
    return (mixed_U >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value_U: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value_U = (value_U ^ (value_U >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_U = (value_U ^ (value_U >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value_U ^ (value_U >> np.uint64(31))
