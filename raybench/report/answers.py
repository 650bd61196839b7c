"""What a few queries were answered, ready to be shown: one query stands once, with a strip for each context.

A context is what the model was shown: what was retrieved, the right pictures, none, or random ones. The strips of one query
lie below each other, so that a reader sees what retrieval adds to the answer.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raybench import storage
from raybench.errors import DataError
from raybench.generation.tables import SAMPLES
from raybench.report.answer_figures import SERIES_OF, Panels, Split, panels, splits
from raybench.report.gallery import MOST_QUERIES, Shown, picture
from raybench.report.tables import number

Told = Mapping[str, Any]

STRIPS = ("retrieved", "gold", "none", "random")
"""The contexts in the order of a card; others follow."""

FIRST = ("accuracy", "token_f1", "rouge_l", "clip_score", "groundedness")
_MOST_FIRST = 3  # values that stand beside an answer; the others are folded


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to one query in one context."""

    context: str
    series: int
    shown: tuple[Shown, ...]
    words: str  # what was asked
    answer: str
    is_cut_off: bool
    problem: str  # empty where there is an answer
    values: tuple[tuple[str, str], ...]  # measure and number
    others: tuple[tuple[str, str], ...]  # the same, of those that are folded


@dataclass(frozen=True, slots=True)
class Card:
    """One query: its words, what answers are held against, and the answers."""

    query_id: str
    text: str
    references: tuple[str, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """The queries of one context: how many were asked, answered, and not answered for a reason."""

    context: str
    series: int
    queries: int
    answered: int
    problems: tuple[tuple[str, int], ...]

    @property
    def is_balanced(self) -> bool:
        """Whether no query was lost or counted twice."""
        return self.queries == self.answered + sum(count for _, count in self.problems)


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that is shown of one prompt; `num_cards` is how many there were before the cut."""

    name: str
    version: str
    generators: tuple[str, ...]
    systems: tuple[str, ...]  # what retrieved, and how
    counts: tuple[Count, ...]
    panels: Panels
    splits: tuple[Split, ...]
    cards: tuple[Card, ...]
    num_cards: int


def prompts(generations: Sequence[Told], rag_times: Sequence[Told], results_uri: str) -> tuple[Prompt, ...]:
    """The prompts of a run in the order in which it tells of them. Raises DataError where samples have another shape."""
    names = dict.fromkeys(one["prompt"] for one in (*generations, *rag_times))
    return tuple(
        _prompt(
            name,
            [one for one in generations if one["prompt"] == name],
            [one for one in rag_times if one["prompt"] == name],
            results_uri,
        )
        for name in names
    )


def lost(generations: Sequence[Told]) -> list[str]:
    """A sentence for each generation whose queries do not add up."""
    return [
        f"The queries of the prompt {one['prompt']} with context {one['context']} do not add up: see the answers."
        for one in generations
        if not _count(one).is_balanced
    ]


def _prompt(name: str, generations: Sequence[Told], times: Sequence[Told], results_uri: str) -> Prompt:
    rows: dict[str, list[tuple[Told, Told]]] = {}  # of each query: rows of samples, with the generation that each is of
    for one in generations:
        for row in _samples(results_uri, str(one.get("values") or one["key"])):
            rows.setdefault(row["query_id"], []).append((row, one))
    systems = [
        ", ".join(str(one[part]) for part in ("encoder", "transform", "index", "strategy") if one.get(part))
        for one in generations
    ]
    return Prompt(
        name,
        ", ".join(dict.fromkeys(one.get("prompt_version") or "" for one in generations)),
        tuple(dict.fromkeys(str(one["generator"]) for one in generations if one.get("generator"))),
        tuple(system for system in dict.fromkeys(systems) if system),
        tuple(_count(one) for one in generations),
        panels(name, generations),
        splits(name, times),
        tuple(_card(query_id, asked) for query_id, asked in itertools.islice(rows.items(), MOST_QUERIES)),
        len(rows),
    )


def _count(told: Told) -> Count:
    problems = sorted((told.get("problems") or {}).items())
    return Count(
        told["context"], SERIES_OF.get(told["context"], 3), told.get("queries") or 0, told.get("answered") or 0,
        tuple(problems),
    )  # fmt: skip


def _samples(results_uri: str, key: str) -> list[dict[str, Any]]:
    uri = storage.join(results_uri, "samples", f"{key}.parquet")
    if not storage.exists(uri):
        return []
    table = storage.read_table(uri)
    if table.schema.names != SAMPLES.names:
        raise DataError(f"{uri} has columns {', '.join(table.schema.names)}; delete it and run again")
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        row["values"] = _values(row["measures"], uri)
    return rows


def _values(text: str | None, uri: str) -> dict[str, float]:
    """The values of one answer, less those that are not defined for it."""
    try:
        values = json.loads(text or "{}")
        return {str(name): float(value) for name, value in values.items() if value is not None}
    except (ValueError, TypeError, AttributeError):
        raise DataError(f"{uri}: measures hold what is not a JSON object of numbers; run again") from None


def _card(query_id: str, asked: Sequence[tuple[Told, Told]]) -> Card:
    order = {context: place for place, context in enumerate(STRIPS)}
    answers = [_answer(row, told) for row, told in asked]
    references = dict.fromkeys(text for row, _ in asked for text in row["references"] or [] if text)
    return Card(
        query_id or "",
        next((row["query"] for row, _ in asked if row["query"]), ""),
        tuple(references),
        tuple(sorted(answers, key=lambda answer: order.get(answer.context, len(order)))),
    )


def _answer(row: Told, told: Told) -> Answer:
    units = {one["measure"]: one.get("unit") or "" for one in told.get("measures") or []}
    values = row["values"]
    first = [name for name in FIRST if name in values][:_MOST_FIRST] or list(values)[:_MOST_FIRST]
    texts = {name: number(value, units.get(name, "")) for name, value in values.items()}
    return Answer(
        row["context"] or "",
        SERIES_OF.get(row["context"], 3),
        _pictures(row),
        row["words"] or "",
        row["answer"] or "",
        row["ended"] == "length",
        row["problem"] or "",
        tuple((name, texts[name]) for name in first),
        tuple((name, text) for name, text in texts.items() if name not in first),
    )


def _pictures(row: Told) -> tuple[Shown, ...]:
    ids = row["image_ids"] or []
    columns = [(row[name] or [])[: len(ids)] for name in ("scores", "grades", "thumbnails")]
    cells = itertools.zip_longest(ids, *columns)
    return tuple(
        Shown(rank, image_id or "", "", score, grade or 0, picture(jpeg))
        for rank, (image_id, score, grade, jpeg) in enumerate(cells, 1)
    )
