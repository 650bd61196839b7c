"""Quality against cost as plots: one line an index, one mark an effort, for latency and for bytes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raybench.metrics.cost import dominated
from raybench.report import plots
from raybench.report.figures import Figure, letter
from raybench.report.tables import direction_words, printable
from raybench.spec import Spec

Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """The plots of one direction, and what their letters stand for."""

    direction: str
    figures: tuple[Figure, ...]
    lines: tuple[tuple[str, int, str], ...]  # letter, series, words


def tradeoffs(costs: Sequence[Told]) -> list[Tradeoff]:
    """One for each direction; none where fewer than two cells were measured."""
    directions = dict.fromkeys(str(one["direction"]) for one in costs)
    groups = [(direction, [one for one in costs if one["direction"] == direction]) for direction in directions]
    return [_tradeoff(direction, mine) for direction, mine in groups if len(mine) > 1]


def _tradeoff(direction: str, costs: Sequence[Told]) -> Tradeoff:
    encoders = {one["encoder"] for one in costs}
    lines: dict[tuple[str, str, str], list[int]] = {}
    for place, one in enumerate(costs):
        bare = str(dataclasses.replace(Spec.parse(one["index"]), at=None))
        lines.setdefault((one["encoder"], one["transform"], bare), []).append(place)
    measure, scope = str(costs[0]["quality"]["measure"]), f"{direction_words(direction)}, {len(costs)} cells"
    quality = [float(one["quality"]["value"]) for one in costs]

    def figure(title: str, label: str, cost: Sequence[float], bounds: Sequence[tuple[Any, Any]]) -> Figure:
        beaten = [False] * len(costs)
        for encoder in encoders:  # each has a truth of its own
            mine = [place for place, one in enumerate(costs) if one["encoder"] == encoder]
            is_worse = dominated([quality[place] for place in mine], [-cost[place] for place in mine])
            for place, worse in zip(mine, is_worse, strict=True):
                beaten[place] = worse
        made = [
            plots.Trade(
                letter(number), number,
                tuple(
                    plots.Point(
                        cost[place], *bounds[place], quality[place], costs[place]["quality"]["low"],
                        costs[place]["quality"]["high"], beaten[place],
                    )
                    for place in sorted(places, key=lambda place: (cost[place], quality[place]))
                ),
            )
            for number, places in enumerate(lines.values())
        ]  # fmt: skip
        svg = plots.trades(made, f"{measure} over {label}, {scope}", label=label)
        return Figure(title, svg, f"{measure} over {label}")

    latency = [one["latency"] for one in costs]
    figures = (
        figure(
            "Quality and latency", "median of single queries, ms", [one["p50_ms"] for one in latency],
            [(one["p50_low_ms"], one["p50_high_ms"]) for one in latency],
        ),
        figure(
            "Quality and memory", "resident bytes a row",
            [one["resident_bytes"] / one["rows"] for one in costs], [(None, None)] * len(costs),
        ),
    )  # fmt: skip
    words = [", ".join([encoder] * (len(encoders) > 1) + [transform, index]) for encoder, transform, index in lines]
    named = tuple((letter(number), number, printable(text)) for number, text in enumerate(words))
    return Tradeoff(direction, figures, named)
