"""A collection by retrieval: seeds against an index, with an account of every row that was found.

    <out>/retrieved/<key>/results.parquet, queries.parquet, img2dataset.parquet    see raybench.retrieval.output
    <out>/retrieved/<key>/manifest.json    recipe, account, what was left out and why, seconds, memory; written last
    <out>/retrieved/<key>/pieces/          what a rerun goes on from; gone at the end
    <out>/indexes/  vectors/  queries/     filled indexes; seeds that were embedded; their texts

Results of `exact()` are the same bytes for every number of shards and workers.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raybench import storage
from raybench.errors import RequestError
from raybench.experiments.asking import Asking, check_index
from raybench.experiments.choosing import Choosing, Rules
from raybench.experiments.file_rows import FileRows
from raybench.experiments.reporting import Reporter
from raybench.experiments.seeds import Searching, Seeds, Sources, check_encoders, collect
from raybench.experiments.stages import Stages
from raybench.experiments.workers import Workers
from raybench.formats import anchored, open_vectors, recipe_of
from raybench.formats.base import VectorFile
from raybench.formats.mapped import mapped
from raybench.formats.matrices import ClipRetrieval
from raybench.indexes import INDEXES
from raybench.indexes.exact import Exact
from raybench.indexes.joined import split_rows
from raybench.retrieval import output
from raybench.retrieval.chosen import REASONS, Chosen
from raybench.retrieval.metadata import Metadata, open_metadata
from raybench.retrieval.output import Columns
from raybench.retrieval.where import Where
from raybench.search import strategies
from raybench.search.certified.metric import norms
from raybench.search.strategies import Queries
from raybench.sources import SOURCES
from raybench.spec import Spec, content_key
from raybench.transforms.sample import sample_rows

FORMAT = 1  # raise it when the same request gives other results
_LENGTHS = 4_096  # rows whose lengths are looked at
_NEAR_ONE = 0.01


@dataclass(frozen=True, slots=True)
class RetrieveRequest:
    """What is asked for; places are specs or paths, as on the command line."""

    corpus: str
    seeds: str | None = None
    texts: str | None = None
    images: str | None = None
    encoder: str | None = None
    knn: int = 0  # rows for each seed
    centroid: int = 0  # for the average of all seeds
    kmeans: int = 0  # for each of `centroids` averages
    centroids: int = 0
    index: str = "exact()"
    shards: int = 1
    metric: str = "ip"
    min_score: float | None = None
    keep_seeds: bool = False
    where: str | None = None
    metadata: str | None = None
    columns: tuple[str, ...] = ()
    dedup: float | None = 0.95
    refill: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RetrievePlan:
    """A request with its inputs opened; `uri` is None where images of the seeds would have to be made first."""

    request: RetrieveRequest
    uri: str | None
    file: VectorFile
    sources: Sources
    metadata: Metadata | None
    columns: Columns
    where: Where | None
    lines: list[str]

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.uri is not None and storage.read_manifest(self.uri) is not None


def plan_retrieve(request: RetrieveRequest, out: str, *, makes: bool = False) -> RetrievePlan:
    """Open inputs; RequestError for what is wrong. Data sets of seed images are made only if `makes`."""
    _check_numbers(request)
    file = open_vectors(request.corpus)
    _check_corpus(request, file)
    sources = Sources.of(request.seeds, request.texts, request.images, request.encoder)
    check_encoders(request.corpus, request.seeds, request.encoder)
    if sources.vectors is not None and sources.vectors.dim != file.dim:
        raise RequestError(f"{request.seeds} has {sources.vectors.dim} dimensions and {request.corpus} {file.dim}")
    check_index(request.index, file.rows, max(request.knn, request.centroid, request.kmeans))
    metadata = _metadata(request, file)
    where = None if request.where is None else Where.parse(request.where)
    if where is not None:
        if metadata is None:
            raise RequestError(f"--where needs metadata, and {request.corpus} comes without; give --metadata")
        where.check(metadata.schema)
    columns = Columns.of(None if metadata is None else metadata.schema, request.columns)
    shards = _image_shards(request, out, makes=makes)
    uri = (
        None
        if shards is None
        else storage.join(storage.absolute(out), "retrieved", _key(request, file, sources, metadata, shards))
    )
    lines = _lines(request, file, sources, metadata, uri)
    return RetrievePlan(request, uri, file, sources, metadata, columns, where, lines)


def retrieve(
    request: RetrieveRequest, out: str, searching: Searching, workers: Workers, reporter: Reporter
) -> dict[str, Any]:
    """Retrieve and write; the manifest, with its place under "uri". `searching` opens a backend when one is needed."""
    plan, started, stages = plan_retrieve(request, out, makes=True), time.perf_counter(), Stages()
    out, uri = storage.absolute(out), str(plan.uri)
    done, pieces = storage.read_manifest(uri), storage.join(uri, "pieces")
    if done is not None:
        reporter.say(f"{uri} is there already, and nothing was searched again")
        storage.delete_folder(pieces)  # of a run that was killed at its very end
        return done | {"uri": uri}
    with stages.of("seeds"):
        seeds = collect(plan.sources, request.seeds, plan.file.dim, out, searching, reporter)
        unit_SD = strategies.unit_seeds(seeds.vectors_SD, seeds.names)
        queries = _queries(request, unit_SD, seeds)
    warnings = _warnings(request, plan, reporter)
    checksum = content_key(anchored(request.corpus), _stamps(plan.file), request.metric, length=32)
    corpus = FileRows(anchored(request.corpus), request.metric, checksum, plan.file.rows, is_mapped=True)
    asking = Asking(queries, corpus, request.index, request.shards, pieces, out, searching)
    rules = Rules(
        -np.inf if request.min_score is None else request.min_score, plan.where, request.dedup, request.refill,
        None if request.keep_seeds else (seeds.vectors_SD, unit_SD), request.seed,
    )  # fmt: skip
    choosing = Choosing(asking, rules, plan.file, plan.metadata, workers, reporter, stages)
    chosen, ended = choosing.choose()
    with stages.of("tables"), reporter.stage("writing", len(chosen.row_K)) as advance:
        written = output.write_results(
            uri, chosen, queries, plan.file, plan.metadata, plan.columns, lambda rows: advance(rows, 0)
        )
        output.write_queries(uri, chosen, queries, ended)
    manifest = {
        "kind": "retrieved", "recipe": asdict(request), "rows": plan.file.rows, "dim": plan.file.dim, "seeds": seeds.account,
        "queries": len(queries), "account": _account(chosen, queries), "by_strategy": _by_strategy(chosen, queries),
        "ended": {one: ended.count(one) for one in sorted(set(ended))}, **written, "near_duplicates": choosing.told,
        "warnings": warnings, "files": {name: _facts(uri, name) for name in output.FILES},
        "seconds": stages.seconds | {"all": round(time.perf_counter() - started, 3)},
        "resident_bytes": stages.resident_bytes, "environment": workers.facts(),
    }  # fmt: skip
    storage.write_manifest(uri, manifest)
    storage.delete_folder(pieces)
    return manifest | {"uri": uri}


def _check_numbers(request: RetrieveRequest) -> None:
    for name in ("knn", "centroid", "kmeans"):
        if getattr(request, name) < 0:
            raise RequestError(f"--nb-images-{name} {getattr(request, name)} is no number of rows; give 1 or more")
    if not (request.knn or request.centroid or request.kmeans):
        raise RequestError("nothing is asked for; give --nb-images-knn, --nb-images-centroid, or --nb-images-kmeans")
    if bool(request.kmeans) != bool(request.centroids) or request.centroids < 0:
        raise RequestError("--nb-images-kmeans and --centroids go together: rows for each, and how many averages")
    if request.metric not in ("ip", "cosine"):
        raise RequestError(f"--metric {request.metric!r} is not known here; indexes compare by ip or cosine")
    if request.dedup is not None and not 0 < request.dedup <= 1:
        raise RequestError(f"--dedup {request.dedup:g} is no cosine of near duplicates; give more than 0 and up to 1")
    if request.min_score is not None and not np.isfinite(request.min_score):
        raise RequestError(f"--min-score {request.min_score} is no score; give a number such as 0.3")
    if not 1 <= request.shards <= 100_000:
        raise RequestError(f"--shards {request.shards} is no number of partitions; give 1 or more")
    if not 0 <= request.seed < 2**31:
        raise RequestError(f"--seed {request.seed} is out of range; give 0 to {2**31 - 1}")


def _check_corpus(request: RetrieveRequest, file: VectorFile) -> None:
    if file.is_bits:
        raise RequestError(
            f"{request.corpus} holds packed bits, and seeds are compared by inner product; give float vectors"
        )
    if not file.rows:
        raise RequestError(f"{request.corpus} holds no vectors")
    if request.dedup is not None and file.dtype.kind != "f":
        raise RequestError(
            f"{request.corpus} holds {file.dtype}, and near duplicates are of float vectors; give --no-dedup"
        )


def _metadata(request: RetrieveRequest, file: VectorFile) -> Metadata | None:
    """The tables beside the vectors: those that are named, or those of a folder as clip-retrieval writes it."""
    recipe = recipe_of(request.corpus)
    is_folder = isinstance(recipe, ClipRetrieval)
    if request.metadata is not None:
        return open_metadata(request.metadata, file.rows)
    if not is_folder or not storage.list_files(storage.join(recipe.folder, "metadata"), ".parquet"):
        return None
    return open_metadata(storage.join(recipe.folder, "metadata"), file.rows, recipe.part_rows())


def _image_shards(request: RetrieveRequest, out: str, *, makes: bool) -> list[list[Any]] | None:
    """Names and sizes of the seeds' images; None where they would have to be made, and must not."""
    if request.images is None:
        return []
    recipe, place = SOURCES.make(request.images), storage.join(storage.absolute(out), "datasets")
    if not makes and not recipe.is_ready(place):
        return None
    return [[shard.name, shard.size_bytes, shard.modified_ns] for shard in recipe.open(place).plan()]


