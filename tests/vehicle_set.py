"""A retrieval set of the vehicle set's shape, and a made run over it through everything between ranks and records.

2,145 pictures with five captions each ask for one picture of 68,154; ids are file names, as in the published tables.
"""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raybench import results, storage
from raybench.arrays import Neighbors
from raybench.collection import Collection, Part
from raybench.experiments import evaluation_file as files
from raybench.experiments import judgments
from raybench.experiments.backend import LocalBackend
from raybench.experiments.experiment import Experiment, measure_experiment
from raybench.experiments.reporting import Silent
from raybench.sources.tables import qrels_table, queries_table

ASKED, CAPTIONS, IMAGES, DEPTH = 2_145, 5, 68_154, 100
MEASURES = ("recall@10", "precision@10", "map@10", "mrr@10", "hit@10", "ndcg@10", "hit@99")


def write_tables(folder: Path) -> None:
    """queries.csv and qrels.csv with the columns of the published tables: query_id, query_text; query_id, document_id, relevance."""
    random = np.random.default_rng(11)
    stems = random.choice(10**8, ASKED, replace=False)
    rows = [(f"{stem}_caption_{n:02d}", f"{stem}.jpg") for stem in stems.tolist() for n in range(CAPTIONS)]
    _write(
        folder / "queries.csv",
        ("query_id", "query_text"),
        [(query, f'A "vehicle", number {n}') for n, (query, _) in enumerate(rows)],
    )
    _write(folder / "qrels.csv", ("query_id", "document_id", "relevance"), [(*row, 1) for row in rows])


def _write(file: Path, head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])


def run(tables: Path, out: str, seed: int = 5) -> tuple[list[results.Record], pa.Table, np.ndarray]:
    """A made search of depth 100 over the tables' queries; its records, every query's values, and each answer's rank, 0 if not found."""
    queries, qrels = queries_table(f'csv("{tables}/queries.csv")'), qrels_table(f'csv("{tables}/qrels.csv")')
    judged = judgments.store(storage.join(out, "queries"), queries, qrels)
    answers = list(dict.fromkeys(qrels["image_id"].to_pylist()))
    distractors = [f"imagenet1k_vehicles_train_{n:08d}.jpg" for n in range(IMAGES - len(answers))]
    images = _collection(storage.join(out, "vectors", "images"), {"image_id": answers + distractors})
    texts = _collection(storage.join(out, "vectors", "texts"), {"query_id": judged.queries["query_id"].to_pylist()})
    row = {image_id: place for place, image_id in enumerate(answers)}
    answer_of = dict(zip(qrels["query_id"].to_pylist(), qrels["image_id"].to_pylist(), strict=True))
    answer_Q = np.array([row[answer_of[query]] for query in judged.queries["query_id"].to_pylist()])
    neighbors, rank_Q = _made_search(answer_Q, seed)
    content = {
        "name": "vehicles", "images": "scenes()", "encoders": ["tiny()"], "measures": list(MEASURES), "gallery": 0,
        "grid": {"indexes": ["hnsw(m=32)@128"]}, "intervals": {"resamples": 200},
    }  # fmt: skip
    evaluation = files.parse(json.dumps(content), "test")
    experiment = Experiment(
        evaluation, "text_to_image", "tiny()", "float16()", "hnsw(m=32)@128", images, texts, judged, images
    )
    measure_experiment(experiment, out, None, (), _Found(neighbors), Silent())  # type: ignore[arg-type]  # no pictures are shown
    uri = storage.join(out, "results")
    return results.read(results.records_uri(uri, experiment.key)), results.read_queries(uri, experiment.key), rank_Q


def _made_search(answer_Q: np.ndarray, seed: int) -> tuple[Neighbors, np.ndarray]:
    """Lists of distractors, with the answer at a rank that is often low, or not at all."""
    random = np.random.default_rng(seed)
    count, first = len(answer_Q), int(answer_Q.max()) + 1
    ids_QK = first + (random.integers(IMAGES, size=(count, 1)) + np.arange(DEPTH) * 331) % (IMAGES - first)
    rank_Q = np.minimum(random.geometric(0.04, count), DEPTH + 1)
    found_Q = np.flatnonzero(rank_Q <= DEPTH)
    ids_QK[found_Q, rank_Q[found_Q] - 1] = answer_Q[found_Q]
    scores_QK = -np.sort(-random.random((count, DEPTH)), axis=1)
    return Neighbors(ids_QK.astype(np.int64), scores_QK), np.where(rank_Q <= DEPTH, rank_Q, 0)


class _Found(LocalBackend):
    """A backend whose index gives what was found already."""

    def __init__(self, neighbors: Neighbors) -> None:
        self.neighbors = neighbors

    @contextmanager
    def index(self, *_: object) -> "Iterator[_Found]":
        yield self

    def search(self, queries_QD: np.ndarray, k: int, effort: int) -> Neighbors:
        assert (len(queries_QD), k, effort) == (len(self.neighbors), DEPTH, 128)
        return self.neighbors


def _collection(uri: str, columns: dict[str, list[str]]) -> Collection:
    """A folder of vectors with these ids."""
    rows = len(next(iter(columns.values())))
    buffer = io.BytesIO()
    np.save(buffer, np.ones((rows, 2), np.float16))
    table = pa.table(
        columns
        | {name: [""] * rows for name in {"image_id", "query_id", "caption", "shard", "position"} - columns.keys()}
    )
    part = Part(
        "part.npy", "part.parquet", rows, storage.write_bytes(storage.join(uri, "part.npy"), buffer.getvalue()),
        storage.write_table(storage.join(uri, "part.parquet"), table),
    )  # fmt: skip
    return Collection(uri, "image", (part,), storage.digest(buffer.getvalue()))
