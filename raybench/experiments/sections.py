"""The sections of an evaluation that measure cells: what they cost, which effort is enough, compact against full."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raybench.errors import DataError, IndexRequestError
from raybench.experiments.backend import Backend
from raybench.experiments.cell import Cell, Cells
from raybench.experiments.compared import compare_cell, compared_sheet, take_turns
from raybench.experiments.cost_sheets import cost_sheets
from raybench.experiments.costs import cost_cell
from raybench.experiments.evaluation import Compare, Cost, HasIndexes, Sections, Tune, tuned_indexes
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Run
from raybench.experiments.tuning import ENOUGH, tune_cell, tuned_sheet


def measure_sections(progress: Run, sections: Sections, cells: Cells, backend: Backend, reporter: Reporter) -> None:
    """Every section that is there, with its tables; what cannot be built is a row that says why."""
    if sections.cost is not None:
        _cost_cells(progress, sections.cost, sections.grid, cells, backend, reporter)
    if sections.tune is not None:
        tune_cells(progress, sections.tune, sections.grid, cells, backend, reporter)
    if sections.compare is not None:
        _compare_cells(progress, sections.compare, cells, backend, reporter)


def _cost_cells(
    progress: Run, cost: Cost, grid: HasIndexes, cells: Cells, backend: Backend, reporter: Reporter
) -> None:
    for cell in cells.of(cost, cost.indexes or grid.indexes):
        with _row(progress, "timing", cell):
            told = cost_cell(cell, cost, progress.out, backend, reporter)
            progress.costs.append({name: value for name, value in told.items() if name != "latencies_ms"})
    if progress.costs:
        progress.sheets += cost_sheets(cost, progress.costs)


def tune_cells(progress: Run, tune: Tune, grid: HasIndexes, cells: Cells, backend: Backend, reporter: Reporter) -> None:
    """Tune every index for every direction, encoder and transform of a section."""
    found: list[dict[str, Any]] = []
    for cell in cells.of(tune, tuned_indexes(grid, tune)):
        with _row(progress, "tuning", cell):
            found.append(tune_cell(cell, tune, progress.out, backend, reporter))
    progress.tuned += found
    if found:
        progress.sheets.append(tuned_sheet(tune, found))
    few = min((one["tuning_clusters"] for one in found), default=ENOUGH)
    if few < ENOUGH:
        progress.warnings.append(
            f"only {few} clusters of queries for tuning: intervals are wide, and efforts may be higher than they need be; {ENOUGH} are enough"
        )


def _compare_cells(progress: Run, compare: Compare, cells: Cells, backend: Backend, reporter: Reporter) -> None:
    def place(cell: Cell) -> tuple[str, str, str]:
        return cell.asked.direction, cell.asked.encoder, cell.transform

    for _, group in itertools.groupby(cells.of(compare, compare.indexes), place):
        together = list(group)
        made = []
        for cell in together:
            with _row(progress, "comparing", cell):
                made.append(compare_cell(cell, compare, progress.out, backend, reporter))
        if made:
            take_turns(made, compare, progress.out, backend, reporter)
            progress.sheets.append(compared_sheet(compare, together, made, together[0].seed))


@contextmanager
def _row(progress: Run, work: str, cell: Cell) -> Iterator[None]:
    """The seconds of one cell, or why it has no result."""
    started = time.perf_counter()
    try:
        yield
    except (IndexRequestError, DataError) as fault:
        progress.fail(work, cell.title, str(fault))
    progress.seconds[f"{work} {cell.title}"] = round(time.perf_counter() - started, 3)
