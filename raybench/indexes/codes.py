"""Every row as a short code, and all codes compared; the best are then scored again by the rows themselves.

Their effort is the number of candidates that are scored again in float64 (k at least); without one, the order by codes is
the answer. Ranges, codebooks and means are learnt once, from seeded rows, and rows outside a range are clipped to it.
What was built holds codes; the rows for the second look stay where they were loaded from (memory-mapped where local).

Axes: Q queries, C candidates, D dimensions, K results.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import faiss
import numpy as np

from raybench.arrays import FloatMatrix, Neighbors, Vectors
from raybench.errors import IndexRequestError
from raybench.indexes.base import Activity, Dial, Held, check_effort
from raybench.indexes.exact import score_rows
from raybench.indexes.faiss_index import (
    add_rows,
    check_queries,
    code_bytes,
    in_order,
    learn,
    need_codebooks,
    need_divisor,
)
from raybench.search.topk import best

_DIAL = Dial("candidates scored again", is_needed=False, is_k_least=True)
_SAMPLE = 65_536  # rows to learn from
_QUERY_BITS = 8  # of a query in RaBitQ; the rows have fewer


@dataclass(slots=True, eq=False)
class CodesIndex:
    """Codes of a run of rows, and the rows."""

    spec: str
    index: Any
    vectors: Vectors
    held_bytes: Held
    is_distance: bool = False  # whether codes are compared by a distance: less is better
    activity: Activity = field(default_factory=Activity)

    def last_search(self) -> list[Activity]:
        """The rows that were scored again."""
        return [self.activity]

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k by codes or, with an effort, the best k by float64 of so many that are best by codes."""
        check_queries(self.spec, queries_QD, self.vectors.dim, k)
        check_effort(self.spec, _DIAL, effort, k)
        wanted = min(effort or k, len(self.vectors))
        scores_QC, ids_QC = self.index.search(np.ascontiguousarray(queries_QD, np.float32), wanted)
        by_codes = in_order(
            -scores_QC if self.is_distance else scores_QC, ids_QC, self.vectors.first_row, max(k, wanted)
        )
        self.activity = Activity()
        if effort is None:
            return by_codes.top(k)
        self.activity = Activity.of_rows(by_codes.ids_QK)
        return best(by_codes.ids_QK, score_rows(queries_QD, self.vectors, by_codes.ids_QK), k)


class _Codes:
    """What the recipes of codes share."""

    __slots__ = ()

    seed: int

    @property
    def dial(self) -> Dial | None:
        """Candidates scored again."""
        return _DIAL

    def build(self, vectors: Vectors) -> CodesIndex:
        """Codes of a run of rows."""
        return self.serve(self.fill(vectors), vectors)

    def fill(self, vectors: Vectors) -> Any:
        """Learn and add. IndexRequestError for too few rows, or a parameter that does not fit them."""
        index = self._empty(vectors)
        if not index.is_trained:
            learn(index, vectors, _SAMPLE, self.seed)
        add_rows(index, vectors)
        return index

    def serve(self, index: Any, vectors: Vectors) -> CodesIndex:
        """Filled codes, ready to search."""
        raise NotImplementedError

    def _empty(self, vectors: Vectors) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Scalar(_Codes):
    """Each dimension by itself, between the least and the greatest value that it has in up to 65,536 rows."""

    seed: int = 0

    name: ClassVar[str]
    kind: ClassVar[int]

    def serve(self, index: Any, vectors: Vectors) -> CodesIndex:
        """Filled codes, ready to search."""
        return CodesIndex(
            f"{self.name}()", index, vectors, {"codes": code_bytes(index), "learnt": int(index.sq.trained.size()) * 4}
        )

    def _empty(self, vectors: Vectors) -> Any:
        return faiss.IndexScalarQuantizer(vectors.dim, self.kind, faiss.METRIC_INNER_PRODUCT)


class Fp16(_Scalar):
    """Two bytes a dimension; nothing is learnt."""

    name, kind = "fp16", faiss.ScalarQuantizer.QT_fp16


class Sq8(_Scalar):
    """One byte a dimension."""

    name, kind = "sq8", faiss.ScalarQuantizer.QT_8bit


class Sq4(_Scalar):
    """Half a byte a dimension."""

    name, kind = "sq4", faiss.ScalarQuantizer.QT_4bit


@dataclass(frozen=True, slots=True)
class Pq(_Codes):
    """Product quantisation (Jégou, Douze and Schmid 2011): a row is cut into `codes` pieces of `bits` bits each."""

    codes: int = 64
    bits: int = 8
    seed: int = 0

    def serve(self, index: Any, vectors: Vectors) -> CodesIndex:
        """Filled codes, ready to search."""
        learnt = int(index.pq.centroids.size()) * 4
        return CodesIndex(f"pq(codes={self.codes})", index, vectors, {"codes": code_bytes(index), "learnt": learnt})

    def _empty(self, vectors: Vectors) -> Any:
        spec = f"pq(codes={self.codes})"
        need_divisor(spec, vectors, self.codes)
        need_codebooks(spec, vectors, self.bits)
        index = faiss.IndexPQ(vectors.dim, self.codes, self.bits, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.seed = 1_234 + self.seed
        return index


@dataclass(frozen=True, slots=True)
class RaBitQ(_Codes):
    """RaBitQ (Gao and Long 2024): `bits` a dimension of what the mean leaves over, and an unbiased estimate of the score."""

    bits: int = 1
    seed: int = 0

    def serve(self, index: Any, vectors: Vectors) -> CodesIndex:
        """Filled codes, ready to search."""
        codes = faiss.downcast_index(index.index)
        learnt = (vectors.dim**2 + vectors.dim) * 4  # the rotation and the mean
        return CodesIndex(f"rabitq(bits={self.bits})", index, vectors, {"codes": code_bytes(codes), "learnt": learnt})

    def _empty(self, vectors: Vectors) -> Any:
        if not 1 <= self.bits <= 9:
            raise IndexRequestError(f"rabitq(bits={self.bits}): bits must be 1 to 9")
        # The estimate is of rows that were turned at random; faiss's index turns nothing by itself.
        turned = faiss.RandomRotationMatrix(vectors.dim, vectors.dim)
        turned.init(1_234 + self.seed)
        codes = faiss.IndexRaBitQ(vectors.dim, faiss.METRIC_INNER_PRODUCT, self.bits)
        codes.qb = _QUERY_BITS
        return faiss.IndexPreTransform(turned, codes)


@dataclass(frozen=True, slots=True)
class Binary(_Codes):
    """One bit a dimension: on which side of the rows' median it lies. Codes are compared by the bits that differ."""

    seed: int = 0

    def serve(self, index: Any, vectors: Vectors) -> CodesIndex:
        """Filled codes, ready to search."""
        return CodesIndex(
            "binary()", index, vectors, {"codes": code_bytes(index), "learnt": vectors.dim * 4}, is_distance=True
        )

    def _empty(self, vectors: Vectors) -> Any:
        return faiss.IndexLSH(vectors.dim, vectors.dim, False, True)  # no rotation; thresholds are learnt
