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
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench import storage
from raybench.encoders import ENCODERS
from raybench.encoders.base import own_packages
from raybench.errors import IndexRequestError
from raybench.experiments import answer_means, answer_quality, answer_sheets, answer_values, rag_times
from raybench.experiments.answer_quality import PerQuery, Seen
from raybench.experiments.answer_values import Scored
from raybench.experiments.answered import Answered, answer_all, is_done, read
from raybench.experiments.backend import Backend
from raybench.experiments.cell import Asked
from raybench.experiments.drawn import cell_of
from raybench.experiments.embedded import Embedded
from raybench.experiments.evaluation import Evaluation, Generate, Tune
from raybench.experiments.generate_plan import Planned, plan
from raybench.experiments.generators import Generators
from raybench.experiments.prepared import Prepared
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Run
from raybench.experiments.tuning import tuned_sheet
from raybench.generation import GENERATORS
from raybench.generation.worker import Setup

VALUES_FORMAT = 1  # raise it when the same answers get other values


class _Pool:
    """Workers that are started when they are first needed, and stay until the stage ends."""

    def __init__(self, start: Callable[[], Any], lifetime: ExitStack) -> None:
        self._start, self._lifetime = start, lifetime
        self._made: Generators | None = None

    @property
    def is_started(self) -> bool:
        """Whether they have been needed."""
        return self._made is not None

    def __call__(self) -> Generators:
        if self._made is None:
            self._made = self._lifetime.enter_context(self._start())
        return self._made


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """What the parts of the stage share."""

    progress: Run
    section: Generate
    evaluation: Evaluation
    embedded: Embedded
    plan: Planned
    backend: Backend
    reporter: Reporter
    pool: _Pool
    facts: dict[str, Any]


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
        pool = _Pool(lambda: backend.generators(setup, section.workers), lifetime)
        stage = _Stage(progress, section, evaluation, embedded, planned, backend, reporter, pool, backend.facts())
        _time_alone(stage)
        if not all(map(is_done, planned.askings)):
            answer_all(planned.askings, pool(), stage.facts, section.max_bad, reporter)
        scored, scorer = _score(stage, [read(asking) for asking in planned.askings])
    _tell(stage, scored, scorer)
    progress.seconds["generating answers"] = round(time.perf_counter() - started, 3)


def _time_alone(stage: _Stage) -> None:
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


def _score(stage: _Stage, answered: Sequence[Answered]) -> tuple[list[Scored], str | None]:
    """Every query's value of every measure, kept with a few samples; and the encoder that looked."""
    section, evaluation = stage.section, stage.evaluation
    scorer = section.score or next((one for one in evaluation.encoders if one != stage.plan.cell.asked.encoder), None)
    scorer = None if scorer is not None and own_packages(ENCODERS.make(scorer)) else scorer
    uris = [answer_values.values_uri(one.asking, _scoring(stage, scorer)) for one in answered]
    said = [[text or "" for text in one.answers["answer"].to_pylist()] for one in answered]
    looked = [texts for one, texts in zip(answered, said, strict=True) if not one.asking.prompt.asks_question]
    seen = None
    if scorer is not None and looked and not all(map(storage.exists, uris)):
        with stage.reporter.stage(f"scoring answers with {scorer}", None):
            seen = answer_quality.look(
                stage.plan.held, looked, stage.plan.shown["retrieved"], stage.embedded.images[scorer], scorer, section.score_prefix,
                stage.pool(), evaluation.seed,
            )  # fmt: skip
    scored = []
    for one, texts, uri in zip(answered, said, uris, strict=True):
        if not storage.exists(uri):
            answer_values.write_values(uri, one, _values(texts, one, stage, seen))
        values = answer_values.read_values(uri, one)
        scored.append(answer_values.of_answers(one, uri, values, stage.plan.drawn))
        _keep_samples(stage, scored[-1], uri.rpartition("/")[2])
    return scored, scorer


