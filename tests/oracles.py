"""Slow and obvious answers that the fast code must give."""

import numpy as np
import numpy.typing as npt


def scores(queries_QD: npt.NDArray[np.floating], rows_ND: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Every inner product in float64, one pair at a time."""
    return np.array([[float((q.astype(np.float64) * x.astype(np.float64)).sum()) for x in rows_ND] for q in queries_QD])


def top_rows(scores_QN: npt.NDArray[np.float64], k: int) -> list[list[int]]:
    """The best rows of each query: higher score first, then smaller row."""
    return [sorted(range(len(row)), key=lambda n: (-row[n], n))[:k] for row in scores_QN.tolist()]
