"""Cells around centroids: every pair of close rows meets in a cell, and rows that are far apart mostly do not.

A row is at home in the cell of its nearest centroid. Two rows at a distance r at most, at home in cells c and d, are on two sides
of the plane halfway between the centroids, so their distances from it add up to r at most, and one of them is within r / 2 of it.
So a row that is a guest wherever it is within r / 2 of such a plane meets all that are close to it. Where that would be more
cells than allowed, it is a guest of those whose planes are nearest, and is counted: pairs may be missed there and nowhere else.
Distances are in float32, and what they can be off by is added to r / 2; of centroids within r of one another one is kept, or a
clump of close rows would be cut into cells that all its rows are guests of.

Axes: N rows, C centroids, D dimensions, G guests.
"""

import math
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
import torch

from raybench.arrays import Rows
from raybench.search.certified.bound import Terms

Float32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
_BLOCK = 512  # whose distances stay in cache
_ROUNDS = 8
_PER_CENTROID = 48


def count_of(rows: int) -> int:
    """Centroids for so many rows: comparing rows with centroids then takes about as long as rows with their cells."""
    return int(min(8_192, 2 ** round(math.log2(1.5 * math.sqrt(max(rows, 1))))))


def sample_of(centroids: int) -> int:
    """Rows that so many centroids are learnt from."""
    return centroids * _PER_CENTROID


def learn(sample_ND: Float32, count: int, apart: float, seed: int) -> Float32:
    """Centroids of rows at length one by k-means, further than `apart` from one another; one at least."""
    if not len(sample_ND):
        return np.zeros((1, sample_ND.shape[1]), np.float32)
    centroids = sample_ND
    if len(sample_ND) > count:
        means = faiss.Kmeans(sample_ND.shape[1], count, niter=_ROUNDS, seed=seed, min_points_per_centroid=1)
        means.train(sample_ND)
        centroids = _spread(np.asarray(means.centroids, np.float32), sample_ND)
    is_near_CC = _between(torch.from_numpy(centroids)).numpy() <= apart
    kept = np.ones(len(centroids), np.bool_)
    for centroid in range(len(centroids)):
        if kept[centroid]:
            kept[centroid + 1 :] &= ~is_near_CC[centroid, centroid + 1 :]
    return centroids[kept]


def _spread(centroids_CD: Float32, sample_ND: Float32) -> Float32:
    """Centroids moved away from the mean of all rows, each as far as rows are on average.

    Means of rows that differ in many dimensions lie near the middle, some nearer than others: those would have most rows in
    their cells, and the rest would be too close to one another. Any points do for cells, so what is found stays proven.
    """
    mean_D = sample_ND.mean(axis=0, dtype=np.float64)
    far = float(np.linalg.norm(sample_ND - mean_D, axis=1).mean())
    away_CD = centroids_CD - mean_D
    length_C = np.linalg.norm(away_CD, axis=1)
    away_CD *= np.where(length_C > 0, far / np.maximum(length_C, 1e-30), 0.0)[:, None]
    return np.asarray(mean_D + away_CD, np.float32)


def _between(centroids: torch.Tensor) -> torch.Tensor:
    """The distances between centroids [C, C], float64; what products lose of them is far below float32's error of rows."""
    wide = centroids.double()
    return torch.cdist(wide, wide, compute_mode="use_mm_for_euclid_dist")


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Where rows are at home, and where they are guests."""

    home_N: Rows
    row_G: Rows  # places of guests among the rows
    cell_G: Rows
    is_cut_N: Flags  # rows that would be guests of more cells

    def are_in(self, row_P: Rows, cell_P: Rows) -> Flags:
        """Whether rows are at home in cells, or guests."""
        cells = int(max(self.home_N.max(initial=0), self.cell_G.max(initial=0), cell_P.max(initial=0))) + 1
        is_there_P: Flags = np.isin(row_P * cells + cell_P, self.row_G * cells + self.cell_G)
        is_there_P |= self.home_N[row_P] == cell_P
        return is_there_P


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Centroids, and how far from a plane between two of them a row is a guest."""

    centroids_CD: Float32
    apart: float  # the distance of the rows of a pair, at most
    most: int  # cells of a row

    def place(self, unit_ND: torch.Tensor) -> Placed:
        """Place rows at length one."""
        if not len(unit_ND):
            none = np.empty(0, np.int64)
            return Placed(none, none, none, np.empty(0, np.bool_))
        centroids = torch.from_numpy(self.centroids_CD)
        square_C = (centroids.double() ** 2).sum(dim=1).float()
        between_CC = _between(centroids)
        # Squared distances from two centroids differ by twice their distance times that from the plane between them.
        slack = 4 * Terms("cosine", centroids.shape[1]).slope
        inverse_CC = (1 / between_CC.clamp_(min=1e-9)).float()
        placed = [
            self._block(unit_ND[start : start + _BLOCK], start, (centroids, square_C, inverse_CC), slack)
            for start in range(0, len(unit_ND), _BLOCK)
        ]
        joined = (np.concatenate(arrays) for arrays in zip(*placed, strict=True))
        return Placed(*joined)

    def _block(
        self, unit_BD: torch.Tensor, start: int, known: tuple[torch.Tensor, torch.Tensor, torch.Tensor], slack: float
    ) -> tuple[Rows, Rows, Rows, Flags]:
        centroids, square_C, inverse_CC = known
        off_BC = torch.addmm(square_C, unit_BD, centroids.T, alpha=-2)  # without the row's own length, which is 1
        nearest_B, home_B = off_BC.min(dim=1)
        off_BC.sub_(nearest_B[:, None] + slack).mul_(inverse_CC[home_B])
        off_BC.scatter_(1, home_B[:, None], torch.inf)
        # The nearest planes, one more than there is room for: where that one is near as well, the row is cut.
        off_BM, cell_BM = off_BC.topk(min(self.most, off_BC.shape[1]), dim=1, largest=False)
        is_guest_BM = off_BM <= self.apart * (1 + 1e-6)
        is_cut_B = is_guest_BM[:, self.most - 1 :].any(dim=1)
        is_guest_BM[:, self.most - 1 :] = False
        row_G, place_G = np.nonzero(is_guest_BM.numpy())
        return home_B.numpy(), row_G + start, cell_BM.numpy()[row_G, place_G], is_cut_B.numpy()


def distance(cosine: float) -> float:
    """How far apart two rows at length one are."""
    return math.sqrt(max(0.0, 2 - 2 * cosine))
