"""A graph without the rows: neighbours are kept, and the rows are fetched again while a search walks (as LEANN does).

What is held is a few hundred bytes a row, whatever the dimensions. The price is paid by every query: each row that the walk
looks at is fetched, from wherever the rows are, and scored in float32; the numbers of rows fetched are counted, per query and
as different rows over all queries, because they say what re-embedding instead of fetching would cost.

Rows are fetched where they are stored, or embedded again from what they were made of (`fetch="encoder"`): pictures with the
image tower, captions with the text tower. With codes of the rows held beside the graph (`store`), the walk is led by them, and
only what it ends with is fetched.

Its effort is the number of nodes in view, as of `hnsw`, whose walk this is (Malkov and Yashunin 2018, algorithms 2 and 5).

Axes: Q queries, D dimensions, K results, C rows looked at together.
"""

import dataclasses
import heapq
from dataclasses import dataclass, field
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Neighbors, Rows, Vectors
from raybench.indexes.base import Activity, Dial, Held, check_effort
from raybench.indexes.copies import OpenedIndex, copies
from raybench.indexes.exact import score_rows
from raybench.indexes.faiss_index import FaissIndex, Float32, Found, check_queries, in_order
from raybench.indexes.graph import DIAL, Hnsw, graph_bytes
from raybench.search.topk import best


@dataclass(frozen=True, slots=True)
class Compact:
    """The graph of `hnsw(m=..., build_effort=...)`, built over the rows in full, which are then let go of.

    With a `store`, the walk is led by codes that are held, and only the nodes in view at its end are fetched and scored.
    """

    m: int = 32
    build_effort: int = 200
    store: Literal["none", "fp16", "sq8", "sq4", "pq"] = "none"
    codes: int = 64  # pieces of a row where the store is pq
    bits: int = 8  # of each piece
    fetch: Literal["stored", "encoder"] = "stored"  # rows are read where they are stored, or embedded again
    seed: int = 0

    @property
    def spec(self) -> str:
        """The recipe as errors name it."""
        more = f', store="{self.store}"' * (self.store != "none") + ', fetch="encoder"' * (self.fetch == "encoder")
        return f"compact(m={self.m}{more})"

    @property
    def dial(self) -> Dial | None:
        """Nodes in view."""
        return DIAL

    def build(self, vectors: Vectors) -> "CompactIndex | CodedIndex | OpenedIndex":
        """The graph over a run of rows. IndexRequestError for parameters that cannot be."""
        return self.serve(self.fill(vectors), vectors)

    def fill(self, vectors: Vectors) -> Any:
        """Link all rows, and keep the links alone."""
        filled = self._hnsw().fill(vectors)
        if self.store != "none":
            return filled
        writer = faiss.VectorIOWriter()
        faiss.write_index(filled, writer, faiss.IO_FLAG_SKIP_STORAGE)
        return faiss.deserialize_index(faiss.vector_to_array(writer.data))

    def serve(self, index: Any, vectors: Vectors) -> "CompactIndex | CodedIndex | OpenedIndex":
        """Links of these rows, ready to search."""
        if self.store != "none":
            return CodedIndex(self.spec, self._hnsw().serve(index, vectors), vectors)
        held = {"graph": graph_bytes(index)}
        groups = None if index.ntotal == len(vectors) else copies(vectors)
        if groups is None:
            return CompactIndex(self.spec, _Links.of(index), vectors, held)
        alone = CompactIndex(self.spec, _Links.of(index), Vectors(vectors.matrix_ND), held, groups.first_U)
        return OpenedIndex(alone, groups, vectors.first_row)

    def fetching(self, index: Any, rows: Any) -> "CompactIndex | CodedIndex | OpenedIndex":
        """An index that `serve` gave, with another place from which rows are fetched: anything that gives rows by number."""
        nodes: Any = index.index if isinstance(index, OpenedIndex) else index
        made: Any = dataclasses.replace(nodes, vectors=Vectors(rows, nodes.vectors.first_row))
        return dataclasses.replace(index, index=made) if isinstance(index, OpenedIndex) else made

    def _hnsw(self) -> Hnsw:
        store = "float32" if self.store == "none" else self.store
        return Hnsw(self.m, self.build_effort, store, self.codes, self.bits, self.seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Links:
    """The neighbours of every node at every level, as faiss holds them."""

    neighbors: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.uint64]
    upto_level: list[int]  # slots of a node below each level
    entry: int
    top: int

    @classmethod
    def of(cls, index: Any) -> "_Links":
        graph = index.hnsw
        # Copies: the arrays would be gone with the object that owns them.
        return cls(
            faiss.vector_to_array(graph.neighbors), faiss.vector_to_array(graph.offsets).astype(np.uint64),
            faiss.vector_to_array(graph.cum_nneighbor_per_level).tolist(), int(graph.entry_point), int(graph.max_level),
        )  # fmt: skip

    def at(self, node: int, level: int) -> Rows:
        """The neighbours of a node at a level."""
        first = int(self.offsets[node])
        found = self.neighbors[first + self.upto_level[level] : first + self.upto_level[level + 1]]
        return found[found >= 0].astype(np.int64)


