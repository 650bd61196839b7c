"""The plots of answers: each measure by context, and where the seconds of a query go."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from raybench.report import canvas, plots
from raybench.report.figures import MOST_PANELS, Figure
from raybench.report.words import duration

Told = Mapping[str, Any]

CONTEXTS = ("none", "random", "retrieved", "gold")
"""From what a model says without a picture to what it says of the right ones; others follow."""

SERIES_OF = {"none": 7, "random": 1, "retrieved": 0, "gold": 2}
_OTHER = 3  # the series of a context that this version does not know
_STAGES = {"query encoding": 5, "search": 4, "picture fetch": 2, "preprocessing": 3, "first token": 1, "decode": 0}
_BETWEEN, _BETWEEN_SERIES = "between", 7  # what is in the total and in no stage
_LABEL_SHARE = 0.075  # of the axis, that a part must take for its share to be printed in it


@dataclass(frozen=True, slots=True)
class Panels:
    """A plot for each measure; `more` are folded."""

    first: tuple[Figure, ...]
    more: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One stage of a query: its mean, its share of the whole, and what it is made of."""

    name: str
    series: int
    mean_s: float
    share: float
    inner: tuple[tuple[str, str], ...] = ()  # name and seconds

    @property
    def seconds(self) -> str:
        """The mean with its unit."""
        return seconds(self.mean_s)


@dataclass(frozen=True, slots=True)
class Split:
    """Where the time of one query goes, in one context."""

    context: str
    svg: str
    words: str
    parts: tuple[Part, ...]


def panels(prompt: str, generations: Sequence[Told]) -> Panels:
    """Dot and whisker of each share, a row per context; scores that have another scale are in the tables alone."""
    order = {context: place for place, context in enumerate(CONTEXTS)}
    rows = sorted(generations, key=lambda one: order.get(one["context"], len(order)))
    by_measure: dict[str, list[tuple[str, Told]]] = {}
    for one in generations:  # measures stand as the run tells them
        for told in one.get("measures") or []:
            if told.get("unit") == "share" and _is_number(told.get("value")):
                by_measure.setdefault(told["measure"], [])
    for one in rows:
        for told in one.get("measures") or []:
            if told["measure"] in by_measure and _is_number(told.get("value")):
                by_measure[told["measure"]].append((one["context"], told))
    figures = [_panel(prompt, measure, cells) for measure, cells in by_measure.items()]
    return Panels(tuple(figures[:MOST_PANELS]), tuple(figures[MOST_PANELS:]))


def _panel(prompt: str, measure: str, cells: Sequence[tuple[str, Told]]) -> Figure:
    dots = [
        plots.Dot(
            context, SERIES_OF.get(context, _OTHER), told["value"], _bound(told.get("low")), _bound(told.get("high")), None
        )
        for context, told in cells
    ]  # fmt: skip
    svg = plots.dots(dots, f"{measure} by context, prompt {prompt}", is_share=True, left_pt=72)
    return Figure(measure, svg, next((told["says"] for _, told in cells if told.get("says")), ""))


def splits(prompt: str, rag_times: Sequence[Told]) -> tuple[Split, ...]:
    """A bar for each context; their axes are equal, so that bars of one prompt may be compared."""
    parts = [_parts(one) for one in rag_times]
    end_s = max((sum(part.mean_s for part in mine) for mine in parts), default=0.0)
    return tuple(
        Split(
            one["context"],
            _bar(mine, end_s, f"seconds of a query by stage, prompt {prompt}, context {one['context']}, bar {number}"),
            _words(one),
            mine,
        )
        for number, (one, mine) in enumerate(zip(rag_times, parts, strict=True))
        if mine
    )


def seconds(value_s: float) -> str:
    """A time to three digits, in milliseconds where it is below a second."""
    if value_s >= 100:
        return duration(value_s)
    text = f"{value_s:#.3g}" if value_s >= 0.9995 else f"{value_s * 1000:#.3g}"
    return text.rstrip(".") + (" s" if value_s >= 0.9995 else " ms")


def _parts(told: Told) -> tuple[Part, ...]:
    """The stages in the order in which they happen, and what of the total lies between them."""
    means = {one["stage"]: one for one in told.get("stages") or [] if _is_number(one.get("mean_s"))}
    there = {name: float(means[name]["mean_s"]) for name in _STAGES if name in means}
    total_s = float(means["total"]["mean_s"]) if "total" in means else sum(there.values())
    inner = tuple(
        (name.removeprefix("search: "), seconds(one["mean_s"])) for name, one in means.items() if name.startswith("search: ")
    )  # fmt: skip
    parts = [
        Part(name, _STAGES[name], mean_s, _share(means[name], mean_s, total_s), inner if name == "search" else ())
        for name, mean_s in there.items()
    ]
    left_s = total_s - sum(there.values())
    if parts and left_s > 0:
        parts.append(Part(_BETWEEN, _BETWEEN_SERIES, left_s, left_s / total_s))
    return tuple(parts)


def _share(told: Told, mean_s: float, total_s: float) -> float:
    """The share that the run tells, or that of the means."""
    if _is_number(told.get("share")):
        return float(told["share"])
    return mean_s / total_s if total_s > 0 else 0.0


def _words(told: Told) -> str:
    total: Told = next((one for one in told.get("stages") or [] if one["stage"] == "total"), {})
    words = f"Mean of {told['warm']:,} warm queries, each answered alone" if told.get("warm") else "Mean of a query"
    if not _is_number(total.get("mean_s")):
        return words
    words += f": {seconds(total['mean_s'])}"
    if _is_number(total.get("low_s")) and _is_number(total.get("high_s")):
        words += f" [{seconds(total['low_s'])}, {seconds(total['high_s'])}]"
    return words


def _bar(parts: Sequence[Part], end_s: float, name: str) -> str:
    """One horizontal bar of seconds, cut into stages; a share is printed where it has room."""
    with canvas.settings():
        figure, axes = canvas.panel(canvas.WHOLE_PT, 78, left_pt=14, bottom_pt=26, right_pt=14)
        end_s = end_s or 1.0
        axes.set_xlim(0, end_s)
        axes.set_ylim(-0.5, 0.5)
        starts = itertools.accumulate((part.mean_s for part in parts), initial=0.0)
        for start_s, part in zip(starts, parts, strict=False):
            colour = canvas.SERIES[part.series]
            axes.barh(0, part.mean_s, left=start_s, height=0.8, color=colour, edgecolor=canvas.PAPER, linewidth=1)
            if part.mean_s / end_s >= _LABEL_SHARE:
                middle_s = start_s + part.mean_s / 2
                axes.text(middle_s, 0, f"{part.share:.0%}", ha="center", va="center", color=canvas.PAPER, size=10)
        axes.yaxis.set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value_s, _: _tick(value_s, end_s)))
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        return canvas.svg_text(figure, name)


def _tick(value_s: float, end_s: float) -> str:
    return f"{value_s:g} s" if end_s >= 1 else f"{value_s * 1000:g} ms"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _bound(value: Any) -> float | None:
    return float(value) if _is_number(value) else None
