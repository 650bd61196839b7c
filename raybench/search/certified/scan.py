"""The seam for a faster kernel: a block of rows against the thresholds of some queries gives the pairs that may matter.

A scan may pass over a pair only if its value is surely under the threshold of its query. What it returns carries a
lower and an upper bound of the value, float32. Everything else (thresholds, float64, order) is done elsewhere, so
the answers cannot depend on the scan.

Axes: T queries of a tile, B rows of a block, C candidates, E columns.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from raybench.arrays import Rows
from raybench.search.certified.metric import Float64, Matrix, Questions

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows made ready for a scan, until the next block is made ready in the same buffers."""

    columns_BE: torch.Tensor
    slack_BX: Float64  # the last columns: those that carry the error bound

    def __len__(self) -> int:
        return len(self.columns_BE)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pairs that may matter, grouped by query: places in the tile and in the block, and bounds of their values."""

    query_C: Rows
    row_C: Rows
    lower_C: Float32
    upper_C: Float32


class Tile(Protocol):
    """Some queries, held ready."""

    def scan(self, block: Block, floor_T: Float64, k: int) -> Candidates:
        """Pairs whose value may be at least the query's threshold, and may be among the best k of the block."""
        ...

    def sample(self, block: Block, query_C: Rows, row_C: Rows) -> Candidates:
        """The bounds of any pairs of the block that was scanned last, for the audit."""
        ...


class Scan(Protocol):
    """One way of computing cheap scores."""

    @property
    def name(self) -> str:
        """Library and precision, as certificates state them."""
        ...

    def blocks(self, block_rows: int) -> "BlockMaker":
        """A maker of blocks with buffers of its own."""
        ...

    def tile(self, questions: Questions, block_rows: int) -> Tile:
        """Queries made ready, with buffers for scores of blocks of up to so many rows."""
        ...


class BlockMaker(Protocol):
    """Turns rows as stored into what the scan multiplies."""

    def make(self, rows_BD: Matrix) -> Block:
        """A block; the one before it is overwritten."""
        ...


def round_down(values: Float64) -> Float32:
    """Float32 numbers at most these."""
    with np.errstate(over="ignore"):
        return np.nextafter(values.astype(np.float32), np.float32(-np.inf))


def round_up(values: Float64) -> Float32:
    """Float32 numbers at least these."""
    with np.errstate(over="ignore"):
        return np.nextafter(values.astype(np.float32), np.float32(np.inf))
