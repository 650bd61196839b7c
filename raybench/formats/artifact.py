"""raybench's own gold standard: `ids.npy` (int64) and `scores.npy` (float64), both [Q, K], below a manifest."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench import storage
from raybench.arrays import Neighbors
from raybench.errors import DataError
from raybench.formats.base import StoredNeighbors, VectorFile


def read_gold(uri: str) -> tuple[Neighbors, dict[str, Any]]:
    """The neighbours and the manifest of a finished gold standard. DataError where it is not finished or was changed."""
    manifest = storage.read_manifest(uri)
    if manifest is None or manifest.get("kind") != "gold":
        raise DataError(f"{uri} is no finished gold standard (it has no manifest); run raybench gold again")
    arrays = {}
    for name in ("ids.npy", "scores.npy"):
        data = storage.read_bytes(storage.join(uri, name))
        if storage.digest(data) != manifest["files"][name]["sha256"]:
            raise DataError(f"{storage.join(uri, name)} is not what was written; delete {uri} and run again")
        arrays[name] = np.load(io.BytesIO(data), allow_pickle=False)
    return Neighbors(arrays["ids.npy"], arrays["scores.npy"]), manifest


@dataclass(frozen=True, slots=True)
class Gold:
    """A finished folder of `raybench gold`, as a source of neighbours for other formats."""

    folder: str

    def open(self) -> VectorFile:
        """DataError: a gold standard holds neighbours."""
        raise DataError(f"{self.folder} holds neighbours, no vectors; give the vectors that it was made of")

    def neighbors(self) -> StoredNeighbors:
        """Rows and scores; 1 - similarity is the distance that challenges store for inner product and cosine."""
        neighbors, manifest = read_gold(self.folder)
        metric = manifest["recipe"]["metric"]
        return StoredNeighbors(neighbors.ids_QK, neighbors.scores_QK - (metric in ("ip", "cosine")), "distance", metric)
