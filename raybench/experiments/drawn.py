"""Which queries are answered, what they are about, and which pictures each is shown in every context.

A query is about the picture that its words came from, where that can be read and is relevant, else about its best judged picture
that can be read; queries that have none are not drawn, because the oracle could not be asked. With a tuned effort, queries are
drawn from those that did not tune.

Axes: Q queries, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench.arrays import FloatMatrix, Rows
from raybench.collection import Collection
from raybench.errors import DataError, IndexRequestError
from raybench.experiments import judgments
from raybench.experiments.backend import Backend
from raybench.experiments.cell import Asked, Cell
from raybench.experiments.evaluation import Evaluation, Generate, Tune
from raybench.experiments.judgments import Judged
from raybench.experiments.reporting import Reporter
from raybench.experiments.tuning import tune_cell
from raybench.indexes import INDEXES
from raybench.search.effort import split_queries
from raybench.spec import Spec


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of all queries: the picture that each is about, and what is said of every picture."""

    query_ids: tuple[str, ...]
    clusters: tuple[str, ...]
    texts: tuple[str, ...]
    gold: tuple[int | None, ...]  # the row of the picture; None where none can be read
    grades: tuple[Mapping[int, int], ...]  # of relevant rows that can be read
    told: Mapping[int, tuple[str, ...]]  # of every picture, by its row, the queries that are about it

    def others(self, query: int) -> tuple[str, ...]:
        """What else is said of the picture that a query is about."""
        row = self.gold[query]
        return () if row is None else tuple(text for text in self.told[row] if text != self.texts[query])


