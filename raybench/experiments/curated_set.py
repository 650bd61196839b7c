"""What stays of a recipe is written: tars, tables, BEIR's files and the card; its counts and checksums are returned."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raybench import storage
from raybench.arrays import Rows
from raybench.curation import tables
from raybench.curation.base import Draft
from raybench.curation.card import card
from raybench.curation.chosen import Chosen
from raybench.curation.pictures import Kept, Tar, cut, pieces_of, tar_name, write_piece, write_tar_of
from raybench.curation.suspects import REVIEW
from raybench.experiments.curation_work import CurationWork
from raybench.experiments.recipe import Recipe
from raybench.experiments.set_queries import Given
from raybench.sources.base import notes_of

_EXAMPLES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A set that all steps have spoken about."""

    names: tuple[str, ...]  # of the pools
    draft: Draft
    rows: Rows  # candidates that stay, ascending
    rows_in: tuple[int, ...]  # by pool
    dropped: tuple[dict[str, str], ...]
    steps: tuple[dict[str, Any], ...]
    review: tuple[pa.Table, ...]
    given: Given


def write_set(
    recipe: Recipe, text: str, uri: str, finished: Finished, work: CurationWork, seconds: dict[str, float]
) -> dict[str, Any]:
    """Write everything but the manifest, which is returned."""
    written, files = _write_tars(recipe, uri, finished, work)
    asking = finished.draft.asking
    image_ids = finished.draft.candidates["image_id"]
    splits = tables.splits_of(asking.clusters, recipe.split, recipe.seed)
    queries = tables.queries_table(asking, splits)
    qrels = tables.qrels_table(asking, image_ids)
    dropped = pa.Table.from_pylist(list(finished.dropped), schema=tables.DROPPED)
    review = pa.concat_tables([REVIEW.empty_table(), *finished.review])
    made = {"images": written, "queries": queries, "qrels": qrels, "dropped": dropped, "review": review}
    for name, table in made.items():
        sha256 = storage.write_table(storage.join(uri, f"{name}.parquet"), table)
        files[f"{name}.parquet"] = _facts(uri, f"{name}.parquet", sha256) | {"rows": len(table)}
    files |= {
        name: _facts(uri, name, sha256)
        for name, sha256 in tables.write_beir(uri, written, queries, qrels, recipe.split).items()
    }
    counts = {
        "queries": len(queries), "relevant": len(np.unique(asking.row_P)), "images": len(written),
        "judgments": len(qrels), "clusters": len(set(asking.clusters)),
        "splits": {name: splits.count(name) for name in recipe.split}, "to_review": len(set(review["image_id"].to_pylist())),
        "suspects_removed": len(set(review.filter(review["removed"])["image_id"].to_pylist())),
    }  # fmt: skip
    pool_N = np.asarray(finished.draft.candidates["pool"])[finished.rows]
    pools = [
        {
            "pool": name, "images": pool.images, "notes": notes_of(work.pools[number][0].source), "rows_in": rows_in, "rows_out": int((pool_N == number).sum()),
            "dropped": dict(sorted(Counter(one["reason"] for one in finished.dropped if one["pool"] == name).items())),
        }
        for number, (name, pool, rows_in) in enumerate(zip(finished.names, recipe.pools, finished.rows_in, strict=True))
    ]  # fmt: skip
    manifest = {
        "name": recipe.name, "recipe": text, "counts": counts, "given": asdict(finished.given), "expected": expected(recipe, counts), "pools": pools,
        "rows_in": sum(finished.rows_in), "rows_out": len(written),
        "dropped": dict(sorted(Counter(one["reason"] for one in finished.dropped).items())),
        "steps": list(finished.steps), "files": files, "seconds": seconds,
    }  # fmt: skip
    page = card(manifest, _examples(finished), uri)
    files["README.md"] = _facts(uri, "README.md", storage.write_bytes(storage.join(uri, "README.md"), page.encode()))
    return manifest


