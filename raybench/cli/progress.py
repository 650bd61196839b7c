"""Long stages show a bar with rate and time left on a terminal, and are silent anywhere else; standard output stays clean."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from raybench.embedding.local import Progress


class _Rate(ProgressColumn):
    """Units per second so far, and the rate of computing where a unit is so many operations."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        flop = task.fields.get("flop", 0.0)
        computing = f" {speed * flop / 1e9:,.0f} GFLOP/s" if speed and flop else ""
        return Text(f"{speed:,.0f}/s{computing}" if speed else "", style="progress.data.speed")


class TerminalReporter:
    """Says what happens on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line that stays."""
        if self._console.is_terminal:
            self._console.print(text, markup=False)
        else:
            sys.stderr.write(text + "\n")

    @contextmanager
    def stage(self, name: str, total: int | None, flop: float = 0.0) -> Iterator[Progress]:
        """A bar for the time of a block; where the total is None it is estimated from the share that is done."""
        if not self._console.is_terminal:
            yield lambda _rows, _share: None
            return
        columns = (
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=30),
            MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
        )  # fmt: skip
        with Bars(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(name, total=total, flop=flop)

            def advance(rows: int, share: float) -> None:
                progress.advance(task, rows)
                if total is None and share > 0:
                    progress.update(task, total=round(progress.tasks[task].completed / share))

            yield advance
