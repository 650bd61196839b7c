"""Vectors in a file of some format, read in place a run of rows at a time; neighbours as a format stores them.

A recipe (`fbin("base.fbin")`) is small and travels to workers; what it opens stays there. Rows are numbered from 0 in
the order of the file, whatever the format itself counts from.

Axes: N rows of a file, B rows of a run, D dimensions, Q queries, K neighbours of a query.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError
from raybench.storage import FileFacts

Matrix = npt.NDArray[Any]
_NAMES_SHOWN = 12


class VectorFile(Protocol):
    """An opened set of vectors."""

    @property
    def rows(self) -> int:
        """How many vectors there are."""
        ...

    @property
    def dim(self) -> int:
        """Dimensions; for packed bits, the number of bits."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The native dtype of what is read: float16, float32, float64, int8, uint8; uint8 also where bits are packed."""
        ...

    @property
    def is_bits(self) -> bool:
        """Whether a vector is `dim` bits packed into `dim // 8` bytes."""
        ...

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """The files behind it with their sizes and times, so that a change is seen; none where it is generated."""
        ...

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Fill a C-ordered buffer of `dtype` with the rows from `start`; its width is `dim`, or `dim // 8` for bits."""
        ...

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:
        """The ids that the file itself gives to a run of rows, or None where a row's number is its id."""
        ...


class FormatRecipe(Protocol):
    """What a spec such as `sisap("laion2B-en-clip768v2-n=300K.h5")` stands for."""

    def open(self) -> VectorFile:
        """The vectors, ready to read. Raises DataError or StorageError in one sentence for what is not of the format."""
        ...


def listed(names: Iterable[str]) -> str:
    """Names from a file as a sentence shows them: the first few, and none that could break its line."""
    shown = [name if name.isprintable() else ascii(name) for name in names]
    few = ", ".join(one[:80] for one in shown[:_NAMES_SHOWN]) or "nothing"
    return few if len(shown) <= _NAMES_SHOWN else f"{few} and {len(shown) - _NAMES_SHOWN} more"


def width(file: VectorFile) -> int:
    """The number of columns of what `read_into` fills."""
    return file.dim // 8 if file.is_bits else file.dim


def read_rows(file: VectorFile, start: int = 0, stop: int | None = None) -> Matrix:
    """A run of rows as a new matrix."""
    stop = file.rows if stop is None else stop
    if not 0 <= start <= stop <= file.rows:
        raise DataError(f"rows {start} to {stop} are not there; the file has {file.rows}")
    rows_BD = np.empty((stop - start, width(file)), file.dtype)
    file.read_into(start, rows_BD)
    return rows_BD


@dataclass(frozen=True, slots=True, eq=False)
class StoredNeighbors:
    """Neighbours as some format holds them, best first.

    `ids_QK` are int64 and count from 0 (-1 pads). `scores_QK` are float64 and higher is better, whatever the format stored
    (distances are negated), or None where the format has none. `meaning` says what was stored: "similarity" or "distance".
    `metric` is that of raybench's own searches (ip, cosine, l2, hamming; l2 is squared), and None where a file does not say.
    """

    ids_QK: npt.NDArray[np.int64]
    scores_QK: npt.NDArray[np.float64] | None
    meaning: str | None = None
    metric: str | None = None  # of raybench's own searches, whose l2 is squared; None where a file does not say
