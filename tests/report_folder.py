"""Makes the folder that a run leaves, with numbers that follow from made-up rankings: input for the report's tests.

Every image has three captions. A system of skill s puts a relevant row at a rank drawn from a geometric law; the
values per query are computed from those ranks, and the records are their means.
"""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from raybench import results, storage
from raybench.results import Record
from raybench.spec import content_key

CAPTIONS = 3
DEPTH = 20
SHOWN = 6
MEASURES = ("ndcg@10", "map@10", "recall@10", "precision@10", "mrr@10", "hit@1", "hit@3", "hit@10")
COLOURS = ("crimson", "orange", "gold", "seagreen", "royalblue", "purple", "hotpink", "sienna")
SHAPES = ("circle", "square", "triangle")
YAML = "name: scenes\nimages: scenes(count=60)\nencoders:\n  - scenes_model()\nmeasures: [ndcg@10]\nseed: 7\n"


@dataclass(frozen=True)
class Made:
    """Where the folder is, and what is in it."""

    uri: str
    run: dict[str, Any]
    records: list[Record]

    @property
    def experiments(self) -> list[str]:
        """The keys of all experiments."""
        return [experiment["experiment"] for experiment in self.run["experiments"]]


def make(
    folder: Path,
    systems: dict[str, float] | None = None,
    *,
    images: int = 40,
    gallery: int = 4,
    name: str = "scenes",
    caption: str = "",
) -> Made:
    """A whole output folder: systems by encoder with their skill; `caption` replaces the words of image 0."""
    systems = systems or {"scenes_model()": 0.6, "pixels(dim=64)": 0.25}
    uri = str(folder)
    words = [f"a {COLOURS[i % 8]} {SHAPES[i % 3]} number {i}" for i in range(images)]
    words[0] = caption or words[0]
    made: list[Record] = []
    experiments = []
    for direction in ("text_to_image", "image_to_text"):
        for encoder, skill in systems.items():
            key = content_key(direction, encoder)
            rng = np.random.default_rng([7, len(made)])
            records = _experiment(uri, key, direction, encoder, skill, words, rng, gallery=gallery, name=name)
            made += records
            facts = {"experiment": key, "direction": direction, "encoder": encoder, "transform": "float16()"}
            facts |= {"index": "exact()", "corpus": records[0].corpus, "queries": records[0].queries}
            experiments.append(facts | {"clusters": images})
    run = _run(name, list(systems), experiments, images)
    storage.write_json(storage.join(uri, "run.json"), run)
    return Made(uri, run, made)


def jpeg(number: int, side: int = 96) -> bytes:
    """A small picture of image `number`."""
    picture = Image.new("RGB", (side, side), "white" if number % 2 else "lightgray")
    pen, colour = ImageDraw.Draw(picture), COLOURS[number % 8]
    box = (side * 0.2, side * 0.2, side * 0.8, side * 0.8)
    {0: lambda: pen.ellipse(box, fill=colour), 1: lambda: pen.rectangle(box, fill=colour)}.get(
        number % 3,
        lambda: pen.polygon(
            [(side / 2, side * 0.15), (side * 0.85, side * 0.8), (side * 0.15, side * 0.8)], fill=colour
        ),
    )()
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def values(grades: list[int], relevant: int) -> dict[str, float]:
    """The measures of one query from the grades of its ranking, written the slow way."""
    ten = grades[:10]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(relevant, 10)))
    first = next((rank for rank, grade in enumerate(ten, 1) if grade), None)
    found = {
        "ndcg@10": sum(grade / math.log2(rank + 2) for rank, grade in enumerate(ten)) / ideal,
        "map@10": sum(sum(ten[: rank + 1]) / (rank + 1) for rank, grade in enumerate(ten) if grade) / relevant,
        "recall@10": sum(ten) / relevant,
        "precision@10": sum(ten) / 10,
        "mrr@10": 1 / first if first else 0.0,
    }
    return found | {f"hit@{k}": float(any(grades[:k])) for k in (1, 3, 10)}