def _write_tars(
    recipe: Recipe, uri: str, finished: Finished, work: CurationWork
) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    """Pieces by pool, then tars by hash; the table of images, and the tars' checksums."""
    # Pieces are of these rows: a run that was interrupted may have kept others, if its models ran elsewhere.
    folder = storage.join(work.pieces, f"pictures-{storage.digest(finished.rows.tobytes())[:16]}")
    candidates = finished.draft.candidates
    told = candidates.select(["image_id", "source_id", "captions", "metadata"]).take(pa.array(finished.rows))
    kept = Kept(
        finished.rows, told.append_column("answers", pa.array(finished.draft.answers[finished.rows])), recipe.seed
    )
    pieces = pieces_of(_groups(finished, work))
    with work.reporter.stage("writing pictures", len(finished.rows)) as advance:
        for piece, rows in work.workers.each(write_piece, pieces, folder, kept, recipe.pictures):
            advance(rows, (piece.number + 1) / len(pieces))
    parts = [storage.read_table(storage.join(folder, f"{piece.number:05d}.parquet")) for piece in pieces]
    index = pa.concat_tables(parts)
    piece_N = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.lexsort((np.asarray(index["row"]), np.asarray(index["hash"])))
    index = index.take(pa.array(order))
    offset_N, length_N = (np.asarray(index[name]).astype(np.int64) for name in ("offset", "length"))
    tars = cut(piece_N[order], offset_N, length_N)
    files = {}
    with work.reporter.stage("writing tars", len(tars)) as advance:
        for tar, (sha256, size_bytes) in work.workers.each(write_tar_of, tars, folder, uri):
            files[tar_name(tar.number)] = {"sha256": sha256, "size_bytes": size_bytes, "rows": len(tar.piece_S)}
            advance(1, 1 / len(tars))
    return _images(finished, index, tars), dict(sorted(files.items()))


def _groups(finished: Finished, work: CurationWork) -> list[tuple[Chosen, str, list[int], list[int]]]:
    groups = []
    for number, name in enumerate(finished.names):
        own = finished.rows[work.pool_N[finished.rows] == number]
        if not len(own):
            continue
        shards, place = np.unique(work.shard_N[own], return_inverse=True)
        sizes = np.asarray(finished.draft.candidates["size_bytes"])[own]
        counts = np.bincount(place, minlength=len(shards))
        groups.append((work.chosen(number, own), name, counts.tolist(), np.bincount(place, sizes).astype(int).tolist()))
    return groups


def _images(finished: Finished, index: pa.Table, tars: list[Tar]) -> pa.Table:
    """The table of images, in the order of the tars."""
    rows = np.asarray(index["row"])
    source = finished.draft.candidates.take(pa.array(rows))
    names = np.array(finished.names)[np.asarray(source["pool"])]
    numbers = np.repeat([tar.number for tar in tars], [len(tar.piece_S) for tar in tars])
    columns = {
        "image_id": source["image_id"], "tar": pa.array([tar_name(number) for number in numbers.tolist()]),
        "member": index["member"], "pool": pa.array(names), "source_id": source["source_id"],
        "answers": pa.array(finished.draft.answers[rows]), "width": index["width"], "height": index["height"],
        "size_bytes": index["size_bytes"], "sha256": index["sha256"], "source_width": source["width"],
        "source_height": source["height"], "source_sha256": source["sha256"], "metadata": source["metadata"],
    }  # fmt: skip
    return pa.table(columns)


def _facts(uri: str, name: str, sha256: str) -> dict[str, Any]:
    return {"sha256": sha256, "size_bytes": storage.facts(storage.join(uri, name)).size_bytes}


def expected(recipe: Recipe, counts: dict[str, Any]) -> dict[str, Any]:
    """What was expected, what there is, and whether they are the same; nothing where nothing was expected."""
    if recipe.expect is None:
        return {}
    wanted = {
        name: getattr(recipe.expect, name) for name in ("queries", "relevant", "images") if getattr(recipe.expect, name)
    }
    found = {name: counts[name] for name in wanted}
    return {"wanted": wanted, "found": found, "is_met": wanted == found}


def _examples(finished: Finished) -> dict[str, list[dict[str, str]]]:
    """A few dropped rows for each reason."""
    shown: dict[str, list[dict[str, str]]] = {}
    for one in finished.dropped:
        examples = shown.setdefault(one["reason"], [])
        if len(examples) < _EXAMPLES:
            examples.append(one)
    return shown
