"""One experiment: one corpus, one set of queries, one transform and one index; its key is what decides its numbers.

The number of shards and who searched are not part of the key, because they change nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from raybench import results, storage
from raybench.arrays import FloatMatrix, Neighbors, Qrels
from raybench.collection import Collection
from raybench.errors import DataError
from raybench.experiments import judgments, shown
from raybench.experiments.backend import Backend
from raybench.experiments.cell import check_request
from raybench.experiments.evaluation import Evaluation, search_depth
from raybench.experiments.fitting import fitted_transform
from raybench.experiments.judgments import Judged
from raybench.experiments.records import make_records, per_query_table
from raybench.experiments.reporting import Reporter
from raybench.indexes import INDEXES
from raybench.indexes.base import FullIndex
from raybench.indexes.exact import Exact
from raybench.indexes.partition import embeds_again
from raybench.indexes.stored import RowSource
from raybench.metrics import Counts, Pairs, PerQuery, Ranks, evaluate, evaluate_overlap, parse_measure
from raybench.metrics.uncertainty import number_clusters
from raybench.results import Record
from raybench.sources.base import Shard, Source
from raybench.spec import Spec, content_key
from raybench.transforms import Float16, Transform

FORMAT = 3  # raise it when the same inputs give other numbers

_QUERIES = 1_024  # ranked together: a block of pairs and their queries is all that is held twice


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """What is searched for what, and how."""

    evaluation: Evaluation
    direction: str
    encoder: str
    transform: str
    index: str
    images: Collection
    texts: Collection
    judged: Judged
    again: RowSource  # the corpus with what it was made of, for an index that embeds rows again

    @property
    def key(self) -> str:
        """The content key."""
        return content_key(
            FORMAT, self.direction, self.encoder, self.transform, self.index, self.images.checksum, self.texts.checksum,
            self.judged.uri.rpartition("/")[2], list(self.evaluation.measures), asdict(self.evaluation.intervals),
            self.evaluation.gallery, self.evaluation.seed, self.evaluation.name,
        )  # fmt: skip

    @property
    def title(self) -> str:
        """The experiment in words."""
        return f"{self.direction.replace('_', ' ')}, {self.encoder}, {self.transform}, {self.index}"

    @property
    def is_gold(self) -> bool:
        """Whether this is itself the exact search over the vectors as they are stored."""
        return (Spec.parse(self.transform).name, Spec.parse(self.index).name) == ("float16", "exact")

    @property
    def corpus(self) -> Collection:
        """What is searched."""
        return self.images if self.direction == "text_to_image" else self.texts

    @property
    def asking(self) -> Collection:
        """Where the queries' vectors are."""
        return self.texts if self.direction == "text_to_image" else self.images


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What one search gave."""

    neighbors: Neighbors
    values: list[PerQuery]
    pairs: Pairs


def measure_experiment(
    experiment: Experiment,
    out: str,
    source: Source,
    shards: Sequence[Shard],
    backend: Backend,
    reporter: Reporter,
) -> None:
    """Search, measure, and write the experiment's four files below `<out>/results`; the records come last."""
    results_uri = storage.join(out, "results")
    judge = judgments.text_to_image if experiment.direction == "text_to_image" else judgments.image_to_text
    query_rows, qrels = judge(experiment.judged, experiment.images)
    queries_QD = experiment.asking.load().matrix_ND[query_rows]
    found = _search(experiment, queries_QD, qrels, backend, reporter, out)
    results.write_neighbors(results_uri, experiment.key, _neighbors_table(experiment, found.neighbors, qrels))
    results.write_gallery(results_uri, experiment.key, _gallery(experiment, found.neighbors, qrels, source, shards))
    records = _records(experiment, found, qrels, backend)
    per_query = per_query_table(experiment.key, found.values, qrels.query_ids, qrels.clusters)
    results.write(results_uri, experiment.key, records, per_query)


def _search(
    experiment: Experiment, queries_QD: FloatMatrix, qrels: Qrels, backend: Backend, reporter: Reporter, out: str
) -> _Found:
    evaluation = experiment.evaluation
    measures = [parse_measure(text) for text in evaluation.measures]
    transform = fitted_transform(experiment.transform, experiment.corpus, evaluation.seed, out)
    pairs = Pairs.of(qrels)
    with reporter.stage(f"searching {experiment.title}", len(queries_QD)) as advance:
        neighbors, ranks = _retrieve(experiment, transform, queries_QD, pairs, backend, out)
        advance(len(queries_QD), 1.0)
    depth = max((measure.k or 0 for measure in measures if measure.needs == "gold"), default=0)
    gold, found = (
        _against_gold(experiment, queries_QD, neighbors.top(depth), backend) if depth else (neighbors, neighbors)
    )
    values = [
        evaluate(measure, ranks) if measure.needs == "qrels"
        else evaluate_overlap(measure, found, gold, exact_scores=True)
        for measure in measures
    ]  # fmt: skip
    return _Found(neighbors, values, pairs)


