"""The gold standard: for every query the ids and scores of the float64 top k over a whole corpus, with a certificate.

    <out>/gold/<key>/parts/*.npz        finished parts, from which a rerun goes on
    <out>/gold/<key>/ids.npy            int64 [Q, K], row numbers of the corpus from 0, best first, padded with -1
    <out>/gold/<key>/scores.npy         float64 [Q, K], higher is better, padded with -inf
    <out>/gold/<key>/next_scores.npy    float64 [Q], the score of rank K + 1: equal to the last score where a tie is cut
    <out>/gold/<key>/manifest.json      recipe, fingerprints and certificate; written last

Ids and scores are the same bytes for every number of parts, workers and threads, and for every scan precision.
"""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xxhash

from raybench import storage
from raybench.arrays import Neighbors
from raybench.environment import available_cores, environment
from raybench.errors import RequestError, WorkError
from raybench.experiments.reporting import Reporter
from raybench.formats import anchored, open_vectors, recipe_of
from raybench.formats.base import VectorFile, read_rows, width
from raybench.formats.transformed import Transformed
from raybench.search import gold as parts
from raybench.search.certified import METRICS, Questions
from raybench.search.certified.matrix import MatrixScan
from raybench.search.certified.metric import Float64, Matrix
from raybench.search.certified.running import Running
from raybench.search.certified.tally import Tally
from raybench.search.gold import CHUNK_ROWS, PartFacts, Range, Search
from raybench.spec import content_key

_BASE_BYTES = 900 * 1024**2  # Python with numpy, torch and Ray before any data
_MOST_PART_ROWS = 16 * CHUNK_ROWS
_PARTS_PER_WORKER = 4  # so that workers end at about the same time, and a kill costs little


@dataclass(frozen=True, slots=True)
class GoldRequest:
    """What is asked for. Corpus and queries are specs or paths of vectors."""

    corpus: str
    queries: str
    k: int = 100
    metric: str = "ip"
    memory_bytes: int = 4 * 1024**3  # of each process
    precision: str = "auto"


@dataclass(frozen=True, slots=True)
class Workers:
    """How many processes search on CPUs, with how many threads each, and how many on a GPU each."""

    count: int
    threads: int
    gpus: int = 0


class GoldBackend(Protocol):
    """Who searches the parts."""

    def workers(self) -> Workers:
        """The processes that will work."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the work runs on; a JSON value."""
        ...

    def search(self, search: Search, queries: Matrix, ranges: Sequence[Range], running: "Floors") -> Iterator[Range]:
        """Search ranges in any order; yields each once its file is written."""
        ...


class Floors(Protocol):
    """Where the floors of the moment are asked for."""

    def floor(self) -> Float64:
        """Scores proven to be at most each query's k-th best."""
        ...


@dataclass(frozen=True, slots=True)
class GoldPlan:
    """A request with its inputs opened, and how it will be cut."""

    request: GoldRequest
    uri: str
    rows: int
    dim: int
    queries: int
    is_bits: bool
    part_rows: int
    done: tuple[Range, ...]
    left: tuple[Range, ...]
    workers: Workers

    @property
    def flop(self) -> float:
        """Floating-point operations of the scan of what is left."""
        return 2.0 * sum(one.stop - one.start for one in self.left) * self.queries * self.dim

    @property
    def lines(self) -> list[str]:
        """The plan in words."""
        request, done = self.request, sum(one.stop - one.start for one in self.done)
        return [
            f"corpus {request.corpus}: {self.rows:,} rows of {self.dim} {'bits' if self.is_bits else 'dimensions'}",
            f"queries {request.queries}: {self.queries:,}; k={request.k}, metric {request.metric}",
            f"{len(self.left)} parts of up to {self.part_rows:,} rows left, {done:,} rows done before",
            f"{self.workers.count} worker(s) of {self.workers.threads} thread(s); {self.flop / 1e12:,.1f} TFLOP to scan",
            f"up to {request.memory_bytes / 1024**3:.1f} GiB of memory in each process",
            f"into {self.uri}",
        ]


def plan_gold(request: GoldRequest, out: str, workers: Workers) -> GoldPlan:
    """Open the inputs and cut the corpus. RequestError for what cannot be searched, or not within the memory."""
    if request.metric not in METRICS:
        raise RequestError(f"metric {request.metric!r} is not known; use one of {', '.join(METRICS)}")
    if request.k < 1:
        raise RequestError(f"k={request.k} asks for nothing; use at least 1")
    corpus, queries = open_vectors(request.corpus), open_vectors(request.queries)
    _check_pair(request, corpus, queries)
    uri = storage.join(storage.absolute(out), "gold", _key(request, corpus, queries))
    part_rows = _part_rows(request, corpus, queries.rows, workers)
    is_done = storage.read_manifest(uri) is not None
    done = (Range(0, corpus.rows),) if is_done else tuple(parts.finished(storage.join(uri, "parts"), corpus.rows))
    left = tuple(parts.missing(done, corpus.rows, part_rows))
    return GoldPlan(request, uri, corpus.rows, corpus.dim, queries.rows, corpus.is_bits, part_rows, done, left, workers)


