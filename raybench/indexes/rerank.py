"""Two-stage search: candidates by a cheap index over transformed rows, then scored exactly by the rows as they are stored.

`rerank("sq8()", candidates=100)` takes the best 100 rows of each partition by codes and gives the best k of them by float64
inner product with the stored vectors; `rerank("hnsw(m=32)", candidates=100)@128` does so for a graph at effort 128. Without
`candidates`, there are as many as the effort. What was built is the inner index, which is filled once for any number of
candidates; the stored rows stay where they are (memory-mapped where local) and are no part of its bytes.

Axes: Q queries, C candidates, D dimensions, K results.
"""

import dataclasses
from dataclasses import dataclass, field

from raybench.arrays import FloatMatrix, Neighbors, Vectors
from raybench.errors import IndexRequestError, SpecError
from raybench.indexes import INDEXES
from raybench.indexes.base import Activity, Dial, Held, Index, IndexRecipe, check_effort
from raybench.indexes.exact import score_rows
from raybench.indexes.faiss_index import check_queries
from raybench.search.topk import best
from raybench.spec import Spec


@dataclass(frozen=True, slots=True)
class Rerank:
    """An index (without effort) that gives candidates, and how many; 0: as many as its effort."""

    index: str
    candidates: int = 0

    def __post_init__(self) -> None:
        inner = Spec.parse(self.index)
        if inner.at is not None or inner.name == "rerank":
            raise SpecError(f"{self.spec} needs an index without effort inside; write it like rerank(...)@64")
        if self.candidates < 0 or (not self.candidates and self.inner.dial is None):
            raise SpecError(f"{self.spec}: say how many candidates are scored again, as in candidates=100")

    @property
    def spec(self) -> str:
        """The recipe as it is written."""
        more: tuple[tuple[str, int], ...] = (("candidates", self.candidates),) if self.candidates else ()
        return str(Spec("rerank", (self.index,), more, parenthesised=True))

    @property
    def inner(self) -> IndexRecipe:
        """The index that gives candidates."""
        return INDEXES.make(self.index)

    @property
    def dial(self) -> Dial | None:
        """The inner index's own; where it cannot give fewer rows than its effort, it is at least the candidates."""
        dial = self.inner.dial
        if dial is None or not self.candidates:
            return dial and dataclasses.replace(dial, is_needed=True, is_k_least=True)
        return dataclasses.replace(dial, least=max(dial.least, self.candidates if dial.is_k_least else 1))

    def build(self, vectors: Vectors) -> "Reranked":
        """Over rows that are both searched and scored again."""
        return self.over(self.inner.build(vectors), vectors)

    def over(self, index: Index, stored: Vectors) -> "Reranked":
        """An index that was built, and the rows by which its candidates are scored again."""
        return Reranked(self, index, stored)


def inner(recipe: IndexRecipe) -> IndexRecipe:
    """What a recipe builds: of two stages the first, of any other itself."""
    return recipe.inner if isinstance(recipe, Rerank) else recipe


@dataclass(slots=True, eq=False)
class Reranked:
    """An index and the stored rows beneath it; queries are compared with both, so they come as they are stored."""

    recipe: Rerank
    index: Index
    stored: Vectors
    activity: Activity = field(default_factory=Activity)

    @property
    def held_bytes(self) -> Held:
        """Those of the inner index."""
        return self.index.held_bytes

    def last_search(self) -> list[Activity]:
        """The rows that were scored again, and those that the inner index fetched."""
        [inside] = self.index.last_search()
        both = self.activity.fetched + inside.fetched, max(self.activity.different, inside.different)
        return [Activity(self.activity.queries, 0.0, *both)]

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k of the candidates; IndexRequestError where fewer candidates than results are asked for."""
        check_queries(self.recipe.spec, queries_QD, self.stored.dim, k)
        check_effort(self.recipe.spec, self.recipe.dial, effort, k)
        wanted = self.recipe.candidates or effort or 0
        if wanted < k:
            raise IndexRequestError(
                f"{self.recipe.spec} scores {wanted:,} rows again and is asked for {k:,} results; use k or more candidates"
            )
        found = self.index.search(queries_QD, wanted, effort)
        self.activity = Activity.of_rows(found.ids_QK)
        return best(found.ids_QK, score_rows(queries_QD, self.stored, found.ids_QK), k)
