"""One runner for every evaluation of images: vectors -> neighbours and ranks -> values per query -> records -> costs.

Every stage writes an artifact under a content key and is skipped when that artifact is whole, so a rerun does only
what is missing. `run.json` at the end lists what was used, made and lost.

    <out>/indexes/<key>/  results/{records,queries,neighbors,gallery,costs,tuned}/  run.json
"""

import itertools
import time
from collections.abc import Iterator, Sequence

from raybench import results, storage
from raybench.errors import IndexRequestError
from raybench.experiments.backend import Backend
from raybench.experiments.costs import cost_experiment, cost_sheet
from raybench.experiments.evaluation import Cost, Evaluation, Tune, tuned_indexes
from raybench.experiments.experiment import Experiment, measure_experiment
from raybench.experiments.prepared import Embedded, Prepared, embed_all
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Run
from raybench.experiments.tuning import ENOUGH, tune_experiment, tuned_sheet
from raybench.metrics import is_at_chance, parse_measure


def run(prepared: Prepared, backend: Backend, reporter: Reporter, command: str) -> Run:
    """Run an evaluation into its folder; returns what was made. The report is written by the caller."""
    evaluation, started = prepared.evaluation, time.perf_counter()
    progress = Run(evaluation, prepared.out)
    embedded = embed_all(progress, prepared, backend, reporter)
    for experiment in _experiments(evaluation, embedded, evaluation.grid.indexes):
        _experiment(progress, experiment, prepared, backend, reporter)
    if evaluation.cost is not None:
        _cost(progress, prepared, evaluation.cost, embedded, backend, reporter)
    if evaluation.tune is not None:
        _tune(progress, prepared, evaluation.tune, embedded, backend, reporter)
    progress.seconds["total_s"] = round(time.perf_counter() - started, 3)
    progress.write(backend.facts(), command)
    return progress


def tune(prepared: Prepared, backend: Backend, reporter: Reporter) -> Run:
    """Embed what is missing, and tune the efforts of indexes; nothing else is measured, and run.json stays as it is."""
    progress = Run(prepared.evaluation, prepared.out)
    embedded = embed_all(progress, prepared, backend, reporter)
    _tune(progress, prepared, prepared.evaluation.tune or Tune(), embedded, backend, reporter)
    return progress


def _experiments(evaluation: Evaluation, embedded: Embedded, indexes: Sequence[str]) -> Iterator[Experiment]:
    """Every direction, encoder, transform and index."""
    for direction, spec, transform, index in itertools.product(
        evaluation.directions, evaluation.encoders, evaluation.grid.transforms, indexes
    ):
        yield Experiment(
            evaluation, direction, spec, transform, index, embedded.images[spec], embedded.texts[spec], embedded.judged
        )


def _tune(
    progress: Run, prepared: Prepared, settings: Tune, embedded: Embedded, backend: Backend, reporter: Reporter
) -> None:
    """Tune every index for every direction, encoder and transform; what cannot be built is a row that says why."""
    found, evaluation = [], prepared.evaluation
    for experiment in _experiments(evaluation, embedded, tuned_indexes(evaluation, settings)):
        started = time.perf_counter()
        try:
            found.append(tune_experiment(experiment, settings, progress.out, backend, reporter))
        except IndexRequestError as fault:
            progress.fail("tuning", experiment.title, str(fault))
        progress.seconds[f"tuning {experiment.title}"] = round(time.perf_counter() - started, 3)
    progress.tuned += found
    if found:
        progress.sheets.append(tuned_sheet(settings, found))
    few = min((one["tuning_queries"] for one in found), default=ENOUGH)
    if few < ENOUGH:
        progress.warnings.append(
            f"only {few} queries for tuning: intervals are wide, and efforts may be higher than they need be; {ENOUGH} are enough"
        )


def _cost(
    progress: Run, prepared: Prepared, settings: Cost, embedded: Embedded, backend: Backend, reporter: Reporter
) -> None:
    """The costs of every experiment that has results."""
    evaluation, there = prepared.evaluation, {record.experiment for record in progress.records}
    pairs = []
    for experiment in _experiments(evaluation, embedded, evaluation.grid.indexes):
        if experiment.key in there:
            try:
                pairs.append((experiment, cost_experiment(experiment, settings, progress.out, backend, reporter)))
            except IndexRequestError as fault:
                progress.fail("timing", experiment.title, str(fault))
    progress.costs += [told for _, told in pairs]
    if pairs:
        progress.sheets += cost_sheet(settings, pairs, progress.records)


def _experiment(
    progress: Run, experiment: Experiment, prepared: Prepared, backend: Backend, reporter: Reporter
) -> None:
    uri, started = progress.place("results"), time.perf_counter()
    if not storage.exists(results.records_uri(uri, experiment.key)):
        try:
            measure_experiment(experiment, progress.out, prepared.source, prepared.shards, backend, reporter)
        except IndexRequestError as fault:
            progress.fail("searching", experiment.title, str(fault))
            return
    progress.seconds[f"searching {experiment.title}"] = round(time.perf_counter() - started, 3)
    records = results.read(results.records_uri(uri, experiment.key))
    progress.records += records
    progress.experiments.append(
        {
            "experiment": experiment.key, "direction": experiment.direction, "encoder": experiment.encoder,
            "transform": experiment.transform, "index": experiment.index, "corpus": records[0].corpus,
            "queries": records[0].queries, "clusters": records[0].clusters,
        }
    )  # fmt: skip
    doubtful = [
        record.measure
        for record in records
        if record.chance is not None
        and is_at_chance(parse_measure(record.measure), record.value, record.low, record.high, record.chance)
    ]
    if doubtful:
        progress.warnings.append(
            f"{experiment.title}: {', '.join(doubtful)} cannot be told from a random ranking; is the model loaded right?"
        )