def _scoring(stage: _Stage, scorer: str | None) -> list[Any]:
    """What decides the values beside the answers; a JSON value."""
    plan, evaluation = stage.plan, stage.evaluation
    seen = None
    if scorer is not None:
        images = stage.embedded.images[scorer].checksum
        seen = [ENCODERS.make(scorer).fingerprint(), images, stage.section.score_prefix]
    retrieved = [list(rows) for rows in plan.shown["retrieved"].rows]
    return [
        VALUES_FORMAT,
        seen,
        plan.held.references,
        plan.held.questions,
        plan.held.image_ids,
        plan.drawn.queries.tolist(),
        retrieved,
        evaluation.seed,
    ]


def _keep_samples(stage: _Stage, scored: Scored, name: str) -> None:
    asking = scored.answered.asking
    uri = storage.join(asking.out, "results", "samples", name)
    copies = {copied.image_id: copied for copied in stage.plan.copies.values()}
    drawn = np.random.default_rng([stage.evaluation.seed, 0x5A]).permutation(len(asking.tasks))
    answer_values.write_samples(uri, scored, stage.plan.held, copies, np.sort(drawn[: stage.section.samples]).tolist())


def _values(texts: Sequence[str], answered: Answered, stage: _Stage, seen: Seen | None) -> PerQuery:
    """By measure."""
    held = stage.plan.held
    if answered.asking.prompt.asks_question:
        return answer_quality.of_questions(texts, held)
    values = answer_quality.of_truth(texts, held) | answer_quality.of_words(texts, held.references)
    if seen is not None:
        values |= answer_quality.of_sight(texts, held, seen, stage.section.score_prefix)
    return values


def _tell(stage: _Stage, scored: Sequence[Scored], scorer: str | None) -> None:
    """Tables, entries of run.json, and warnings."""
    progress, section, evaluation = stage.progress, stage.section, stage.evaluation
    told = answer_means.means(scored, evaluation.intervals, evaluation.seed)
    progress.sheets += answer_sheets.answers_sheets(told, stage.plan.cell, evaluation.intervals.level)
    if progress.rag_times:
        progress.sheets.append(answer_sheets.split_sheet(progress.rag_times, evaluation.intervals.level))
        progress.sheets += answer_sheets.times_sheets(progress.rag_times, section.alone, evaluation.intervals.level)
    progress.sheets.append(answer_sheets.batches_sheet(scored))
    if stage.plan.tuned is not None:
        tune = evaluation.tune or Tune()
        progress.sheets.append(tuned_sheet(tune, [stage.plan.tuned]))
        progress.warnings.append(
            f"generating: {stage.plan.tuned['tuning_queries']} queries tuned the effort of {stage.plan.cell.index} and are not answered; those that "
            "are come from the others"
        )
    of = {one.prompt: one for one in told}
    for one in scored:
        means = of[one.title[0]]
        measures = [means.known[name, one.title[1]].entry(name) for name in means.measures]
        progress.generations.append(one.entry(stage.plan.cell, section, scorer, measures))
    for one in scored:
        problems = one.answered.manifest["dropped"]
        if problems:
            reasons = ", ".join(f"{reason} {count}" for reason, count in problems.items())
            progress.warnings.append(
                f"generating, {one.answered.asking.title}: missing answers, which count as empty: {reasons}"
            )
    if stage.plan.drawn.without_answer:
        progress.warnings.append(
            f"generating: {stage.plan.drawn.without_answer} queries have no relevant picture that can be read and were not drawn"
        )
    alone = sum(
        references == (own,) for references, own in zip(stage.plan.held.references, stage.plan.drawn.texts, strict=True)
    )
    if alone:
        progress.warnings.append(
            f"generating: {alone} of {len(stage.plan.drawn)} queries are the only caption of their picture, and so their own reference: a copy of "
            "the query scores full marks there"
        )
    if section.strategy == "centroid":
        progress.warnings.append(
            "generating: averages of a cluster's queries hold the captions that answers are held against, so what retrieval adds is more than "
            "one query alone would find"
        )
    if scorer == stage.plan.cell.asked.encoder:
        progress.warnings.append(
            f"generating: {scorer} both retrieves and scores, and so rewards its own taste; score with another encoder"
        )
