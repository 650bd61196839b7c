"""Scans as matrix products: float32 by numpy or torch, bfloat16 by torch, float16 on a GPU.

A tile multiplies its queries with a block into a buffer of its own, compares with the thresholds, and looks at what
passed. Rounding of stored results is monotone, so comparing with a threshold rounded down loses nothing.

Axes: T queries of a tile, B rows of a block, C candidates, E columns, S some queries.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raybench.arrays import Rows
from raybench.search.certified.bound import RowColumns, Terms, query_columns, underflow
from raybench.search.certified.metric import Float64, Matrix, Questions
from raybench.search.certified.scan import Block, Candidates, Tile, round_down, round_up

# A cheap value is at least v, and at most v and twice the added bound; the rest is the rounding of the bound itself.
_EXCESS = 2.02

CPU_SCANS = ("numpy-float32", "torch-float32", "torch-bfloat16")
"""Float32 by numpy's BLAS or by torch's, whichever this processor runs faster; or bfloat16 by torch (sums in float32,
results rounded to bfloat16), which is fast where the processor has instructions for it."""

GPU_SCAN = "gpu-float16"
"""Float16 in, float32 out, on the tensor cores of a GPU; float16 rows are not rounded at all."""

SCANS = (*CPU_SCANS, GPU_SCAN)

_DTYPES = {"torch-bfloat16": torch.bfloat16, GPU_SCAN: torch.float16}


@dataclass(frozen=True, slots=True)
class MatrixScan:
    """One of SCANS: the scores of a block are a matrix product. Without a GPU, its scan is computed on the CPU."""

    metric: str
    dim: int
    name: str = "numpy-float32"

    @property
    def terms(self) -> Terms:
        """What decides the bound."""
        return Terms(self.metric, self.dim, _DTYPES.get(self.name, torch.float32))

    @property
    def device(self) -> str:
        """Where products are computed."""
        return "cuda" if self.name == GPU_SCAN and torch.cuda.is_available() else "cpu"

    def blocks(self, block_rows: int) -> "MatrixBlocks":
        """A maker of blocks."""
        return MatrixBlocks(self.terms, block_rows, self.device)

    def tile(self, questions: Questions, block_rows: int) -> Tile:
        """Queries made ready."""
        if self.name == GPU_SCAN:
            return _DeviceTile(questions, self.terms, self.device)
        kinds = {"numpy-float32": _NumpyTile, "torch-float32": _Float32Tile, "torch-bfloat16": _Bfloat16Tile}
        return kinds[self.name](questions, self.terms, block_rows)


class MatrixBlocks:
    """Blocks in buffers of their own."""

    def __init__(self, terms: Terms, block_rows: int, device: str) -> None:
        self._terms = terms
        self._columns = RowColumns(terms, block_rows, device)

    def make(self, rows_BD: Matrix) -> Block:
        """A block; the one before it is overwritten."""
        columns_BE = self._columns.fill(rows_BD)
        return Block(columns_BE, columns_BE[:, -self._terms.extra :].to(torch.float64).cpu().numpy())


class _MatrixTile:
    """What all precisions share: thresholds for a block, and bounds of what was kept."""

    def __init__(self, questions: Questions, terms: Terms) -> None:
        self._terms = terms
        self._columns_TE = query_columns(questions, terms)
        self._slack_TX = self._columns_TE[:, -terms.extra :].to(torch.float64).numpy()
        self._length_T = questions.norms_Q

    def _product(self, block: Block) -> None:
        raise NotImplementedError

    def _passing(self, floor_T: Float64, num_rows: int) -> Rows:
        """Places of products that are at least their query's floor, in the product laid out flat."""
        raise NotImplementedError

    def _values(self, kept: Rows) -> tuple[Float64, Float64]:
        """Least and greatest exact products behind the stored ones."""
        raise NotImplementedError

    def _kth(self, which: npt.NDArray[np.bool_], num_rows: int, k: int) -> Float64:
        """The k-th largest stored product of some queries."""
        raise NotImplementedError

    def scan(self, block: Block, floor_T: Float64, k: int) -> Candidates:
        """Pairs whose value may be at least the query's threshold, and may be among the best k of the block."""
        num_rows = len(block)
        self._product(block)
        longest_X = block.slack_BX.max(axis=0, initial=0)
        lost_T = underflow(self._terms, self._length_T, float(longest_X[-1]))
        unknown_T = np.isneginf(floor_T)
        if k <= num_rows and unknown_T.any():
            # k rows have at least this cheap value, so the k-th best value is at least that less the error.
            off_S = _EXCESS * (self._slack_TX[unknown_T] @ longest_X) + lost_T[unknown_T]
            floor_T = floor_T.copy()
            floor_T[unknown_T] = self._kth(unknown_T, num_rows, k) - off_S
        return self._bounds(block, self._passing(floor_T - lost_T, num_rows), lost_T)

    def sample(self, block: Block, query_C: Rows, row_C: Rows) -> Candidates:
        """The bounds of any pairs of the block that was scanned last, for the audit."""
        lost_T = underflow(self._terms, self._length_T, float(block.slack_BX[:, -1].max(initial=0)))
        return self._bounds(block, query_C * len(block) + row_C, lost_T)

    def _bounds(self, block: Block, pair_C: Rows, lost_T: Float64) -> Candidates:
        query_C, row_C = pair_C // len(block), pair_C % len(block)
        least_C, greatest_C = self._values(pair_C)
        lost_C = lost_T[query_C]
        off_C = _EXCESS * (self._slack_TX[query_C] * block.slack_BX[row_C]).sum(axis=1) + lost_C
        return Candidates(query_C, row_C, round_down(least_C - off_C), round_up(greatest_C + lost_C))


