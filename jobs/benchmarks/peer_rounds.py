"""How peers.py measures: the overlap with the truth, the smallest effort that reaches one, and rounds in turns.

Axes: Q queries, D dimensions, K results.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from peer_indexes import Built, Float32, Setting

from raybench.arrays import Neighbors, Vectors
from raybench.indexes.copies import OpenedIndex
from raybench.indexes.exact import score_rows
from raybench.metrics import PerQuery, evaluate_overlap, parse_measure
from raybench.search.topk import best

MIB = 2**20
FACTS = ("index@effort", "overlap", "by row", "queries/s", "p50 ms", "build s", "MiB")
_SINGLES = 200


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What all are asked, and the truth."""

    corpus: Vectors
    queries_QD: Float32
    gold: Neighbors
    setting: Setting
    rounds: int

    def overlap(self, built: Built, effort: int) -> PerQuery:
        """Of every query: by row number, and (its best value) with ties allowed."""
        ids_QK, k = built.find(self.queries_QD, effort), self.setting.k
        found = best(ids_QK, score_rows(self.queries_QD, self.corpus, ids_QK), k)
        return evaluate_overlap(parse_measure(f"overlap@{k}"), found, self.gold, exact_scores=True)

    def reached(self, built: Built, effort: int) -> float:
        """The mean overlap with ties allowed."""
        return self.overlap(built, effort).best or 0.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of a batch in each round, and of every single query."""

    batches: list[float]
    singles: list[float]


def least_effort(reaches: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest effort that reaches what is asked, if more effort never finds less; None if the largest does not."""
    failed, effort = least - 1, least
    while not reaches(effort):
        if effort == most:
            return None
        failed, effort = effort, min(2 * effort, most)
    while effort - failed > 1:
        middle = (failed + effort) // 2
        failed, effort = (failed, middle) if reaches(middle) else (middle, effort)
    return effort


def in_turns(task: Task, entrants: Sequence[tuple[Built, int]]) -> list[Speed]:
    """Every entrant's times: in each round all answer the batch, then single queries; the first round does not count."""
    speeds = [Speed([], []) for _ in entrants]
    singles = [task.queries_QD[number : number + 1] for number in range(min(_SINGLES, len(task.queries_QD)))]
    for number in range(task.rounds + 1):
        for (built, effort), speed in zip(entrants, speeds, strict=True):
            taken = [_seconds(built, asked, effort) for asked in (task.queries_QD, *singles)]
            if number:
                speed.batches.append(taken[0])
                speed.singles.extend(taken[1:])
    return speeds


def _seconds(built: Built, queries_QD: Float32, effort: int) -> float:
    started = time.perf_counter()
    built.find(queries_QD, effort)
    return time.perf_counter() - started


def against(ours: Speed, theirs: Speed) -> str:
    """Our throughput over theirs: the median of the rounds, and the least and the greatest."""
    ratios = [their_s / our_s for our_s, their_s in zip(ours.batches, theirs.batches, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def facts(task: Task, built: Built, effort: int, speed: Speed, build_s: float) -> tuple[str, ...]:
    """The cells below FACTS."""
    overlap = task.overlap(built, effort)
    return (
        built.at(effort) if effort else built.name, f"{overlap.best:.4f}", f"{overlap.value:.4f}",
        f"{len(task.queries_QD) / statistics.median(speed.batches):,.0f}", f"{1e3 * statistics.median(speed.singles):.3f}",
        f"{build_s:.1f}", f"{built.num_bytes / MIB:.1f}",
    )  # fmt: skip


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their longest cell; the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        click.echo(
            "  ".join([name.ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True)])
        )


def alone(index: Any) -> Any:
    """What holds faiss's own index and parameters: inside what opens copies, if that is around it."""
    return index.index if isinstance(index, OpenedIndex) else index
