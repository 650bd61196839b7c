"""One order everywhere: a higher score first, then the smaller row number; applied before every cut.

Because the order is total, the best k of a union are among the best k of the parts, whatever the parts are: 1, 2 or
8 shards give identical rows.

Axes: Q queries, M candidates of one query, K results.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raybench.arrays import Neighbors, Rows


def best(ids_QM: Rows, scores_QM: npt.NDArray[np.float64], k: int) -> Neighbors:
    """The best k candidates of each query in the one order; -1 with -inf is no candidate and comes last."""
    num_queries, num_candidates = ids_QM.shape
    missing_QM = ids_QM < 0
    # A missing candidate must come after a real one even if a real score is -inf, so it is the first sort key.
    order_QM = np.lexsort((ids_QM, -scores_QM, missing_QM), axis=-1)[:, :k]
    ids_QK = np.full((num_queries, k), -1, np.int64)
    scores_QK = np.full((num_queries, k), -np.inf)
    kept = min(k, num_candidates)
    ids_QK[:, :kept] = np.take_along_axis(ids_QM, order_QM, 1)
    scores_QK[:, :kept] = np.take_along_axis(scores_QM, order_QM, 1)
    return Neighbors(ids_QK, scores_QK)


def merge(parts: Sequence[Neighbors], k: int) -> Neighbors:
    """Join the answers of disjoint shards to the same queries into the best k."""
    return best(
        np.concatenate([part.ids_QK for part in parts], axis=1),
        np.concatenate([part.scores_QK for part in parts], axis=1),
        k,
    )
