"""cuVS's graph on a GPU (Ootomo et al. 2023), for machines that have one: `pip install cuvs-cu13` brings the library.

Its effort is the candidates that a search keeps, in blocks of 32: cuVS rounds `itopk_size` up to a multiple of 32, and here
nothing is rounded without a word. What it finds is scored again in float64 by the rows, so scores are those of every index here,
whatever sign and precision cuVS gives them. A graph is built where it is searched, each time: building is fast on a GPU.

Axes: Q queries, D dimensions, K results.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench.arrays import FloatMatrix, Neighbors, Vectors
from raybench.errors import IndexRequestError
from raybench.indexes.base import Activity, Dial, Held, check_effort
from raybench.indexes.exact import score_rows
from raybench.indexes.faiss_index import check_queries, float32_rows
from raybench.search.topk import best

_BLOCK = 32  # candidates of one step of effort
_DIAL = Dial(f"blocks of {_BLOCK} candidates kept")


@dataclass(frozen=True, slots=True)
class Cagra:
    """`degree` links of each node, chosen among `candidates` nearest ones."""

    degree: int = 64
    candidates: int = 128

    device = "cuda"  # where its workers must be

    @property
    def dial(self) -> Dial | None:
        """Blocks of candidates."""
        return _DIAL

    @property
    def spec(self) -> str:
        """The recipe as errors name it."""
        return f"cagra(degree={self.degree})"

    def build(self, vectors: Vectors) -> "CagraIndex":
        """Build on the GPU. IndexRequestError where the library or the GPU is missing, or rows are too few."""
        library = _library(self.spec)
        if not 1 <= self.degree <= self.candidates < len(vectors):
            raise IndexRequestError(
                f"{self.spec}: degree must be 1 to candidates={self.candidates}, and those fewer than the {len(vectors):,} rows"
            )
        settings = library.IndexParams(
            metric="inner_product", intermediate_graph_degree=self.candidates, graph_degree=self.degree
        )
        return CagraIndex(self, library, library.build(settings, float32_rows(vectors)), vectors)


@dataclass(frozen=True, slots=True, eq=False)
class CagraIndex:
    """A graph on the GPU, and the rows."""

    recipe: Cagra
    library: Any
    index: Any
    vectors: Vectors

    @property
    def held_bytes(self) -> Held:
        """Rows and links, as cuVS holds them: float32, and 4 bytes a link."""
        return {"rows": len(self.vectors) * self.vectors.dim * 4, "graph": len(self.vectors) * self.recipe.degree * 4}

    def last_search(self) -> list[Activity]:
        """Nothing that a caller could not see himself."""
        return [Activity()]

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows that it finds."""
        import torch

        check_queries(self.recipe.spec, queries_QD, self.vectors.dim, k)
        check_effort(self.recipe.spec, _DIAL, effort, k)
        kept = _BLOCK * (effort or 1)
        if kept < k:
            raise IndexRequestError(
                f"{self.recipe.spec}@{effort} keeps {kept} candidates; for {k} results use more effort"
            )
        asked_QD = torch.from_numpy(np.array(queries_QD, np.float32)).cuda()
        wanted = min(k, len(self.vectors))
        _, found = self.library.search(self.library.SearchParams(itopk_size=kept), self.index, asked_QD, wanted)
        ids_QK = found.copy_to_host().astype(np.int64)
        ids_QK = np.where(ids_QK < len(self.vectors), ids_QK + self.vectors.first_row, -1)
        return best(ids_QK, score_rows(queries_QD, self.vectors, ids_QK), k)


def _library(spec: str) -> Any:
    """CuVS. IndexRequestError that says how to get what is missing."""
    try:
        library = importlib.import_module("cuvs.neighbors.cagra")
    except ImportError as error:
        raise IndexRequestError(
            f"{spec} needs cuVS ({error}); install it on the workers, as in `pip install cuvs-cu13`, or use hnsw"
        ) from None
    import torch

    if not torch.cuda.is_available():
        raise IndexRequestError(f"{spec} found no GPU on the worker; use hnsw")
    return library
