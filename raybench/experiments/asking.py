"""An index is asked some queries at a time, so that queries times results stay bounded, and every answer is a file.

    <pieces>/found-<key>.npz    ids [Q, K] and scores of a batch of queries; the key is of the queries and of K

Memory for one batch is some 100 bytes for each query, result and partition; the driver holds 16 bytes for each result.

Axes: Q queries, K results.
"""

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from raybench import storage
from raybench.arrays import Neighbors, Rows
from raybench.errors import IndexRequestError
from raybench.experiments.backend import Backend
from raybench.experiments.cell import check_request
from raybench.experiments.reporting import Reporter
from raybench.experiments.seeds import Searching
from raybench.experiments.stages import Stages
from raybench.indexes import INDEXES
from raybench.indexes.base import Index
from raybench.indexes.exact import Exact
from raybench.indexes.rerank import Rerank
from raybench.indexes.stored import RowSource
from raybench.retrieval.chosen import Answers
from raybench.search.strategies import Queries
from raybench.spec import Spec, content_key
from raybench.transforms.plain import Stored

_RESULTS = 4_000_000  # of all queries of a batch and all partitions, at a time
_MOST_QUERIES = 1_024


def deepest(index: str, rows: int) -> int:
    """The most results that one query can ask of an index."""
    spec, recipe = Spec.parse(index), INDEXES.make(index)
    if isinstance(recipe, Rerank):
        return min(rows, recipe.candidates or spec.at or rows)
    return min(rows, spec.at) if recipe.dial is not None and recipe.dial.is_k_least and spec.at else rows


def check_index(index: str, rows: int, k: int) -> None:
    """IndexRequestError where an index cannot be asked for so many results; more than there are rows is not too many."""
    check_request(index, rows, min(k, rows))
    if min(k, rows) > deepest(index, rows):
        raise IndexRequestError(
            f"{index} scores {deepest(index, rows):,} rows again and is asked for {k:,} results; use more candidates"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """Queries over a corpus, the index that answers them, and where answers and filled indexes are kept."""

    queries: Queries
    corpus: RowSource
    index: str
    shards: int
    pieces: str
    out: str
    searching: Searching

    def deepen(self, answers: Answers, query_W: Rows, asked_W: Rows, stages: Stages, reporter: Reporter) -> None:
        """Ask some queries for so many rows each, and take their answers in; what was answered before is read."""
        batches = list(self._batches(query_W, asked_W))
        missing = [batch for batch in batches if not storage.exists(self._uri(*batch))]
        if missing:
            with self.searching() as backend:
                with stages.of("index"):
                    opened = self._opened(backend)
                    index = opened.__enter__()
                try:
                    with (
                        stages.of("search"),
                        reporter.stage("searching", sum(len(some) for some, _ in missing)) as advance,
                    ):
                        for some_Q, k in missing:
                            self._ask(index, some_Q, k)
                            advance(len(some_Q), len(some_Q) / len(query_W))
                finally:
                    opened.__exit__(None, None, None)
        asked_Q = dict(zip(query_W.tolist(), asked_W.tolist(), strict=True))
        for some_Q, k in batches:
            found = _read(self._uri(some_Q, k))
            for place, query in enumerate(some_Q.tolist()):
                answers.deepen(query, found.ids_QK[place], found.scores_QK[place], asked_Q[query])

    def _batches(self, query_W: Rows, asked_W: Rows) -> Iterator[tuple[Rows, int]]:
        """Queries that are asked for one number of rows, as many together as there is room for."""
        k_W = np.minimum(asked_W, len(self.corpus))
        for k in np.unique(k_W).tolist():
            alike_Q = query_W[k_W == k]
            step = max(1, min(_MOST_QUERIES, _RESULTS // (k * self.shards)))
            for start in range(0, len(alike_Q), step):
                yield alike_Q[start : start + step], k

    def _ask(self, index: Index, some_Q: Rows, k: int) -> None:
        found = index.search(self.queries.vectors_QD[some_Q], k, Spec.parse(self.index).at)
        buffer = io.BytesIO()
        np.savez(buffer, ids=found.ids_QK, scores=found.scores_QK)
        storage.write_bytes(self._uri(some_Q, k), buffer.getbuffer())

    def _uri(self, some_Q: Rows, k: int) -> str:
        return storage.join(self.pieces, f"found-{content_key(some_Q.tolist(), k)}.npz")

    def _opened(self, backend: Backend) -> AbstractContextManager[Index]:
        recipe = INDEXES.make(self.index)
        if isinstance(recipe, Exact):
            return backend.exact(self.corpus, Stored(), recipe, self.shards)
        return backend.index(self.corpus, Stored(), recipe, self.shards, self.out)


def _read(uri: str) -> Neighbors:
    with np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False) as told:
        return Neighbors(told["ids"], told["scores"])
