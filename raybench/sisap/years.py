"""What each year's challenge asks of a result file: attributes, tasks and the k of their recall.

From the challenges' pages, evaluators and baselines (sisap-challenges): 2023 `eval.py` of the evaluation repository,
2024 `evaluate-sisap24.jl`, 2025 `sisap2025.jl` and `eval.jl`, 2026 `eval.py` and `verify_output.py`. The page of 2026
does not name `dataset`, but its evaluator skips or fails on files without it.
"""

from dataclasses import dataclass

from raybench.errors import RequestError, suggest


@dataclass(frozen=True, slots=True)
class Task:
    """A task: the k of its recall, the recall that counts, and whether every row asks for its neighbours but itself."""

    name: str
    k: int
    bar: float
    is_self_join: bool = False


@dataclass(frozen=True, slots=True)
class Year:
    """The root attributes that the year's evaluator reads, with their types, and the tasks."""

    attributes: dict[str, type]
    optional: dict[str, type]
    tasks: tuple[Task, ...]
    sizes: tuple[str, ...] = ()  # that `size` may name; empty where it is a number of rows


_SIZES = ("100K", "300K", "1M", "10M", "30M", "100M")
_FAMILIES = ("clip768v2", "pca32v2", "pca96v2", "hammingv2")

YEARS: dict[int, Year] = {
    2023: Year(
        {"data": str, "size": str, "algo": str, "buildtime": float, "querytime": float, "params": str},
        {},
        (Task("A", 10, 0.9), Task("B", 10, 0.0), Task("C", 10, 0.0)),
        _SIZES,
    ),
    2024: Year(
        {"algo": str, "params": str, "buildtime": float, "querytime": float},
        {
            "data": str,
            "size": str,
            "modelingtime": float,
            "encdatabasetime": float,
            "encqueriestime": float,
            "optimtime": float,
        },
        (Task("task1", 30, 0.8), Task("task2", 30, 0.8), Task("task3", 30, 0.4)),
        _SIZES,
    ),
    2025: Year(
        {
            "algo": str,
            "task": str,
            "dataset": str,
            "buildtime": float,
            "optimtime": float,
            "querytime": float,
            "params": str,
            "searchparams": str,
            "size": int,
        },
        {},
        (Task("task1", 30, 0.7), Task("task2", 15, 0.8, is_self_join=True)),
    ),
    2026: Year(
        {"algo": str, "task": str, "dataset": str, "buildtime": float, "querytime": float, "params": str},
        {},
        (Task("task1", 15, 0.8, is_self_join=True), Task("task2", 30, 0.8), Task("task3", 30, 0.9)),
    ),
}


def year_of(year: int) -> Year:
    """The rules of a year. RequestError for a year without."""
    if year not in YEARS:
        raise RequestError(f"year {year} has no rules here; use one of {', '.join(map(str, YEARS))}")
    return YEARS[year]


def task_of(year: int, task: str | None) -> Task:
    """A year's task by name; 2023 and 2024, whose tasks share one k, need none."""
    tasks = {one.name: one for one in year_of(year).tasks}
    if task is None and len({(one.k, one.is_self_join) for one in tasks.values()}) == 1:
        return next(iter(tasks.values()))
    if task not in tasks:
        if task is None:
            raise RequestError(f"{year} has several tasks; name one: {', '.join(tasks)}")
        raise RequestError(f"{year} has no task {task!r}; {suggest(task, tasks)}")
    return tasks[task]
