"""What a person is shown of an experiment: every query's results by id, and a few queries with their pictures.

The queries of the gallery are drawn at random from the seed, not picked for looking good or bad. Pictures are read
from the source again, only from the shards that hold them.
"""

import io
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from raybench.arrays import Neighbors, Qrels
from raybench.embedding.decode import decode
from raybench.experiments.evaluation import SHOWN
from raybench.results import GALLERY, NEIGHBORS
from raybench.sources.base import Shard, Source

_THUMBNAIL = 160  # pixels of the longer side


def neighbors_table(neighbors: Neighbors, qrels: Qrels, ids: Mapping[int, str]) -> pa.Table:
    """Retrieved rows by id, with their grades."""
    is_row_QK = neighbors.ids_QK >= 0
    query, rank = np.nonzero(is_row_QK)
    rows = neighbors.ids_QK[is_row_QK]
    grades = [dict(zip(rows_q.tolist(), grades_q.tolist(), strict=True)) for rows_q, grades_q in zip(
        qrels.relevant, qrels.grades, strict=True)]  # fmt: skip
    columns = {
        "query_id": pa.array([qrels.query_ids[q] for q in query], pa.string()),
        "rank": pa.array(rank + 1, pa.int64()),
        "id": pa.array([ids[row] for row in rows.tolist()], pa.string()),
        "score": pa.array(neighbors.scores_QK[is_row_QK], pa.float64()),
        "grade": pa.array([grades[q].get(row, 0) for q, row in zip(query, rows.tolist(), strict=True)], pa.int64()),
    }
    return pa.table(columns, NEIGHBORS)


def draw_queries(count: int, num_queries: int, seed: int) -> list[int]:
    """Positions of the shown queries, in order; the same ones for every encoder of an evaluation."""
    chosen = np.random.default_rng([seed, num_queries]).choice(num_queries, min(count, num_queries), replace=False)
    return sorted(chosen.tolist())


class GalleryRows:
    """The rows of a gallery while they are collected."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add_query(
        self, neighbors: Neighbors, qrels: Qrels, query: int, query_text: str, described: Mapping[int, tuple[str, str]]
    ) -> None:
        """One query: its best relevant row (rank 0) and what was retrieved; `described` gives id and caption of rows."""
        grade = dict(zip(qrels.relevant[query].tolist(), qrels.grades[query].tolist(), strict=True))
        retrieved = neighbors.ids_QK[query].tolist()
        found = next((rank for rank, row in enumerate(retrieved, 1) if row in grade), None)
        answer = max((row for row in grade if row >= 0), key=lambda row: (grade[row], -row), default=None)
        shown = [(0, answer)] if answer is not None else []
        shown += [(rank, row) for rank, row in enumerate(retrieved[:SHOWN], 1) if row >= 0]
        for rank, row in shown:
            row_id, caption = described[row]
            score = float(neighbors.scores_QK[query, rank - 1]) if rank else None
            self.rows.append(
                {
                    "query_id": qrels.query_ids[query], "text": query_text, "rank": rank, "id": row_id,
                    "caption": caption, "score": score, "grade": grade.get(row, 0), "found_rank": found,
                }
            )  # fmt: skip

    def table(self, thumbnails: Mapping[str, bytes], *, own_pictures: bool) -> pa.Table:
        """The gallery with its pictures; `own_pictures` adds the picture that asks (rank -1) to each query."""
        rows: list[dict[str, object]] = []
        for row in self.rows:
            query_id = str(row["query_id"])
            if own_pictures and (not rows or rows[-1]["query_id"] != query_id):
                own = {"rank": -1, "id": query_id, "caption": "", "score": None, "grade": 0}
                rows.append(row | own | {"thumbnail": thumbnails.get(query_id)})
            rows.append(row | {"thumbnail": None if own_pictures else thumbnails.get(str(row["id"]))})
        return pa.Table.from_pylist(rows, GALLERY)


def rows_to_describe(
    neighbors: Neighbors, qrels: Qrels, queries: Iterable[int]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """All rows that the gallery of these queries mentions."""
    parts = [np.concatenate([neighbors.ids_QK[q, :SHOWN], qrels.relevant[q]]) for q in queries]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def thumbnails(source: Source, shards: Iterable[Shard], wanted: Mapping[str, tuple[str, int]]) -> dict[str, bytes]:
    """Small JPEGs of some images by id; `wanted` gives the shard's name and the position of each."""
    by_shard: dict[str, dict[int, str]] = {}
    for image_id, (name, position) in wanted.items():
        by_shard.setdefault(name, {})[position] = image_id
    made: dict[str, bytes] = {}
    for shard in shards:
        left = by_shard.get(shard.name)
        if not left:
            continue
        for table in source.read(shard):
            for position, image in zip(table["position"].to_pylist(), table["image"], strict=True):
                if position not in left:
                    continue
                image_id = left.pop(position)
                picture = decode(image.as_py() or b"").picture
                if picture is not None:
                    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
                    buffer = io.BytesIO()
                    picture.save(buffer, "JPEG", quality=85)
                    made[image_id] = buffer.getvalue()
            if not left:
                break
    return made
