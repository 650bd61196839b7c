"""Queries and judgments as one stored artifact, whatever they came from, and as rows of a collection.

They come with the images, or from two tables, or are the images' own captions: then each caption is a query, and the
image that it came from is its only answer. Ids are strings everywhere. A query without any judgment is dropped and
counted; a judged image that is not in the collection (it was broken, say) stays judged, and can never be found.

    queries/<key>/queries.parquet    query_id, text, cluster_id
    queries/<key>/qrels.parquet      query_id, image_id, relevance
    queries/<key>/manifest.json      accounts
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench import storage
from raybench.arrays import Qrels, Rows
from raybench.collection import Collection
from raybench.errors import DataError
from raybench.sources.base import JUDGMENT_ROWS, TEXT_ROWS
from raybench.spec import content_key

_QUERIES = pa.schema([TEXT_ROWS.field(name) for name in TEXT_ROWS.names[1:]])


@dataclass(frozen=True, slots=True)
class Judged:
    """A stored set of queries and judgments."""

    uri: str
    queries: pa.Table
    judgments: pa.Table
    rows_in: int
    dropped: dict[str, int]

    @property
    def queries_uri(self) -> str:
        """The file that the texts are embedded from."""
        return storage.join(self.uri, "queries.parquet")


def from_captions(collection: Collection) -> tuple[pa.Table, pa.Table]:
    """Every caption of every image as a query whose answer is that image."""
    ids: list[str] = []
    texts: list[str] = []
    images: list[str] = []
    for table in collection.metadata(["image_id", "captions"]):
        for image_id, captions in zip(table["image_id"].to_pylist(), table["captions"].to_pylist(), strict=True):
            for number, caption in enumerate(captions or []):
                ids.append(f"{image_id}_caption_{number:02d}")
                texts.append(caption)
                images.append(image_id)
    if not ids:
        raise DataError(f"no image of {collection.uri} has a caption, so there are no queries; give queries and qrels")
    queries = pa.table({"query_id": ids, "text": texts, "cluster_id": images}, _QUERIES)
    return queries, pa.table({"query_id": ids, "image_id": images, "relevance": [1] * len(ids)}, JUDGMENT_ROWS)


def store(queries_uri: str, queries: pa.Table, judgments: pa.Table) -> Judged:
    """Keep the judged queries, give each its cluster, check the ids, and write the artifact (the same one if it is there)."""
    _refuse_repeated(queries["query_id"], "query_id", "the queries")
    pairs = pc.binary_join_element_wise(
        judgments["query_id"].cast(pa.string()), judgments["image_id"].cast(pa.string()), "\x00"
    )
    _refuse_repeated(pairs, "pair of query_id and image_id", "the judgments")
    judgments = judgments.select(JUDGMENT_ROWS.names).cast(JUDGMENT_ROWS)
    relevant = judgments.filter(pc.greater(judgments["relevance"], 0))
    is_judged = pc.is_in(queries["query_id"], relevant["query_id"].combine_chunks())
    is_known = pc.is_in(judgments["query_id"], queries["query_id"].combine_chunks())
    dropped = {
        "query_without_relevant_image": len(queries) - (pc.sum(is_judged).as_py() or 0),
        "judgment_of_unknown_query": len(judgments) - (pc.sum(is_known).as_py() or 0),
    }
    kept = _with_clusters(queries.filter(is_judged), relevant)
    judgments = judgments.filter(pc.is_in(judgments["query_id"], kept["query_id"].combine_chunks()))
    if not len(kept):
        raise DataError(
            "no query has a relevant image; check that query ids and image ids are spelt alike in both tables"
        )
    digests = [storage.digest(storage.table_bytes(table)) for table in (kept, judgments)]
    uri = storage.join(queries_uri, content_key(digests))
    judged = Judged(uri, kept, judgments, len(queries), {reason: count for reason, count in dropped.items() if count})
    if storage.read_manifest(uri) is None:
        storage.write_table(judged.queries_uri, kept)
        storage.write_table(storage.join(uri, "qrels.parquet"), judgments)
        manifest = {
            "kind": "queries", "rows_in": len(queries), "rows_out": len(kept), "judgments": len(judgments),
            "dropped": {"query_without_relevant_image": len(queries) - len(kept)}, "all_dropped": dropped,
            "sha256": digests,
        }  # fmt: skip
        storage.write_manifest(uri, manifest)
    return judged


def _refuse_repeated(values: pa.ChunkedArray, what: str, where: str) -> None:
    counts = pc.value_counts(values.combine_chunks())
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        value = repeated.field("values")[0].as_py().replace("\x00", ", ")
        raise DataError(
            f"{where} hold the {what} {value!r} {repeated.field('counts')[0].as_py()} times; remove the others"
        )


def _with_clusters(queries: pa.Table, relevant: pa.Table) -> pa.Table:
    """Queries that name no cluster belong to the first relevant image with the highest grade."""
    given = queries["cluster_id"] if "cluster_id" in queries.column_names else pa.nulls(len(queries), pa.string())
    best = relevant.append_column("order", pa.array(range(len(relevant)), pa.int64())).sort_by(
        [("relevance", "descending"), ("order", "ascending")]
    )
    answer: dict[str, str] = {}
    for query_id, image_id in zip(best["query_id"].to_pylist(), best["image_id"].to_pylist(), strict=True):
        answer.setdefault(query_id, image_id)
    fallback = pa.array([answer[query_id] for query_id in queries["query_id"].to_pylist()], pa.string())
    columns = {"query_id": queries["query_id"], "text": queries["text"], "cluster_id": pc.coalesce(given, fallback)}
    return pa.table(columns).cast(_QUERIES)


def rows_of_ids(collection: Collection, ids: Iterable[str], column: str) -> dict[str, int]:
    """The row numbers of those ids that are in the collection; streams the metadata, keeps only what was asked for."""
    wanted = pa.array(sorted(set(ids)), pa.string())
    rows: dict[str, int] = {}
    first = 0
    for table in collection.metadata([column]):
        place = pc.index_in(table[column].combine_chunks(), value_set=wanted)
        for row in np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False)):
            rows[table[column][int(row)].as_py()] = first + int(row)
        first += len(table)
    return rows


def ids_of_rows(collection: Collection, rows: Rows, columns: list[str]) -> dict[int, tuple[str, ...]]:
    """The columns of some rows, by row number; streams the metadata, keeps only what was asked for."""
    wanted = np.unique(rows[rows >= 0])
    found: dict[int, tuple[str, ...]] = {}
    first = 0
    for table in collection.metadata(columns):
        here = wanted[(wanted >= first) & (wanted < first + len(table))]
        picked = table.take(pa.array(here - first, pa.int64()))
        values = zip(*(picked[name].to_pylist() for name in columns), strict=True)
        found.update(zip(here.tolist(), values, strict=True))
        first += len(table)
    return found


def missing_images(judged: Judged, images: Collection) -> tuple[int, int]:
    """How many judged images are not in the collection, and of how many. DataError if none is there."""
    relevant = judged.judgments.filter(pc.greater(judged.judgments["relevance"], 0))
    ids = set(relevant["image_id"].to_pylist())
    found = rows_of_ids(images, ids, "image_id")
    if not found and len(images):
        own = next(images.metadata(["image_id"]))["image_id"][0].as_py()
        raise DataError(
            f"none of the {len(ids)} judged images is among the {len(images)} that were read: judged is {min(ids)!r}, "
            f"there is {own!r}; spell image ids alike in the judgments and in the source"
        )
    return len(ids) - len(found), len(ids)


def text_to_image(judged: Judged, images: Collection) -> tuple[Rows, Qrels]:
    """The rows of the queries among the texts, and their judgments as rows of images.

    A judged image that is not in the collection gets a negative row: it counts as relevant and is never found.
    """
    judgments = judged.judgments.filter(pc.greater(judged.judgments["relevance"], 0))
    image_ids = judgments["image_id"].to_pylist()
    rows = rows_of_ids(images, image_ids, "image_id")
    missing = {image_id: -2 - number for number, image_id in enumerate(sorted(set(image_ids) - rows.keys()))}
    grades: dict[str, dict[int, int]] = {query_id: {} for query_id in judged.queries["query_id"].to_pylist()}
    for query_id, image_id, grade in zip(
        judgments["query_id"].to_pylist(), image_ids, judgments["relevance"].to_pylist(), strict=True
    ):
        grades[query_id][rows.get(image_id, missing.get(image_id, -1))] = grade
    clusters = dict(zip(grades, judged.queries["cluster_id"].to_pylist(), strict=True))
    return np.arange(len(grades), dtype=np.int64), Qrels.of(grades, clusters)


def image_to_text(judged: Judged, images: Collection) -> tuple[Rows, Qrels]:
    """The rows of the judged images that are there, and the captions that describe each as rows of texts."""
    judgments = judged.judgments.filter(pc.greater(judged.judgments["relevance"], 0))
    image_ids = judgments["image_id"].to_pylist()
    rows = rows_of_ids(images, image_ids, "image_id")
    query_ids = judged.queries["query_id"].to_pylist()
    text_row = {query_id: row for row, query_id in enumerate(query_ids)}
    cluster_of_text = judged.queries["cluster_id"].to_pylist()
    grades: dict[str, dict[int, int]] = {image_id: {} for image_id in sorted(rows, key=rows.__getitem__)}
    clusters: dict[str, str] = {}
    for query_id, image_id, grade in zip(
        judgments["query_id"].to_pylist(), image_ids, judgments["relevance"].to_pylist(), strict=True
    ):
        if image_id in rows:
            grades[image_id][text_row[query_id]] = grade
            # Copies of an image are described by one image's captions; they are one cluster, not independent queries.
            clusters[image_id] = min(
                clusters.get(image_id, cluster_of_text[text_row[query_id]]), cluster_of_text[text_row[query_id]]
            )
    query_rows = np.array([rows[image_id] for image_id in grades], np.int64)
    return query_rows, Qrels.of(grades, clusters)