class _CpuTile(_MatrixTile):
    def __init__(self, questions: Questions, terms: Terms, block_rows: int) -> None:
        super().__init__(questions, terms)
        self._kept = np.empty(len(questions) * block_rows, np.bool_)

    def _passing(self, floor_T: Float64, num_rows: int) -> Rows:
        kept_TB = self._kept[: len(floor_T) * num_rows].reshape(-1, num_rows)
        self._keep(floor_T, num_rows, kept_TB)
        return np.flatnonzero(kept_TB)  # many times faster than the places on two axes

    def _keep(self, floor_T: Float64, num_rows: int, out: npt.NDArray[np.bool_]) -> None:
        raise NotImplementedError


class _Float32Tile(_CpuTile):
    def __init__(self, questions: Questions, terms: Terms, block_rows: int) -> None:
        super().__init__(questions, terms, block_rows)
        self._scores = np.empty(len(questions) * block_rows, np.float32)

    def _product(self, block: Block) -> None:
        scores_TB = self._scores[: len(self._columns_TE) * len(block)].reshape(-1, len(block))
        torch.mm(self._columns_TE, block.columns_BE.T, out=torch.from_numpy(scores_TB))

    def _keep(self, floor_T: Float64, num_rows: int, out: npt.NDArray[np.bool_]) -> None:
        scores_TB = self._scores[: len(floor_T) * num_rows].reshape(-1, num_rows)
        np.greater_equal(scores_TB, round_down(floor_T)[:, None], out=out)

    def _values(self, kept: Rows) -> tuple[Float64, Float64]:
        value_C = self._scores[kept].astype(np.float64)
        return value_C, value_C

    def _kth(self, which: npt.NDArray[np.bool_], num_rows: int, k: int) -> Float64:
        scores_TB = self._scores[: len(which) * num_rows].reshape(-1, num_rows)
        scores_SB = scores_TB[which]
        return np.partition(scores_SB, num_rows - k, axis=1)[:, num_rows - k].astype(np.float64)


class _NumpyTile(_Float32Tile):
    def _product(self, block: Block) -> None:
        scores_TB = self._scores[: len(self._columns_TE) * len(block)].reshape(-1, len(block))
        np.matmul(self._columns_TE.numpy(), block.columns_BE.numpy().T, out=scores_TB)


