"""The queries that a set begins with: those that come with the targets, or from two tables, or the targets' captions."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raybench.curation.base import Asking
from raybench.curation.scan import Pool
from raybench.errors import DataError
from raybench.experiments.recipe import Recipe
from raybench.sources.tables import qrels_table, queries_table


@dataclass(frozen=True, slots=True)
class Given:
    """What was given to ask with, and what of it a set cannot hold; queries in = queries asked + queries without an answer."""

    queries: int
    judgments: int
    dropped: dict[str, int]


def first_asking(recipe: Recipe, targets: Pool, candidates: pa.Table) -> tuple[Asking, Given]:
    """Queries and judged pairs among the candidates of the first pool. DataError where there is none."""
    queries, qrels = targets.source.queries(), targets.source.judgments()
    if recipe.queries is not None and recipe.qrels is not None:
        queries, qrels = queries_table(recipe.queries), qrels_table(recipe.qrels)
    own = candidates.filter(pa.array(np.asarray(candidates["pool"]) == 0))
    asking, given = _of_captions(own) if queries is None or qrels is None else _of_tables(queries, qrels, own)
    if not len(asking):
        raise DataError(
            f"{recipe.targets.images} gives no query: none of its {len(own)} readable pictures has a caption or is judged"
        )
    return asking, given


def _of_captions(own: pa.Table) -> tuple[Asking, Given]:
    """Every caption of every picture; its only answer is that picture."""
    ids, texts, clusters, rows = [], [], [], []
    captions = own["captions"].to_pylist()
    for row, (image_id, given) in enumerate(zip(own["image_id"].to_pylist(), captions, strict=True)):
        for number, text in enumerate(given or []):
            ids.append(f"{image_id}_caption_{number:02d}")
            texts.append(text)
            clusters.append(image_id)
            rows.append(row)
    row_P = np.array(rows, np.int64)
    grade_P = np.ones(len(rows), np.int64)
    asking = Asking(tuple(ids), tuple(texts), tuple(clusters), np.arange(len(rows)), row_P, grade_P)
    return asking, Given(len(ids), len(ids), {})


def _of_tables(queries: pa.Table, qrels: pa.Table, own: pa.Table) -> tuple[Asking, Given]:
    """Judged queries; judgments name pictures as the pool does."""
    row_of = {source_id: row for row, source_id in enumerate(own["source_id"].to_pylist())}
    new_id = dict(zip(own["source_id"].to_pylist(), own["image_id"].to_pylist(), strict=True))
    broken = next((one for one in queries["query_id"].to_pylist() if any(ord(mark) < 32 for mark in one)), None)
    if broken is not None:
        raise DataError(
            f"query id {broken!r} has a tab or a line break, which tables of judgments cannot hold; rename it"
        )
    number_of = {query_id: number for number, query_id in enumerate(queries["query_id"].to_pylist())}
    pairs, dropped = list[tuple[int, int, int]](), Counter[str]()
    for row in qrels.to_pylist():
        if row["query_id"] not in number_of:
            dropped["judgment_of_unknown_query"] += 1
        elif row["relevance"] <= 0:
            dropped["judgment_of_no_relevance"] += 1
        elif row["image_id"] not in row_of:
            dropped["judgment_of_missing_picture"] += 1
        else:
            pairs.append((number_of[row["query_id"]], row_of[row["image_id"]], row["relevance"]))
    pair_P3 = np.array(pairs, np.int64).reshape(-1, 3)
    clusters = _clusters(queries, pair_P3, own, new_id)
    every = Asking(
        tuple(number_of), tuple(queries["text"].to_pylist()), clusters, pair_P3[:, 0], pair_P3[:, 1], pair_P3[:, 2]
    )
    asking = every.among(np.ones(len(own), np.bool_))
    dropped["query_without_answer"] = len(every) - len(asking)
    told = {reason: count for reason, count in sorted(dropped.items()) if count}
    return asking, Given(len(every), len(qrels), told)


def _clusters(queries: pa.Table, pair_P3: np.ndarray, own: pa.Table, new_id: dict[str, str]) -> tuple[str, ...]:
    """The cluster that a query names, as the set calls it; else its first answer with the highest grade."""
    order = np.lexsort((np.arange(len(pair_P3)), -pair_P3[:, 2], pair_P3[:, 0]))
    ids = own["image_id"].to_pylist()
    best: dict[int, str] = {}
    for query, row, _ in pair_P3[order].tolist():
        best.setdefault(query, ids[row])
    given = queries["cluster_id"].to_pylist() if "cluster_id" in queries.column_names else [None] * len(queries)
    return tuple(
        new_id.get(named, named) if named else best.get(number, query_id)
        for number, (named, query_id) in enumerate(zip(given, queries["query_id"].to_pylist(), strict=True))
    )