def _stamps(file: VectorFile | Metadata) -> list[list[Any]]:
    return [[one.name, one.size_bytes, one.modified_ns] for one in file.files]


def _key(
    request: RetrieveRequest, file: VectorFile, sources: Sources, metadata: Metadata | None, shards: list[list[Any]]
) -> str:
    """Of the request and its inputs; the number of partitions changes no exact answer."""
    recipe = asdict(request) | {"index": str(Spec.parse(request.index))}
    if isinstance(INDEXES.make(request.index), Exact):
        recipe["shards"] = None
    beside = [] if metadata is None else _stamps(metadata)
    return content_key("retrieve", FORMAT, recipe, _stamps(file), sources.identity(), beside, shards)


def _queries(request: RetrieveRequest, unit_SD: strategies.Float32, seeds: Seeds) -> Queries:
    parts = []
    if request.knn:
        parts.append(strategies.knn(unit_SD, seeds.names, request.knn))
    if request.centroid:
        parts.append(strategies.centroid(unit_SD, request.centroid))
    if request.kmeans:
        parts.append(strategies.kmeans(unit_SD, request.centroids, request.kmeans, request.seed))
    return strategies.joined(parts)


def _warnings(request: RetrieveRequest, plan: RetrievePlan, reporter: Reporter) -> list[str]:
    """Inner products of rows that are not of length one are no cosines, which the user may not expect."""
    if request.metric == "cosine" or plan.file.dtype.kind != "f":
        return []
    length = np.concatenate(
        [norms(rows) for rows in sample_rows(plan.file, _LENGTHS, request.seed, "a look at lengths")]
    )
    if abs(length - 1).max() <= _NEAR_ONE:
        return []
    warning = (
        f"rows of {request.corpus} have lengths from {length.min():.3g} to {length.max():.3g}: scores are inner products, which "
        "favour long rows; --metric cosine compares directions"
    )
    reporter.say(f"warning: {warning}")
    return [warning]


