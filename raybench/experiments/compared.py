"""Indexes against the first of them: all at one effort, and each at the effort that reaches a target.

At equal effort one sees what a smaller index loses; at equal quality, what it costs to make up for that. Ratios of latency are
of the same queries asked of both, so their interval resamples queries in pairs.

Axes: Q queries, R resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.experiments.backend import Backend
from raybench.experiments.cell import Cell
from raybench.experiments.cost_sheets import Told, share
from raybench.experiments.costs import cost_cell
from raybench.experiments.evaluation import Compare, Tune
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Cell as Value
from raybench.experiments.run_file import Sheet
from raybench.experiments.tuning import tune_cell

_RESAMPLES = 2_000


def compare_cell(cell: Cell, compare: Compare, out: str, backend: Backend, reporter: Reporter) -> dict[str, Any]:
    """One index at the common effort and, where the target is reached, at its own. IndexRequestError as of `cost_cell`."""
    alike = cost_cell(cell.at(compare.effort), compare.cost, out, backend, reporter)
    tune = Tune(measure=compare.cost.measure, target=compare.target, most=compare.most)
    effort = tune_cell(cell, tune, out, backend, reporter)["effort"]
    own = None if effort is None else cost_cell(cell.at(effort), compare.cost, out, backend, reporter)
    return {"index": cell.index, "effort": effort, "equal_effort": alike, "equal_quality": own}


def ratio(ours_ms: Sequence[float], theirs_ms: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Mean latency over mean latency on the same queries, with its 95 % interval by resampling the queries."""
    ours_Q, theirs_Q = np.asarray(ours_ms), np.asarray(theirs_ms)
    drawn_RQ = np.random.default_rng([seed, 0xC3]).integers(len(ours_Q), size=(_RESAMPLES, len(ours_Q)))
    ratios_R: npt.NDArray[np.float64] = ours_Q[drawn_RQ].sum(axis=1) / theirs_Q[drawn_RQ].sum(axis=1)
    low, high = np.quantile(ratios_R, (0.025, 0.975))
    return float(ours_Q.sum() / theirs_Q.sum()), float(low), float(high)


def compared_sheet(compare: Compare, cells: Sequence[Cell], made: Sequence[dict[str, Any]], seed: int) -> Sheet:
    """The comparison of one direction, encoder and transform as a table; the first row is what the others are held against."""
    first = next((one for one in made if one["index"] == cells[0].index), None)
    base = None if first is None else first["equal_effort"]
    rows: list[tuple[Value, ...]] = []
    for one in made:
        alike, own = one["equal_effort"], one["equal_quality"]
        rows.append(
            (
                one["index"], alike["file_bytes"], alike["resident_bytes"],
                alike["resident_bytes"] / base["resident_bytes"] if base else None, alike["build_s"],
                share(alike["quality"]), alike["latency"]["p50_ms"], _ratio(alike, base, seed),
                "not reached" if own is None else str(one["effort"]), own and share(own["quality"]),
                own and own["latency"]["p50_ms"], _ratio(own, first["equal_quality"], seed) if own and first else None,
                alike["fetched"] and f"{alike['fetched']['per_query']:,.0f}",
            )
        )  # fmt: skip
    columns = (
        "index", "on disk", "resident", "of first", "build_s", f"{compare.cost.measure} @{compare.effort}", "p50_ms", "time of first",
        f"effort for {compare.target:g}", compare.cost.measure, "its p50_ms", "its time of first", "fetched",
    )  # fmt: skip
    asked = cells[0].asked
    note = (
        f"All at effort {compare.effort}, then each at the smallest effort whose tuned {compare.cost.measure} reaches "
        f"{compare.target:g}. Bytes of whole files and of what is held; stored rows that are fetched or scored again are no part of "
        f"it. First is {cells[0].index}. Time of first: mean latency of single queries over that of the first index on the same "
        "queries, with its 95 % interval over queries: what the machine did otherwise meanwhile is not in it. Fetched: rows that a "
        f"query looks at and the index does not hold. {asked.encoder}, {cells[0].transform}, "
        f"{len(asked.corpus):,} rows."
    )
    return Sheet(f"Compact against full, {asked.direction.replace('_', ' ')}", note, columns, tuple(rows))


def _ratio(ours: Told, theirs: Told | None, seed: int) -> str | None:
    if theirs is None or len(ours["latencies_ms"]) != len(theirs["latencies_ms"]):
        return None
    value, low, high = ratio(ours["latencies_ms"], theirs["latencies_ms"], seed)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
