"""Vectors that say how many rows were read of them, for whoever shows progress."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.formats.base import Matrix, VectorFile
from raybench.storage import FileFacts


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A file, and who is told the number of rows after each read."""

    file: VectorFile
    tell: Callable[[int], None]

    @property
    def rows(self) -> int:
        """The file's."""
        return self.file.rows

    @property
    def dim(self) -> int:
        """The file's."""
        return self.file.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The file's."""
        return self.file.dtype

    @property
    def is_bits(self) -> bool:
        """The file's."""
        return self.file.is_bits

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """The file's."""
        return self.file.files

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Read, then tell."""
        self.file.read_into(start, out_BD)
        self.tell(len(out_BD))

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:
        """The file's."""
        return self.file.ids(start, stop)
