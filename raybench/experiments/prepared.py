"""An evaluation of images before anything starts: its inputs are found, and read as far as a driver reads them."""

from dataclasses import dataclass

import pyarrow as pa

from raybench import storage
from raybench.experiments.evaluation import Evaluation
from raybench.experiments.references import Reference, references
from raybench.sources import SOURCES
from raybench.sources.base import Shard, Source
from raybench.sources.tables import qrels_table, queries_table

UPSTREAM = "failed_to_"  # reasons of img2dataset: never downloaded, so no sign that reading goes wrong here


@dataclass(frozen=True, slots=True)
class Prepared:
    """An evaluation whose inputs were found and read as far as a driver reads them: nothing has been started yet."""

    evaluation: Evaluation
    out: str
    source: Source
    shards: tuple[Shard, ...]
    queries: pa.Table | None  # None: the captions of the images
    judgments: pa.Table | None
    published: tuple[Reference, ...] = ()


def prepare(evaluation: Evaluation, out: str) -> Prepared:
    """Find images, queries and judgments; RequestError for what is missing or wrong. Made data sets are made here."""
    source = SOURCES.make(evaluation.images).open(storage.join(out, "datasets"))
    shards = tuple(source.plan())
    published = () if evaluation.published is None else references(evaluation.published)
    if evaluation.queries is not None and evaluation.qrels is not None:
        queries, qrels = queries_table(evaluation.queries), qrels_table(evaluation.qrels)
        return Prepared(evaluation, out, source, shards, queries, qrels, published)
    return Prepared(evaluation, out, source, shards, source.queries(), source.judgments(), published)
