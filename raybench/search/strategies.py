"""What a set of seeds asks an index for: each seed its neighbours, their average its own, or several averages of clusters.

Neighbours of each seed (knn) keep its content and its style; neighbours of the average keep what the seeds share and vary
in the rest; averages of clusters are for seeds of several kinds. Queries and means are of unit vectors, scaled to length
one, so a score is a cosine wherever the rows have length one.

Axes: S seeds, D dimensions, Q queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from raybench.arrays import FloatMatrix, Rows, Vectors
from raybench.errors import DataError, RequestError

STRATEGIES = ("knn", "centroid", "kmeans")

Float32 = npt.NDArray[np.float32]
_ROUNDS = 25  # of k-means
_NO_LENGTH = 1e-6  # of a mean of unit vectors: what rounding leaves of seeds that cancel out


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Queries with a name each, in the order in which they may claim a row that several find."""

    names: tuple[str, ...]
    strategies: tuple[str, ...]
    vectors_QD: Float32
    requested_Q: Rows

    def __len__(self) -> int:
        return len(self.names)


def unit_seeds(vectors_SD: FloatMatrix, names: Sequence[str]) -> Float32:
    """Seeds at length one. DataError for one without a direction, by its name."""
    if not len(vectors_SD):
        raise DataError("there are no seeds; check where they come from")
    check = np.asarray(vectors_SD, np.float64)
    has_length_S = np.isfinite(check).all(axis=1) & (check != 0).any(axis=1)
    if not has_length_S.all():
        name = names[int(np.argmin(has_length_S))]
        raise DataError(f"seed {name} is all zeros, or not finite, and points nowhere; leave it out")
    return np.asarray(Vectors(np.ascontiguousarray(vectors_SD)).unit().matrix_ND, np.float32)


def knn(unit_SD: Float32, names: Sequence[str], wanted: int) -> Queries:
    """Each seed asks for `wanted` rows."""
    return Queries(tuple(names), ("knn",) * len(names), unit_SD, np.full(len(names), wanted))


def centroid(unit_SD: Float32, wanted: int) -> Queries:
    """The mean of all seeds asks for `wanted` rows. RequestError where seeds cancel out."""
    mean_D = unit_SD.mean(axis=0, dtype=np.float64)
    return Queries(("centroid",), ("centroid",), _scaled(mean_D[None], "the average"), np.array([wanted]))


def kmeans(unit_SD: Float32, count: int, wanted: int, seed: int) -> Queries:
    """Each of `count` means of spherical k-means asks for `wanted` rows; the same means on every machine of one kind.

    RequestError for fewer different seeds than means.
    """
    different = len(np.unique(np.ascontiguousarray(unit_SD).view(np.dtype((np.void, unit_SD[0].nbytes)))))
    if not 1 <= count <= different:
        raise RequestError(
            f"--centroids {count} cannot be made of {different:,} different seeds; give 1 to {different:,}"
        )
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # sums in one order
    try:
        with threadpool_limits(1):
            learnt = faiss.Kmeans(
                unit_SD.shape[1], count, niter=_ROUNDS, spherical=True, seed=seed, min_points_per_centroid=1,
                max_points_per_centroid=len(unit_SD),
            )  # fmt: skip
            learnt.train(unit_SD)
    finally:
        faiss.omp_set_num_threads(threads)
    names = tuple(f"kmeans-{number:04d}" for number in range(count))
    means_CD = _scaled(learnt.centroids.reshape(count, -1).astype(np.float64), "the average of a cluster")
    return Queries(names, ("kmeans",) * count, means_CD, np.full(count, wanted))


def joined(parts: Sequence[Queries]) -> Queries:
    """The queries of several strategies, one after the other."""
    return Queries(
        tuple(name for part in parts for name in part.names),
        tuple(strategy for part in parts for strategy in part.strategies),
        np.concatenate([part.vectors_QD for part in parts]),
        np.concatenate([part.requested_Q for part in parts]).astype(np.int64),
    )


def _scaled(means_CD: npt.NDArray[np.float64], what: str) -> Float32:
    length_C = np.linalg.norm(means_CD, axis=1)
    if (length_C < _NO_LENGTH).any():
        raise RequestError(f"the seeds cancel out: {what} of them has no direction; use knn, or seeds of one kind")
    return np.asarray(means_CD / length_C[:, None], np.float32)
