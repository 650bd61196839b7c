"""Recall as each year's evaluator computes it: by ids alone, in plain loops, independent of the measures elsewhere.

Ids count from 1. Ties get no credit, a row that is found twice counts once, and nobody checks for ids that do not exist.
What differs between years is which columns are looked at, and how a row's own id is taken out of a self-join:

- 2023 `eval.py`: the first k found and the first k true.
- 2024 `evaluate-sisap24.jl`: *all* found against the first 30 true, so further columns can only help.
- 2025 `eval.jl`: task 1 the first k of both. Task 2 takes k + 1 true and k found columns, and where a row's own id is
  among them moves what follows one to the left (the last stays where it was); so a self kept costs one neighbour.
- 2026 `eval.py`: task 1 takes the true columns 2 to k + 1 by position; of k + 1 found columns it drops the first, k are
  taken as they are, other widths are refused. Tasks 2 and 3 take the first k of both. (The latest script of the
  baseline skips the first true column in every task, which the rules give no reason for.)
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError
from raybench.sisap.years import Task, task_of

_Ids = npt.NDArray[Any]


def challenge_recall(
    returned_QK: _Ids, gold_QK: _Ids, *, year: int, task: str | None = None, k: int | None = None
) -> float:
    """The recall of found ids (from 1) against gold ids (from 1); `k` is the task's unless given.

    DataError where the evaluator would stop: other numbers of queries, or too few columns.
    """
    one = task_of(year, task)
    one = Task(one.name, k or one.k, one.bar, one.is_self_join)
    returned, gold = np.asarray(returned_QK), np.asarray(gold_QK)
    if returned.ndim != 2 or gold.ndim != 2 or len(returned) != len(gold) or not len(gold):
        raise DataError(f"found ids {returned.shape} and true ids {gold.shape} are not of the same queries")
    needed = one.k + 1 if one.is_self_join else one.k
    if gold.shape[1] < needed:
        raise DataError(f"{year} {one.name} needs {needed} true neighbours of each query; there are {gold.shape[1]}")
    if returned.shape[1] < one.k and year != 2024:
        raise DataError(f"{year} {one.name} needs {one.k} found neighbours; there are {returned.shape[1]}")
    hits = 0
    for query in range(len(gold)):
        found, true = _compared(year, one, returned[query].tolist(), gold[query].tolist(), query + 1)
        hits += len(set(found) & set(true))
    return hits / (len(gold) * one.k)


def _compared(year: int, task: Task, found: list[int], true: list[int], own: int) -> tuple[list[int], list[int]]:
    """The found and the true ids that are compared, of the query with id `own`."""
    k = task.k
    if year == 2024:
        return found, true[:k]
    if not task.is_self_join:
        return found[:k], true[:k]
    if year == 2025:
        return _shifted(found[:k], own)[:k], _shifted(true[: k + 1], own)[:k]
    if len(found) not in (k, k + 1):
        raise DataError(f"{year} {task.name} takes {k} or {k + 1} found columns; there are {len(found)}")
    return found[1:] if len(found) == k + 1 else found, true[1 : k + 1]


def _shifted(ids: list[int], own: int) -> list[int]:
    """Without the first appearance of an id, what follows moved left, the last repeated."""
    if own not in ids:
        return ids
    place = ids.index(own)
    return [*ids[:place], *ids[place + 1 :], ids[-1]]
