"""Result files of the SISAP challenges: `knns` (int32, from 1) and `dists` (float32), and root attributes.

One HDF5 file per search setting. h5py's (queries, k) in C order is at once the row-major matrix of the Python rules and
the column-major (k, queries) of the Julia ones. What a year's evaluator needs is required here; a missing or wrong
attribute is refused by name, and so are ids that an evaluator would count wrongly without a word.
"""

import io
import math
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from raybench import storage
from raybench.arrays import Neighbors
from raybench.errors import DataError, RequestError, suggest
from raybench.sisap.years import task_of, year_of

_MOST = 2**31 - 1  # the last id that int32 holds


@dataclass(frozen=True, slots=True, eq=False)
class StoredResults:
    """A result file as it is: ids from 1, int64 [Q, K], distances as stored (or None), and attributes."""

    knns_QK: npt.NDArray[np.int64]
    dists_QK: npt.NDArray[np.float32] | None
    attributes: dict[str, Any]


def write_results(
    path: str, year: int, neighbors: Neighbors, *, task: str | None = None, meaning: str = "1-dot", **attributes: Any
) -> str:
    """Write a result file; returns its SHA-256.

    `neighbors` are rows from 0 and scores, higher is better; they become ids from 1 and distances, lower is better: 1 - score
    for `meaning="1-dot"` (inner product or cosine), -score for "distance" (negated distances such as l2 and hamming),
    or the score itself for "similarity" (as the small file of 2026 has it). `task` is needed from 2025 on, where it is
    an attribute as well. Exactly the task's k columns, or k + 1 with the row itself in a self-join, are written.
    """
    one = task_of(year, task)
    checked = check_attributes(year, task, attributes)
    ids_QK, scores_QK = _columns(year, neighbors, one.k, one.name, one.is_self_join)
    if meaning not in ("1-dot", "distance", "similarity"):
        raise RequestError(f"meaning={meaning!r} is not known; use '1-dot', 'distance' or 'similarity'")
    dists_QK = {"1-dot": 1 - scores_QK, "distance": -scores_QK, "similarity": scores_QK}[meaning].astype(np.float32)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("knns", data=(ids_QK + 1).astype(np.int32))
        file.create_dataset("dists", data=dists_QK)
        for name, value in checked.items():
            file.attrs[name] = value
    return storage.write_bytes(path, buffer.getbuffer())


def read_results(path: str) -> StoredResults:
    """Any year's result file: attributes at the root or, as Julia's JLD2 writes them, scalar datasets of those names."""
    try:
        with h5py.File(io.BytesIO(storage.read_bytes(path)), "r") as file:
            if "knns" not in file:
                raise DataError(f"{path} has no dataset 'knns'; it is no result file of a SISAP challenge")
            knns = np.asarray(file["knns"])
            dists = np.asarray(file["dists"]) if "dists" in file else None
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            for name, item in file.items():
                if isinstance(item, h5py.Dataset) and item.shape == ():
                    attributes.setdefault(name, _plain(item[()]))
    except OSError as error:
        raise DataError(f"{path} is not readable as HDF5: {str(error).splitlines()[0]}") from None
    if knns.ndim != 2 or knns.dtype.kind not in "iu":
        raise DataError(f"{path}: knns is {knns.dtype} of shape {knns.shape}; it must be a matrix of whole numbers")
    return StoredResults(knns.astype(np.int64), None if dists is None else dists.astype(np.float32), attributes)


def check_attributes(year: int, task: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a result file in their types; RequestError for one that is missing, unknown or wrong."""
    rules = year_of(year)
    if "task" in rules.attributes:
        given = {"task": task_of(year, task).name} | given
    known = rules.attributes | rules.optional
    for name in rules.attributes:
        if name not in given:
            raise RequestError(f"a result file of {year} needs the attribute {name!r}; give it")
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise RequestError(f"a result file of {year} has no attribute {name!r}; {suggest(name, known)}")
        checked[name] = _typed(year, name, value, known[name])
    if rules.sizes and "size" in checked and checked["size"] not in rules.sizes:
        raise RequestError(f"attribute 'size' is {checked['size']!r}; {year} knows {', '.join(rules.sizes)}")
    return checked


def _typed(year: int, name: str, value: Any, wanted: type) -> Any:
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if wanted is str:
        # `params` may be empty, as it is in published files; a name may not.
        is_fine = isinstance(value, str) and (bool(value.strip()) or name in ("params", "searchparams"))
        made: Any = value
    elif wanted is int:
        is_fine = is_number and int(value) == value and int(value) > 0
        made = int(value) if is_fine else None
    else:
        is_fine = is_number and math.isfinite(value) and value >= 0
        made = float(value) if is_fine else None
    if not is_fine:
        words = {str: "a string that is not empty", int: "a whole number above 0", float: "seconds, 0 or more"}[wanted]
        raise RequestError(f"attribute {name!r} of {year} must be {words}; got {value!r}")
    return made


def _columns(
    year: int, neighbors: Neighbors, k: int, task: str, is_self_join: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The columns to write. DataError for what the evaluator would count wrongly, or fail on."""
    ids_QK, scores_QK = neighbors.ids_QK, neighbors.scores_QK
    found = ids_QK.shape[1]
    if found < k:
        raise DataError(f"{year} {task} needs {k} neighbours of each query; there are {found}")
    if is_self_join and (ids_QK == np.arange(len(ids_QK))[:, None]).any():
        ids_QK, scores_QK = _without_self(ids_QK, scores_QK, k, f"{year} {task}")
    ids_QK, scores_QK = ids_QK[:, :k], scores_QK[:, :k]
    if (ids_QK < 0).any():
        query = int(np.argmax((ids_QK < 0).any(axis=1)))
        raise DataError(f"query {query} has fewer than {k} neighbours; ids must be from 1 and have no padding")
    if (ids_QK >= _MOST).any():
        raise DataError(f"row {int(ids_QK.max())} is more than int32 ids can name; search fewer rows")
    if not np.isfinite(scores_QK).all():
        raise DataError("scores have NaN or infinite values; evaluators refuse such distances")
    ordered_QK = np.sort(ids_QK, axis=1)
    if (ordered_QK[:, 1:] == ordered_QK[:, :-1]).any():
        query = int(np.argmax((ordered_QK[:, 1:] == ordered_QK[:, :-1]).any(axis=1)))
        raise DataError(
            f"query {query} has a row twice; evaluators count it once, so merge parts without repeating rows"
        )
    return ids_QK, scores_QK


def _without_self(
    ids_QK: npt.NDArray[np.int64], scores_QK: npt.NDArray[np.float64], k: int, what: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Each row's other neighbours: the rules of a self-join want no row as its own neighbour."""
    is_other_QK = ids_QK != np.arange(len(ids_QK))[:, None]
    if (is_other_QK.sum(axis=1) < k).any():
        raise DataError(f"{what} needs {k} neighbours besides the row itself; search for {k + 1}")
    keep_QK = np.argsort(~is_other_QK, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids_QK, keep_QK, axis=1), np.take_along_axis(scores_QK, keep_QK, axis=1)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value.item() if isinstance(value, np.generic) else value
