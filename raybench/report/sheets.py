"""Tables beside the records, such as searches and their seconds: printed as they were written, without reckoning."""

import math
from collections.abc import Sequence
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raybench.report.tables import printable

Cell = str | int | float | None


class Sheet(Protocol):
    """A table as a run has made it, or as run.json tells it."""

    @property
    def title(self) -> str:
        """What it is of."""
        ...

    @property
    def note(self) -> str:
        """What the columns mean."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Their headings."""
        ...

    @property
    def rows(self) -> Sequence[tuple[Cell, ...]]:
        """A cell for each column."""
        ...


def cell(value: Cell) -> str:
    """A cell as text: whole numbers with commas, others to four digits, shares near one with what they lack of it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "none"
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    # 0.999987 must not become 1.
    return f"{value:.6f}" if 0.999 < abs(value) < 1 else f"{value:.4g}"


def is_numeric(sheet: Sheet, column: int) -> bool:
    """Whether a column holds numbers, which are set to the right."""
    return all(not isinstance(row[column], str) for row in sheet.rows)


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print a table; where the console is too narrow for it, a row's cells below each other."""
    texts = [[cell(value) for value in row] for row in sheet.rows]
    wide = [max(len(head), *(len(row[place]) for row in texts)) for place, head in enumerate(sheet.columns)]
    console.print()
    if sum(wide) + len(wide) > console.width:
        console.print(Text(printable(sheet.title), style="bold"))
        for row in texts:
            facts = [f"{head} {text}" for head, text in zip(sheet.columns[1:], row[1:], strict=True) if text]
            console.print(Text.assemble((row[0], "cyan"), ": ", "; ".join(facts)))
    else:
        gap = 1 if sum(wide) + 2 * len(wide) <= console.width else 0  # beside the one that the box has
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
        table.title, table.title_justify = Text(printable(sheet.title), style="bold"), "left"
        for place, head in enumerate(sheet.columns):
            table.add_column(Text(head), justify="right" if is_numeric(sheet, place) else "left", no_wrap=True)
        for row in texts:
            table.add_row(*map(Text, row))
        console.print(table)
    console.print(Text(printable(sheet.note), style="dim"))
