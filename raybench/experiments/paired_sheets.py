"""Paired comparisons as tables: of two experiments, and of every encoder of a run against its first."""

from collections.abc import Sequence

from raybench.experiments.changed import Found
from raybench.experiments.evaluation import Evaluation, Intervals
from raybench.experiments.paired import Compared, Line, compare
from raybench.experiments.pairing import Stored
from raybench.experiments.run_file import Cell, Sheet
from raybench.metrics import parse_measure
from raybench.results import Record

_TEXT = 60  # characters of a query that are shown
_MANY = 3  # encoders beside the first that have a table each


def lines_sheet(compared: Compared, level: float) -> Sheet:
    """What two experiments differ by, a row a measure."""
    a, b = compared.a, compared.b
    alike = [a.facet(name) for name in ("encoder", "transform", "index") if a.facet(name) == b.facet(name)]
    title = ", ".join([a.facet("direction").replace("_", " "), *alike])
    if a.facet("direction") != b.facet("direction"):
        title = ", ".join(["A against B", *alike])
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in compared.left_out.items())
    note = (
        f"{_side('A', a, b)}. {_side('B', b, a)}. {compared.queries:,} queries in {compared.clusters:,} clusters"
        f"{f', without {left_out}' if left_out else ''}. Better, worse, equal: shares of queries on which B does so. "
        f"Interval and p: {compared.lines[0].difference.method}; a verdict needs both: an interval without zero, and a p of at "
        f"most {1 - level:.4g}."
    )
    columns = ("measure", "A", "B", "B - A", f"{100 * level:g} % interval", "p", "better", "worse", "equal", "verdict")
    rows = tuple((line.measure, *_cells(line)) for line in compared.lines)
    return Sheet(title, " ".join([note, *(f"{one[0].upper()}{one[1:]}." for one in compared.notes)]), columns, rows)


def changed_sheet(compared: Compared) -> Sheet:
    """The queries that changed most, by the first measure."""
    measure = compared.lines[0].measure
    rows = []
    for one in compared.changed:
        values: tuple[Cell, ...] = (one.a.value, one.b.value, _rank(one.a), _rank(one.b), one.a.first, one.b.first)
        rows.append((one.query_id, _cut(one.text), *values))
    columns = ("query", "text", f"A {measure}", f"B {measure}", "A rank", "B rank", "A first", "B first")
    note = "Rank: of the best relevant row. First: what was retrieved first."
    return Sheet(f"Queries that changed most by {measure}", note, columns, tuple(rows))


def multiplicity(count: int, level: float) -> str | None:
    """What many comparisons at once mean; None for one."""
    if count < 2:
        return None
    return (
        f"{count} comparisons at {100 * level:g} % each: where nothing differs, {count * (1 - level):.2g} of them can still be expected to "
        f"leave out zero. For a claim about all of them at once, ask with --level {1 - (1 - level) / count:.6g}."
    )


def encoder_sheets(evaluation: Evaluation, experiments: Sequence[Stored]) -> list[Sheet]:
    """Every encoder of a run against its first, through the first transform and index of the grid.

    A table for each, or where that would be many one for each direction, of the first measure.
    """
    first, intervals, grid = evaluation.encoders[0], evaluation.intervals, evaluation.grid
    place = {"transform": grid.transforms[0], "index": grid.indexes[0]}
    judged = [name for name in evaluation.measures if parse_measure(name).needs == "qrels"]
    made: list[Sheet] = []
    for direction in evaluation.directions:
        wanted = place | {"direction": direction}
        there = [one for one in experiments if all(one.facet(name) == value for name, value in wanted.items())]
        base = next((one for one in there if one.facet("encoder") == first), None)
        others = [one for one in there if one is not base]
        if base is None or not others or not judged:
            continue
        measures = judged if len(others) <= _MANY else judged[:1]
        done = [compare(base, one, measures, intervals, evaluation.seed, top=0) for one in others]
        made += [_of_pair(one, intervals) for one in done] if len(others) <= _MANY else [_of_many(done, intervals)]
    return made


def stored_of_run(out: str, records: Sequence[Record], judged: str) -> list[Stored]:
    """The experiments of a run that has just been made."""
    by_key: dict[str, dict[str, Record]] = {}
    for record in records:
        by_key.setdefault(record.experiment, {})[record.measure] = record
    return [Stored(out, found, judged) for found in by_key.values()]


def _of_pair(one: Compared, intervals: Intervals) -> Sheet:
    """One encoder against the first."""
    sheet = lines_sheet(one, intervals.level)
    many = multiplicity(len(one.lines), intervals.level)
    note = f"{sheet.note} {many or ''} `raybench compare` tells the queries."
    return Sheet(f"Encoders compared, {one.a.facet('direction').replace('_', ' ')}", note, sheet.columns, sheet.rows)


def _of_many(done: Sequence[Compared], intervals: Intervals) -> Sheet:
    """Many encoders against the first, by one measure."""
    first, measure = done[0].a, done[0].lines[0].measure
    rows = tuple((one.b.facet("encoder"), *_cells(one.lines[0])) for one in done)
    note = (
        f"By {measure}. A is the first encoder, {first.facet('encoder')}, and B each other one; both through "
        f"{first.facet('transform')}, {first.facet('index')}. {done[0].queries:,} queries in {done[0].clusters:,} clusters. Better, worse, "
        f"equal: shares of queries on which B does so. {done[0].lines[0].difference.method}. "
        f"{multiplicity(len(rows), intervals.level)} `raybench compare` tells the other measures, and the queries."
    )
    columns = (
        "encoder",
        "A",
        "B",
        "B - A",
        f"{100 * intervals.level:g} % interval",
        "p",
        "better",
        "worse",
        "equal",
        "verdict",
    )
    return Sheet(f"Encoders compared, {first.facet('direction').replace('_', ' ')}", note, columns, rows)


def _cells(line: Line) -> tuple[Cell, ...]:
    """To four places, so that a column can be read down; the records and `raybench compare --json` have every digit."""
    low, high, p = line.difference.low, line.difference.high, line.difference.p
    interval = None if low is None or high is None else f"[{low:.4f}, {high:.4f}]"
    numbers = (line.a, line.b, line.difference.value)
    shares = (line.better, line.worse, line.equal)
    places = [round(value, 4) for value in (*numbers, *shares)]
    return *places[:3], interval, None if p is None else round(p, 4), *places[3:], line.verdict


def _side(name: str, one: Stored, other: Stored) -> str:
    """What a side is, as far as it differs from the other."""
    facets = [
        one.facet(facet)
        for facet in ("encoder", "direction", "transform", "index")
        if one.facet(facet) != other.facet(facet)
    ]
    return f"{name}: {', '.join(facets) or one.facet('experiment')}" + (
        f" in {one.out}" if one.out != other.out else ""
    )


def _rank(found: Found) -> Cell:
    return found.rank if found.rank is not None or found.depth is None else f"over {found.depth}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
