"""Indexes against the first of them: all at one effort, and each at the effort that reaches a target.

At equal effort one sees what a smaller index loses; at equal quality, what it costs to make up for that. Ratios of latency are
of the same queries asked of both in the same turn; turns go over all indexes, one after another. Their interval resamples turns
and queries in pairs, so what else the machine did between turns is in it.

Axes: Q queries, T turns, R resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from raybench.experiments.backend import Backend
from raybench.experiments.cell import Cell
from raybench.experiments.cost_sheets import share
from raybench.experiments.costs import cost_cell, latencies_again
from raybench.experiments.evaluation import Compare, Tune
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Cell as Value
from raybench.experiments.run_file import Sheet
from raybench.experiments.tuning import tune_cell
from raybench.metrics.cost import Times

_RESAMPLES = 2_000
TURNS = 3


def compare_cell(cell: Cell, compare: Compare, out: str, backend: Backend, reporter: Reporter) -> dict[str, Any]:
    """One index at the common effort and, where the target is reached, at its own. IndexRequestError as of `cost_cell`."""
    alike = cost_cell(cell.at(compare.effort), compare.cost, out, backend, reporter)
    tune = Tune(measure=compare.cost.measure, target=compare.target, most=compare.most)
    tuned = tune_cell(cell, tune, out, backend, reporter)
    effort = tuned["effort"]
    own = None if effort is None else cost_cell(cell.at(effort), compare.cost, out, backend, reporter)
    return {
        "cell": cell, "effort": effort, "confirmed": tuned["confirmed"], "equal_effort": alike, "equal_quality": own,
    }  # fmt: skip


def take_turns(
    made: Sequence[dict[str, Any]], compare: Compare, out: str, backend: Backend, reporter: Reporter
) -> None:
    """Time all indexes again, turn after turn; every other turn goes backwards. `made` is what `compare_cell` gave."""
    for turn in range(1, TURNS):
        for one in made[:: -1 if turn % 2 else 1]:
            for what, effort in (("equal_effort", compare.effort), ("equal_quality", one["effort"])):
                if one[what] is not None:
                    cell: Cell = one["cell"].at(effort)
                    more = latencies_again(cell, compare.cost, turn, out, backend, reporter)
                    one.setdefault(f"turns of {what}", [one[what]["latencies_ms"]]).append(more)


def ratio(ours_TQ: Times, theirs_TQ: Times, seed: int) -> tuple[float, float, float]:
    """Mean latency over mean latency on the same queries, with its 95 % interval by resampling turns and queries."""
    random = np.random.default_rng([seed, 0xC3])
    turns, queries = ours_TQ.shape
    ratios_R = np.empty(_RESAMPLES)
    for resample in range(_RESAMPLES):
        drawn = np.ix_(random.integers(turns, size=turns), random.integers(queries, size=queries))
        ratios_R[resample] = ours_TQ[drawn].sum() / theirs_TQ[drawn].sum()
    low, high = np.quantile(ratios_R, (0.025, 0.975))
    return float(ours_TQ.sum() / theirs_TQ.sum()), float(low), float(high)


def compared_sheet(compare: Compare, cells: Sequence[Cell], made: Sequence[dict[str, Any]], seed: int) -> Sheet:
    """The comparison of one direction, encoder and transform as a table; the first row is what the others are held against."""
    first = next((one for one in made if one["cell"] is cells[0]), None)
    base = None if first is None else first["equal_effort"]
    rows: list[tuple[Value, ...]] = []
    for one in made:
        alike, own = one["equal_effort"], one["equal_quality"]
        rows.append(
            (
                one["cell"].index, alike["file_bytes"], alike["resident_bytes"],
                alike["resident_bytes"] / base["resident_bytes"] if base else None, alike["build_s"],
                share(alike["quality"]), _median_ms(one, "equal_effort"), _ratio(one, first, "equal_effort", seed),
                "not reached" if own is None else str(one["effort"]), own and share(own["quality"]),
                own and ("yes" if one["confirmed"] else "no"), own and _median_ms(one, "equal_quality"),
                _ratio(one, first, "equal_quality", seed), alike["fetched"] and f"{alike['fetched']['per_query']:,.0f}",
            )
        )  # fmt: skip
    columns = (
        "index", "on disk", "resident", "of first", "build_s", f"{compare.cost.measure} @{compare.effort}", "p50_ms", "time of first",
        f"effort for {compare.target:g}", compare.cost.measure, "confirmed", "its p50_ms", "its time of first", "fetched",
    )  # fmt: skip
    asked = cells[0].asked
    note = (
        f"All at effort {compare.effort}, then each at the smallest effort whose tuned {compare.cost.measure} reaches "
        f"{compare.target:g}. Bytes of whole files and of what is held; stored rows that are fetched or scored again are no part of "
        f"it. Confirmed: reached on held-out queries too. First is {cells[0].index}. Time of first: mean latency of single queries "
        f"over that of the first index on the same queries, in {TURNS} turns over all indexes, with its 95 % interval over turns and "
        "queries; few turns make it wide where the machine was not quiet. Fetched: rows that a "
        f"query looks at and the index does not hold. {asked.encoder}, {cells[0].transform}, "
        f"{len(asked.corpus):,} rows."
    )
    return Sheet(f"Compact against full, {asked.direction.replace('_', ' ')}", note, columns, tuple(rows))


def _median_ms(one: dict[str, Any], what: str) -> float:
    return float(np.median(one[f"turns of {what}"]))


def _ratio(one: dict[str, Any], first: dict[str, Any] | None, what: str, seed: int) -> str | None:
    name = f"turns of {what}"
    if first is None or name not in one or name not in first:
        return None
    value, low, high = ratio(np.asarray(one[name]), np.asarray(first[name]), seed)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
