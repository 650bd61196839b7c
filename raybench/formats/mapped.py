"""Rows of a local file as a view of it: nothing is read until it is looked at, and the system may take pages back.

Axes: N rows, D dimensions.
"""

import numpy as np

from raybench import storage
from raybench.formats.base import Matrix, VectorFile
from raybench.formats.flat import FlatFile
from raybench.formats.matrices import Joined


def mapped(file: VectorFile, start: int, stop: int) -> Matrix | None:
    """Rows of a run [N, D], or None where they do not lie one after another in one local file."""
    if isinstance(file, Joined):
        first = 0
        for part in file.parts:
            if first <= start and stop <= first + part.rows:
                return mapped(part, start - first, stop - first)
            first += part.rows
        return None
    if not isinstance(file, FlatFile) or file.head_bytes or file.is_bits or storage.is_s3(file.uri) or start >= stop:
        return None
    place = file.offset + start * file.dim * file.dtype.itemsize
    return np.memmap(storage.absolute(file.uri), file.dtype, "r", place, (stop - start, file.dim))