def _account(chosen: Chosen, queries: Queries) -> dict[str, int]:
    names = ("asked", "found", "padded", *REASONS)
    return {"requested": int(queries.requested_Q.sum())} | {name: int(chosen.counts[name].sum()) for name in names}


def _by_strategy(chosen: Chosen, queries: Queries) -> dict[str, dict[str, int]]:
    told = {}
    for strategy in dict.fromkeys(queries.strategies):
        some_Q = np.array([one == strategy for one in queries.strategies])
        counts = {name: int(counts_Q[some_Q].sum()) for name, counts_Q in chosen.counts.items()}
        told[strategy] = {"queries": int(some_Q.sum()), "requested": int(queries.requested_Q[some_Q].sum())} | counts
    return told


def _facts(uri: str, name: str) -> dict[str, Any]:
    place = storage.join(uri, name)
    return {"sha256": storage.digest_of(place), "size_bytes": storage.facts(place).size_bytes}


def _lines(
    request: RetrieveRequest, file: VectorFile, sources: Sources, metadata: Metadata | None, uri: str | None
) -> list[str]:
    """The plan in words."""
    edges = split_rows(file.rows, request.shards)
    are_mapped = (
        request.metric == "ip" and file.dtype.kind == "f" and all(mapped(file, *one) is not None for one in edges)
    )
    size = file.rows * file.dim * (file.dtype.itemsize if request.metric == "ip" else 4) / 2**30
    asked = [
        f"{count:,} rows for {what}" for count, what in (
            (request.knn, "each seed"), (request.centroid, "their average"), (request.kmeans, f"each of {request.centroids} averages"),
        ) if count
    ]  # fmt: skip
    beside = (
        "no metadata"
        if metadata is None
        else f"{len(metadata.parts)} tables of {', '.join(metadata.schema.names)[:200]}"
    )
    near = (
        "near duplicates stay"
        if request.dedup is None
        else f"near duplicates are a cosine of {request.dedup:g} or more"
    )
    return [
        f"{request.corpus}: {file.rows:,} rows of {file.dim} dimensions; {beside}",
        *sources.lines,
        f"{', '.join(asked)}; {request.index} in {len(edges)} partitions, {size:.2f} GiB of rows "
        + ("mapped from files" if are_mapped else "held in memory by those who search"),
        f"{near}; {'asked again until met' if request.refill else 'asked once'}",
        f"into {uri}" if uri else f"the images of {request.images} would be made first",
    ]