def find_gold(request: GoldRequest, out: str, backend: GoldBackend, reporter: Reporter) -> dict[str, Any]:
    """Search what is missing and write the artifact; its manifest, with its place under "uri"."""
    plan = plan_gold(request, out, backend.workers())
    manifest = storage.read_manifest(plan.uri)
    if manifest is not None:
        reporter.say(f"{plan.uri} is there already, and nothing was searched again")
        return manifest | {"uri": plan.uri}
    started = time.perf_counter()
    queries = read_rows(open_vectors(request.queries))
    Questions.of(queries[:0], request.metric)
    running = Running(plan.queries, request.k + 1)
    facts = []
    for one in plan.done:
        found, told = parts.read_part(storage.join(plan.uri, "parts"), one)
        running.add(found)
        facts.append(told)
    searched, search_s = _search(plan, queries, running, backend, reporter)
    facts += searched
    neighbors = running.neighbors()
    files = _write_arrays(plan.uri, neighbors, request.k)
    manifest = _manifest(plan, facts, queries, files, backend.facts(), (time.perf_counter() - started, search_s))
    storage.write_manifest(plan.uri, manifest)
    storage.delete_folder(storage.join(plan.uri, "parts"))
    return manifest | {"uri": plan.uri}


def _search(
    plan: GoldPlan, queries: Matrix, running: Running, backend: GoldBackend, reporter: Reporter
) -> tuple[list[PartFacts], float]:
    """What the parts say, and the seconds from when the searchers were ready to the last part."""
    request = plan.request
    search = Search(
        anchored(request.corpus), request.metric, request.k + 1, storage.join(plan.uri, "parts"), request.precision,
        plan.workers.threads, plan.rows,
    )  # fmt: skip
    facts, left, clock = [], sum(one.stop - one.start for one in plan.left), _Clock(running)
    with reporter.stage(f"exact search, {plan.queries:,} queries", left, flop=2.0 * plan.queries * plan.dim) as advance:
        for part in backend.search(search, queries, plan.left, clock):
            found, told = parts.read_part(search.parts_uri, part)
            running.add(found)
            facts.append(told)
            advance(told.stop - told.start, (told.stop - told.start) / max(left, 1))
    searched = sum(one.stop - one.start for one in facts)
    if searched != left:
        raise WorkError(f"{left - searched} rows were not searched; run the same command again to go on")
    return facts, clock.seconds()


class _Clock:
    """Starts when the searchers are ready, and first ask for floors: what starting processes takes is not searching."""

    def __init__(self, running: Running) -> None:
        self._running, self._started = running, 0.0

    def floor(self) -> Float64:
        self._started = self._started or time.perf_counter()
        return self._running.floor()

    def seconds(self) -> float:
        return time.perf_counter() - self._started if self._started else 0.0


def _key(request: GoldRequest, corpus: VectorFile, queries: VectorFile) -> str:
    files = [[[one.name, one.size_bytes, one.modified_ns] for one in file.files] for file in (corpus, queries)]
    names = [_name(request.corpus, corpus), _name(request.queries, queries)]
    return content_key(parts.FORMAT, *names, files, request.k, request.metric)


def _name(text: str, file: VectorFile) -> str:
    """The text of a spec; the place of a fitted transform, which moves with the output, is left out for its key."""
    if isinstance(file, Transformed):
        return f"transformed({recipe_of(text).vectors!r}, {file.transform.key}, packed={file.packed})"
    return text


def _check_pair(request: GoldRequest, corpus: VectorFile, queries: VectorFile) -> None:
    if not corpus.rows or not queries.rows:
        raise RequestError(f"{request.corpus if not corpus.rows else request.queries} holds no vectors")
    if corpus.dim != queries.dim:
        raise RequestError(
            f"{request.corpus} has {corpus.dim} dimensions and {request.queries} {queries.dim}; use one encoder"
        )
    if corpus.is_bits != queries.is_bits or corpus.is_bits != (request.metric == "hamming"):
        raise RequestError(
            f"metric {request.metric} does not fit: the corpus holds {'bits' if corpus.is_bits else corpus.dtype}, the "
            f"queries {'bits' if queries.is_bits else queries.dtype}; packed bits take --metric hamming, and nothing else does"
        )


