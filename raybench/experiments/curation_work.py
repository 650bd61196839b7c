"""What the steps of a recipe ask for: embeddings, neighbours and groups of candidates, made by a backend and kept.

    <out>/vectors/<key>/      embeddings of a choice of a pool's rows, as everywhere
    <out>/choices/            which rows (Parquet), and texts that were embedded

Axes: N candidates, M vectors, Q queries, D dimensions, K results.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa

from raybench import storage
from raybench.arrays import FloatMatrix, Neighbors, Rows, Vectors
from raybench.collection import Collection, open_collection
from raybench.curation.base import Groups, Stored
from raybench.curation.chosen import Chosen, write_choice
from raybench.curation.scan import Pool
from raybench.embedding.job import EmbedJob, TextSource
from raybench.encoders import ENCODERS
from raybench.encoders.base import EncoderRecipe, own_packages
from raybench.errors import WorkError
from raybench.experiments.backend import Backend
from raybench.experiments.dedup import ALL_PAIRS, DedupRequest, deduplicate, representatives
from raybench.experiments.recipe import Recipe
from raybench.experiments.reporting import Reporter
from raybench.experiments.workers import Workers
from raybench.indexes.exact import Exact
from raybench.sources.base import Shard
from raybench.spec import Spec, content_key
from raybench.transforms import TRANSFORMS

Dtype = Literal["float16", "float32"]

_BLOCK = 65_536
_WHOLE = 20_000  # pictures of a pool that are embedded whole, so that later steps and other recipes find them there


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """Vectors of candidates, out of one collection for each pool; `places` are rows of the collections, end to end."""

    parts: tuple[Collection, ...]
    places: tuple[Rows, ...]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picked) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)

    @property
    def uri(self) -> str:
        """Where the first of them are."""
        return self.parts[0].uri

    @property
    def checksum(self) -> str:
        """Of the collections and the places in them."""
        chosen = [storage.digest(np.ascontiguousarray(places).tobytes()) for places in self.places]
        return content_key([part.checksum for part in self.parts], chosen, length=64)

    def load(self, start: int = 0, stop: int | None = None) -> Vectors:
        """Vectors start to stop."""
        return Vectors(np.ascontiguousarray(self.block(start, len(self) if stop is None else stop)), start)

    def block(self, start: int, stop: int) -> FloatMatrix:
        """Vectors start to stop."""
        taken, first = list[FloatMatrix](), 0
        for collection, places in zip(self.parts, self.places, strict=True):
            wanted = places[max(0, start - first) : max(0, stop - first)]
            first += len(places)
            # File by file: few rows of many files would otherwise bring all of the files along.
            edges = np.cumsum([0, *(part.rows for part in collection.parts)])
            for low, high in pairwise(edges.tolist()):
                here = wanted[np.searchsorted(wanted, low) : np.searchsorted(wanted, high)]
                if len(here):
                    taken.append(collection.load(low, high).matrix_ND[here - low])
        if not taken:
            return np.zeros((0, 0), np.float32)
        return taken[0] if len(taken) == 1 else np.concatenate(taken)


@dataclass(frozen=True, slots=True, eq=False)
class _Lacking:
    """What a model has to embed, by pool."""

    model: str  # its content and dtype
    rows: dict[int, Rows]
    jobs: dict[int, EmbedJob]


@dataclass(slots=True)
class Soon:
    """What later steps will ask for, to be embedded along: a model that is loaded takes a few more at once.

    Rows are candidates that are still in, texts the queries; encoders are those that later steps use over all pools.
    """

    encoders: frozenset[str]
    rows: Rows
    texts: tuple[str, ...]


@dataclass(slots=True)
class CurationWork:
    """The `Work` of a recipe; `shard_N`, `position_N`, `pool_N` say where each candidate is."""

    recipe: Recipe
    out: str
    pieces: str  # what only this set needs
    pools: tuple[tuple[Pool, tuple[Shard, ...]], ...]
    pool_N: Rows
    shard_N: Rows
    position_N: Rows
    backend: Backend
    workers: Workers
    reporter: Reporter
    made: dict[tuple[str, int], list[tuple[Rows, Collection]]]  # by the model's content and dtype, and the pool
    soon: Soon

    @property
    def encoders(self) -> tuple[str, ...]:
        """The recipe's."""
        return self.recipe.encoders

    @property
    def seed(self) -> int:
        """The recipe's."""
        return self.recipe.seed

    def embedded(self, encoder: str, rows: Rows, texts: Sequence[str] = ()) -> tuple[Stored, FloatMatrix]:
        """Pictures of some candidates and texts through an encoder, in one pipeline; what is there is not made again."""
        spec = str(Spec.parse(encoder))
        asking = [self._text_job(encoder, texts)] if texts else []
        is_soon = spec in self.soon.encoders and len(rows) > 0
        more = [self._text_job(encoder, self.soon.texts)] if is_soon and self.soon.texts not in (texts, ()) else []
        stored = self._pictures(spec, ENCODERS.make(encoder), rows, [*asking, *more], with_soon=is_soon)
        return stored, open_collection(asking[0].uri).load().matrix_ND if asking else np.zeros((0, 0), np.float16)

    def judged(self, spec: str, recipe: EncoderRecipe, rows: Rows) -> Stored:
        """Pictures through a model that is no encoder."""
        return self._pictures(spec, recipe, rows, [], dtype="float32")

    def _text_job(self, encoder: str, texts: Sequence[str]) -> EmbedJob:
        numbers = [str(number) for number in range(len(texts))]
        data = storage.table_bytes(pa.table({"query_id": numbers, "text": list(texts), "cluster_id": numbers}))
        uri = storage.join(self.out, "choices", f"texts-{storage.digest(data)[:32]}.parquet")
        if not storage.exists(uri):
            storage.write_bytes(uri, data)
        source, recipe, settings = TextSource(uri), ENCODERS.make(encoder), self.recipe.embed
        return EmbedJob(
            "text", source, tuple(source.plan()), str(Spec.parse(encoder)), recipe, recipe.fingerprint(), None,
            storage.join(self.out, "vectors"), settings.chunk, settings.threads,
        )  # fmt: skip

    def nearest(self, queries_QD: FloatMatrix, stored: Stored, k: int) -> Neighbors:
        """The exact k nearest; the vectors are of unit length, so inner products are cosines."""
        if not isinstance(stored, Picked) or not len(queries_QD) or not len(stored):
            return Neighbors(np.full((len(queries_QD), k), -1), np.full((len(queries_QD), k), -np.inf))
        with self.backend.exact(stored, TRANSFORMS.make("stored()").fit(None, 0), Exact(), self.recipe.shards) as index:
            found = index.search(np.ascontiguousarray(queries_QD), k)
        ids_QK = np.where(found.ids_QK >= 0, stored.rows[found.ids_QK], -1)
        return Neighbors(ids_QK, found.scores_QK)

    def groups(self, stored: Stored, threshold: float) -> Groups:
        """Stars of `raybench dedup`, as places among the vectors; all pairs are compared where there are few."""
        if len(stored) < 2 or not isinstance(stored, Picked):
            return np.arange(len(stored)), np.ones(len(stored), np.float32), {}
        uri = storage.join(self.pieces, "vectors", f"{stored.checksum[:32]}.npy")
        if not storage.exists(uri):
            _write_npy(uri, stored)
        request = DedupRequest(f"npy({uri!r})", threshold, exact=len(stored) <= ALL_PAIRS, seed=self.seed)
        made = deduplicate(request, self.pieces, self.workers, self.reporter)
        names = ("complete", "rows_in_too_many_cells", "checked")
        return *representatives(made["uri"], len(stored)), {
            name: made[name] for name in names if made.get(name) is not None
        }

    def _pictures(
        self,
        spec: str,
        recipe: EncoderRecipe,
        rows: Rows,
        more: list[EmbedJob],
        *,
        with_soon: bool = False,
        dtype: Dtype = "float16",
    ) -> Stored:
        """Vectors of some candidates: of each pool, out of what was embedded before if it is all there."""
        own, lacking = self._by_pool(rows), [self._lacking(spec, recipe, rows, dtype, with_soon=with_soon)]
        if with_soon:
            # Other models that will be asked come along: starting a pipeline for each takes longer than a small pool.
            others = sorted(self.soon.encoders - {spec}) if len(self.soon.rows) <= _WHOLE else []
            others = [one for one in others if not own_packages(ENCODERS.make(one)) and not own_packages(recipe)]
            lacking += [self._lacking(one, ENCODERS.make(one), rows, "float16", with_soon=True) for one in others]
            more = [*more, *(self._text_job(one, self.soon.texts) for one in others if self.soon.texts)]
        jobs = [job for one in lacking for job in one.jobs.values()]
        if jobs or any(storage.read_manifest(job.uri) is None for job in more):
            with self.reporter.stage(f"embedding with {spec}", None) as advance:
                self.backend.embed([*more, *jobs], self.recipe.embed.workers, advance)
        for one in lacking:
            self._take(one)
        model = lacking[0].model
        parts, places = [], []
        for number, some in own.items():
            found = self._before(model, number, some)
            if found is None:
                raise WorkError(f"{spec} left no vectors; this is a defect of raybench")
            parts.append(found[1])
            places.append(np.searchsorted(found[0], some))
        return Picked(tuple(parts), tuple(places), rows)

    def _lacking(self, spec: str, recipe: EncoderRecipe, rows: Rows, dtype: Dtype, *, with_soon: bool) -> "_Lacking":
        """What has to be embedded by a model before all these candidates have vectors."""
        model, own = content_key(recipe.fingerprint(), dtype), self._by_pool(rows)
        wanted = self._by_pool(np.union1d(rows, self.soon.rows)) if with_soon else own
        missing = {
            number: self._or_whole(number, some)
            for number, some in wanted.items()
            if self._before(model, number, own.get(number, some)) is None
        }
        jobs = {number: self._image_job(number, spec, recipe, some, dtype) for number, some in missing.items()}
        return _Lacking(model, missing, jobs)

    def _take(self, lacking: "_Lacking") -> None:
        """Remember the collections that are there now."""
        for number, job in lacking.jobs.items():
            collection, missing = open_collection(job.uri), lacking.rows[number]
            if len(collection) != len(missing):
                raise WorkError(
                    f"{len(missing) - len(collection)} pictures of {self.recipe.pools[number].images} cannot be read that could "
                    f"before; did the files change? delete {job.uri} and run again"
                )
            self.made.setdefault((lacking.model, number), []).append((missing, collection))

    def _or_whole(self, pool: int, rows: Rows) -> Rows:
        every = np.flatnonzero(self.pool_N == pool)
        return every if len(every) <= _WHOLE else rows

    def _by_pool(self, rows: Rows) -> dict[int, Rows]:
        return {number: rows[self.pool_N[rows] == number] for number in np.unique(self.pool_N[rows]).tolist()}

    def _before(self, model: str, pool: int, rows: Rows) -> tuple[Rows, Collection] | None:
        """A collection that holds all these candidates."""
        known = self.made.get((model, pool), [])
        return next((one for one in known if np.isin(rows, one[0], assume_unique=True).all()), None)

    def _image_job(self, pool: int, spec: str, recipe: EncoderRecipe, rows: Rows, dtype: Dtype) -> EmbedJob:
        source, settings = self.chosen(pool, rows), self.recipe.embed
        return EmbedJob(
            "image", source, tuple(source.plan()), spec, recipe, recipe.fingerprint(), recipe.preprocess(),
            storage.join(self.out, "vectors"), settings.chunk, settings.threads, dtype,
        )  # fmt: skip

    def chosen(self, pool: int, rows: Rows) -> Chosen:
        """Some of a pool's candidates as a source."""
        shards, positions = self.shard_N[rows], self.position_N[rows]
        opened, planned = self.pools[pool]
        scanned = opened.folder.rpartition("/")[2]  # the key of what was read there: two pools are never taken for one
        uri, key = write_choice(storage.join(self.out, "choices"), scanned, shards, positions)
        return Chosen(opened.source, tuple(planned[number] for number in np.unique(shards).tolist()), uri, key)


def _write_npy(uri: str, stored: Picked) -> None:
    """The vectors as one file, put together in memory: two bytes a number of what stays of the pools."""
    shape = (len(stored), stored.block(0, 1).shape[1])
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
    for start in range(0, shape[0], _BLOCK):
        buffer.write(np.ascontiguousarray(stored.block(start, start + _BLOCK), np.float16).tobytes())
    storage.write_bytes(uri, buffer.getbuffer())