@dataclass(slots=True, eq=False)
class CompactIndex:
    """Links, and the place from which rows are fetched."""

    spec: str
    links: _Links
    vectors: Vectors
    held_bytes: Held
    row_U: Rows | None = None  # the row of each node, where nodes are not rows
    activity: Activity = field(default_factory=Activity)

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows that the walk meets, in the one order; padded where it meets fewer."""
        return in_order(*self.find(queries_QD, k, effort), self.vectors.first_row, k)

    def find(self, queries_QD: FloatMatrix, k: int, effort: int | None) -> Found:
        """Scores and nodes of each query, best first."""
        check_queries(self.spec, queries_QD, self.vectors.dim, k)
        check_effort(self.spec, DIAL, effort, k)
        scores_QK = np.full((len(queries_QD), k), -np.inf, np.float32)
        ids_QK = np.full((len(queries_QD), k), -1, np.int64)
        seen, fetched = np.zeros(len(self.vectors), np.bool_), 0
        for query, query_D in enumerate(np.ascontiguousarray(queries_QD, np.float32)):
            walk = _Walk(self.links, self.vectors, self.row_U, query_D)
            found = walk.best(effort or k)[:k]
            scores_QK[query, : len(found)] = [score for score, _ in found]
            ids_QK[query, : len(found)] = [row for _, row in found]
            rows = np.fromiter(walk.scores, np.int64, len(walk.scores))
            seen[rows] = True
            fetched += len(rows)
        self.activity = Activity(queries=len(queries_QD), fetched=fetched, different=int(seen.sum()))
        return scores_QK, ids_QK

    def last_search(self) -> list[Activity]:
        """The rows that were fetched."""
        return [self.activity]


@dataclass(slots=True, eq=False)
class CodedIndex:
    """Links and codes, and the place from which the rows of the nodes in view are fetched."""

    spec: str
    index: FaissIndex | OpenedIndex
    vectors: Vectors
    activity: Activity = field(default_factory=Activity)

    @property
    def held_bytes(self) -> Held:
        """Links, codes, and what was learnt for them."""
        return self.index.held_bytes

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k, by the rows in float64, of the nodes in view."""
        check_queries(self.spec, queries_QD, self.vectors.dim, k)
        check_effort(self.spec, DIAL, effort, k)
        ids_QC = self.index.search(queries_QD, effort or k, effort).ids_QK
        self.activity = Activity.of_rows(ids_QC)
        return best(ids_QC, score_rows(queries_QD, self.vectors, ids_QC), k)

    def last_search(self) -> list[Activity]:
        """The rows that were fetched."""
        return [self.activity]


class _Walk:
    """One query's way through the graph; `scores` are those of every row that was fetched, each once."""

    def __init__(self, links: _Links, vectors: Vectors, row_U: Rows | None, query_D: Float32) -> None:
        self._links, self._vectors, self._row_U, self._query_D = links, vectors, row_U, query_D
        self.scores: dict[int, float] = {}

    def best(self, effort: int) -> list[tuple[float, int]]:
        """The best nodes in view, best first, after descending to the lowest level."""
        if self._links.entry < 0:
            return []
        node = self._links.entry
        self._fetch(np.array([node]))
        for level in range(self._links.top, 0, -1):
            node = self._descend(node, level)
        return self._look_around(node, effort)

    def _descend(self, node: int, level: int) -> int:
        """The node of a level from which no neighbour is better."""
        while True:
            near = self._links.at(node, level)
            self._fetch(near)
            better = max(near.tolist(), key=self.scores.__getitem__, default=node)
            if self.scores[better] <= self.scores[node]:
                return node
            node = better

    def _look_around(self, node: int, effort: int) -> list[tuple[float, int]]:
        """The lowest level: expand the best node that is not expanded, until none is better than the worst in view."""
        view, waiting, met = [(self.scores[node], node)], [(-self.scores[node], node)], {node}
        while waiting:
            score, node = heapq.heappop(waiting)
            if len(view) >= effort and -score < view[0][0]:
                break
            fresh = [one for one in self._links.at(node, 0).tolist() if one not in met]
            met.update(fresh)
            self._fetch(np.array(fresh, np.int64))
            for one in fresh:
                score = self.scores[one]
                if len(view) < effort:
                    heapq.heappush(view, (score, one))
                elif score > view[0][0]:
                    heapq.heapreplace(view, (score, one))
                else:
                    continue
                heapq.heappush(waiting, (-score, one))
        return sorted(view, key=lambda entry: (-entry[0], entry[1]))

    def _fetch(self, row_C: Rows) -> None:
        """Score rows that were not fetched before."""
        wanted = [row for row in row_C.tolist() if row not in self.scores]
        if wanted:
            rows = wanted if self._row_U is None else self._row_U[wanted]
            rows_CD = self._vectors.matrix_ND[rows].astype(np.float32)
            self.scores.update(zip(wanted, (rows_CD @ self._query_D).tolist(), strict=True))
