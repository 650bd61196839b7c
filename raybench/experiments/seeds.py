"""The seeds of a retrieval: vectors as they are, texts and images through an encoder, each with a name.

Texts and images are embedded as any collection is, so bad images are counted, several workers share the work, and a rerun
embeds nothing again. Vectors of two encoders are never compared where a folder says which one made it.

Axes: S seeds, D dimensions.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from raybench import storage
from raybench.arrays import FloatMatrix
from raybench.collection import open_collection
from raybench.embedding.job import EmbedJob, TextSource
from raybench.encoders import ENCODERS
from raybench.encoders.base import EncoderRecipe
from raybench.errors import RequestError
from raybench.experiments.backend import Backend
from raybench.experiments.evaluation import Embed
from raybench.experiments.reporting import Reporter
from raybench.formats import open_vectors, recipe_of
from raybench.formats.base import VectorFile, read_rows
from raybench.formats.matrices import ClipRetrieval
from raybench.sources import SOURCES
from raybench.sources.rows import lines_in, storable
from raybench.sources.tables import QUERY_ROWS, queries_table
from raybench.spec import Spec, content_key

_FORMS = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
Searching = Callable[[], AbstractContextManager[Backend]]


@dataclass(frozen=True, slots=True, eq=False)
class Seeds:
    """Vectors as they were given or embedded, the name of each, and what was lost on the way."""

    vectors_SD: FloatMatrix
    names: tuple[str, ...]
    account: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Where seeds come from, looked at and not yet embedded; any may be None."""

    vectors: VectorFile | None
    texts: pa.Table | None
    images: str | None
    encoder: str | None

    @classmethod
    def of(cls, vectors: str | None, texts: str | None, images: str | None, encoder: str | None) -> "Sources":
        """RequestError for what is missing or does not go together."""
        if not (vectors or texts or images):
            raise RequestError("there are no seeds; give --seeds with vectors, or --texts or --images with --encoder")
        if bool(texts or images) != bool(encoder):
            has = "--encoder embeds --texts and --images" if encoder else "--texts and --images need --encoder"
            raise RequestError(f"{has}; give both, as in --texts words.txt --encoder 'openclip(\"ViT-B-32\")'")
        if encoder:
            recipe_for(encoder).check()
        if images:
            SOURCES.make(images)
        return cls(None if vectors is None else _float_vectors(vectors), texts and _texts(texts), images, encoder)

    def identity(self) -> list[Any]:
        """What decides the seeds, but for the images; a JSON value."""
        stamps = (
            [] if self.vectors is None else [[one.name, one.size_bytes, one.modified_ns] for one in self.vectors.files]
        )
        texts = None if self.texts is None else storage.digest(storage.table_bytes(self.texts))
        return [stamps, texts, None if self.encoder is None else recipe_for(self.encoder).fingerprint()]

    @property
    def lines(self) -> list[str]:
        """The seeds in words."""
        told = []
        if self.vectors is not None:
            told.append(f"{self.vectors.rows:,} vectors")
        if self.texts is not None:
            told.append(f"{len(self.texts):,} texts")
        if self.images is not None:
            told.append(f"the images of {self.images}")
        through = f", through {self.encoder}" if self.encoder else ""
        return [f"seeds: {' and '.join(told)}{through}"]


def recipe_for(encoder: str) -> EncoderRecipe:
    """The recipe of an encoder's spec."""
    made: EncoderRecipe = ENCODERS.make(encoder)
    return made


def check_encoders(corpus: str, seeds: str | None, encoder: str | None) -> None:
    """RequestError where the corpus was embedded by another encoder than the seeds are, as far as folders say."""
    of_corpus = _encoder_of(corpus)
    if of_corpus is None:
        return
    others = [_encoder_of(seeds) if seeds else None]
    others.append((encoder, recipe_for(encoder).fingerprint()) if encoder else None)
    for other in others:
        if other is not None and other[1] != of_corpus[1]:
            raise RequestError(
                f"{corpus} was embedded by {of_corpus[0]} and the seeds by {other[0]}, whose vectors cannot be compared; "
                f"use --encoder {of_corpus[0]!r}"
            )


def _encoder_of(vectors: str) -> tuple[str, str] | None:
    """Spec and fingerprint of the encoder that a finished folder of vectors names."""
    recipe = recipe_of(vectors)
    if not isinstance(recipe, ClipRetrieval):
        return None
    manifest = storage.read_manifest(storage.absolute(recipe.folder)) or {}
    told = manifest.get("recipe", {}) if manifest.get("kind") == "vectors" else {}
    return (told["encoder"], told["encoder_fingerprint"]) if "encoder_fingerprint" in told else None


