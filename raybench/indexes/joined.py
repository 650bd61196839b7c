"""Several partitions in this process behind the face of one index: their answers are merged in the one order."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Neighbors
from raybench.indexes.base import Activity, FullIndex, Held, add_held
from raybench.metrics.counts import Counts, Pairs
from raybench.search.topk import merge


def split_rows(rows: int, shards: int) -> list[tuple[int, int]]:
    """Runs of rows (start, stop) of nearly equal length; fewer than `shards` where there are fewer rows."""
    count = max(1, min(shards, rows))
    edges = [rows * number // count for number in range(count + 1)]
    return list(pairwise(edges))


def join_scores(parts: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Scores of pairs where each is known to at most one partition; NaN where it is known to none."""
    return reduce(np.fmax, parts)


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Disjoint partitions of one collection."""

    parts: tuple[FullIndex, ...]
    _merged_s: list[float] = field(default_factory=lambda: [0.0])

    @property
    def held_bytes(self) -> Held:
        """Resident bytes of all partitions."""
        return add_held(part.held_bytes for part in self.parts)

    def last_search(self) -> list[Activity]:
        """That of every partition; they are searched one after the other, in this process."""
        return [activity for part in self.parts for activity in part.last_search()]

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows over all partitions."""
        found = [part.search(queries_QD, k, effort) for part in self.parts]
        started = time.perf_counter()
        merged = merge(found, k)
        self._merged_s[0] = time.perf_counter() - started
        return merged

    def merged_s(self) -> float:
        """Seconds that merging took in the last search."""
        return self._merged_s[0]

    def score(self, queries_QD: FloatMatrix, pairs: Pairs) -> npt.NDArray[np.float64]:
        """The float64 score of each pair."""
        return join_scores([part.score(queries_QD, pairs) for part in self.parts])

    def count(self, queries_QD: FloatMatrix, pairs: Pairs, score_P: npt.NDArray[np.float64]) -> Counts:
        """How many rows come before each pair's row, over all partitions."""
        return reduce(Counts.__add__, (part.count(queries_QD, pairs, score_P) for part in self.parts))
