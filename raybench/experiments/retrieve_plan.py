"""What a retrieval is asked for, its inputs opened, and everything that can be refused before anything starts."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raybench import storage
from raybench.errors import RequestError
from raybench.experiments.asking import check_index
from raybench.experiments.seeds import Sources, check_encoders
from raybench.formats import open_vectors, recipe_of
from raybench.formats.base import VectorFile
from raybench.formats.mapped import mapped
from raybench.formats.matrices import ClipRetrieval
from raybench.indexes import INDEXES
from raybench.indexes.exact import Exact
from raybench.indexes.joined import split_rows
from raybench.retrieval.metadata import Metadata, open_metadata
from raybench.retrieval.output import Columns
from raybench.retrieval.where import Where
from raybench.sources import SOURCES
from raybench.spec import Spec, content_key

FORMAT = 1  # raise it when the same request gives other results
_MOST_SHARDS = 100_000


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
    cells: int = 4  # of a row, where near duplicates meet
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
        return self.uri is not None and storage.read_whole(self.uri) is not None


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


def _check_numbers(request: RetrieveRequest) -> None:
    strategies = ("knn", "centroid", "kmeans")
    wrong = next((name for name in strategies if getattr(request, name) < 0), None)
    if wrong is not None:
        raise RequestError(f"--nb-images-{wrong} {getattr(request, wrong)} is no number of rows; give 1 or more")
    if not any(getattr(request, name) for name in strategies):
        raise RequestError("nothing is asked for; give --nb-images-knn, --nb-images-centroid, or --nb-images-kmeans")
    if bool(request.kmeans) != bool(request.centroids) or request.centroids < 0:
        raise RequestError("--nb-images-kmeans and --centroids go together: rows for each, and how many averages")
    if request.metric not in ("ip", "cosine"):
        raise RequestError(f"--metric {request.metric!r} is not known here; indexes compare by ip or cosine")
    for is_wrong, sentence in (
        (request.dedup is not None and not 0 < request.dedup <= 1,
         f"--dedup {request.dedup} is no cosine of near duplicates; give more than 0 and up to 1"),
        (request.cells < 1, f"--cells {request.cells} is no number of cells; give 1 or more"),
        (request.min_score is not None and not np.isfinite(request.min_score),
         f"--min-score {request.min_score} is no score; give a number such as 0.3"),
        (not 1 <= request.shards <= _MOST_SHARDS, f"--shards {request.shards} is no number of partitions; give 1 or more"),
        (not 0 <= request.seed < 2**31, f"--seed {request.seed} is out of range; give 0 to {2**31 - 1}"),
    ):  # fmt: skip
        if is_wrong:
            raise RequestError(sentence)


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
    """What tells the seeds' images from others; None where they would have to be made, and must not."""
    if request.images is None:
        return []
    recipe, place = SOURCES.make(request.images), storage.join(storage.absolute(out), "datasets")
    if not makes and not recipe.is_ready(place):
        return None
    return [[shard.name, shard.size_bytes, shard.modified_ns, shard.fingerprint] for shard in recipe.open(place).plan()]


def stamps(file: VectorFile | Metadata) -> list[list[Any]]:
    """Names, sizes and times of what is behind vectors or metadata."""
    return [[one.name, one.size_bytes, one.modified_ns] for one in file.files]


def _key(
    request: RetrieveRequest, file: VectorFile, sources: Sources, metadata: Metadata | None, shards: list[list[Any]]
) -> str:
    """Of the request and its inputs; the number of partitions changes no exact answer."""
    recipe = asdict(request) | {"index": str(Spec.parse(request.index))}
    if isinstance(INDEXES.make(request.index), Exact):
        recipe["shards"] = None
    beside = [] if metadata is None else stamps(metadata)
    return content_key("retrieve", FORMAT, recipe, stamps(file), sources.identity(), beside, shards)


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