def collect(sources: Sources, seeds: str | None, dim: int, out: str, searching: Searching, reporter: Reporter) -> Seeds:
    """All seeds: vectors, then texts, then images. RequestError for other dimensions than `dim`, or none at all."""
    parts: list[Seeds] = []
    if sources.vectors is not None:
        _check_dim(sources.vectors.dim, dim, str(seeds))
        parts.append(_of_vectors(sources.vectors))
    jobs = list(_jobs(sources, out))
    if jobs:
        with searching() as backend, reporter.stage("embedding the seeds", None) as advance:
            manifests = backend.embed(jobs, Embed().workers, advance)
        parts += [_of_job(job, manifest, dim) for job, manifest in zip(jobs, manifests, strict=True)]
    return Seeds(
        np.concatenate([part.vectors_SD.astype(np.float32) for part in parts]),
        tuple(name for part in parts for name in part.names),
        {kind: facts for part in parts for kind, facts in part.account.items()},
    )


def _check_dim(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise RequestError(
            f"{what} gives {found} dimensions and the corpus has {wanted}; use the encoder of the corpus"
        )


def _float_vectors(vectors: str) -> VectorFile:
    file = open_vectors(vectors)
    if file.is_bits:
        raise RequestError(f"{vectors} holds packed bits, which have no average and no cosine; give float vectors")
    return file


def _of_vectors(file: VectorFile) -> Seeds:
    ids = file.ids(0, file.rows)
    named = range(file.rows) if ids is None or len(np.unique(ids)) < file.rows else ids.tolist()
    names = tuple(f"vector:{one}" for one in named)
    return Seeds(read_rows(file), names, {"vectors": {"rows_in": file.rows, "rows_out": file.rows, "dropped": {}}})


def _texts(place: str) -> pa.Table:
    """QUERY_ROWS of a table with ids and texts, or of a text file with one text a line."""
    if not place.rstrip().endswith(")"):
        suffix = "." + place.rpartition(".")[2].lower()
        if suffix == ".txt":
            lines = [storable(line) for line in lines_in(storage.read_bytes(storage.absolute(place)))]
            if not lines:
                raise RequestError(f"{place} holds no texts; write one a line")
            rows = [{"query_id": str(number), "text": line, "cluster_id": None} for number, line in enumerate(lines, 1)]
            return pa.Table.from_pylist(rows, schema=QUERY_ROWS)
        if suffix not in _FORMS:
            raise RequestError(
                f"--texts {place!r} is of no known form; end it in .txt, {', '.join(_FORMS)}, or give a spec"
            )
        place = str(Spec(_FORMS[suffix], (place,), parenthesised=True))
    return queries_table(place)


def _jobs(sources: Sources, out: str) -> Sequence[EmbedJob]:
    if sources.encoder is None:
        return []
    settings, recipe, made = Embed(), recipe_for(sources.encoder), []
    spec, vectors = str(Spec.parse(sources.encoder)), storage.join(out, "vectors")

    def job(modality: Literal["image", "text"], source: Any) -> EmbedJob:
        preprocess = recipe.preprocess() if modality == "image" else None
        return EmbedJob(
            modality, source, tuple(source.plan()), spec, recipe, recipe.fingerprint(), preprocess, vectors,
            settings.chunk, settings.threads,
        )  # fmt: skip

    if sources.texts is not None:
        data = storage.table_bytes(sources.texts)
        uri = storage.join(out, "queries", f"seeds-{content_key(storage.digest(data))}.parquet")
        if not storage.exists(uri):
            storage.write_bytes(uri, data)
        made.append(job("text", TextSource(uri)))
    if sources.images is not None:
        made.append(job("image", SOURCES.make(sources.images).open(storage.join(out, "datasets"))))
    return made


def _of_job(job: EmbedJob, manifest: dict[str, Any], dim: int) -> Seeds:
    if not manifest["rows_out"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in manifest["dropped"].items()) or "there are none"
        raise RequestError(f"none of the seed {job.modality}s could be embedded ({reasons}); look into {job.uri}")
    collection = open_collection(job.uri)
    vectors = collection.load()
    _check_dim(vectors.dim, dim, job.encoder_spec)
    column = "image_id" if job.modality == "image" else "query_id"
    names = [f"{job.modality}:{one}" for table in collection.metadata([column]) for one in table[column].to_pylist()]
    kept = {name: manifest[name] for name in ("rows_in", "rows_out", "dropped")}
    return Seeds(np.asarray(vectors.matrix_ND), tuple(names), {f"{job.modality}s": kept})
