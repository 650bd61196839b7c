"""What a generation will ask, before anything is generated: queries, pictures in every context, words, examples.

Axes: Q queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raybench.encoders import ENCODERS
from raybench.errors import RequestError
from raybench.experiments.answer_quality import Held
from raybench.experiments.answered import Asking
from raybench.experiments.asked_questions import Shot, examples_of, questions_of, texts_by_cluster
from raybench.experiments.backend import Backend
from raybench.experiments.cell import Cell
from raybench.experiments.drawn import Drawn, Shown, draw, known, show, with_effort
from raybench.experiments.embedded import Embedded
from raybench.experiments.evaluation import Generate, Tune
from raybench.experiments.picture_copies import Copied, copy_pictures
from raybench.experiments.prepared import Prepared
from raybench.experiments.reporting import Reporter
from raybench.generation import GENERATORS
from raybench.generation.base import GeneratorRecipe
from raybench.generation.prompts import OWN, PROMPTS, Prompt, own_prompt
from raybench.generation.worker import Task
from raybench.sources.base import truth_of
from raybench.sources.tables import TABLES


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """All that will be asked."""

    cell: Cell
    tuned: dict[str, Any] | None  # what tuning found, where the effort was not given
    drawn: Drawn
    shown: Mapping[str, Shown]  # by context; the retrieved one is always there
    copies: Mapping[int, Copied]  # by row
    held: Held
    askings: tuple[Asking, ...]
    texts: tuple[tuple[str, ...], ...]  # that each query's vector is made of


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """What all prompts and contexts share."""

    prepared: Prepared
    section: Generate
    recipe: GeneratorRecipe
    fingerprint: str  # read once: it may be of gigabytes of weights
    held: Held
    copies: Mapping[int, Copied]
    shots: Sequence[Shot]
    searched: tuple[str, ...]  # what found the retrieved pictures


def check_questions(prepared: Prepared) -> None:
    """RequestError, before anything is embedded, for a prompt that asks questions which are not there."""
    section = prepared.evaluation.generate
    if section is None:
        return
    if section.questions is not None:
        next(iter(TABLES.make(section.questions).rows()), None)
    elif truth_of(prepared.source) is None:
        asking = next((name for name in section.prompts if _prompt(section, name).asks_question), None)
        if asking is not None:
            raise RequestError(
                f"the prompt {asking!r} asks a question for every query, and {prepared.evaluation.images} brings none; give "
                "generate.questions, a table of query_id, question and answer"
            )


def plan(
    prepared: Prepared, section: Generate, cell: Cell, embedded: Embedded, backend: Backend, reporter: Reporter
) -> Planned:
    """Tune where an effort is missing, search, copy pictures, and word everything."""
    evaluation, out, seed = prepared.evaluation, prepared.out, prepared.evaluation.seed
    cell, tuned = with_effort(cell, evaluation.tune or Tune(), backend, reporter, out)
    images, judged, truth = embedded.images[cell.asked.encoder], embedded.judged, truth_of(prepared.source)
    about = known(judged, images)
    drawn = draw(cell, section, about, held_out=tuned is not None, seed=seed)
    with reporter.stage(f"searching pictures for {len(drawn)} queries", None):
        names = dict.fromkeys(("retrieved", *section.contexts))
        shown = {name: show(name, drawn, cell, section.pictures, backend, out, seed) for name in names}
    shots = examples_of(section.shots, about, drawn, seed)
    rows = {row for one in shown.values() for some in one.rows for row in some} | set(drawn.gold.tolist())
    rows |= {shot.row for shot in shots}
    copies = copy_pictures(sorted(rows), images, prepared.source, prepared.shards, out, backend.workers(), reporter)
    image_ids = tuple(copies[row].image_id for row in drawn.gold.tolist())
    questions = questions_of(section.questions, drawn, image_ids, truth)
    held = Held(drawn, image_ids, drawn.references, questions, truth)
    recipe = GENERATORS.make(section.generator)
    shared = _Shared(
        prepared, section, recipe, recipe.fingerprint(), held, copies, shots,
        (ENCODERS.make(cell.asked.encoder).fingerprint(), cell.asked.corpus.checksum, cell.transform, cell.index, section.strategy),
    )  # fmt: skip
    askings: list[Asking] = []
    for prompt in (_prompt(section, name) for name in section.prompts):
        _check_questions(prompt, held)
        askings += [_asking(prompt, context, shared, shown[context]) for context in section.contexts]
    own = texts_by_cluster(judged) if section.strategy == "centroid" else {}
    texts = tuple(own.get(cluster, (text,)) for cluster, text in zip(drawn.clusters, drawn.texts, strict=True))
    return Planned(cell, tuned, drawn, shown, copies, held, tuple(askings), texts)


def _prompt(section: Generate, name: str) -> Prompt:
    own = section.own_prompt
    return own_prompt(own.shown, own.unseen) if own is not None and name == OWN else PROMPTS[name]


def _check_questions(prompt: Prompt, held: Held) -> None:
    missing = sum(one is None for one in held.questions)
    if prompt.asks_question and missing:
        raise RequestError(
            f"the prompt {prompt.name!r} needs a question for every query, and {missing} of {len(held.questions)} have none; "
            "give generate.questions, a table of query_id, question and answer"
        )


def _asking(
    prompt: Prompt, context: str, shared: _Shared, shown: Shown
) -> Asking:  # fmt: skip
    section, held, copies = shared.section, shared.held, shared.copies
    tasks, facts = list[Task](), list[dict[str, Any]]()
    for query, rows in enumerate(shown.rows):
        question = held.questions[query] if prompt.asks_question else None
        words = prompt.words(held.drawn.texts[query], question and question[0], pictures=len(rows))
        examples = tuple(shot.example(prompt, copies, with_picture=bool(rows)) for shot in shared.shots)
        uris = tuple(copies[row].uri for row in rows)
        tasks.append(Task(held.drawn.query_ids[query], uris, words, examples))
        facts.append(_facts(held.drawn, query, shown, copies) | {"question": question and question[0]})
    told = {"prompt": prompt.version, "context": context}
    return Asking(
        section.generator, shared.fingerprint, section.decoding, shared.prepared.evaluation.seed, prompt, context, tuple(tasks),
        tuple(one | told for one in facts), shared.searched if context == "retrieved" else (),
        shared.recipe.batch, shared.prepared.out,
    )  # fmt: skip


def _facts(drawn: Drawn, query: int, shown: Shown, copies: Mapping[int, Copied]) -> dict[str, Any]:
    """What the table of answers says of a query beside its answer."""
    rows = shown.rows[query]
    return {
        "query_id": drawn.query_ids[query], "cluster_id": drawn.clusters[query], "query": drawn.texts[query],
        "image_ids": [copies[row].image_id for row in rows], "scores": shown.scores[query],
        "grades": [drawn.grades[query].get(row, 0) for row in rows],
    }  # fmt: skip
