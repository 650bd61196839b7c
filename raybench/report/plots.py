"""A plot is a function from values to the text of an SVG that lies inside the page and takes its colours from it.

Systems appear as the letters that the page gives them, so no name from the data is drawn.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from raybench.report.canvas import (
    BUCKET_INKS,
    BUCKETS,
    INK,
    MARKERS,
    NUM_SERIES,
    PANEL_PT,
    PAPER,
    ROW_PT,
    SERIES,
    WHOLE_PT,
    panel,
    settings,
    svg_text,
)


@dataclass(frozen=True, slots=True)
class Dot:
    """One value with its interval; `series` picks colour and marker, `key` is the letter of the system."""

    key: str
    series: int
    value: float
    low: float | None
    high: float | None
    chance: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """One system's values over cut-offs, each with its interval."""

    key: str
    series: int
    cutoffs: tuple[int, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One cell of a trade-off: what it costs, what it gives, and whether another beats it in both."""

    cost: float
    cost_low: float | None
    cost_high: float | None
    value: float
    low: float | None
    high: float | None
    is_beaten: bool


@dataclass(frozen=True, slots=True)
class Trade:
    """One index at several efforts, by cost."""

    key: str
    series: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """Shares of one whole, in the order of the buckets; they add up to 1."""

    key: str
    shares: tuple[float, ...]


def dots(rows: Sequence[Dot], name: str, *, is_share: bool, left_pt: float = 26) -> str:
    """Dot and whisker, one row per key, the first on top; a short bar marks chance where it is in view.

    `left_pt` is the room for the keys, which are printed as they are.
    """
    with settings():
        figure, axes = panel(PANEL_PT, len(rows) * ROW_PT + 34, left_pt=left_pt, bottom_pt=24, right_pt=14)
        low, high = _view(rows, is_share=is_share)
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=True, axis="x")
        for place, dot in enumerate(rows):
            colour, marker = SERIES[dot.series % NUM_SERIES], MARKERS[dot.series % NUM_SERIES]
            if dot.low is not None and dot.high is not None:
                axes.plot([dot.low, dot.high], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
            axes.plot([dot.value], [place], marker, color=colour, markersize=8, markeredgecolor=PAPER)
            if dot.chance is not None and low <= dot.chance <= high:
                axes.plot([dot.chance] * 2, [place - 0.32, place + 0.32], color=INK, linewidth=1.2)
        axes.yaxis.set_major_locator(FixedLocator(list(range(len(rows)))))
        axes.set_yticklabels([dot.key for dot in rows], parse_math=False)
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        return svg_text(figure, name)


def curves(lines: Sequence[Curve], name: str, *, label: str) -> str:
    """Values over cut-offs on a logarithmic axis, whiskers for the intervals, letters at the right ends."""
    with settings():
        figure, axes = panel(WHOLE_PT, 244, left_pt=32, bottom_pt=36, right_pt=26)
        cutoffs = sorted({cutoff for line in lines for cutoff in line.cutoffs})
        spread = 0.0 if len(lines) == 1 else 0.018  # systems stand beside each other, as a share of the cut-off
        for place, line in enumerate(lines):
            colour, marker = SERIES[line.series % NUM_SERIES], MARKERS[line.series % NUM_SERIES]
            xs = [cutoff * (1 + spread * (place - (len(lines) - 1) / 2)) for cutoff in line.cutoffs]
            for x, dot in zip(xs, line.dots, strict=True):
                if dot.low is not None and dot.high is not None:
                    axes.plot([x, x], [dot.low, dot.high], color=colour, linewidth=1.6)
            values = [dot.value for dot in line.dots]
            axes.plot(xs, values, marker + "-", color=colour, markersize=6.5, linewidth=1.3, markeredgecolor=PAPER)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(cutoffs))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(cutoff) for cutoff in cutoffs])
        axes.set_xlabel(label)
        axes.set_ylim(0, 1.02)
        axes.grid(visible=True, axis="y")
        axes.tick_params(length=0)
        ends = _apart([line.dots[-1].value for line in lines], least=0.07)
        for line, end in zip(lines, ends, strict=True):
            axes.text(1.03, end, line.key, transform=axes.get_yaxis_transform(), va="center", weight="bold", color=INK)
        return svg_text(figure, name)


def stacked(bars: Sequence[Bar], name: str) -> str:
    """One bar per system, cut into shares; a share is printed where it has room."""
    with settings():
        figure, axes = panel(WHOLE_PT, len(bars) * (ROW_PT + 8) + 34, left_pt=26, bottom_pt=24, right_pt=22)
        axes.set_xlim(0, 1)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        for place, bar in enumerate(bars):
            starts = itertools.accumulate(bar.shares, initial=0.0)
            for number, (start, share) in enumerate(zip(starts, bar.shares, strict=False)):
                axes.barh(place, share, left=start, height=0.72, color=BUCKETS[number], edgecolor=PAPER, linewidth=1)
                if share >= 0.075:
                    middle = start + share / 2
                    ink = BUCKET_INKS[number]
                    axes.text(middle, place, f"{share:.0%}", ha="center", va="center", color=ink, size=10)
        axes.yaxis.set_major_locator(FixedLocator(list(range(len(bars)))))
        axes.set_yticklabels([bar.key for bar in bars])
        axes.xaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axes.set_xticklabels(["0", "25 %", "50 %", "75 %", "100 %"])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        return svg_text(figure, name)


def trades(lines: Sequence[Trade], name: str, *, label: str) -> str:
    """Quality over cost on a logarithmic axis; a hollow mark is beaten by another, letters stand at the best of each line."""
    with settings():
        figure, axes = panel(WHOLE_PT, 260, left_pt=38, bottom_pt=36, right_pt=20)
        for line in lines:
            colour, marker = SERIES[line.series % NUM_SERIES], MARKERS[line.series % NUM_SERIES]
            xs, ys = [point.cost for point in line.points], [point.value for point in line.points]
            axes.plot(xs, ys, "-", color=colour, linewidth=1.2)
            for point in line.points:
                if point.low is not None and point.high is not None:
                    axes.plot([point.cost] * 2, [point.low, point.high], color=colour, linewidth=1.4)
                if point.cost_low is not None and point.cost_high is not None:
                    axes.plot([point.cost_low, point.cost_high], [point.value] * 2, color=colour, linewidth=1.4)
                fill = PAPER if point.is_beaten else colour
                axes.plot([point.cost], [point.value], marker, color=colour, markersize=6.5, markerfacecolor=fill)
            axes.annotate(
                line.key,
                (xs[-1], ys[-1]),
                xytext=(4, 5),
                textcoords="offset points",
                weight="bold",
                color=INK,
                size=10,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label)
        axes.margins(x=0.08, y=0.1)
        axes.grid(visible=True, axis="both")
        axes.tick_params(length=0)
        return svg_text(figure, name)


def _short(value: float, _: int) -> str:
    """A number of an axis: 0.1, 10, 3k, 2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _view(rows: Sequence[Dot], *, is_share: bool) -> tuple[float, float]:
    """The range to show: all intervals with a margin; for shares at least a tenth wide, so that noise stays small."""
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    low, high = min(ends), max(ends)
    least = 0.1 if is_share else abs(high) * 0.1 or 1.0
    margin = max((high - low) * 0.08, (least - (high - low)) / 2)
    low, high = low - margin, high + margin
    return (max(low, -0.01), min(high, 1.01)) if is_share else (low, high)


def _apart(values: Sequence[float], least: float) -> list[float]:
    """The values moved so that none is nearer than `least` to the next; their order stays."""
    order = sorted(range(len(values)), key=lambda place: (values[place], -place))
    moved = list(values)
    for lower, upper in itertools.pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + least)
    over = max(0.0, max(moved) - 1.0)
    return [value - over for value in moved]
