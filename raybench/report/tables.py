"""A number is printed in one way everywhere: the value, its interval, and a mark where ties or chance matter.

Records become blocks (one per evaluation, direction and corpus: numbers that may be compared) of rows (one per encoder,
transform and index) of cells (one per measure). The terminal table and the page print the same blocks.
"""

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raybench.errors import SpecError
from raybench.metrics import is_at_chance, parse_measure
from raybench.results import Record

HEADLINE = {
    "ndcg@10": "NDCG@10",
    "map@10": "MAP@10",
    "recall@10": "R@10",
    "precision@10": "P@10",
    "mrr@10": "MRR@10",
    "mrr": "MRR",
}
"""The measures that are shown first, in this order, and how they are headed."""

DIRECTIONS = {"text_to_image": "text to image", "image_to_text": "image to text", "nearest_vectors": "nearest vectors"}
SHARES = ("share", "score", "")  # units of numbers from 0 to 1, of which more is better
UNIT_IN_NAME = ("rank",)  # units that the measure's name tells
CHANCE_MARK, TIES_MARK = "†", "‡"
_WIDE_COLUMNS, _NARROW_COLUMNS = 15, 8  # of a terminal's cell: `[0.498, 0.524]` or `[0.498,`, and a space
_LEAST_COLUMNS = 14  # that the names have at any width
_HEADLINES = 6  # measures that are shown before names get all the room that they want


@dataclass(frozen=True, slots=True)
class System:
    """What was measured: the texts of three specs."""

    encoder: str
    transform: str
    index: str


@dataclass(frozen=True, slots=True)
class Row:
    """All numbers of one experiment, by measure."""

    system: System
    experiment: str
    records: dict[str, Record]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that may be compared: one direction of one evaluation over one corpus."""

    evaluation: str
    direction: str
    corpus: int
    rows: tuple[Row, ...]

    @property
    def measures(self) -> list[str]:
        """The measures that any row has: the headline first, then by name and cut-off."""
        return measure_order(measure for row in self.rows for measure in row.records)

    @property
    def facts(self) -> str:
        """Over how many queries, clusters and rows the means were taken."""
        records = [record for row in self.rows for record in row.records.values()]
        queries = _span([record.queries for record in records])
        clusters = _span([record.clusters for record in records])
        return f"{queries} queries in {clusters} clusters over {self.corpus:,} rows"

    def best(self, measure: str) -> Row | None:
        """The row whose interval lies wholly above the intervals of all others; None where no row's does."""
        rows = [(row, row.records[measure]) for row in self.rows if measure in row.records]
        if len(rows) < 2 or any(record.low is None or record.unit not in SHARES for _, record in rows):
            return None
        winner, best = max(rows, key=lambda pair: pair[1].value)
        others = [record for row, record in rows if row is not winner]
        is_ahead = all(best.low is not None and record.high is not None and best.low > record.high for record in others)
        return winner if is_ahead else None


def blocks(records: Iterable[Record]) -> list[Block]:
    """Records grouped for tables; text to image first, else everything in the order in which it first appears."""
    found: dict[tuple[str, str, int], dict[tuple[System, str], dict[str, Record]]] = {}
    for record in records:
        rows = found.setdefault((record.evaluation, record.direction, record.corpus), {})
        system = System(record.encoder, record.transform, record.index)
        rows.setdefault((system, record.experiment), {})[record.measure] = record
    made = [
        Block(evaluation, direction, corpus, tuple(Row(*names, cells) for names, cells in rows.items()))
        for (evaluation, direction, corpus), rows in found.items()
    ]
    return sorted(made, key=lambda block: block.direction != "text_to_image")


def measure_order(measures: Iterable[str]) -> list[str]:
    """Each measure once: the headline in its order, then the others by name and cut-off."""
    headline = list(HEADLINE)

    def place(measure: str) -> tuple[int, str, int]:
        name, _, cutoff = measure.partition("@")
        number = int(cutoff) if cutoff.isdecimal() else 0
        return (headline.index(measure) if measure in HEADLINE else len(headline), name, number)

    return sorted(set(measures), key=place)


def label(measure: str) -> str:
    """How a measure is headed: `R@10` for recall@10; other measures keep their name."""
    return HEADLINE.get(measure, measure)


def direction_words(direction: str) -> str:
    """A direction in words."""
    return DIRECTIONS.get(direction, printable(direction))


def number(value: float | None, unit: str = "") -> str:
    """A value as text: shares to three places (two digits below 0.001), others to four digits with their unit."""
    if value is None or not math.isfinite(value):
        return "none"
    if unit in SHARES:
        return f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"
    text = f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return text if unit in UNIT_IN_NAME else f"{text} {printable(unit)}"


def interval(low: float | None, high: float | None, unit: str = "") -> str:
    """`[0.498, 0.524]`, or nothing where there is no interval."""
    if low is None or high is None:
        return ""
    if unit in SHARES:
        return f"[{number(low)}, {number(high)}]"
    return f"[{low:,.4g}, {high:,.4g}]"


def ties(record: Record) -> str:
    """The bounds that ties allow, or nothing where they print as the value does."""
    bounds = (record.worst_tie, record.best_tie)
    if record.worst_tie is None or record.best_tie is None:
        return ""
    is_same = all(number(bound, record.unit) == number(record.value, record.unit) for bound in bounds)
    return "" if is_same else interval(record.worst_tie, record.best_tie, record.unit)


