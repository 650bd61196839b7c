"""Whether stored numbers are distances or similarities is seen from their order, and never assumed.

Lists are best first in every format, so ascending numbers are distances and descending ones similarities. What the
formats' own pages say differs from what the files hold.

Axes: Q queries, K neighbours.
"""

from typing import Any

import numpy as np

from raybench.errors import DataError
from raybench.formats.base import StoredNeighbors


def from_distances(ids_QK: Any, stored_QK: Any, where: str) -> StoredNeighbors:
    """Neighbours with scores of which higher is better. DataError for lists in no order; constant lists have no scores."""
    values_QK = np.asarray(stored_QK, np.float64)
    if ids_QK.shape != values_QK.shape:
        raise DataError(f"{where}: ids {ids_QK.shape} and distances {values_QK.shape} differ in shape; fetch it again")
    if np.isnan(values_QK).any():
        raise DataError(f"{where}: the distances of query {int(np.argmax(np.isnan(values_QK).any(axis=1)))} have NaN")
    with np.errstate(invalid="ignore"):
        steps_QK = np.nan_to_num(np.diff(values_QK, axis=1), nan=0.0)
    rises, falls = bool((steps_QK > 0).any()), bool((steps_QK < 0).any())
    if rises and falls:
        mixed = (steps_QK > 0).any(axis=1) & (steps_QK < 0).any(axis=1)
        query = int(np.argmax(mixed)) if mixed.any() else int(np.argmax((steps_QK < 0).any(axis=1)))
        raise DataError(
            f"{where}: the distances of query {query} are in another order than those before; sort each list"
        )
    if not rises and not falls:
        return StoredNeighbors(ids_QK, None)
    return StoredNeighbors(ids_QK, -values_QK if rises else values_QK, "distance" if rises else "similarity")
