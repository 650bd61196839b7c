"""What a finished set holds beside its tars: three tables, BEIR's files, what was dropped, and what a person should review.

images.parquet      image_id, tar, member, pool, source_id, answers, size, checksums; in the order of the tars
queries.parquet     query_id, text, cluster_id, split
qrels.parquet       query_id, image_id, relevance
dropped.parquet     every row that is not in the set: pool, id, step, reason, detail
review.parquet      suspected false negatives: picture, query, cosines
beir/               corpus.jsonl, queries.jsonl, qrels/<split>.tsv
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from raybench import storage
from raybench.curation.base import Asking
from raybench.curation.choose import hash_of
from raybench.errors import RequestError
from raybench.sources.base import JUDGMENT_ROWS

DROPPED = pa.schema([(name, pa.string()) for name in ("pool", "source_id", "image_id", "step", "reason", "detail")])
"""One row for each row of a pool that is not in the set."""


def check_split(split: Mapping[str, float]) -> None:
    """RequestError unless the shares add up to one and the names can be those of files."""
    wrong = next((name for name, share in split.items() if not (share > 0 and name.replace("_", "").isalnum())), None)
    if wrong is not None:
        raise RequestError(f"split: {wrong!r} with {split[wrong]:g} is no part; give a plain name and a share over 0")
    if abs(sum(split.values()) - 1) > 1e-9:
        raise RequestError(
            f"split: the shares {list(split.values())} add up to {sum(split.values()):g}; they must make 1"
        )


def splits_of(clusters: Sequence[str], split: Mapping[str, float], seed: int) -> list[str]:
    """The part of each query, by the hash of its cluster: captions of one picture stay together."""
    names = sorted(split)  # in whatever order a recipe lists them
    edges = np.cumsum([split[name] for name in names])
    place_Q = hash_of(clusters, seed, "split").astype(np.float64) / 2.0**64
    return [names[min(place, len(names) - 1)] for place in np.searchsorted(edges, place_Q, side="right").tolist()]


def queries_table(asking: Asking, splits: Sequence[str]) -> pa.Table:
    """The queries in their order."""
    columns = {"query_id": asking.query_ids, "text": asking.texts, "cluster_id": asking.clusters, "split": splits}
    return pa.table({name: pa.array(list(values), pa.string()) for name, values in columns.items()})


def qrels_table(asking: Asking, image_ids: pa.ChunkedArray | pa.Array) -> pa.Table:
    """The judgments by query and candidate."""
    order = np.lexsort((asking.row_P, asking.query_P))
    query_ids = pa.array(asking.query_ids, pa.string()).take(pa.array(asking.query_P[order]))
    images = image_ids.take(pa.array(asking.row_P[order]))
    return pa.table(
        {"query_id": query_ids, "image_id": images, "relevance": pa.array(asking.grade_P[order], pa.int64())}
    ).cast(JUDGMENT_ROWS)


def write_beir(
    folder: str, images: pa.Table, queries: pa.Table, qrels: pa.Table, split: Iterable[str]
) -> dict[str, str]:
    """BEIR's files, one of judgments for each part; a document has no text but the place of its picture. Their checksums."""
    files = {
        "beir/corpus.jsonl": _lines(
            {"_id": row["image_id"], "title": "", "text": "", "image": f"{row['tar']}#{row['member']}"}
            for row in images.select(["image_id", "tar", "member"]).to_pylist()
        ),
        "beir/queries.jsonl": _lines(
            {"_id": row["query_id"], "text": row["text"], "metadata": {"cluster_id": row["cluster_id"]}}
            for row in queries.to_pylist()
        ),
    }
    split_of = dict(zip(queries["query_id"].to_pylist(), queries["split"].to_pylist(), strict=True))
    parts: dict[str, list[str]] = {name: [] for name in split}
    for row in qrels.to_pylist():
        parts[split_of[row["query_id"]]].append(f"{row['query_id']}\t{row['image_id']}\t{row['relevance']}\n")
    for name, lines in parts.items():
        files[f"beir/qrels/{name}.tsv"] = ("query-id\tcorpus-id\tscore\n" + "".join(lines)).encode()
    return {name: storage.write_bytes(storage.join(folder, name), data) for name, data in files.items()}


def _lines(rows: Iterator[dict[str, object]]) -> bytes:
    text = io.StringIO()
    for row in rows:
        text.write(json.dumps(row, ensure_ascii=False) + "\n")
    return text.getvalue().encode()
