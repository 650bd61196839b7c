"""One HTML file tells a whole run, and opens anywhere: no script, no address outside itself, nothing fetched.

Whatever comes from data is escaped by the template, and a content security policy in the page allows only pictures
that are part of it, so a caption that is markup stays a caption. The same folder gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pyarrow as pa
from markupsafe import Markup

from raybench import results, storage
from raybench.errors import RequestError
from raybench.metrics import MEASURES
from raybench.report import answers, figures, sheets, summary, tables, tradeoff
from raybench.report.account import Run, read_run
from raybench.report.gallery import MOST_SYSTEMS, Gallery, gather
from raybench.report.words import duration, facts, moment
from raybench.results import Record

_MOST_NOTES = 4  # that stand open; the others are folded
_UNTOLD = Run("", "", "", "", None, None, {}, (), {}, (), ())


@dataclass(frozen=True, slots=True)
class Section:
    """One block of results with its plots and its gallery, as the template shows it."""

    block: tables.Block
    panels: tuple[figures.Figure, ...]  # one per measure
    wholes: tuple[figures.Figure, ...]  # of all queries together
    gallery: Gallery | None
    depth: int | None  # how many rows were retrieved per query

    @property
    def top(self) -> tables.Row:
        """The row with the best value of the block's first measure."""
        measure = self.block.measures[0]
        rows = [row for row in self.block.rows if measure in row.records]
        sign = -1 if rows[0].records[measure].unit in tables.UNIT_IN_NAME else 1  # the least rank is the best
        return max(rows, key=lambda row: sign * row.records[measure].value)


def write_report(out_uri: str) -> str:
    """Write `report/` below a run's folder: the page, `summary.json`, `tables/records.csv`; returns the page's URI.

    Raises RequestError where the folder holds no results.
    """
    out_uri = storage.absolute(out_uri)
    run = read_run(out_uri)
    records, notes = _records(out_uri, run)
    run = run or _UNTOLD
    blocks = tables.blocks(records)
    names = figures.letters(blocks)
    results_uri = storage.join(out_uri, "results")
    sections = [_section(block, names, results_uri) for block in blocks]
    notes = [*notes, *_notes(run, records), *run.warnings]
    prompts = answers.prompts(run.generations, run.rag_times, results_uri)
    report_uri = storage.join(out_uri, "report")
    storage.write_json(storage.join(report_uri, "summary.json"), summary.facts(run, records, notes))
    storage.write_bytes(storage.join(report_uri, "tables", "records.csv"), summary.csv_text(records).encode())
    page_uri = storage.join(report_uri, "index.html")
    storage.write_bytes(page_uri, render(run, sections, names, notes, prompts).encode())
    return page_uri


def render(
    run: Run,
    sections: Sequence[Section],
    names: figures.Letters,
    notes: Sequence[str],
    prompts: Sequence[answers.Prompt] = (),
) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": tables.number,
        "label": tables.label,
        "direction": tables.direction_words,
        "ties": tables.ties,
        "duration": duration,
        "moment": moment,
        "facts": facts,
        "timed": lambda stages: [(stage, duration(seconds)) for stage, seconds in stages.items()],
        "cell": sheets.cell,
        "svg": Markup,  # the plots hold no text from data
    }
    records = [record for section in sections for row in section.block.rows for record in row.records.values()]
    kinds = {record.measure.partition("@")[0] for record in records}
    return environment.get_template("page.html.j2").render(
        run=run,
        name=run.name or (records[0].evaluation if records else ""),
        sections=sections,
        systems=names,
        notes=notes,
        prompts=prompts,
        headline=tables.HEADLINE,
        interval=tables.interval,
        at_chance=tables.at_chance,
        is_numeric=sheets.is_numeric,
        measures=tables.measure_order(record.measure for record in records),
        meanings={name: definition.says for name, definition in MEASURES.items() if name in kinds},
        tradeoffs=tradeoff.tradeoffs(run.costs),
        methods=list(dict.fromkeys(record.method for record in records)),
        num_systems=len(names),
        most_systems=MOST_SYSTEMS,
        most_notes=_MOST_NOTES,
    )


def _records(out_uri: str, run: Run | None) -> tuple[list[Record], list[str]]:
    """The records of the run in the order of its experiments, and what a reader must know about the choice."""
    results_uri = storage.join(out_uri, "results")
    records = results.read_all(results_uri)
    if not records and run is not None and (run.sheets or run.generations):
        return [], []
    if not records:
        raise RequestError(
            f"{results_uri} holds no results; make some with `raybench run EVALUATION.yaml` or `raybench demo`"
        )
    if run is None:
        return records, ["run.json is missing, so what was run, and on what, is not told here."]
    order = {str(experiment.get("experiment")): place for place, experiment in enumerate(run.experiments)}
    asked = [record for record in records if record.experiment in order]
    if not asked:
        return records, ["run.json names none of the experiments found, so all of them are shown."]
    notes = []
    num_other = len({record.experiment for record in records} - set(order))
    if num_other:
        notes.append(
            f"Results of {num_other} other experiments lie in this folder; they are of other runs and not shown."
        )
    num_absent = len(set(order) - {record.experiment for record in records})
    if num_absent:
        notes.append(f"{num_absent} of {len(order)} experiments have no results; run again to complete them.")
    return sorted(asked, key=lambda record: order[record.experiment]), notes


def _section(block: tables.Block, names: figures.Letters, results_uri: str) -> Section:
    neighbors: dict[str, pa.Table] = {}
    shown = []
    for row in block.rows:
        if storage.exists(results.neighbors_uri(results_uri, row.experiment)):
            neighbors[row.experiment] = results.read_neighbors(
                results_uri, row.experiment, ["query_id", "rank", "grade"]
            )
        if storage.exists(results.gallery_uri(results_uri, row.experiment)):
            shown.append((*names[row.system], results.read_gallery(results_uri, row.experiment)))
    depth = max((figures.deepest(table) for table in neighbors.values()), default=None)
    panels = figures.panels(block, names)
    return Section(block, panels, figures.wholes(block, names, neighbors), gather(shown) if shown else None, depth)


def _notes(run: Run, records: Sequence[Record]) -> list[str]:
    """What the numbers themselves give cause to say."""
    notes = [
        f"The rows of {account.modality} {account.kind} by {account.encoder} do not add up: see the accounting."
        for account in run.accounts
        if not account.is_balanced
    ]
    notes += answers.lost(run.generations)
    flagged = [record for record in records if tables.at_chance(record)]
    if flagged and not run.warnings:  # a run warns of them itself
        systems = dict.fromkeys(f"{record.encoder} {tables.direction_words(record.direction)}" for record in flagged)
        notes.append(
            f"{len(flagged)} of {len(records)} numbers are no better than a random ranking ({', '.join(systems)}); "
            "a model that was loaded wrongly looks like this."
        )
    return notes
