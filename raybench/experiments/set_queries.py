"""The queries that a set begins with: those that come with the targets, or from two tables, or the targets' captions."""

import numpy as np
import pyarrow as pa

from raybench.curation.base import Asking
from raybench.curation.scan import Pool
from raybench.errors import DataError
from raybench.experiments.recipe import Recipe
from raybench.sources.tables import qrels_table, queries_table


def first_asking(recipe: Recipe, targets: Pool, candidates: pa.Table) -> Asking:
    """Queries and judged pairs among the candidates of the first pool. DataError where there is none."""
    queries, qrels = targets.source.queries(), targets.source.judgments()
    if recipe.queries is not None and recipe.qrels is not None:
        queries, qrels = queries_table(recipe.queries), qrels_table(recipe.qrels)
    own = candidates.filter(pa.array(np.asarray(candidates["pool"]) == 0))
    asking = _of_captions(own) if queries is None or qrels is None else _of_tables(queries, qrels, own)
    if not len(asking):
        raise DataError(
            f"{recipe.targets.images} gives no query: none of its {len(own)} readable pictures has a caption or is judged"
        )
    return asking


def _of_captions(own: pa.Table) -> Asking:
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
    return Asking(tuple(ids), tuple(texts), tuple(clusters), np.arange(len(rows)), row_P, np.ones(len(rows), np.int64))


def _of_tables(queries: pa.Table, qrels: pa.Table, own: pa.Table) -> Asking:
    """Judged queries; judgments name pictures as the pool does."""
    row_of = {source_id: row for row, source_id in enumerate(own["source_id"].to_pylist())}
    new_id = dict(zip(own["source_id"].to_pylist(), own["image_id"].to_pylist(), strict=True))
    broken = next((one for one in queries["query_id"].to_pylist() if any(ord(mark) < 32 for mark in one)), None)
    if broken is not None:
        raise DataError(
            f"query id {broken!r} has a tab or a line break, which tables of judgments cannot hold; rename it"
        )
    number_of = {query_id: number for number, query_id in enumerate(queries["query_id"].to_pylist())}
    pairs = [
        (number_of[row["query_id"]], row_of[row["image_id"]], row["relevance"])
        for row in qrels.to_pylist()
        if row["relevance"] > 0 and row["image_id"] in row_of and row["query_id"] in number_of
    ]
    pair_P3 = np.array(pairs, np.int64).reshape(-1, 3)
    clusters = _clusters(queries, pair_P3, own, new_id)
    every = Asking(
        tuple(number_of), tuple(queries["text"].to_pylist()), clusters, pair_P3[:, 0], pair_P3[:, 1], pair_P3[:, 2]
    )
    return every.among(np.ones(len(own), np.bool_))


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
