"""The plots of one block of results, with the words under them; a plot without its data is left out, not drawn empty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raybench.report import canvas, plots
from raybench.report.tables import HEADLINE, SHARES, Block, Row, System, direction_words, label
from raybench.results import Record

Letters = Mapping[System, tuple[str, int]]
MOST_PANELS = 6
_BUCKET_ENDS = (1, 3, 10, 30, 100)  # the last rank of each bucket; what lies past 100 is one more
_MISSED = canvas.NUM_BUCKETS - 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot as SVG text, its heading, what is to be seen in it, and the colours it explains."""

    title: str
    svg: str
    words: str
    legend: tuple[tuple[int, str], ...] = ()  # bucket number and what it stands for


def letters(blocks: Sequence[Block]) -> dict[System, tuple[str, int]]:
    """The letter and the series number of every system, the same in all tables and plots of a page."""
    systems = dict.fromkeys(row.system for block in blocks for row in block.rows)
    return {system: (letter(number), number) for number, system in enumerate(systems)}


def panels(block: Block, names: Letters) -> tuple[Figure, ...]:
    """Dot and whisker of each headline measure (of the first measures where none is a headline)."""
    headline = [measure for measure in block.measures if measure in HEADLINE]
    return tuple(_dots(block, measure, names) for measure in (headline or block.measures)[:MOST_PANELS])


def wholes(block: Block, names: Letters, neighbors: Mapping[str, pa.Table]) -> tuple[Figure, ...]:
    """The hit@k curve where there are several k, and the ranks of the first right rows where neighbors are kept."""
    return (*_hit_curve(block, names), *_rank_bars(block, names, neighbors))


def letter(number: int) -> str:
    """A, B, ..., Z, AA, AB, ... as spreadsheets name columns."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _scope(block: Block) -> str:
    return f"{direction_words(block.direction)}, {block.evaluation}, {block.corpus} rows"


def _dot(row: Row, record: Record, names: Letters) -> plots.Dot:
    key, series = names[row.system]
    return plots.Dot(key, series, record.value, record.low, record.high, record.chance)


def _dots(block: Block, measure: str, names: Letters) -> Figure:
    rows = [row for row in block.rows if measure in row.records]
    dots = [_dot(row, row.records[measure], names) for row in rows]
    unit = rows[0].records[measure].unit
    name = f"{measure}, {_scope(block)}: dot and whisker per system"
    svg = plots.dots(dots, name, is_share=unit in SHARES)
    return Figure(label(measure), svg, "" if unit in SHARES else f"in {unit}")


def _hit_curve(block: Block, names: Letters) -> list[Figure]:
    cutoffs = {
        int(cutoff): measure
        for measure in block.measures
        for name, _, cutoff in [measure.partition("@")]
        if name == "hit" and cutoff.isdecimal()
    }
    lines = []
    for row in block.rows:
        there = tuple(cutoff for cutoff in sorted(cutoffs) if cutoffs[cutoff] in row.records)
        if len(there) >= 2:
            key, series = names[row.system]
            dots = tuple(_dot(row, row.records[cutoffs[cutoff]], names) for cutoff in there)
            lines.append(plots.Curve(key, series, there, dots))
    if not lines:
        return []
    name = f"hit@k over k, {_scope(block)}"
    words = "Share of queries with a right answer among the first k; whiskers are intervals."
    return [Figure("hit@k", plots.curves(lines, name, label="k (first rows looked at)"), words)]


def _rank_bars(block: Block, names: Letters, neighbors: Mapping[str, pa.Table]) -> list[Figure]:
    rows = [row for row in block.rows if row.experiment in neighbors]
    if not rows:
        return []
    depth = max(deepest(neighbors[row.experiment]) for row in rows)
    ends = [end for end in _BUCKET_ENDS if end < depth] + [depth]
    bars = []
    for row in rows:
        num_queries = max(record.queries for record in row.records.values())
        counts = count_ranks(neighbors[row.experiment], ends)
        found = [count / max(num_queries, 1) for count in counts]
        padding = [0.0] * (_MISSED - len(found))
        bars.append(plots.Bar(names[row.system][0], (*found, *padding, max(0.0, 1 - sum(found)))))
    name = f"rank of the first right row, {_scope(block)}"
    starts = [1, *(end + 1 for end in ends)]
    legend = [
        (number, f"rank {start}" if start == end else f"{start} to {end}")
        for number, (start, end) in enumerate(zip(starts, ends, strict=False))
    ]
    legend.append((_MISSED, f"not in the first {depth}"))
    words = "Share of queries by the rank of their first right answer."
    return [Figure("Where the first right answer is", plots.stacked(bars, name), words, tuple(legend))]


def count_ranks(neighbors: pa.Table, ends: Sequence[int]) -> list[int]:
    """For each bucket, which ends at a rank and starts past the one before: how many queries first meet a right row there."""
    right = neighbors.filter(pc.greater(neighbors["grade"], 0))
    firsts = right.group_by("query_id").aggregate([("rank", "min")])["rank_min"]
    within = [pc.sum(pc.less_equal(firsts, end)).as_py() or 0 for end in ends]
    return [count - before for count, before in zip(within, [0, *within], strict=False)]


def deepest(neighbors: pa.Table) -> int:
    """The last rank that any query has."""
    return int(pc.max(neighbors["rank"]).as_py() or 1)
