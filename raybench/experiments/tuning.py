"""The tuned effort of one index: half of the queries decide, the others confirm.

<out>/results/tuned/<key>.json    every measured point, the effort that was found, and its held-out quality
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raybench import storage
from raybench.arrays import FloatMatrix, Neighbors
from raybench.errors import RequestError
from raybench.experiments.backend import Backend
from raybench.experiments.cell import Cell
from raybench.experiments.evaluation import Tune
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Sheet
from raybench.indexes import INDEXES
from raybench.indexes.base import Dial, Index
from raybench.metrics import Measure, Pairs, Ranks, evaluate, evaluate_overlap, parse_measure
from raybench.metrics.measure import Values
from raybench.search.effort import LEVEL, Tuned, smallest_effort, split_queries
from raybench.spec import content_key

FORMAT = 4  # raise it when the same inputs give other numbers
ENOUGH = 500  # clusters of tuning queries; with fewer, the interval is wide and the effort higher than it need be


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The queries of one side of the split, and what answers them."""

    queries_QD: FloatMatrix  # as they are stored
    clusters_Q: Any
    pairs: Pairs | None
    gold: Neighbors | None  # where the measure compares with it


def tune_cell(cell: Cell, tune: Tune, out: str, backend: Backend, reporter: Reporter) -> dict[str, Any]:
    """Tune one index; what was found, as it is stored. `cell.index` has no effort.

    IndexRequestError where it cannot be built; RequestError for a measure of judgments where nothing is judged.
    """
    key = content_key("tuned", FORMAT, cell.identity(), tune.measure, tune.target, tune.most)
    uri = storage.join(out, "results", "tuned", f"{key}.json")
    if storage.exists(uri):
        found: dict[str, Any] = storage.read_json(uri)
        return found
    measure, recipe = parse_measure(tune.measure), INDEXES.make(cell.index)
    sides = _sides(cell, measure)
    efforts = effort_range(recipe.dial or Dial(""), _depth(measure), cell.rows, tune.most)
    cell.at(efforts[0]).check(measure.k or 1)
    with reporter.stage(f"tuning {cell.title}", None) as advance, cell.open(backend, out) as index:

        def values_of(side: _Side) -> Any:
            def values_at(effort: int) -> Values:
                advance(1, 0.0)
                return _values(index, side, measure, effort, cell.rows)

            return values_at, side.clusters_Q

        tuned = smallest_effort(values_of(sides[0]), values_of(sides[1]), tune.target, efforts)
    told = _told(cell, tune, tuned, efforts, sides)
    storage.write_json(uri, told)
    return told


def effort_range(dial: Dial, k: int, rows: int, most: int) -> tuple[int, int]:
    """The efforts to look through: from the least that the index takes to what it takes, has, or was allowed at most."""
    least = dial.lowest(k)
    return least, max(least, min(one for one in (dial.most, rows, most) if one is not None))


def _depth(measure: Measure) -> int:
    """One more than is measured shows where the last tie ends, where judgments are asked for."""
    return (measure.k or 1) + (measure.needs == "qrels")


def _sides(cell: Cell, measure: Measure) -> tuple[_Side, _Side]:
    """Tuning and held-out queries, with their pairs or their exact neighbours."""
    asked, gold = cell.asked, None
    if measure.needs == "gold":
        gold = asked.truth(measure.k or 1)
    elif asked.pairs is None:
        raise RequestError(f"tune.measure={measure} needs judgments, and there are none; use overlap@k")
    pairs = asked.pairs

    def side(is_mine_Q: Any) -> _Side:
        mine = np.flatnonzero(is_mine_Q)
        place_Q = np.cumsum(is_mine_Q) - 1
        own = None
        if pairs is not None:
            kept_P = is_mine_Q[pairs.query_P]
            own = Pairs(place_Q[pairs.query_P[kept_P]], pairs.row_P[kept_P], pairs.grade_P[kept_P], len(mine))
        near = None if gold is None else Neighbors(gold.ids_QK[mine], gold.scores_QK[mine])
        return _Side(np.ascontiguousarray(asked.queries_QD[mine]), asked.clusters_Q[mine], own, near)

    tuning_Q, held_out_Q = split_queries(asked.clusters_Q, cell.seed)
    return side(tuning_Q), side(held_out_Q)


def _values(index: Index, side: _Side, measure: Measure, effort: int, rows: int) -> Values:
    """The measure of every query of a side at an effort."""
    found = index.search(side.queries_QD, min(_depth(measure), rows), effort)
    if side.gold is not None:
        return evaluate_overlap(measure, found, side.gold, exact_scores=False).values_Q
    if side.pairs is None:
        raise RequestError(f"{measure} needs judgments, and there are none")
    return evaluate(measure, Ranks.of_neighbors(side.pairs, found, rows)).values_Q


def _told(cell: Cell, tune: Tune, tuned: Tuned, efforts: tuple[int, int], sides: tuple[_Side, _Side]) -> dict[str, Any]:
    return {
        "direction": cell.asked.direction, "encoder": cell.asked.encoder, "transform": cell.transform,
        "index": cell.index, "measure": tune.measure, "target": tune.target, "efforts": list(efforts),
        "effort": tuned.effort, "points": [asdict(point) for point in tuned.points],
        "held_out": None if tuned.held_out is None else asdict(tuned.held_out),
        "below": None if tuned.below is None else asdict(tuned.below), "confirmed": tuned.is_confirmed(tune.target),
        "tuning_queries": len(sides[0].clusters_Q), "held_out_queries": len(sides[1].clusters_Q),
        "tuning_clusters": len(np.unique(sides[0].clusters_Q)), "level": LEVEL,
    }  # fmt: skip


def tuned_sheet(tune: Tune, found: list[dict[str, Any]]) -> Sheet:
    """The tuned efforts as a table; what is the same in all rows stands in the note."""
    names = {part: list(dict.fromkeys(one[part] for one in found)) for part in ("direction", "encoder", "transform")}
    varying = [part for part, values in names.items() if len(values) > 1]
    same = [
        f"{part} {values[0].replace(chr(95), chr(32)) if part == 'direction' else values[0]}"
        for part, values in names.items()
        if len(values) == 1
    ]
    rows = []
    for one in found:
        at = next((point for point in one["points"] if point["effort"] == one["effort"]), None)
        below, held_out = one["below"], one["held_out"]
        rows.append(
            (
                *(one[part].replace("_", " ") for part in varying), one["index"],
                "not reached" if at is None else str(at["effort"]), at and at["low"],
                held_out and f"{held_out['value']:.3f} [{held_out['low']:.3f}, {held_out['high']:.3f}]",
                None if held_out is None else "yes" if one["confirmed"] else "no",
                below and f"{below['low']:.3f} @{below['effort']}", "{}-{}".format(*one["efforts"]),
            )
        )  # fmt: skip
    columns = (*varying, "index", "effort", "tuning low", "held out", "confirmed", "fails below", "range")
    queries = ", ".join(dict.fromkeys(f"{one['tuning_queries']:,} and {one['held_out_queries']:,}" for one in found))
    note = (
        f"The smallest effort at which the lower end of the {LEVEL:.0%} interval of {tune.measure} reaches {tune.target:g} on "
        f"the tuning queries, and what it gives on the held-out ones, with the same interval ({queries} queries). Below it, "
        f"the lower end at the next smaller effort, which fails. {'; '.join(same)}."
    )
    return Sheet("Tuned efforts", note, columns, tuple(rows))