def at_chance(record: Record) -> bool:
    """Whether the number cannot be told from what a random ranking gets."""
    if record.chance is None:
        return False
    try:
        measure = parse_measure(record.measure)
    except SpecError:  # a measure that this version does not know, nor which way of it is better
        return False
    return is_at_chance(measure, record.value, record.low, record.high, record.chance)


def printable(text: str) -> str:
    """The text with control characters shown as a box, so that a name cannot steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def terminal_table(records: Sequence[Record], width: int = 80) -> Table:
    """Numbers with their intervals, one row per direction, encoder, transform and index, for `width` columns.

    A cell is the value over its interval, which is broken in two where the width is short; measures that do not fit
    even then are named below. Bold is a value whose interval lies above all others of its direction.
    """
    measures = measure_order(record.measure for record in records)
    grouped = blocks(records)
    varying, constant = _parts(grouped)
    longest = max(len(getattr(row.system, part)) for block in grouped for row in block.rows for part in varying)
    # Names are whole where the headline measures leave room for them, since a broken name is hard to find again.
    narrow = [max(_NARROW_COLUMNS, len(label(measure)) + 1) for measure in measures]
    names_columns = max(_LEAST_COLUMNS, min(longest + 1, width - sum(narrow[:_HEADLINES])))
    is_wide = names_columns + sum(max(_WIDE_COLUMNS, each) for each in narrow) <= width
    fitting = sum(names_columns + taken <= width for taken in itertools.accumulate(narrow))
    shown = measures if is_wide else measures[: max(1, fitting)]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.title_justify = table.caption_justify = "left"
    evaluations = ", ".join(dict.fromkeys(printable(record.evaluation) for record in records))
    table.title = Text("\n".join([evaluations, *constant]), style="bold")
    table.add_column(Text("\n".join(varying)), overflow="fold", min_width=names_columns - 1)
    for measure in shown:
        table.add_column(Text(label(measure)), justify="right", overflow="fold", min_width=_NARROW_COLUMNS - 1)
    for block in grouped:
        table.add_row(Text(direction_words(block.direction), style="bold cyan"))
        bests = {measure: block.best(measure) for measure in shown}
        for row in block.rows:
            names = [printable(getattr(row.system, part)) for part in varying]
            cells = [_cell(row.records.get(measure), bests[measure] is row, is_wide) for measure in shown]
            table.add_row(Text("\n".join(names)), *cells, end_section=row is block.rows[-1])
    table.caption = Text("\n".join(_caption(grouped, records, measures[len(shown) :])), style="dim")
    return table


def print_records(records: Sequence[Record], console: Console) -> None:
    """Print the table, laid out for the console's width."""
    console.print(terminal_table(records, console.width))


def _parts(grouped: Sequence[Block]) -> tuple[list[str], list[str]]:
    """The parts of the systems' names that differ (the encoder where none does), and a line for each that does not."""
    systems = [row.system for block in grouped for row in block.rows]
    values = {part: {getattr(system, part) for system in systems} for part in ("encoder", "transform", "index")}
    varying = [part for part, names in values.items() if len(names) > 1] or ["encoder"]
    return varying, [f"{part} {printable(*names)}" for part, names in values.items() if part not in varying]


def _cell(record: Record | None, is_best: bool, is_wide: bool) -> Text:
    if record is None:
        return Text("")
    cell = Text(number(record.value, record.unit), style="bold" if is_best else "")
    cell.append((CHANCE_MARK if at_chance(record) else "") + (TIES_MARK if ties(record) else ""))
    for bounds in (interval(record.low, record.high, record.unit), ties(record)):
        if bounds:
            cell.append("\n" + (bounds if is_wide else bounds.replace(", ", ",\n")), style="not bold dim")
    return cell


def _caption(grouped: Sequence[Block], records: Sequence[Record], hidden: Sequence[str]) -> list[str]:
    lines = [f"{direction_words(block.direction)}: {block.facts}." for block in grouped]
    # How many clusters there are stands in the lines above, and differs by direction.
    methods = dict.fromkeys(
        re.sub(r" over \d+ clusters", " over clusters", printable(record.method))
        for record in records
        if record.low is not None
    )
    lines += [f"Under each value: its interval ({method})." for method in methods]
    if "recall@10" in {record.measure for record in records}:
        lines.append("R@10 is recall@10, relevant found over all relevant; the R@10 of CLIP papers is hit@10.")
    if any(at_chance(record) for record in records):
        lines.append(f"{CHANCE_MARK} no better than a random ranking: check that the model was loaded right.")
    if any(ties(record) for record in records):
        tied = [record.measure.startswith("overlap@") for record in records if ties(record)]
        if not all(tied):
            lines.append(
                f"{TIES_MARK} below the interval: the value if all ties went against, or for, the relevant rows."
            )
        if any(tied):
            lines.append(
                f"{TIES_MARK} below the interval of an overlap: the value by id, and with rows counted that tie with the last "
                "exact one."
            )
    if any(block.best(measure) for block in grouped for measure in block.measures):
        lines.append("Bold: the interval lies above those of all other rows of the direction.")
    if hidden:
        lines.append(f"Too wide for this terminal, and in the report: {', '.join(map(printable, hidden))}.")
    return lines


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers, default=0), max(numbers, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
