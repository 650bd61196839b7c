"""Equal rows as one node of a graph, opened to all of its rows in the answer.

Where many rows are equal, as in collections from the web, they fill each other's links and cut the graph into islands: at 24 %
copies, faiss's graph was measured to miss rows at any effort. Linked once, copies cut nothing off, and the graph is smaller.

Axes: N rows, U different rows, Q queries, F found nodes, K results, M found rows with their copies.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raybench.arrays import FloatMatrix, Neighbors, Rows, Vectors
from raybench.indexes.base import Activity, Held
from raybench.indexes.faiss_index import Float32, Found, float32_rows
from raybench.search.certified.duplicates import Groups, group
from raybench.search.topk import best
from raybench.transforms.packed import is_packed


def copies(vectors: Vectors) -> Groups | None:
    """Groups of equal rows; None where copies are too few to matter. The same whenever it is asked of the same rows."""
    rows_ND = float32_rows(vectors) if is_packed(vectors) else np.ascontiguousarray(vectors.matrix_ND)
    return group(rows_ND)


class Nodes(Protocol):
    """An index over different rows, numbered from 0."""

    def find(self, queries_QD: FloatMatrix, k: int, effort: int | None) -> Found:
        """Up to k scores and nodes of each query, best first."""
        ...

    def last_search(self) -> list[Activity]:
        """What the last search did."""
        ...

    @property
    def held_bytes(self) -> Held:
        """Resident bytes by kind."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class OpenedIndex:
    """An index over different rows, whose answers are opened to all rows that are equal to them."""

    index: Nodes
    groups: Groups
    first_row: int

    @property
    def held_bytes(self) -> Held:
        """Those of the index, and the lists of copies."""
        mine = sum(array.nbytes for array in (self.groups.start_U, self.groups.length_U, self.groups.member_N))
        held = self.index.held_bytes
        return held | {"ids": held.get("ids", 0) + mine}

    def last_search(self) -> list[Activity]:
        """What the index did."""
        return self.index.last_search()

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows: those that were found and their copies, which have the same score."""
        return opened(*self.index.find(queries_QD, k, effort), self.groups, self.first_row, k)


def opened(scores_QF: Float32, node_QF: Rows, groups: Groups, first_row: int, k: int) -> Neighbors:
    """The first k rows of the found groups, in the one order; padded where there are fewer."""
    if len(node_QF) == 1:
        return _opened_alone(scores_QF[0], node_QF[0], groups, first_row, k)
    is_node_QF = node_QF >= 0
    group_QF = np.where(is_node_QF, node_QF, 0)
    length_QF = np.where(is_node_QF, groups.length_U[group_QF], 0)
    before_QF = np.cumsum(length_QF, axis=1) - length_QF
    taken_QF = np.clip(k - before_QF, 0, length_QF)
    count_M = taken_QF.ravel()
    place_M = np.repeat(before_QF.ravel(), count_M) + _within(count_M)  # in the answer of its query
    query_M = np.repeat(np.repeat(np.arange(len(node_QF)), node_QF.shape[1]), count_M)
    rows_QK: Rows = np.full((len(node_QF), k), -1, np.int64)
    scores_QK = np.full((len(node_QF), k), -np.inf)
    member_M = np.repeat(groups.start_U[group_QF].ravel(), count_M) + _within(count_M)
    rows_QK[query_M, place_M] = groups.member_N[member_M] + first_row
    scores_QK[query_M, place_M] = np.repeat(scores_QF.ravel(), count_M)
    return best(rows_QK, scores_QK, k)


def _opened_alone(scores_F: Float32, node_F: Rows, groups: Groups, first_row: int, k: int) -> Neighbors:
    """The same for one query, without the calls of numpy that would take longer than its search."""
    results: list[tuple[float, int]] = []
    found = (node_F, scores_F, groups.start_U[node_F], groups.length_U[node_F], groups.first_U[node_F])
    for node, score, start, length, first in zip(*(array.tolist() for array in found), strict=True):
        if node < 0 or len(results) >= k:
            break
        if length == 1:
            results.append((-score, first + first_row))
        else:
            stop = start + min(length, k - len(results))
            results += [(-score, row + first_row) for row in groups.member_N[start:stop].tolist()]
    results.sort()
    results += [(np.inf, -1)] * (k - len(results))
    return Neighbors(np.array([[row for _, row in results]]), np.array([[-score for score, _ in results]]))


def _within(count_M: Rows) -> Rows:
    """0, 1, ... within each of several runs."""
    return np.arange(int(count_M.sum())) - np.repeat(np.cumsum(count_M) - count_M, count_M)