def _experiment(
    uri: str,
    key: str,
    direction: str,
    encoder: str,
    skill: float,
    words: list[str],
    rng: np.random.Generator,
    *,
    gallery: int,
    name: str,
) -> list[Record]:
    images, is_text = len(words), direction == "text_to_image"
    captions = [f"{word}{tail}" for word in words for tail in ("", " on a wall", " seen from afar")]
    num_queries, corpus, relevant = (len(captions), images, 1) if is_text else (images, len(captions), CAPTIONS)
    neighbors, shown, per_query = [], [], {measure: [] for measure in MEASURES}
    for query in range(num_queries):
        image = query // CAPTIONS if is_text else query
        right = [image] if is_text else [image * CAPTIONS + number for number in range(CAPTIONS)]
        wrong = [int(row) for row in rng.permutation(corpus) if int(row) not in right]
        places = sorted(int(place) for place in rng.geometric(max(skill, 0.02), len(right)) - 1)
        ranking = wrong
        for place, row in zip(places, right, strict=False):
            ranking.insert(place, row)
        grades = [int(row in right) for row in ranking]
        query_id = f"caption-{query:04d}" if is_text else f"image-{query:04d}"
        ids = [f"image-{row:04d}" if is_text else f"caption-{row:04d}" for row in ranking]
        scores = [0.42 - 0.013 * rank + float(rng.uniform(-0.004, 0.004)) for rank in range(len(ranking))]
        neighbors += [(query_id, rank + 1, ids[rank], scores[rank], grades[rank]) for rank in range(min(DEPTH, corpus))]
        for measure, value in values(grades[:DEPTH], relevant).items():
            per_query[measure].append(value)
        if query % max(1, num_queries // gallery) == 0 and query // max(1, num_queries // gallery) < gallery:
            found = next((rank + 1 for rank, grade in enumerate(grades[:DEPTH]) if grade), None)
            best = next(rank for rank, grade in enumerate(grades) if grade)
            text = captions[query] if is_text else query_id
            own = [] if is_text else [(query_id, text, -1, query_id, words[image], None, 0, found, jpeg(image))]
            rows = [(0, best)] + [(rank + 1, rank) for rank in range(min(SHOWN, corpus))]
            shown += own + [
                (
                    query_id,
                    text,
                    rank,
                    ids[at],
                    captions[ranking[at] * (CAPTIONS if is_text else 1)],
                    scores[at],
                    grades[at],
                    found,
                    jpeg(ranking[at]) if is_text else None,
                )
                for rank, at in rows
            ]
    results_uri = storage.join(uri, "results")
    results.write_neighbors(results_uri, key, _table(results.NEIGHBORS, neighbors))
    results.write_gallery(results_uri, key, _table(results.GALLERY, shown))
    clusters = [query // CAPTIONS if is_text else query for query in range(num_queries)]
    records = []
    rows: list[tuple[Any, ...]] = []
    for measure in MEASURES:
        sample = np.array(per_query[measure])
        by_cluster = np.array([sample[np.array(clusters) == cluster].mean() for cluster in range(images)])
        means = by_cluster[rng.integers(0, images, size=(400, images))].mean(axis=1)
        low, high = (float(bound) for bound in np.quantile(means, (0.025, 0.975)))
        value, cutoff = float(sample.mean()), int(measure.partition("@")[2])
        chance = cutoff / corpus if measure in {"recall@10", "hit@1"} else None
        records.append(
            Record(name, key, direction, encoder, "float16()", "exact()", measure, value, low, high, value, value, chance, num_queries, images, corpus,
                   "share", "mean; 95 % percentile bootstrap of 400 resamples over clusters", 7, json.dumps({"numpy": "2.4"}))
        )  # fmt: skip
        names = [f"caption-{q:04d}" if is_text else f"image-{q:04d}" for q in range(num_queries)]
        rows += [
            (key, query_id, str(cluster), measure, float(one), float(one), float(one))
            for query_id, cluster, one in zip(names, clusters, sample, strict=True)
        ]
    results.write(results_uri, key, records, _table(results.QUERY_VALUES, rows))
    return records


def _table(schema: pa.Schema, rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def _run(name: str, encoders: list[str], experiments: list[dict[str, Any]], images: int) -> dict[str, Any]:
    example = {
        "shard": "scenes-00001.tar",
        "position": 17,
        "image_id": "image-0017",
        "detail": "JPEG ends after 812 bytes",
    }
    artifacts = [
        {
            "kind": "vectors", "modality": modality, "encoder": encoder, "uri": f"vectors/{content_key(encoder, modality)}",
            "rows_in": rows + 5, "rows_out": rows, "dropped": {"truncated": 3, "too_many_pixels": 2},
            "examples": {"truncated": [example], "too_many_pixels": [example | {"position": 30, "image_id": "image-0030", "detail": "40000 x 40000"}]},
            "encoder_facts": {"class": "SceneModel", "dim": 128, "weights_bytes": 3_500_000, "device": "cpu"},
            "preprocess": {"resize": 64, "mean": [0.5, 0.5, 0.5], "interpolation": "bicubic"},
            "seconds": 4.2, "checksum": content_key(encoder) * 4,
        }
        for encoder in encoders
        for modality, rows in (("image", images), ("text", images * CAPTIONS))
    ]  # fmt: skip
    return {
        "name": name,
        "created": "2026-03-01T12:34:56+00:00",
        "command": "raybench run evaluation.yaml --out runs/scenes",
        "evaluation": YAML,
        "seed": 7,
        "shards": 4,
        "measures": list(MEASURES),
        "environment": {
            "cpu": "Example CPU 3.1 GHz", "cores": 2, "memory_bytes": 24 * 2**30, "blas": {"library": "openblas", "kernel": "SkylakeX"},
            "versions": {"python": "3.11.2", "ray": "2.60.0", "torch": "2.15.0"}, "ray": {"nodes": 1, "gpus": 0},
        },
        "warnings": [],
        "seconds": {"embed images": 8.4, "embed texts": 2.1, "search": 0.42},
        "artifacts": artifacts,
        "experiments": experiments,
    }  # fmt: skip
