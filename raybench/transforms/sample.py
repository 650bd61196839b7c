"""The rows that a transform is fitted on: short runs spread evenly over the corpus, each at a seeded place."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError
from raybench.transforms.base import Rows

_RUN_ROWS = 64  # read together: near enough to single rows, far cheaper to read from storage
_BLOCK_RUNS = 64


def sample_rows(corpus: Rows | None, rows: int, seed: int, what: str) -> Iterator[npt.NDArray[Any]]:
    """Blocks of 4,096 sampled rows at most, in the order of the corpus; all rows where there are no more than asked for."""
    if corpus is None:
        raise DataError(f"{what} is fitted on a corpus; give it one, or load one that is fitted")
    if corpus.dtype.kind != "f":
        raise DataError(f"{what} is fitted on float vectors; these are {corpus.dtype}")
    if corpus.rows == 0:
        raise DataError(f"{what} is fitted on rows; the corpus has none")
    runs = list(_runs(corpus.rows, rows, seed))
    for first in range(0, len(runs), _BLOCK_RUNS):
        part = runs[first : first + _BLOCK_RUNS]
        block_BD = np.empty((sum(stop - start for start, stop in part), corpus.dim), corpus.dtype)
        filled = 0
        for start, stop in _joined(part):
            corpus.read_into(start, block_BD[filled : filled + stop - start])
            filled += stop - start
        if not np.isfinite(block_BD).all():
            raise DataError(
                f"rows {part[0][0]} to {part[-1][1]} have NaN or infinite values; {what} cannot be fitted on them"
            )
        yield block_BD


def _runs(total: int, wanted: int, seed: int) -> Iterator[tuple[int, int]]:
    if wanted >= total:
        yield from ((start, min(start + _RUN_ROWS, total)) for start in range(0, total, _RUN_ROWS))
        return
    count = -(-wanted // _RUN_ROWS)
    offset_R = np.random.Generator(np.random.Philox(key=[seed, 0x5A3])).random(count)
    for run in range(count):
        low, high = run * total // count, (run + 1) * total // count
        length = min(_RUN_ROWS, wanted - run * _RUN_ROWS, high - low)
        start = low + int(offset_R[run] * (high - low - length + 1))
        yield start, start + length


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs that touch, read as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in runs:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
