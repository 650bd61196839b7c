"""How hard sets are: each is curated, searched with every encoder, and held against the first by query.

<out>/images/<key>/       the sets
<out>/sets/<name>/        an evaluation of each, as any other
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raybench.errors import RequestError
from raybench.experiments import curate, recipe
from raybench.experiments.backend import Backend
from raybench.experiments.embedded import embed_ahead
from raybench.experiments.evaluation import Evaluation, Hard
from raybench.experiments.paired import compare
from raybench.experiments.pairing import Stored, stored_experiments
from raybench.experiments.prepared import Prepared, prepare
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Cell, Run, Sheet
from raybench.metrics import parse_measure

Runner = Callable[[Prepared, Backend, Reporter, str], Run]


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """A set and what was measured on it."""

    manifest: dict[str, Any]
    run: Run


def measure_hard_sets(progress: Run, evaluation: Evaluation, backend: Backend, reporter: Reporter, run: Runner) -> None:
    """Make and measure every set of the section, and put its tables beside the records."""
    hard = evaluation.hard
    if hard is None:
        return
    manifests, ready = [], []
    for path in hard.recipes:
        loaded = recipe.load(path)
        manifest = curate.curate(curate.plan_curation(loaded, progress.out), backend, reporter)
        own = dataclasses.replace(
            evaluation, name=loaded.name, images=f"curated({manifest['uri']!r})", queries=None, qrels=None,
            encoders=hard.encoders or evaluation.encoders, directions=("text_to_image",), measures=(hard.measure,),
            grid=type(evaluation.grid)(), cost=None, tune=None, compare=None, hard=None, generate=None, published=None,
        )  # fmt: skip
        manifests.append(manifest)
        ready.append(prepare(own, progress.place("sets", loaded.name)))
    embed_ahead(ready, backend, reporter)
    made = [
        _Measured(manifest, run(one, backend, reporter, "")) for manifest, one in zip(manifests, ready, strict=True)
    ]
    progress.sets += [one.out for one in ready]
    progress.sheets += [_hardness(progress, hard, made, evaluation), _accounts(made)]


def _hardness(progress: Run, hard: Hard, made: Sequence[_Measured], evaluation: Evaluation) -> Sheet:
    """The measure of every encoder on every set, and its difference to the first set on the queries that are the same."""
    stored = [{one.facet("encoder"): one for one in stored_experiments(each.run.out)} for each in made]
    rows: list[tuple[Cell, ...]] = []
    for encoder, first in stored[0].items():
        for each, experiments in zip(made, stored, strict=True):
            own = experiments[encoder]
            record = own.records[str(parse_measure(hard.measure))]
            against: tuple[Cell, ...] = (None, None, None, None)
            if own is not first:
                against = _against(first, own, hard, evaluation, progress)
            facts = (
                encoder,
                each.manifest["name"],
                record.corpus,
                record.queries,
                record.value,
                record.low,
                record.high,
            )
            rows.append((*facts, *against))
    columns = (
        "encoder", "set", "pictures", "queries", hard.measure, "low", "high", "less the first", "its low", "its high", "shared",
    )  # fmt: skip
    note = (
        f"Text to image, exact search. Less the first: {hard.measure} on the set minus that on {made[0].manifest['name']}, on the "
        f"queries that have the same text and answers in both (shared), with its {evaluation.intervals.level:.0%} interval over "
        "clusters. `raybench compare` of two folders below sets/ tells the queries."
    )
    return Sheet("Hard sets", note, columns, tuple(rows))


def _against(first: Stored, own: Stored, hard: Hard, evaluation: Evaluation, progress: Run) -> tuple[Cell, ...]:
    """The difference to the first set, and over how many queries; nothing where no query is the same, which is a warning."""
    try:
        found = compare(first, own, [hard.measure], evaluation.intervals, evaluation.seed, top=0)
    except RequestError as fault:
        progress.warnings.append(f"hard sets: {fault}")
        return (None, None, None, 0)
    if found.left_out:
        told = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
        progress.warnings.append(f"hard sets: {found.queries:,} queries are shared; left out: {told}")
    [line] = found.lines
    return (line.difference.value, line.difference.low, line.difference.high, found.queries)


def _accounts(made: Sequence[_Measured]) -> Sheet:
    """Every step of every set."""
    rows = tuple(
        (
            one.manifest["name"], step["pool"], step["step"], step["rows_in"], step["rows_out"],
            ", ".join(f"{reason} {count:,}" for reason, count in step["dropped"].items()), step.get("queries"),
        )
        for one in made
        for step in one.manifest["steps"]
    )  # fmt: skip
    note = "Rows in = rows that stay + rows dropped, at every step; `dropped.parquet` of a set names each of them."
    return Sheet(
        "What the sets are made of", note, ("set", "pool", "step", "in", "stay", "dropped", "queries left"), rows
    )