def known(judged: Judged, images: Collection) -> Known:
    """Look up what every query is about."""
    _, qrels = judgments.text_to_image(judged, images)
    grades = tuple(
        {int(row): int(grade) for row, grade in zip(rows, gains, strict=True) if row >= 0}
        for rows, gains in zip(qrels.relevant, qrels.grades, strict=True)
    )
    own = judgments.rows_of_ids(images, qrels.clusters, "image_id")
    gold = tuple(_about(own.get(cluster), graded) for cluster, graded in zip(qrels.clusters, grades, strict=True))
    texts = tuple(judged.queries["text"].to_pylist())
    told: dict[int, list[str]] = {}
    for row, text in zip(gold, texts, strict=True):
        if row is not None:
            told.setdefault(row, []).append(text)
    return Known(qrels.query_ids, qrels.clusters, texts, gold, grades, {row: tuple(some) for row, some in told.items()})


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The queries that are answered."""

    queries: Rows  # places among all queries
    query_ids: tuple[str, ...]
    clusters: tuple[str, ...]
    texts: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]  # what else is said of the picture; the query itself where nothing is
    gold: Rows  # rows of the images that they are about
    grades: tuple[Mapping[int, int], ...]  # of relevant rows
    vectors_QD: FloatMatrix  # what is searched with
    without_answer: int  # queries that have no readable picture

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True, slots=True)
class Shown:
    """The pictures of every query in one context."""

    rows: tuple[tuple[int, ...], ...]
    scores: tuple[tuple[float, ...] | None, ...]  # of the search


def with_effort(
    cell: Cell, tune: Tune, backend: Backend, reporter: Reporter, out: str
) -> tuple[Cell, dict[str, Any] | None]:
    """The cell with the effort that was asked for, or the tuned one; and what tuning found.

    IndexRequestError where no effort reaches the target.
    """
    dial = INDEXES.make(cell.index).dial
    if dial is None or not dial.is_needed or Spec.parse(cell.index).at is not None:
        return cell, None
    found = tune_cell(cell, tune, out, backend, reporter)
    if found["effort"] is None:
        raise IndexRequestError(
            f"no effort of {cell.index} reaches {tune.measure} of {tune.target:g}; write one, as in {cell.index}@64"
        )
    return cell.at(int(found["effort"])), found


def draw(cell: Cell, section: Generate, of: Known, *, held_out: bool, seed: int) -> Drawn:
    """Queries by lot among those whose answer can be read; the same for a seed, whatever answers them."""
    can_Q = np.array([row is not None for row in of.gold])
    pool_Q = can_Q & split_queries(cell.asked.clusters_Q, cell.seed)[1] if held_out else can_Q
    if not pool_Q.any():
        raise DataError("no query has a relevant picture that can be read, so there is nothing to generate")
    some = np.flatnonzero(pool_Q)
    chosen = np.sort(np.random.default_rng([seed, 0x6E]).permutation(some)[: section.queries])
    queries = chosen.tolist()
    return Drawn(
        chosen, tuple(of.query_ids[q] for q in queries), tuple(of.clusters[q] for q in queries),
        tuple(of.texts[q] for q in queries), tuple(of.others(q) or (of.texts[q],) for q in queries),
        np.array([of.gold[q] for q in queries], np.int64), tuple(of.grades[q] for q in queries),
        _vectors(cell.asked, section.strategy)[chosen], int((~can_Q).sum()),
    )  # fmt: skip


def show(context: str, drawn: Drawn, cell: Cell, pictures: int, backend: Backend, out: str, seed: int) -> Shown:
    """What every query is shown in a context."""
    if context == "retrieved":
        return _retrieved(drawn, cell, pictures, backend, out)
    if context == "gold":
        return _unscored([(int(row),) for row in drawn.gold])
    if context == "none":
        return _unscored([()] * len(drawn))
    return _unscored(
        [
            by_lot(cell.rows, pictures, graded, seed, query)
            for query, graded in zip(drawn.queries.tolist(), drawn.grades, strict=True)
        ]
    )


def by_lot(rows: int, count: int, relevant: Mapping[int, int], seed: int, query: int) -> tuple[int, ...]:
    """Rows that are not relevant to a query, of a stream of its own."""
    stream = np.random.default_rng([seed, 0x4A, query])
    drawn = [
        int(row)
        for row in stream.choice(rows, min(rows, count + len(relevant)), replace=False)
        if int(row) not in relevant
    ]
    return tuple(drawn[:count])


def _retrieved(drawn: Drawn, cell: Cell, pictures: int, backend: Backend, out: str) -> Shown:
    cell.check(pictures)
    with cell.open(backend, out) as index:
        found = index.search(drawn.vectors_QD, pictures, Spec.parse(cell.index).at)
    rows, scores = [], []
    for ids, values in zip(found.ids_QK.tolist(), found.scores_QK.tolist(), strict=True):
        there = [(row, score) for row, score in zip(ids, values, strict=True) if row >= 0]
        rows.append(tuple(row for row, _ in there))
        scores.append(tuple(score for _, score in there))
    return Shown(tuple(rows), tuple(scores))


def _unscored(rows: Sequence[tuple[int, ...]]) -> Shown:
    return Shown(tuple(rows), (None,) * len(rows))


def _about(own: int | None, grades: Mapping[int, int]) -> int | None:
    if own in grades:
        return own
    return min(grades, key=lambda row: (-grades[row], row), default=None)


def _vectors(asked: Asked, strategy: str) -> FloatMatrix:
    """The vector of each query, or the average of those of its cluster at length one."""
    if strategy == "knn":
        return asked.queries_QD
    clusters, number_Q = np.unique(asked.clusters_Q, return_inverse=True)
    sums_CD = np.zeros((len(clusters), asked.queries_QD.shape[1]))
    np.add.at(sums_CD, number_Q, asked.queries_QD.astype(np.float64))
    sums_CD /= np.linalg.norm(sums_CD, axis=1, keepdims=True)
    averages: FloatMatrix = sums_CD[number_Q].astype(asked.queries_QD.dtype)
    return averages


def cell_of(asked: Sequence[Asked], section: Generate, evaluation: Evaluation) -> Cell:
    """The cell that is searched: text to image by the section's encoder, transform and index."""
    encoder = section.encoder or evaluation.encoders[0]
    one = next(one for one in asked if one.direction == "text_to_image" and one.encoder == encoder)
    return Cell(one, section.transform, section.index, evaluation.shards, evaluation.seed, evaluation.intervals)