def _part_rows(request: GoldRequest, corpus: VectorFile, queries: int, workers: Workers) -> int:
    """Rows of a part: as many as memory allows, fewer where workers would wait for one another."""
    k = request.k + 1
    fixed = _BASE_BYTES + workers.threads * min(queries, 1_024) * 8_192 * 6 + Running.num_bytes(queries, k)
    fixed += queries * (corpus.dim * 8 * 2 + (2 * k + 512) * 12 + k * 16 * 3)
    # Two parts are in memory, one searched and one read; the first also has its hashes.
    each = 2 * width(corpus) * corpus.dtype.itemsize + 48
    chunks = int((request.memory_bytes - fixed) // (each * CHUNK_ROWS))
    if chunks < 1 and fixed + each * min(corpus.rows, CHUNK_ROWS) > request.memory_bytes:
        needed = fixed + each * CHUNK_ROWS
        raise RequestError(
            f"--memory {request.memory_bytes / 1024**3:.2f}GiB is too little for {queries:,} queries at k={request.k}: "
            f"give {needed / 1024**3:.2f}GiB, or ask fewer queries at a time"
        )
    even = -(-corpus.rows // (workers.count * _PARTS_PER_WORKER))
    return min(max(chunks, 1) * CHUNK_ROWS, _MOST_PART_ROWS, max(CHUNK_ROWS, -(-even // CHUNK_ROWS) * CHUNK_ROWS))


def _write_arrays(uri: str, neighbors: Neighbors, k: int) -> dict[str, dict[str, Any]]:
    arrays = {
        "ids.npy": neighbors.ids_QK[:, :k],
        "scores.npy": neighbors.scores_QK[:, :k],
        "next_scores.npy": neighbors.scores_QK[:, k],
    }
    files = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        digest = storage.write_bytes(storage.join(uri, name), buffer.getbuffer())
        files[name] = {"sha256": digest, "size_bytes": buffer.getbuffer().nbytes}
    return files


def _manifest(
    plan: GoldPlan,
    facts: Sequence[PartFacts],
    queries: Matrix,
    files: dict[str, dict[str, Any]],
    machine: dict[str, Any],
    seconds: tuple[float, float],
) -> dict[str, Any]:
    request, tally = plan.request, Tally()
    for one in facts:
        tally.add(Tally(**one.tally))
    return {
        "kind": "gold",
        "recipe": {"corpus": request.corpus, "queries": request.queries, "k": request.k, "metric": request.metric},
        "rows_in": plan.rows,
        "rows_out": tally.rows,
        "dropped": {},
        "dim": plan.dim,
        "queries": plan.queries,
        "fingerprint": {
            "corpus": parts.fingerprint(facts),
            "queries": xxhash.xxh3_128_hexdigest(np.ascontiguousarray(queries).data),
            "how": f"XXH3-128 of the rows as stored, of chunks of {CHUNK_ROWS} rows and then of their digests; queries at once",
        },
        "certificate": _certificate(plan, tally, facts),
        "files": files,
        "environment": machine,
        "seconds": round(seconds[0], 3),
        "search_s": round(seconds[1], 3),  # of these without starting searchers, reading queries, and writing
        "parts_done_before": len(plan.done),  # by runs that were stopped, whose seconds are not counted here
    }


def _certificate(plan: GoldPlan, tally: Tally, facts: Sequence[PartFacts]) -> dict[str, Any]:
    searched_s = sum(one.seconds for one in facts)
    slopes = {name: MatrixScan(plan.request.metric, plan.dim, name).terms.slope for name in sorted(tally.by_precision)}
    return {
        "claim": "ids and scores are those of a float64 scan of every row; order: higher score, then smaller row",
        "scan": tally.by_precision,
        "bound": {name: f"{slope:.6g} * |x| * |y|, and the rounding of inputs" for name, slope in slopes.items()},
        "float64_sums": _sums(plan.request.metric, tally.inexact_rows),
        "pairs_scanned": tally.pairs,
        "copies_left_out": tally.rows - tally.scanned_rows,
        "candidates_per_query": round((tally.rescored + tally.settled) / max(plan.queries, 1), 2),
        "settled_early": tally.settled,
        "audited_pairs": tally.audited,
        "blas": sorted({one.blas for one in facts}),
        "calibration": next((one.calibration for one in facts if one.calibration), None),
        "parts": len(facts),
        "worker_seconds": round(searched_s, 3),
        "waited_for_rows_s": round(sum(one.waited_s for one in facts), 3),
        "gflop_per_worker_s": round(2.0 * plan.rows * plan.queries * plan.dim / 1e9 / max(searched_s, 1e-9), 2),
    }


def _sums(metric: str, inexact_rows: int) -> str:
    if inexact_rows:
        return f"rounded for {inexact_rows} rows: summed pairwise in one fixed order"
    if metric == "cosine":
        return "exact: no sum can round; lengths and the division by them round once each"
    return "exact: no sum can round, so the scores are the real numbers"


class LocalGold:
    """The parts one after another in this process."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or available_cores()

    def workers(self) -> Workers:
        """One, with all cores."""
        return Workers(1, self._threads)

    def facts(self) -> dict[str, Any]:
        """The facts of this machine."""
        return environment() | {"runner": "in this process", "threads": self._threads}

    def search(self, search: Search, queries: Matrix, ranges: Sequence[Range], running: Floors) -> Iterator[Range]:
        """Each part with the floors that those before it have proven."""
        worker = parts.Worker(search, queries)
        for one, following in zip(ranges, [*ranges[1:], None], strict=True):
            worker.search(one, following, running.floor())
            yield one
