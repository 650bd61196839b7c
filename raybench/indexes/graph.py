"""A navigable small-world graph (Malkov and Yashunin 2018), over rows in full or in fewer bits.

Its effort is the number of nodes that a search keeps in view (efSearch); it is k at least, because faiss would raise it
to k without a word.
"""

from dataclasses import dataclass
from typing import Any, Literal

import faiss

from raybench.arrays import Vectors
from raybench.errors import IndexRequestError, WorkError
from raybench.indexes.base import Dial, Held, check_effort
from raybench.indexes.copies import OpenedIndex, copies
from raybench.indexes.faiss_index import (
    FaissIndex,
    add_rows,
    code_bytes,
    float32_rows,
    learn,
    need_codebooks,
    need_divisor,
)

_STORES = {"fp16": "QT_fp16", "sq8": "QT_8bit", "sq4": "QT_4bit"}
DIAL = Dial("nodes in view", is_k_least=True)
"""faiss would raise a lower effort to k without a word."""
_SAMPLE = 65_536  # rows from which the ranges of sq8 and sq4, or codebooks, are learnt


@dataclass(frozen=True, slots=True)
class Hnsw:
    """`m` neighbours of each node (twice as many in the lowest layer), `build_effort` nodes in view while it is built.

    Links are always those of the rows in full, whatever is kept of them: links made over short codes are far worse.
    Rows that are equal are one node (`copies`).
    """

    m: int = 32
    build_effort: int = 200
    store: Literal["float32", "fp16", "sq8", "sq4", "pq"] = "float32"
    codes: int = 64  # pieces of a row where the store is pq
    bits: int = 8  # of each piece
    seed: int = 0

    @property
    def dial(self) -> Dial | None:
        """Nodes in view."""
        return DIAL

    @property
    def spec(self) -> str:
        """The recipe as errors name it."""
        return f"hnsw(m={self.m})" if self.store == "float32" else f'hnsw(m={self.m}, store="{self.store}")'

    def build(self, vectors: Vectors) -> FaissIndex | OpenedIndex:
        """The graph over a run of rows. IndexRequestError for parameters that cannot be, or too few rows to learn codes."""
        return self.serve(self.fill(vectors), vectors)

    def fill(self, vectors: Vectors) -> Any:
        """Learn codes where the store has them, and link all rows."""
        if not 2 <= self.m <= 512 or not 1 <= self.build_effort <= 100_000:
            raise IndexRequestError(
                f"{self.spec}: m must be 2 to 512, and build_effort={self.build_effort} 1 to 100,000"
            )
        whole = faiss.IndexHNSWFlat(vectors.dim, self.m, faiss.METRIC_INNER_PRODUCT)
        whole.hnsw.efConstruction = self.build_effort
        whole.hnsw.rng = faiss.RandomGenerator(12_345 + self.seed)
        index = whole if self.store == "float32" else self._coded(vectors)  # which says no before anything is linked
        groups = copies(vectors)
        different = vectors if groups is None else Vectors(float32_rows(vectors)[groups.first_U])
        whole.add(float32_rows(different))  # at once: a graph that is added to in pieces is another, and may fall apart
        if index is not whole:
            add_rows(index.storage, different)
            index.hnsw, index.ntotal = whole.hnsw, whole.ntotal
        return index

    def serve(self, index: Any, vectors: Vectors) -> FaissIndex | OpenedIndex:
        """A filled graph, ready to search; WorkError where faiss made another one than was asked for."""
        graph = index.hnsw
        groups = None if index.ntotal == len(vectors) else copies(vectors)
        nodes = len(vectors) if groups is None else len(groups.first_U)
        effective = (graph.nb_neighbors(1), graph.nb_neighbors(0), graph.efConstruction, index.ntotal)
        if effective != (self.m, 2 * self.m, self.build_effort, nodes):
            raise WorkError(f"{self.spec}: faiss made a graph with m={effective[0]}, build_effort={effective[2]}")
        held = {"graph": graph_bytes(index)} | _store_bytes(index)
        if groups is None:
            return FaissIndex(self.spec, index, vectors.first_row, self.parameters, held)
        return OpenedIndex(FaissIndex(self.spec, index, 0, self.parameters, held), groups, vectors.first_row)

    def _coded(self, vectors: Vectors) -> Any:
        """An index over codes that has learnt them and linked nothing."""
        metric, dim = faiss.METRIC_INNER_PRODUCT, vectors.dim
        if self.store == "pq":
            need_divisor(self.spec, vectors, self.codes)
            need_codebooks(self.spec, vectors, self.bits)
            index = faiss.IndexHNSWPQ(dim, self.codes, self.m, self.bits, metric)
        else:
            index = faiss.IndexHNSWSQ(dim, getattr(faiss.ScalarQuantizer, _STORES[self.store]), self.m, metric)
        if not index.is_trained:
            learn(index, vectors, _SAMPLE, self.seed)
        return index

    def parameters(self, effort: int | None, k: int) -> Any:
        """Faiss's search parameters; IndexRequestError for an effort out of range."""
        check_effort(self.spec, self.dial, effort, k)
        return faiss.SearchParametersHNSW(efSearch=effort)


def graph_bytes(index: Any) -> int:
    """Neighbours, offsets and levels, measured on what is held."""
    graph = index.hnsw
    return int(graph.neighbors.size() * 4 + graph.offsets.size() * 8 + graph.levels.size() * 4)


def _store_bytes(index: Any) -> Held:
    """The rows that a graph is over, or their codes and what was learnt for them."""
    store = faiss.downcast_index(index.storage)
    if isinstance(store, faiss.IndexPQ):
        return {"codes": code_bytes(store), "learnt": int(store.pq.centroids.size()) * 4}
    if isinstance(store, faiss.IndexScalarQuantizer):
        return {"codes": code_bytes(store), "learnt": int(store.sq.trained.size()) * 4}
    return {"rows": code_bytes(store)}
