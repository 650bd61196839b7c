"""The values that every stage passes on: vectors, neighbours and judgments; frozen, and checked when they are made.

A row number is the position of a vector in its collection: parts in numerical order, rows in order within a part.
Row numbers are int64 everywhere, and order everything: a higher score is better, and ties go to the smaller row.

Axes: Q queries, N rows, D dimensions, K results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import index

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError

FloatMatrix = npt.NDArray[np.floating]
Rows = npt.NDArray[np.int64]

PADDING = -1  # the row number where a query has no more results
_CHECK_ROWS = 65_536  # rows looked at together for non-finite values, so that memory stays flat


def check_matrix(matrix: npt.NDArray[np.generic], what: str) -> None:
    """Raise DataError unless it is a two-dimensional C-ordered float16, float32 or float64 matrix of finite numbers."""
    if matrix.ndim != 2:
        raise DataError(f"{what} has shape {matrix.shape}; vectors must have two axes: rows and dimensions")
    if matrix.dtype.kind != "f" or matrix.dtype.itemsize > 8 or not matrix.dtype.isnative:
        raise DataError(f"{what} has dtype {matrix.dtype}; vectors must be native float16, float32 or float64")
    if matrix.size and not matrix.flags.c_contiguous:
        raise DataError(f"{what} is not in C order; write it again with numpy.ascontiguousarray")
    for start in range(0, len(matrix), _CHECK_ROWS):
        finite_B = np.isfinite(matrix[start : start + _CHECK_ROWS]).all(axis=1)
        if not finite_B.all():
            row = start + int(np.argmin(finite_B))
            raise DataError(f"{what}: row {row} has NaN or infinite values; embed that image again or drop it")


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """A run of rows of a collection: row `first_row + i` of the collection is `matrix_ND[i]`."""

    matrix_ND: FloatMatrix
    first_row: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.matrix_ND, np.ndarray):  # rows that are held as codes were checked before they were coded
            check_matrix(self.matrix_ND, "vectors")

    def __len__(self) -> int:
        return len(self.matrix_ND)

    @property
    def dim(self) -> int:
        """The number of dimensions."""
        return int(self.matrix_ND.shape[1])

    def rows(self, start: int, stop: int) -> "Vectors":
        """Local rows start to stop (a view), which keep their row numbers in the collection."""
        return Vectors(self.matrix_ND[start:stop], self.first_row + start)

    def unit(self) -> "Vectors":
        """The same rows scaled to length one, float32. Raises DataError for a row without a direction."""
        unit_ND = np.empty(self.matrix_ND.shape, np.float32)
        for start in range(0, len(unit_ND), _CHECK_ROWS):
            rows_BD = self.matrix_ND[start : start + _CHECK_ROWS].astype(np.float64)
            with np.errstate(over="ignore", under="ignore"):  # such rows are refused below
                norms_B = np.linalg.norm(rows_BD, axis=1)
            is_wrong_B = ~(norms_B > 0) | np.isinf(norms_B)
            if is_wrong_B.any():
                row = self.first_row + start + int(np.argmax(is_wrong_B))
                raise DataError(f"row {row} is all zeros, or too small or large to have a direction; drop it")
            unit_ND[start : start + _CHECK_ROWS] = rows_BD / norms_B[:, None]
        return Vectors(unit_ND, self.first_row)


@dataclass(frozen=True, slots=True, eq=False)
class Neighbors:
    """The best rows of each query, best first: ids int64, scores float64; padded with -1 and -inf."""

    ids_QK: Rows
    scores_QK: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.ids_QK.ndim != 2 or self.ids_QK.shape != self.scores_QK.shape:
            raise DataError(f"ids {self.ids_QK.shape} and scores {self.scores_QK.shape} must share one shape [Q, K]")
        if self.ids_QK.dtype != np.int64 or self.scores_QK.dtype != np.float64:
            raise DataError(f"ids must be int64 and scores float64, not {self.ids_QK.dtype}, {self.scores_QK.dtype}")

    def __len__(self) -> int:
        return len(self.ids_QK)

    @property
    def k(self) -> int:
        """The number of results that each query has room for."""
        return int(self.ids_QK.shape[1])

    def top(self, k: int) -> "Neighbors":
        """The first k results of each query."""
        return Neighbors(self.ids_QK[:, :k], self.scores_QK[:, :k])


@dataclass(frozen=True, slots=True, eq=False)
class Qrels:
    """Judgments: for query q, rows `relevant[q]` (int64) of the corpus with grades `grades[q]` (int64, over 0).

    `clusters` names what each query came from (the image of a caption); queries of one cluster are not
    independent, so intervals resample clusters. A query with no relevant row in the corpus stays, and scores 0; what is
    relevant but not in the corpus has a row of its own from -2 down, counts as relevant, and is never found.
    """

    query_ids: tuple[str, ...]
    relevant: tuple[Rows, ...]
    grades: tuple[npt.NDArray[np.int64], ...]
    clusters: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.query_ids), len(self.relevant), len(self.grades), len(self.clusters)}
        if len(lengths) != 1:
            raise DataError(f"judgments must have one entry per query in every field; lengths are {sorted(lengths)}")
        if len(set(self.query_ids)) != len(self):
            raise DataError(f"there are {len(self)} queries and {len(set(self.query_ids))} query ids; make them unique")
        # All queries are checked together: a million small calls would take longer than the evaluation.
        lengths_Q = np.fromiter(map(len, self.relevant), np.int64, len(self))
        for query_id, num_rows, grades in zip(self.query_ids, lengths_Q, self.grades, strict=True):
            if num_rows != len(grades):
                raise DataError(f"query {query_id!r} has {num_rows} relevant rows and {len(grades)} grades")
        if not lengths_Q.sum():
            return
        row_P, grade_P = np.concatenate(self.relevant), np.concatenate(self.grades)
        if row_P.dtype != np.int64 or grade_P.dtype != np.int64:
            raise DataError(f"relevant rows and grades must be int64, not {row_P.dtype} and {grade_P.dtype}")
        query_P = np.repeat(np.arange(len(self)), lengths_Q)
        order_P = np.lexsort((row_P, query_P))
        is_twice_P = (np.diff(row_P[order_P]) == 0) & (np.diff(query_P[order_P]) == 0)
        self._refuse(query_P[order_P][1:], is_twice_P, "judges a row twice; remove the duplicate")
        self._refuse(query_P, row_P == PADDING, "judges row -1, which pads results; number missing rows from -2 down")
        self._refuse(query_P, grade_P < 1, "has a grade under 1; leave rows that are not relevant out")

    def _refuse(self, query_P: Rows, is_wrong_P: npt.NDArray[np.bool_], fault: str) -> None:
        if is_wrong_P.any():
            raise DataError(f"query {self.query_ids[query_P[np.argmax(is_wrong_P)]]!r} {fault}")

    def __len__(self) -> int:
        return len(self.query_ids)

    @classmethod
    def of(cls, judged: Mapping[str, Mapping[int, int]], clusters: Mapping[str, str]) -> "Qrels":
        """From `{query id: {row: grade}}`; grades under 1 are left out; queries keep the mapping's order."""
        kept: dict[str, dict[int, int]] = {}
        for query, rows in judged.items():
            if query not in clusters:
                raise DataError(f"query {query!r} is judged but has no cluster; give every query one")
            try:
                kept[query] = {index(row): index(grade) for row, grade in rows.items() if grade >= 1}
            except TypeError:
                raise DataError(f"query {query!r} has grades that are not whole numbers; round them first") from None
        return cls(
            query_ids=tuple(kept),
            relevant=tuple(np.fromiter(rows.keys(), np.int64, len(rows)) for rows in kept.values()),
            grades=tuple(np.fromiter(rows.values(), np.int64, len(rows)) for rows in kept.values()),
            clusters=tuple(clusters[query] for query in kept),
        )