class _Bfloat16Tile(_CpuTile):
    def __init__(self, questions: Questions, terms: Terms, block_rows: int) -> None:
        super().__init__(questions, terms, block_rows)
        self._scores = torch.empty(len(questions) * block_rows, dtype=torch.bfloat16)

    def _product(self, block: Block) -> None:
        scores_TB = self._scores[: len(self._columns_TE) * len(block)].view(-1, len(block))
        torch.mm(self._columns_TE, block.columns_BE.T, out=scores_TB)

    def _keep(self, floor_T: Float64, num_rows: int, out: npt.NDArray[np.bool_]) -> None:
        # Rounding is monotone: a product at or above the threshold is stored at or above the threshold rounded down.
        floor = _bfloat16_down(floor_T)
        bits_TB = self._scores[: len(floor_T) * num_rows].view(torch.int16).numpy().reshape(-1, num_rows)
        if bool((floor > 0).all()):
            # Positive floats order as their bits do, and negative ones are negative integers.
            np.greater_equal(bits_TB, floor.view(torch.int16).numpy()[:, None], out=out)
        else:
            scores_TB = self._scores[: len(floor_T) * num_rows].view(-1, num_rows)
            torch.ge(scores_TB, floor[:, None], out=torch.from_numpy(out))

    def _values(self, kept: Rows) -> tuple[Float64, Float64]:
        value_C = self._scores.view(torch.int16).numpy()[kept]
        value_C = torch.from_numpy(value_C).view(torch.bfloat16).to(torch.float64).numpy()
        off_C = np.abs(value_C) * 2.0**-7
        return value_C - off_C, value_C + off_C

    def _kth(self, which: npt.NDArray[np.bool_], num_rows: int, k: int) -> Float64:
        scores_TB = self._scores[: len(which) * num_rows].view(-1, num_rows)
        scores_SB = scores_TB[torch.from_numpy(np.flatnonzero(which))].to(torch.float32).numpy()
        kth_S = np.partition(scores_SB, num_rows - k, axis=1)[:, num_rows - k].astype(np.float64)
        return kth_S - np.abs(kth_S) * 2.0**-7


class _DeviceTile(_MatrixTile):
    """Products on a device, of which only what passes comes back."""

    def __init__(self, questions: Questions, terms: Terms, device: str) -> None:
        super().__init__(questions, terms)
        self._queries_TE = self._columns_TE.to(device)
        self._scores_TB = torch.empty(0)

    def _product(self, block: Block) -> None:
        if block.columns_BE.is_cuda:
            self._scores_TB = torch.mm(self._queries_TE, block.columns_BE.T, out_dtype=torch.float32)
        else:
            self._scores_TB = self._queries_TE.float() @ block.columns_BE.float().T

    def _passing(self, floor_T: Float64, num_rows: int) -> Rows:  # noqa: ARG002 (the product knows its width)
        floor = torch.from_numpy(round_down(floor_T)).to(self._scores_TB.device)
        return np.asarray(torch.nonzero((self._scores_TB >= floor[:, None]).view(-1))[:, 0].cpu().numpy())

    def _values(self, kept: Rows) -> tuple[Float64, Float64]:
        places = torch.from_numpy(kept).to(self._scores_TB.device)
        value_C: Float64 = self._scores_TB.view(-1)[places].to(torch.float64).cpu().numpy()
        return value_C, value_C

    def _kth(self, which: npt.NDArray[np.bool_], num_rows: int, k: int) -> Float64:  # noqa: ARG002 (as above)
        places = torch.from_numpy(np.flatnonzero(which)).to(self._scores_TB.device)
        kth: Float64 = torch.topk(self._scores_TB[places], k, dim=1).values[:, -1].to(torch.float64).cpu().numpy()
        return kth


def _bfloat16_down(values: Float64) -> torch.Tensor:
    """Bfloat16 numbers at most these: float32 with the lower half of its bits cut, and negative ones moved away from 0."""
    bits = np.asarray(round_down(values)).view(np.int32).astype(np.int64)
    low = bits & 0xFFFF
    bits = np.where((bits < 0) & (low != 0), bits - low + 0x10000, bits - low)
    half = (bits >> 16).astype(np.int16)
    return torch.from_numpy(half).view(torch.bfloat16)
