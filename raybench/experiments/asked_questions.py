"""The words around a query: its question, and examples that go before it.

Examples are other queries with the picture that they are about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench.errors import DataError, RequestError
from raybench.experiments.drawn import Drawn, Known
from raybench.experiments.judgments import Judged
from raybench.experiments.picture_copies import Copied
from raybench.generation.prompts import Prompt
from raybench.generation.worker import Example
from raybench.sources.base import Truth
from raybench.sources.tables import TABLES

_QUESTION_COLUMNS = ("query_id", "question", "answer")


@dataclass(frozen=True, slots=True)
class Shot:
    """An example: a query, the row of its picture, and what should be said of it."""

    query: str
    row: int
    answer: str

    def example(self, prompt: Prompt, copies: Mapping[int, Copied], *, with_picture: bool) -> Example:
        """In the words of a prompt; without its picture where the query has none either."""
        pictures = (copies[self.row].uri,) if with_picture else ()
        return Example(pictures, prompt.words(self.query, None, pictures=len(pictures)), self.answer)


def texts_by_cluster(judged: Judged) -> dict[str, tuple[str, ...]]:
    """The words of all queries of each cluster."""
    found: dict[str, list[str]] = {}
    queries = judged.queries
    for text, cluster in zip(queries["text"].to_pylist(), queries["cluster_id"].to_pylist(), strict=True):
        found.setdefault(cluster, []).append(text)
    return {cluster: tuple(texts) for cluster, texts in found.items()}


def questions_of(
    table: str | None, drawn: Drawn, image_ids: Sequence[str], truth: Truth | None
) -> tuple[tuple[str, str] | None, ...]:
    """The question of each query and its answer: from a table, from a source that knows its pictures, or none."""
    if table is None:
        return tuple(
            None if truth is None else truth.question(query_id, image_id, text)
            for query_id, image_id, text in zip(drawn.query_ids, image_ids, drawn.texts, strict=True)
        )
    told: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(TABLES.make(table).rows()):
        lacking = next((name for name in _QUESTION_COLUMNS if _is_blank(row.get(name))), None)
        if lacking is not None:
            raise DataError(f"{table}: row {number} has no {lacking}; give the columns {', '.join(_QUESTION_COLUMNS)}")
        if str(row["query_id"]) in told:
            raise DataError(f"{table}: query {row['query_id']!r} has two questions; remove one")
        told[str(row["query_id"])] = (str(row["question"]), str(row["answer"]))
    return tuple(told.get(query_id) for query_id in drawn.query_ids)


def _is_blank(value: Any) -> bool:
    return value is None or not str(value).strip()


def examples_of(count: int, of: Known, drawn: Drawn, seed: int) -> tuple[Shot, ...]:
    """Examples by lot, the same for all queries; the longest other caption of their picture is what should be said.

    None is about a picture that answers a query, nor of a query's cluster.
    """
    if not count:
        return ()
    clusters, answers = set(drawn.clusters), {row for graded in drawn.grades for row in graded}
    pool = [
        (of.texts[query], row, max(of.others(query), key=len))
        for query, (cluster, row) in enumerate(zip(of.clusters, of.gold, strict=True))
        if row is not None
        and cluster not in clusters
        and row not in answers
        and of.others(query)
        and of.texts[query] == of.told[row][0]  # one of each picture
    ]
    if len(pool) < count:
        raise RequestError(
            f"generate.shots={count} asks for examples among queries that are not answered and have a second caption, and there "
            f"are {len(pool)}; ask for fewer, or answer fewer queries"
        )
    order = np.random.default_rng([seed, 0x5E]).permutation(len(pool)).tolist()
    return tuple(Shot(*pool[place]) for place in order[:count])
