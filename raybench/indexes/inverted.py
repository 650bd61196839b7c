"""Rows in lists by their nearest centroid; a search looks through the lists whose centroids are nearest to the query.

Its effort is the number of lists probed. In `ivf_pq` the rows of a list are codes of what the centroid leaves over.
"""

from dataclasses import dataclass
from typing import Any

import faiss

from raybench.arrays import Vectors
from raybench.errors import IndexRequestError, WorkError
from raybench.indexes.base import Dial, Held, check_effort
from raybench.indexes.faiss_index import (
    PER_CENTROID,
    FaissIndex,
    Parameters,
    add_rows,
    learn,
    need_codebooks,
    need_divisor,
    need_rows,
)


class _Inverted:
    """What both recipes share."""

    __slots__ = ()

    lists: int
    sample: int
    seed: int

    @property
    def spec(self) -> str:
        """The recipe as errors name it."""
        raise NotImplementedError

    @property
    def dial(self) -> Dial | None:
        """Lists probed."""
        return Dial("lists probed", most=self.lists)

    def build(self, vectors: Vectors) -> FaissIndex:
        """IndexRequestError for fewer rows than are learnt from, or codes that do not divide the dimensions."""
        return self.serve(self.fill(vectors), vectors)

    def fill(self, vectors: Vectors) -> Any:
        """Learn centroids and codebooks from seeded rows, and put every row into its list."""
        if self.lists < 1:
            raise IndexRequestError(f"{self.spec} has no lists; use at least 1")
        need_rows(self.spec, vectors, PER_CENTROID * self.lists, f"{PER_CENTROID} for each list")
        index, learnt_from = self._empty(vectors)
        lists = faiss.extract_index_ivf(index)
        lists.cp.seed, lists.cp.spherical = 1_234 + self.seed, True  # centroids are compared by inner product
        self._learn(index, vectors, max(self.sample or 256 * self.lists, learnt_from))
        add_rows(index, vectors)
        return index

    def serve(self, index: Any, vectors: Vectors) -> FaissIndex:
        """Filled lists, ready to search; WorkError where faiss made others than were asked for."""
        lists = faiss.extract_index_ivf(index)
        if (lists.nlist, index.ntotal) != (self.lists, len(vectors)):
            raise WorkError(
                f"{self.spec}: faiss made {lists.nlist} lists of {index.ntotal} rows, not of {len(vectors)}"
            )
        return FaissIndex(self.spec, index, vectors.first_row, self._parameters(index), _held_bytes(index, lists))

    def _empty(self, vectors: Vectors) -> tuple[Any, int]:
        """An index that knows nothing, and the rows that its codes are learnt from."""
        raise NotImplementedError

    def _learn(self, index: Any, vectors: Vectors, rows: int) -> None:
        learn(index, vectors, rows, self.seed)

    def _parameters(self, index: Any) -> Parameters:
        is_turned = isinstance(index, faiss.IndexPreTransform)

        def parameters(effort: int | None, k: int) -> Any:
            check_effort(self.spec, self.dial, effort, k)
            probes = faiss.SearchParametersIVF(nprobe=effort)
            return faiss.SearchParametersPreTransform(index_params=probes) if is_turned else probes

        return parameters


@dataclass(frozen=True, slots=True)
class IvfFlat(_Inverted):
    """Rows in full, in `lists` lists; centroids are learnt from up to `sample` rows (0: 256 for each list)."""

    lists: int = 1_024
    sample: int = 0
    seed: int = 0

    @property
    def spec(self) -> str:
        """The recipe as errors name it."""
        return f"ivf_flat(lists={self.lists})"

    def _empty(self, vectors: Vectors) -> tuple[Any, int]:
        dim, metric = vectors.dim, faiss.METRIC_INNER_PRODUCT
        return faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, self.lists, metric), 0


@dataclass(frozen=True, slots=True)
class IvfPq(_Inverted):
    """Codes of `codes` times `bits` bits in `lists` lists; `opq` turns the space first, so that codes lose less."""

    lists: int = 1_024
    codes: int = 64
    bits: int = 8
    opq: bool = False
    sample: int = 0
    seed: int = 0

    @property
    def spec(self) -> str:
        """The recipe as errors name it."""
        return f"ivf_pq(lists={self.lists}, codes={self.codes}{', opq=True' * self.opq})"

    def _empty(self, vectors: Vectors) -> tuple[Any, int]:
        need_divisor(self.spec, vectors, self.codes)
        need_codebooks(self.spec, vectors, self.bits)
        dim, metric = vectors.dim, faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, self.lists, self.codes, self.bits, metric)
        index.pq.cp.seed = 1_234 + self.seed
        return faiss.IndexPreTransform(faiss.OPQMatrix(dim, self.codes), index) if self.opq else index, 256 << self.bits

    def _learn(self, index: Any, vectors: Vectors, rows: int) -> None:
        if not self.opq:
            learn(index, vectors, rows, self.seed)
            return
        # The rotation is learnt for codes of as many bits; without this, for 8. faiss keeps the address alone.
        codes = faiss.ProductQuantizer(vectors.dim, self.codes, self.bits)
        rotation = faiss.downcast_VectorTransform(index.chain.at(0))
        rotation.pq = codes
        learn(index, vectors, rows, self.seed)
        rotation.pq = None


def _held_bytes(index: Any, lists: Any) -> Held:
    """Codes and ids in lists, centroids, codebooks and rotation, measured on what is held."""
    rows = sum(lists.invlists.list_size(number) for number in range(lists.nlist))
    lists = faiss.downcast_index(lists)
    learnt = lists.nlist * lists.d
    if isinstance(lists, faiss.IndexIVFPQ):
        learnt += lists.pq.centroids.size()
    if isinstance(index, faiss.IndexPreTransform):
        learnt += sum(faiss.downcast_VectorTransform(index.chain.at(n)).A.size() for n in range(index.chain.size()))
    kind = "codes" if isinstance(lists, faiss.IndexIVFPQ) else "rows"
    return {kind: int(rows * lists.code_size), "ids": int(rows * 8), "learnt": int(learnt * 4)}
