"""The rows of a part, and a ring of blocks of them that are made ready while others are scanned.

Axes: N rows of the part, C places of rows that are scanned, D dimensions.
"""

import threading
from dataclasses import dataclass

from raybench.arrays import Rows
from raybench.search.certified.duplicates import Groups
from raybench.search.certified.metric import Matrix
from raybench.search.certified.scan import Block, Scan

_BUFFERS = 3  # blocks in memory: one in use, one ahead, one that the slowest thread still reads


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows as they are stored, and what is known of them."""

    rows_ND: Matrix
    groups: Groups | None
    is_exact: bool

    @property
    def places(self) -> int:
        """Rows that are scanned."""
        return len(self.rows_ND) if self.groups is None else len(self.groups.first_U)

    def block(self, start: int, stop: int) -> Matrix:
        """Rows to scan."""
        return self.rows_ND[start:stop] if self.groups is None else self.rows_ND[self.groups.first_U[start:stop]]

    def rows(self, place_C: Rows) -> Rows:
        """The numbers of the rows at some places."""
        return place_C if self.groups is None else self.groups.first_U[place_C]


class Ring:
    """Blocks of rows made ready in a few buffers, by whichever thread has the time: one block ahead of the first reader.

    A buffer is filled again when every tile is done with what was in it, so no thread waits for the slowest at each block.
    """

    def __init__(self, part: Part, scan: Scan, block_rows: int, readers: int) -> None:
        self._part, self._block_rows, self._readers = part, block_rows, readers
        self.starts = range(0, part.places, block_rows)
        self._makers = [scan.blocks(min(block_rows, max(part.places, 1))) for _ in range(_BUFFERS)]
        self._lock = threading.Condition()
        self._claimed = 0
        self._ready: dict[int, Block] = {}
        self._left: dict[int, int] = {}
        self._failed: BaseException | None = None

    def block(self, number: int) -> Block:
        """A block, made by this thread or by another; `release` it after use."""
        for wanted in (number, number + 1):
            self._make(wanted, must=wanted == number)
        with self._lock:
            self._lock.wait_for(lambda: number in self._ready or self._failed is not None)
            if self._failed is not None:
                raise self._failed
            return self._ready[number]

    def release(self, number: int) -> None:
        """Say that a thread is done with a block."""
        with self._lock:
            self._left[number] -= 1
            if not self._left[number]:
                del self._ready[number], self._left[number]
                self._lock.notify_all()

    def fail(self, error: BaseException) -> None:
        """Wake every thread that waits, since what it waits for will not come."""
        with self._lock:
            self._failed = self._failed or error
            self._lock.notify_all()

    def _make(self, number: int, *, must: bool) -> None:
        with self._lock:
            is_mine = number == self._claimed and number < len(self.starts)
            # The block that had this buffer before; its own reader never waits here, since it is done with that block.
            before = number - _BUFFERS
            if not is_mine or (before in self._ready and not must):
                return
            self._claimed += 1
            self._lock.wait_for(lambda: before not in self._ready or self._failed is not None)
        start = self.starts[number]
        made = self._makers[number % _BUFFERS].make(
            self._part.block(start, min(start + self._block_rows, self._part.places))
        )
        with self._lock:
            self._ready[number], self._left[number] = made, self._readers
            self._lock.notify_all()
