"""Every row on a torch device, compared by matrix products: exact search where a GPU is, in as few bytes as one chooses.

Products are of float32 numbers whatever the rows are held in, and TF32 is off, so scores are those of `flat()` but for the
order of summation: near ties may change places.

Axes: Q queries, B rows of a block, D dimensions, K results.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from raybench.arrays import FloatMatrix, Neighbors, Vectors
from raybench.errors import IndexRequestError
from raybench.indexes.base import Activity, Dial, Held, check_effort
from raybench.indexes.faiss_index import check_queries, float32_rows, in_order

_SCORES = 1 << 26  # held at a time: 256 MiB of float32
_COPIED_ROWS = 65_536
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class TorchFlat:
    """All rows on a `device` in a `dtype`; nothing to tune."""

    device: Literal["cpu", "cuda"] = "cuda"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"

    @property
    def dial(self) -> Dial | None:
        """None."""
        return None

    @property
    def spec(self) -> str:
        """The recipe as errors name it."""
        return f'torch_flat(device="{self.device}", dtype="{self.dtype}")'

    def build(self, vectors: Vectors) -> "TorchIndex":
        """Copy the rows to the device. IndexRequestError where there is no GPU, or no room on it."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise IndexRequestError(
                f'{self.spec} found no GPU on the worker; use device="cpu", or a worker with a GPU and its driver'
            )
        try:
            rows_ND = torch.empty((len(vectors), vectors.dim), dtype=_DTYPES[self.dtype], device=self.device)
        except torch.OutOfMemoryError:
            raise IndexRequestError(
                f"{self.spec}: {len(vectors):,} rows do not fit on the GPU; use more shards"
            ) from None
        for start in range(0, len(vectors), _COPIED_ROWS):
            rows_ND[start : start + _COPIED_ROWS] = torch.from_numpy(
                float32_rows(vectors, start, start + _COPIED_ROWS).copy()
            )
        return TorchIndex(self.spec, rows_ND, vectors.first_row)


@dataclass(frozen=True, slots=True, eq=False)
class TorchIndex:
    """Rows on a device."""

    spec: str
    rows_ND: torch.Tensor
    first_row: int

    @property
    def held_bytes(self) -> Held:
        """The bytes of the rows, wherever they are."""
        return {"rows": self.rows_ND.numel() * self.rows_ND.element_size()}

    def last_search(self) -> list[Activity]:
        """Nothing that a caller could not see himself."""
        return [Activity()]

    def search(self, queries_QD: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The best k rows; results are on the CPU when it returns, so the device has finished."""
        check_queries(self.spec, queries_QD, self.rows_ND.shape[1], k)
        check_effort(self.spec, None, effort, k)
        asked_QD = torch.from_numpy(np.array(queries_QD, np.float32)).to(self.rows_ND.device)
        kept, step = min(k, len(self.rows_ND)), max(1, _SCORES // max(1, len(queries_QD)))
        scores_QK = torch.empty((len(queries_QD), 0), device=self.rows_ND.device)
        ids_QK = torch.empty((len(queries_QD), 0), dtype=torch.int64, device=self.rows_ND.device)
        with _full_float32():
            for start in range(0, len(self.rows_ND), step):
                block_BD = self.rows_ND[start : start + step].to(torch.float32)
                found_QB = asked_QD @ block_BD.T
                scores, ids = found_QB.topk(min(kept, found_QB.shape[1]), dim=1)
                scores_QK, places = torch.cat([scores_QK, scores], 1).topk(
                    min(kept, scores_QK.shape[1] + scores.shape[1])
                )
                ids_QK = torch.cat([ids_QK, ids + start], 1).gather(1, places)
        return in_order(scores_QK.cpu().numpy(), ids_QK.cpu().numpy(), self.first_row, k)


class _full_float32:  # noqa: N801 (used as a function)
    """Products without TF32 for the time of a block, whatever the process has set."""

    def __enter__(self) -> None:
        self._before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32 = self._before
