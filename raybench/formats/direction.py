"""Whether stored numbers are distances or similarities is seen from their order, and never assumed.

Lists are best first in every format, so ascending numbers are distances and descending ones similarities. What the
formats' own pages say differs from what the files hold.

Axes: Q queries, K neighbours.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError
from raybench.formats.base import StoredNeighbors

_LARGEST = 2**63 - 1


def whole_ids(stored_QK: Any, where: str, first: int = 0) -> npt.NDArray[np.int64]:
    """Ids that a format counts from `first`, counted from 0. DataError for numbers that cannot be ids.

    From 0, -1 pads; a format that counts from 1 has no padding.
    """
    if stored_QK.ndim != 2 or stored_QK.dtype.kind not in "iu":
        raise DataError(f"{where}: ids are {stored_QK.dtype} of shape {stored_QK.shape}, no matrix of whole numbers")
    least, most = int(stored_QK.min(initial=first)), int(stored_QK.max(initial=first))
    if least < (first or -1) or most > _LARGEST:
        wrong = least if least < (first or -1) else most
        raise DataError(
            f"{where}: id {wrong} cannot be: its format counts from {first}; check that it is what its name says"
        )
    ids_QK: npt.NDArray[np.int64] = stored_QK.astype(np.int64) - first
    return ids_QK


def from_distances(ids_QK: Any, stored_QK: Any, where: str) -> StoredNeighbors:
    """Neighbours with scores of which higher is better. DataError for lists in no order.

    Lists of one number each, or of equal numbers, say no direction; their scores are None.
    """
    values_QK = np.asarray(stored_QK, np.float64)
    if ids_QK.shape != values_QK.shape:
        raise DataError(f"{where}: ids {ids_QK.shape} and distances {values_QK.shape} differ in shape; fetch it again")
    if np.isnan(values_QK).any():
        raise DataError(f"{where}: the distances of query {int(np.argmax(np.isnan(values_QK).any(axis=1)))} have NaN")
    before_QK, after_QK = values_QK[:, :-1], values_QK[:, 1:]
    rises_Q, falls_Q = (after_QK > before_QK).any(axis=1), (after_QK < before_QK).any(axis=1)
    if not rises_Q.any() and not falls_Q.any():
        return StoredNeighbors(ids_QK, None)
    first = int(np.argmax(np.logical_or(rises_Q, falls_Q)))
    is_distance = bool(np.asarray(rises_Q)[first])  # as the first list that is not constant
    against_Q = falls_Q if is_distance else rises_Q
    if against_Q.any():
        raise DataError(
            f"{where}: the distances of query {int(np.argmax(against_Q))} are not in the order of those before; sort each list"
        )
    return StoredNeighbors(
        ids_QK, -values_QK if is_distance else values_QK, "distance" if is_distance else "similarity"
    )
