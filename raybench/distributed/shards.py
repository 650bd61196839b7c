"""A sharded index is an index: one actor per partition, each loading its own rows from storage.

Every call says which partition it means (addresses and recipes, never arrays), and an actor that does not hold it
builds it first. So an actor that dies is started again by Ray, rebuilds from storage, and the call is repeated; the
answers do not change, because searching has no state. The same actors serve one index after another, since starting
processes costs more than building small partitions. Queries are put into the object store once per block and answers
are merged in a tree of tasks; the driver receives final neighbours only.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import ray

from raybench.arrays import FloatMatrix, Neighbors
from raybench.distributed.runtime import failures_explained
from raybench.errors import RequestError, WorkError
from raybench.indexes.base import Activity, Held, IndexRecipe, add_held
from raybench.indexes.joined import join_scores, split_rows
from raybench.indexes.partition import Partition
from raybench.indexes.stored import RowSource
from raybench.metrics.counts import Counts, Pairs
from raybench.search.topk import merge
from raybench.transforms import Transform

_QUERIES_PER_BLOCK = 1_024  # large enough that Ray's overhead per call is small against the matrix product
_BLOCKS_UNDER_WAY = 2  # per actor: one that computes and one that waits
_MERGE_FAN_IN = 8
_RETRIES = 3
_READY_S = 600  # a partition that has not loaded by then will not


@dataclass(frozen=True, slots=True, eq=False)
class ShardedIndex:
    """Partitions on actors behind the face of one index."""

    parts: tuple[tuple[Any, Partition], ...]  # actor and what it is asked about
    held_bytes: Held
    _merged_s: list[float] = field(default_factory=lambda: [0.0])

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows over all partitions; the same ids and scores whatever their number."""
        merge_task = ray.remote(num_cpus=0.01, max_retries=_RETRIES)(_merge)

        def ask(block: FloatMatrix) -> list[Any]:
            reference = ray.put(block)
            answers = [actor.search.remote(partition, reference, k, effort) for actor, partition in self.parts]
            while len(answers) > _MERGE_FAN_IN:  # the last few are merged here, which saves them a way
                groups = [answers[i : i + _MERGE_FAN_IN] for i in range(0, len(answers), _MERGE_FAN_IN)]
                answers = [merge_task.remote(k, *group) if len(group) > 1 else group[0] for group in groups]
            return answers

        def answered(references: list[Any]) -> Neighbors:
            parts = _get(references)
            started = time.perf_counter()
            merged = parts[0] if len(parts) == 1 else merge(parts, k)
            self._merged_s[0] += time.perf_counter() - started
            return merged

        self._merged_s[0] = 0.0
        done: list[Neighbors] = []
        waiting: deque[list[Any]] = deque()
        for start in range(0, len(queries_QD), _QUERIES_PER_BLOCK):
            waiting.append(ask(np.ascontiguousarray(queries_QD[start : start + _QUERIES_PER_BLOCK])))
            if len(waiting) >= _BLOCKS_UNDER_WAY:
                done.append(answered(waiting.popleft()))
        done += [answered(references) for references in waiting]
        if not done:
            return Neighbors(np.zeros((0, k), np.int64), np.zeros((0, k)))
        return (
            done[0]
            if len(done) == 1
            else Neighbors(
                np.concatenate([part.ids_QK for part in done]), np.concatenate([part.scores_QK for part in done])
            )
        )

    def last_search(self) -> list[Activity]:
        """What each actor says of its last search; the rest of the driver's time is transport and merging."""
        told: list[Activity] = _get([actor.last_search.remote() for actor, _ in self.parts])
        return told

    def score(self, queries_QD: FloatMatrix, pairs: Pairs) -> npt.NDArray[np.float64]:
        """The float64 score of each pair."""
        queries, asked = ray.put(queries_QD), ray.put(pairs)
        return join_scores(_get([actor.score.remote(part, queries, asked) for actor, part in self.parts]))

    def merged_s(self) -> float:
        """Seconds that the last search took here to merge what partitions found; above eight, tasks merge some of it before."""
        return self._merged_s[0]

    def count(self, queries_QD: FloatMatrix, pairs: Pairs, score_P: npt.NDArray[np.float64]) -> Counts:
        """How many rows come before each pair's row, over all partitions."""
        queries, asked, scores = ray.put(queries_QD), ray.put(pairs), ray.put(score_P)
        counts: Sequence[Counts] = _get(
            [actor.count.remote(part, queries, asked, scores) for actor, part in self.parts]
        )
        return reduce(Counts.__add__, counts)


def _merge(k: int, *parts: Neighbors) -> Neighbors:
    return merge(parts, k)


def _get(references: Any) -> Any:
    with failures_explained("searching the partitions"):
        return ray.get(references)


def sharded_index(
    actors: Sequence[Any], collection: RowSource, transform: Transform, recipe: IndexRecipe, out: str = ""
) -> ShardedIndex:
    """A collection in as many partitions as there are actors, built and ready to search."""
    if not len(collection):
        raise RequestError(f"{collection.uri} has no rows to search; look at its manifest for why they were dropped")
    ranges = split_rows(len(collection), len(actors))
    partitions = [Partition(collection, start, stop, transform, recipe, out) for start, stop in ranges]
    parts = tuple(zip(actors, partitions, strict=False))  # fewer partitions than actors where there are few rows
    try:
        with failures_explained("loading the partitions"):
            sizes = ray.get([actor.held_bytes.remote(partition) for actor, partition in parts], timeout=_READY_S)
    except TimeoutError as error:
        raise WorkError(f"{len(parts)} partitions were not ready in {_READY_S} s; use fewer shards") from error
    return ShardedIndex(parts, add_held(sizes))
