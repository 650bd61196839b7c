"""Every row in float32, compared one by one by faiss: the fast, uncertified twin of `exact()`, on a CPU or a GPU."""

from dataclasses import dataclass
from typing import Any, Literal

import faiss

from raybench.arrays import Vectors
from raybench.errors import IndexRequestError
from raybench.indexes.base import Dial, check_effort
from raybench.indexes.faiss_index import FaissIndex, add_rows


@dataclass(frozen=True, slots=True)
class Flat:
    """faiss's flat index; nothing to tune. float32 sums round, so near ties may change places."""

    device: Literal["cpu", "gpu"] = "cpu"

    @property
    def dial(self) -> Dial | None:
        """None."""
        return None

    def build(self, vectors: Vectors) -> FaissIndex:
        """IndexRequestError where a GPU is asked for and there is none."""
        return self.serve(self.fill(vectors), vectors)

    def fill(self, vectors: Vectors) -> Any:
        """Add the rows."""
        index = faiss.IndexFlatIP(vectors.dim)
        add_rows(index, vectors)
        return index

    def serve(self, index: Any, vectors: Vectors) -> FaissIndex:
        """The rows, moved to a GPU where one is asked for."""
        if self.device == "gpu":
            if not getattr(faiss, "get_num_gpus", int)():
                raise IndexRequestError('flat(device="gpu") found no GPU on the worker; use flat()')
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
        return FaissIndex("flat()", index, vectors.first_row, _parameters, {"rows": len(vectors) * vectors.dim * 4})


def _parameters(effort: int | None, k: int) -> None:
    check_effort("flat()", None, effort, k)
