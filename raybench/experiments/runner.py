"""One runner for every evaluation of images: vectors -> neighbours and ranks -> values per query -> records -> costs.

Every stage writes an artifact under a content key and is skipped when that artifact is whole, so a rerun does only
what is missing. `run.json` at the end lists what was used, made and lost.

    <out>/indexes/<key>/  results/{records,queries,neighbors,gallery,costs,tuned}/  run.json
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from raybench import results, storage
from raybench.arrays import FloatMatrix, Neighbors
from raybench.errors import DataError, IndexRequestError, WorkError
from raybench.experiments import judgments
from raybench.experiments.backend import Backend
from raybench.experiments.cell import Asked, Cells
from raybench.experiments.embedded import Embedded, embed_all
from raybench.experiments.evaluation import Evaluation, Tune
from raybench.experiments.experiment import Experiment, measure_experiment
from raybench.experiments.generate import generate as generate_answers
from raybench.experiments.generate_plan import check_questions
from raybench.experiments.hard_sets import measure_hard_sets
from raybench.experiments.paired_sheets import encoder_sheets, stored_of_run
from raybench.experiments.prepared import Prepared
from raybench.experiments.references import beside_published
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Run
from raybench.experiments.sections import measure_sections, tune_cells
from raybench.indexes.exact import Exact
from raybench.indexes.stored import RowSource
from raybench.metrics import Pairs, is_at_chance, parse_measure
from raybench.metrics.uncertainty import number_clusters
from raybench.spec import content_key
from raybench.transforms import Float16


def run(prepared: Prepared, backend: Backend, reporter: Reporter, command: str) -> Run:
    """Run an evaluation into its folder; returns what was made. The report is written by the caller."""
    evaluation, started = prepared.evaluation, time.perf_counter()
    check_questions(prepared)
    progress = Run(evaluation, prepared.out)
    embedded = embed_all(progress, prepared, backend, reporter)
    for experiment in _experiments(evaluation, embedded, evaluation.grid.indexes):
        _experiment(progress, experiment, prepared, backend, reporter)
    if prepared.published:
        beside_published(progress, prepared.published)
    if len(evaluation.encoders) > 1:
        with reporter.stage("comparing encoders", None):
            stored = stored_of_run(progress.out, progress.records, embedded.judged.uri.rpartition("/")[2])
            progress.sheets += encoder_sheets(evaluation, stored)
    if evaluation.cost or evaluation.tune or evaluation.compare:
        measure_sections(progress, evaluation, _cells(evaluation, embedded, backend), backend, reporter)
    try:
        generate_answers(
            progress, prepared, embedded, _asked_to_images(evaluation, embedded, backend), backend, reporter
        )
    except (DataError, WorkError) as fault:  # all else that was measured is kept, and told
        progress.fail("generating", (evaluation.generate and evaluation.generate.generator) or "", str(fault))
        progress.faults.append(str(fault))
    measure_hard_sets(progress, evaluation, backend, reporter, run)
    progress.seconds["total_s"] = round(time.perf_counter() - started, 3)
    progress.write(backend.facts(), command)
    return progress


def tune(prepared: Prepared, backend: Backend, reporter: Reporter) -> Run:
    """Embed what is missing, and tune the efforts of indexes; nothing else is measured, and run.json stays as it is."""
    progress = Run(prepared.evaluation, prepared.out)
    embedded = embed_all(progress, prepared, backend, reporter)
    cells = _cells(prepared.evaluation, embedded, backend)
    tune_cells(progress, prepared.evaluation.tune or Tune(), prepared.evaluation.grid, cells, backend, reporter)
    progress.tell_failed()
    return progress


def generate(prepared: Prepared, backend: Backend, reporter: Reporter, command: str = "") -> Run:
    """Embed what is missing, and generate answers; nothing else is measured. The run.json of a whole run stays as it is."""
    check_questions(prepared)
    progress, started = Run(prepared.evaluation, prepared.out), time.perf_counter()
    embedded = embed_all(progress, prepared, backend, reporter)
    asked = _asked_to_images(prepared.evaluation, embedded, backend)
    generate_answers(progress, prepared, embedded, asked, backend, reporter)
    progress.seconds["total_s"] = round(time.perf_counter() - started, 3)
    known = progress.place("run.json")
    if not storage.exists(known) or not storage.read_json(known).get("experiments"):
        progress.write(backend.facts(), command)
    else:
        progress.tell_failed()
    return progress


def _asked_to_images(evaluation: Evaluation, embedded: Embedded, backend: Backend) -> Callable[[], list[Asked]]:
    """The queries of the encoder that searches for generation, when they are asked for."""
    section = evaluation.generate
    encoder = (section and section.encoder) or evaluation.encoders[0]
    alone = dataclasses.replace(evaluation, directions=("text_to_image",), encoders=(encoder,))
    return lambda: _asked(alone, embedded, backend)


def _experiments(evaluation: Evaluation, embedded: Embedded, indexes: Sequence[str]) -> Iterator[Experiment]:
    """Every direction, encoder, transform and index."""
    for direction, spec, transform, index in itertools.product(
        evaluation.directions, evaluation.encoders, evaluation.grid.transforms, indexes
    ):
        yield Experiment(
            evaluation, direction, spec, transform, index, embedded.images[spec], embedded.texts[spec], embedded.judged,
            embedded.again("image" if direction == "text_to_image" else "text", spec),
        )  # fmt: skip


def _cells(evaluation: Evaluation, embedded: Embedded, backend: Backend) -> Cells:
    return Cells(
        _asked(evaluation, embedded, backend), evaluation.grid.transforms, evaluation.shards, evaluation.seed,
        evaluation.intervals,
    )  # fmt: skip


def _asked(evaluation: Evaluation, embedded: Embedded, backend: Backend) -> list[Asked]:
    """The queries of every direction and encoder, with judgments and, when it is asked for, the truth."""
    made = []
    for direction, spec in itertools.product(evaluation.directions, evaluation.encoders):
        to_images = direction == "text_to_image"
        images, texts = embedded.images[spec], embedded.texts[spec]
        judge = judgments.text_to_image if to_images else judgments.image_to_text
        query_rows, qrels = judge(embedded.judged, images)
        corpus, asking = (images, texts) if to_images else (texts, images)
        queries_QD = np.ascontiguousarray(asking.load().matrix_ND[query_rows])
        key = content_key(asking.checksum, embedded.judged.uri.rpartition("/")[2])
        truth = _truth(backend, corpus, queries_QD, evaluation.shards)
        clusters_Q, pairs = number_clusters(qrels.clusters), Pairs.of(qrels)
        again = embedded.again("image" if to_images else "text", spec)
        made.append(Asked(direction, spec, corpus, queries_QD, clusters_Q, pairs, key, truth, again))
    return made


def _truth(backend: Backend, corpus: RowSource, queries_QD: FloatMatrix, shards: int) -> Callable[[int], Neighbors]:
    """The exact neighbours by the vectors as they are stored; searched for again only where more are wanted."""
    known: list[Neighbors] = []

    def truth(k: int) -> Neighbors:
        if not known or known[0].k < k:
            with backend.exact(corpus, Float16(), Exact(), shards) as exact:
                known[:] = [exact.search(queries_QD, k)]
        return known[0].top(k)

    return truth


def _experiment(
    progress: Run, experiment: Experiment, prepared: Prepared, backend: Backend, reporter: Reporter
) -> None:
    uri, started = progress.place("results"), time.perf_counter()
    if not storage.exists(results.records_uri(uri, experiment.key)):
        try:
            measure_experiment(experiment, progress.out, prepared.source, prepared.shards, backend, reporter)
        except (IndexRequestError, DataError) as fault:
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
            "judged": experiment.judged.uri.rpartition("/")[2],
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
