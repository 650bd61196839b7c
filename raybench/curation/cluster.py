"""A part of a pool that is about one thing: vectors are clustered, and pictures of some clusters stay.

Clusters are those of spherical k-means by faiss, on at most 256 vectors for each, from a seed.

Axes: M pictures, C clusters, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from raybench.arrays import Rows
from raybench.curation.base import Draft, Models, Verdict, Work, encoders_of, one_encoder
from raybench.errors import RequestError, WorkError

_PER_CLUSTER = 256
_ROUNDS = 25


@dataclass(frozen=True, slots=True)
class Cluster:
    """Of so many clusters of pictures (or of their captions) `keep` stay: those nearest to the text `near`, or the tightest."""

    clusters: int = 32
    keep: int = 1
    by: Literal["image", "text"] = "image"
    near: str = ""
    least: int = 0  # pictures of a tight cluster; 0: a quarter of an even share, since the tightest are single pictures
    encoder: str = ""  # none: the first of the recipe

    def check(self, encoders: Sequence[str]) -> None:
        """Fewer to keep than there are, and an encoder."""
        if not 1 <= self.keep < self.clusters:
            raise RequestError(
                f"cluster(clusters={self.clusters}, keep={self.keep}) chooses nothing; keep 1 or more, and fewer than there are"
            )
        one_encoder(self.encoder, encoders, "cluster")

    def models(self, encoders: Sequence[str]) -> Models:
        """One encoder."""
        return encoders_of([one_encoder(self.encoder, encoders, "cluster")])

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:
        """Pictures of other clusters go; by text, those without a caption too."""
        encoder = one_encoder(self.encoder, work.encoders, "cluster")
        row_M, vector_MD = self._vectors(draft, rows, work, encoder)
        if len(row_M) < self.clusters:
            raise WorkError(
                f"cluster(clusters={self.clusters}) has {len(row_M)} pictures{' with captions' if self.by == 'text' else ''}; "
                "ask for fewer clusters"
            )
        centroid_CD = _centroids(vector_MD, self.clusters, work.seed)
        cosine_MC = vector_MD @ centroid_CD.T
        cluster_M = cosine_MC.argmax(axis=1)
        size_C = np.bincount(cluster_M, minlength=self.clusters)
        summed_C = np.bincount(cluster_M, cosine_MC.max(axis=1).astype(np.float64), minlength=self.clusters)
        tight_C = summed_C / np.maximum(size_C, 1)
        least = self.least or -(-len(row_M) // (4 * self.clusters))
        wanted_C = np.where(size_C >= least, tight_C, -np.inf)
        if self.near:
            _, near_1D = work.embedded(encoder, rows[:0], [self.near])
            wanted_C = centroid_CD.astype(np.float64) @ near_1D[0].astype(np.float64)
        order_C = np.lexsort((np.arange(self.clusters), -np.where(size_C > 0, wanted_C, -np.inf)))
        chosen = np.sort(order_C[: self.keep])
        is_kept_M = np.isin(cluster_M, chosen)
        gone, without = row_M[~is_kept_M], np.setdiff1d(rows, row_M)
        reasons = np.concatenate([np.full(len(gone), "other_cluster"), np.full(len(without), "no_caption")])
        details = np.concatenate(
            [np.char.add("cluster ", cluster_M[~is_kept_M].astype(str)), np.full(len(without), "")]
        )
        joined = np.concatenate([gone, without])
        order = np.argsort(joined)
        facts = {
            "kept_clusters": [
                {"cluster": int(one), "pictures": int(size_C[one]), "mean_cosine": round(float(tight_C[one]), 4)}
                for one in chosen
            ]
        }
        return Verdict(joined[order], reasons[order].tolist(), details[order].tolist(), facts)

    def _vectors(self, draft: Draft, rows: Rows, work: Work, encoder: str) -> tuple[Rows, npt.NDArray[np.float32]]:
        """A unit vector of each picture: its own, or the mean of those of its captions."""
        if self.by == "image":
            stored, _ = work.embedded(encoder, rows)
            return stored.rows, _unit(stored.block(0, len(stored)))
        captions = draft.candidates["captions"].take(rows).to_pylist()
        told = [(row, text) for row, texts in zip(rows.tolist(), captions, strict=True) for text in texts]
        _, asked = work.embedded(encoder, rows[:0], [text for _, text in told])
        row_M, place_T = np.unique(np.array([row for row, _ in told], np.int64), return_inverse=True)
        summed_MD = np.zeros((len(row_M), asked.shape[1]))
        np.add.at(summed_MD, place_T, asked.astype(np.float64))
        return row_M, _unit(summed_MD)


def _unit(vector_MD: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    wide_MD = vector_MD.astype(np.float64)
    norm_M1 = np.maximum(np.linalg.norm(wide_MD, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    unit_MD: npt.NDArray[np.float32] = (wide_MD / norm_M1).astype(np.float32)
    return unit_MD


def _centroids(vector_MD: npt.NDArray[np.float32], clusters: int, seed: int) -> npt.NDArray[np.float32]:
    import faiss

    # Sums in one order: other threads would give other centroids, and so another set.
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    means = faiss.Kmeans(
        vector_MD.shape[1], clusters, niter=_ROUNDS, seed=seed + 1, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=_PER_CLUSTER,
    )  # fmt: skip
    try:
        with threadpool_limits(1):
            means.train(np.ascontiguousarray(vector_MD))
    finally:
        faiss.omp_set_num_threads(threads)
    centroid_CD: npt.NDArray[np.float32] = np.asarray(means.centroids, np.float32).reshape(clusters, -1)
    return centroid_CD
