"""Retrieval-augmented generation: queries -> search -> pictures from storage -> prompt -> answer -> score.

    <out>/pictures/<key>/        copies of the pictures that are shown
    <out>/generations/<key>/     answers of one prompt in one context
    <out>/results/answers/, latencies/, samples/

Every prompt is asked in every context: with the retrieved pictures, with none (closed book), with the one that the query is about
(oracle), with others by lot; the same queries each time, so that what retrieval adds is a paired difference.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from raybench import storage
from raybench.encoders import ENCODERS
from raybench.encoders.base import own_packages
from raybench.errors import IndexRequestError
from raybench.experiments import rag_times
from raybench.experiments.answer_scoring import score
from raybench.experiments.answered import answer_all, is_done, read
from raybench.experiments.backend import Backend
from raybench.experiments.cell import Asked
from raybench.experiments.drawn import cell_of
from raybench.experiments.embedded import Embedded
from raybench.experiments.generate_plan import plan
from raybench.experiments.generate_stage import Pool, Stage
from raybench.experiments.generate_told import tell
from raybench.experiments.prepared import Prepared
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Run
from raybench.generation import GENERATORS
from raybench.generation.worker import Setup


def generate(
    progress: Run, prepared: Prepared, embedded: Embedded, asked: Callable[[], Sequence[Asked]], backend: Backend,
    reporter: Reporter,
) -> None:  # fmt: skip
    """The stage, if the evaluation has its section; an index that cannot be searched is told as a cell without a result."""
    section, evaluation, started = prepared.evaluation.generate, prepared.evaluation, time.perf_counter()
    if section is None:
        return
    cell = cell_of(asked(), section, evaluation)
    try:
        planned = plan(prepared, section, cell, embedded, backend, reporter)
    except IndexRequestError as fault:
        progress.fail("generating", cell.title, str(fault))
        return
    setup = Setup(GENERATORS.make(section.generator), section.decoding, evaluation.seed, section.threads)
    with ExitStack() as lifetime:
        pool = Pool(lambda: backend.generators(setup, section.workers), lifetime)
        stage = Stage(progress, section, evaluation, embedded, planned, backend, reporter, pool, backend.facts())
        _time_alone(stage)
        if not all(map(is_done, planned.askings)):
            answer_all(planned.askings, pool(), stage.facts, section.max_bad, reporter)
        scored, scorer = score(stage, [read(asking) for asking in planned.askings])
    tell(stage, scored, scorer)
    progress.seconds["generating answers"] = round(time.perf_counter() - started, 3)


def _time_alone(stage: Stage) -> None:
    """Whole answers one at a time, for every prompt with retrieved pictures."""
    section, cell = stage.section, stage.plan.cell
    if not section.alone.queries:
        return
    encodes = not own_packages(ENCODERS.make(cell.asked.encoder))
    if not encodes:
        stage.progress.warnings.append(
            f"{cell.asked.encoder} has packages of its own, so encoding single queries is not timed beside the generator"
        )
    for asking in stage.plan.askings:
        if asking.context != "retrieved":
            continue
        copies = dict(stage.plan.copies)
        timed = rag_times.Timed(asking, cell, section, copies, stage.plan.texts, stage.plan.drawn.vectors_QD, encodes)
        uri = timed.uri(stage.facts)
        if not storage.exists(uri):
            is_cold = not stage.pool.is_started
            pool = stage.pool()  # before the index: both may want GPUs, and generators come first
            with (
                stage.reporter.stage(f"timing answers one at a time, {asking.prompt.name}", None),
                cell.open(stage.backend, asking.out) as index,
            ):
                rag_times.time_alone(timed, index, pool, stage.facts, is_cold=is_cold)
        table = storage.read_table(uri)
        entry = {
            "prompt": asking.prompt.name, "context": asking.context, "warm": rag_times.counted(table),
            **rag_times.split(table, stage.evaluation.intervals, stage.evaluation.seed),
            "cold_s": rag_times.cold_s(table), "latencies": uri.rpartition("/")[2],
        }  # fmt: skip
        stage.progress.rag_times.append(entry)
