"""Answers become a value of every measure for every query, kept beside what decides them; and a few become samples to look at."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from raybench import storage
from raybench.encoders import ENCODERS
from raybench.encoders.base import own_packages
from raybench.experiments import answer_quality, answer_values
from raybench.experiments.answer_quality import PerQuery, Seen
from raybench.experiments.answer_values import Scored
from raybench.experiments.answered import Answered
from raybench.experiments.generate_stage import Stage

VALUES_FORMAT = 1  # raise it when the same answers get other values


def score(stage: Stage, answered: Sequence[Answered]) -> tuple[list[Scored], str | None]:
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


def _scoring(stage: Stage, scorer: str | None) -> list[Any]:
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


def _keep_samples(stage: Stage, scored: Scored, name: str) -> None:
    asking = scored.answered.asking
    uri = storage.join(asking.out, "results", "samples", name)
    copies = {copied.image_id: copied for copied in stage.plan.copies.values()}
    drawn = np.random.default_rng([stage.evaluation.seed, 0x5A]).permutation(len(asking.tasks))
    answer_values.write_samples(uri, scored, stage.plan.held, copies, np.sort(drawn[: stage.section.samples]).tolist())


def _values(texts: Sequence[str], answered: Answered, stage: Stage, seen: Seen | None) -> PerQuery:
    """By measure."""
    held = stage.plan.held
    if answered.asking.prompt.asks_question:
        return answer_quality.of_questions(texts, held)
    values = answer_quality.of_truth(texts, held) | answer_quality.of_words(texts, held.references)
    if seen is not None:
        values |= answer_quality.of_sight(texts, held, seen, stage.section.score_prefix)
    return values