def _retrieve(
    experiment: Experiment, transform: Transform, queries_QD: FloatMatrix, pairs: Pairs, backend: Backend, out: str
) -> tuple[Neighbors, Ranks]:
    """Lists, and the ranks of judged rows: among all rows where the index is exact, else in the lists."""
    evaluation, rows = experiment.evaluation, len(experiment.corpus)
    spec, recipe = Spec.parse(experiment.index), INDEXES.make(experiment.index)
    depth = min(search_depth(evaluation, experiment.index), rows)
    check_request(experiment.index, rows, depth)
    place = experiment.again if embeds_again(recipe) else experiment.corpus, transform
    if isinstance(recipe, Exact):
        with backend.exact(*place, recipe, evaluation.shards) as exact:
            neighbors = exact.search(queries_QD, depth)
            return neighbors, Ranks.of_counts(pairs, count_pairs(exact, queries_QD, pairs))
    with backend.index(*place, recipe, evaluation.shards, out) as index:
        neighbors = index.search(queries_QD, depth, spec.at)
    return neighbors, Ranks.of_neighbors(pairs, neighbors, rows)


def count_pairs(index: FullIndex, queries_QD: FloatMatrix, pairs: Pairs) -> Counts:
    """How many rows of the corpus come before each judged pair, in blocks of queries."""
    parts = []
    for start in range(0, pairs.queries, _QUERIES):
        part = pairs.part(start, start + _QUERIES)
        block_QD = np.ascontiguousarray(queries_QD[start : start + _QUERIES])
        parts.append(index.count(block_QD, part, index.score(block_QD, part)))
    return Counts.join(parts)


def _against_gold(
    experiment: Experiment, queries_QD: FloatMatrix, found: Neighbors, backend: Backend
) -> tuple[Neighbors, Neighbors]:
    """The exact neighbours by the vectors as they are stored; the found rows, in their order, with such scores."""
    if experiment.is_gold:
        return found, found
    is_row_QK = found.ids_QK >= 0
    query_P, _ = np.nonzero(is_row_QK)
    row_P = found.ids_QK[is_row_QK]
    asked = Pairs(query_P.astype(np.int64), row_P, np.ones_like(row_P), len(found))
    scores_QK = found.scores_QK.copy()
    with backend.exact(experiment.corpus, Float16(), Exact(), experiment.evaluation.shards) as index:
        gold = index.search(queries_QD, found.k)
        scores_QK[is_row_QK] = index.score(queries_QD, asked)
    # In the order in which they were found: sorted anew, the first k of a deeper list would be a search with re-ranking.
    return gold, Neighbors(found.ids_QK, scores_QK)


def _records(experiment: Experiment, found: _Found, qrels: Qrels, backend: Backend) -> list[Record]:
    evaluation = experiment.evaluation
    subject = {
        "evaluation": evaluation.name, "experiment": experiment.key, "direction": experiment.direction,
        "encoder": experiment.encoder, "transform": experiment.transform, "index": experiment.index,
        "corpus": len(experiment.corpus), "seed": evaluation.seed,
        "environment": json.dumps(backend.facts(), sort_keys=True),
    }  # fmt: skip
    return make_records(subject, found.values, number_clusters(qrels.clusters), found.pairs, evaluation.intervals)


def _neighbors_table(experiment: Experiment, neighbors: Neighbors, qrels: Qrels) -> pa.Table:
    column = "image_id" if experiment.direction == "text_to_image" else "query_id"
    described = judgments.ids_of_rows(experiment.corpus, neighbors.ids_QK.ravel(), [column])
    return shown.neighbors_table(neighbors, qrels, {row: values[0] for row, values in described.items()})


def _gallery(
    experiment: Experiment, neighbors: Neighbors, qrels: Qrels, source: Source, shards: Sequence[Shard]
) -> pa.Table:
    to_images = experiment.direction == "text_to_image"
    evaluation = experiment.evaluation
    drawn = shown.draw_queries(evaluation.gallery, len(qrels), evaluation.seed)
    columns = ["image_id", "caption"] if to_images else ["query_id", "caption"]
    rows = shown.rows_to_describe(neighbors, qrels, drawn)
    described = {
        row: (values[0], values[1]) for row, values in judgments.ids_of_rows(experiment.corpus, rows, columns).items()
    }
    texts = dict(
        zip(
            experiment.judged.queries["query_id"].to_pylist(),
            experiment.judged.queries["text"].to_pylist(),
            strict=True,
        )
    )
    gallery = shown.GalleryRows()
    for query in drawn:
        query_id = qrels.query_ids[query]
        gallery.add_query(neighbors, qrels, query, texts[query_id] if to_images else query_id, described)
    wanted = [image_id for image_id, _ in described.values()] if to_images else [qrels.query_ids[q] for q in drawn]
    return gallery.table(_thumbnails(experiment.images, wanted, source, shards), own_pictures=not to_images)


def _thumbnails(images: Collection, wanted: Sequence[str], source: Source, shards: Sequence[Shard]) -> dict[str, bytes]:
    rows = judgments.rows_of_ids(images, wanted, "image_id")
    places = judgments.ids_of_rows(images, np.fromiter(rows.values(), np.int64, len(rows)), ["shard", "position"])
    where = {image_id: (str(places[row][0]), int(places[row][1])) for image_id, row in rows.items()}
    if len(where) != len(set(wanted)):
        raise DataError(f"{storage.join(images.uri, 'metadata')} lacks images that were found; embed again")
    return shown.thumbnails(source, shards, where)
