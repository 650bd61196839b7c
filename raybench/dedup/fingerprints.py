"""Equal rows, by the 128-bit digest of their bytes: a chance of 10^-20 that any two of a billion rows share one by accident.

Axes: N rows.
"""

import numpy as np
import numpy.typing as npt
import xxhash

from raybench.arrays import Rows
from raybench.search.certified.metric import Matrix

Digests = npt.NDArray[np.uint64]  # [N, 2]


def digests(rows_ND: Matrix) -> Digests:
    """The XXH3-128 of each row as it is stored; minus zero is another number than zero."""
    rows = np.ascontiguousarray(rows_ND)
    joined = b"".join(xxhash.xxh3_128_digest(row) for row in rows)
    return np.frombuffer(joined, np.uint64).reshape(-1, 2)


def first_equal(digest_N2: Digests) -> Rows:
    """For each row, the first row that is equal to it: itself, where it is the first [N]."""
    order_N = np.lexsort((digest_N2[:, 1], digest_N2[:, 0]))  # stable, so rows of one digest stay in their order
    sorted_N2 = digest_N2[order_N]
    is_new_N = np.ones(len(order_N), np.bool_)
    is_new_N[1:] = (sorted_N2[1:] != sorted_N2[:-1]).any(axis=1)
    first_N = np.empty(len(order_N), np.int64)
    first_N[order_N] = order_N[is_new_N][np.cumsum(is_new_N) - 1]
    return first_N
