"""Values of answers, kept: one row per query and measure, and a few queries with their pictures for the report.

<out>/results/answers/<key>.parquet    VALUES
<out>/results/samples/<key>.parquet    SAMPLES
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybench import storage
from raybench.embedding.decode import decode
from raybench.experiments.answer_quality import Held, PerQuery
from raybench.experiments.answered import Answered, Asking
from raybench.experiments.cell import Cell
from raybench.experiments.drawn import Drawn
from raybench.experiments.evaluation import Generate
from raybench.experiments.picture_copies import Copied
from raybench.generation.tables import SAMPLES, VALUES
from raybench.metrics.uncertainty import number_clusters
from raybench.spec import content_key

_THUMBNAIL = 160


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Answers of one prompt in one context, and their values."""

    answered: Answered
    uri: str  # where the values are
    values: PerQuery
    clusters_Q: npt.NDArray[np.int64]

    @property
    def title(self) -> tuple[str, str]:
        """Prompt and context."""
        return self.answered.asking.prompt.name, self.answered.asking.context

    def entry(
        self, cell: Cell, section: Generate, scorer: str | None, measures: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """What run.json says of it."""
        asking, manifest = self.answered.asking, self.answered.manifest
        return {
            "key": asking.key, "values": self.uri.rpartition("/")[2].removesuffix(".parquet"), "generator": asking.generator, "prompt": asking.prompt.name, "prompt_version": asking.prompt.version,
            "context": asking.context, "encoder": cell.asked.encoder, "transform": cell.transform, "index": cell.index,
            "strategy": section.strategy, "pictures": section.pictures, "shots": section.shots, "queries": len(asking.tasks),
            "answered": manifest["rows_out"], "problems": manifest["dropped"], "scorer": scorer,
            "score_prefix": section.score_prefix if scorer else None, "generator_facts": manifest["generator_facts"],
            "measures": measures,
        }  # fmt: skip


def of_answers(answered: Answered, uri: str, values: PerQuery, drawn: Drawn) -> Scored:
    """Answers with their values, the clusters of their queries numbered."""
    return Scored(answered, uri, values, number_clusters(drawn.clusters))


def values_uri(asking: Asking, scoring: list[Any]) -> str:
    """Where the values of answers are; `scoring` is what decides them beside the answers."""
    return storage.join(asking.out, "results", "answers", f"{content_key('values', asking.key, scoring)}.parquet")


def write_values(uri: str, answered: Answered, values: PerQuery) -> None:
    """Keep every query's value of every measure that is defined for it."""
    tables = [VALUES.empty_table()]
    for measure, values_Q in values.items():
        there_Q = np.isfinite(values_Q)
        some = answered.answers.filter(pa.array(there_Q))
        columns = {
            "experiment": pa.array([answered.asking.key] * len(some), pa.string()), "query_id": some["query_id"],
            "cluster_id": some["cluster_id"], "measure": pa.array([measure] * len(some), pa.string()),
            "value": pa.array(values_Q[there_Q], pa.float64()),
        }  # fmt: skip
        tables.append(pa.table(columns, VALUES))
    storage.write_table(uri, pa.concat_tables(tables))


def read_values(uri: str, answered: Answered) -> PerQuery:
    """The values as they were kept, in the order of the answers."""
    place = {query_id: number for number, query_id in enumerate(answered.answers["query_id"].to_pylist())}
    values: PerQuery = {}
    for row in storage.read_table(uri).to_pylist():
        values_Q = values.setdefault(row["measure"], np.full(len(place), np.nan))
        values_Q[place[row["query_id"]]] = row["value"]
    return values


def write_samples(uri: str, scored: Scored, held: Held, copies: Mapping[str, Copied], queries: Sequence[int]) -> None:
    """Keep a few queries with what they were shown; `copies` are by image id."""
    asking, rows = scored.answered.asking, scored.answered.answers.take(pa.array(queries, pa.int64())).to_pylist()
    thumbnails: dict[str, bytes | None] = {}
    made = []
    for query, row in zip(queries, rows, strict=True):
        for image_id in row["image_ids"]:
            if image_id not in thumbnails:
                thumbnails[image_id] = _thumbnail(copies[image_id].uri)
        question = held.questions[query]
        values = {
            name: float(values_Q[query]) for name, values_Q in scored.values.items() if np.isfinite(values_Q[query])
        }
        made.append(
            {name: row[name] for name in ("query_id", "query", "answer", "ended", "problem", "image_ids", "scores", "grades")}
            | {
                "prompt": asking.prompt.name, "context": asking.context, "words": asking.tasks[query].words,
                "references": [question[1]] if asking.prompt.asks_question and question else list(held.references[query]),
                "thumbnails": [thumbnails[image_id] for image_id in row["image_ids"]], "measures": json.dumps(values),
            }
        )  # fmt: skip
    storage.write_table(uri, pa.Table.from_pylist(made, SAMPLES))


def _thumbnail(uri: str) -> bytes | None:
    picture = decode(storage.read_bytes(uri)).picture
    if picture is None:
        return None
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
