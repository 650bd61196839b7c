"""One cell of a grid: one corpus, one set of queries, one transform, one index; costs, tuning and comparison are of cells.

A cell does not know whether its vectors were embedded here or came as a file. Queries are as they are stored; the truth
about them is asked for when it is needed, and found once.

Axes: Q queries, D dimensions.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass

from raybench.arrays import FloatMatrix, Neighbors, Rows
from raybench.errors import IndexRequestError
from raybench.experiments.backend import Backend
from raybench.experiments.evaluation import Chosen, Intervals
from raybench.experiments.fitting import fitted_transform
from raybench.indexes import INDEXES
from raybench.indexes.base import Index, check_effort
from raybench.indexes.exact import Exact
from raybench.indexes.partition import embeds_again
from raybench.indexes.rerank import Rerank
from raybench.indexes.stored import RowSource
from raybench.metrics import Pairs
from raybench.spec import Spec
from raybench.transforms import Transform


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A set of queries over a corpus."""

    direction: str
    encoder: str
    corpus: RowSource
    queries_QD: FloatMatrix
    clusters_Q: Rows
    pairs: Pairs | None  # of judged rows; None where nothing is judged
    key: str  # of the queries and judgments
    truth: Callable[[int], Neighbors]  # the exact k nearest rows of each query
    again: RowSource | None = None  # the corpus with what it was made of, for an index that embeds rows again


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """What is searched, and how."""

    asked: Asked
    transform: str
    index: str
    shards: int
    seed: int
    intervals: Intervals

    @property
    def title(self) -> str:
        """The cell in words."""
        return f"{self.asked.direction.replace('_', ' ')}, {self.asked.encoder}, {self.transform}, {self.index}"

    @property
    def rows(self) -> int:
        """How many rows are searched."""
        return len(self.asked.corpus)

    def at(self, effort: int | None) -> "Cell":
        """The same with another effort; None takes it off."""
        spec = Spec.parse(self.index)
        return dataclasses.replace(self, index=str(dataclasses.replace(spec, at=effort)))

    def identity(self) -> list[object]:
        """What decides its numbers; a JSON value."""
        return [
            self.asked.direction, self.asked.encoder, self.transform, self.index, self.asked.corpus.checksum,
            self.asked.key, self.seed, self.shards, asdict(self.intervals),
        ]  # fmt: skip

    def check(self, k: int) -> None:
        """IndexRequestError for what `check_request` refuses."""
        check_request(self.index, self.rows, k)

    def fitted(self, out: str) -> Transform:
        """The transform, fitted on the corpus or read from below `out`."""
        return fitted_transform(self.transform, self.asked.corpus, self.seed, out)

    def open(self, backend: Backend, out: str) -> AbstractContextManager[Index]:
        """The index, for the time of a block; what is fitted and filled is kept below `out`."""
        recipe, corpus = INDEXES.make(self.index), self.asked.corpus
        place = self.asked.again if embeds_again(recipe) and self.asked.again else corpus, self.fitted(out)
        if isinstance(recipe, Exact):
            return backend.exact(*place, recipe, self.shards)
        return backend.index(*place, recipe, self.shards, out)


def check_request(index: str, rows: int, k: int) -> None:
    """IndexRequestError for an effort out of range, or more results or candidates than rows: before anything is built."""
    spec, recipe = Spec.parse(index), INDEXES.make(index)
    if spec.at is not None and recipe.dial is not None and recipe.dial.is_k_least and spec.at > rows:
        raise IndexRequestError(f"{index} looks at {spec.at:,} rows, and there are {rows:,}; use less effort")
    if k > rows:
        raise IndexRequestError(f"{k:,} results are asked for, and there are {rows:,} rows; ask for fewer")
    check_effort(str(dataclasses.replace(spec, at=None)), recipe.dial, spec.at, k)
    if isinstance(recipe, Rerank) and recipe.candidates > rows:
        raise IndexRequestError(
            f"{index} scores {recipe.candidates:,} rows again, and there are {rows:,}; use fewer candidates"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """All that cells can be made of."""

    asked: Sequence[Asked]
    transforms: tuple[str, ...]
    shards: int
    seed: int
    intervals: Intervals

    def of(self, section: Chosen, indexes: Sequence[str]) -> Iterator[Cell]:
        """The cells of a section: direction by direction, encoder by encoder, transform by transform."""
        for asked in self.asked:
            if section.directions and asked.direction not in section.directions:
                continue
            if section.encoders and asked.encoder not in section.encoders:
                continue
            for transform in section.transforms or self.transforms:
                for index in indexes:
                    yield Cell(asked, transform, index, self.shards, self.seed, self.intervals)
