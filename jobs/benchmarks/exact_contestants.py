"""Ways to find the k rows of largest inner product, each timed in a process of its own; started by exact_search.py.

    python exact_contestants.py float64-filter --corpus rows.npy --queries queries.npy --k 10 --threads 2 --out answer

Every contestant gets the same mapped float16 file, converts it itself (by torch, into buffers that it uses again where
its library takes blocks), and gives ids [Q, K], best first. A small search before the clock starts loads libraries and
starts their threads. Order among equal scores is by row number where a contestant has a say in it.

Axes: N rows, B rows of a block, Q queries, T queries of one thread, D dimensions, K neighbours.
"""

import argparse
import importlib
import itertools
import json
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_info, threadpool_limits

Matrix = npt.NDArray[Any]
Ids = npt.NDArray[np.int64]
Facts = dict[str, Any]
Contestant = Callable[[Matrix, Matrix, int, int], tuple[Ids, Facts]]

_BLOCK_ROWS = 4_096
_WARM_ROWS, _WARM_QUERIES, _WARM_K = 9_000, 64, 10


def float64_filter(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int) -> tuple[Ids, Facts]:
    """Blocked dgemm; what is above the k-th best so far is kept. The answer that all others are held against."""
    return _float64(rows_ND, queries_QD, threads, [_Filtered(len(tile), k) for tile in _tiles(queries_QD, threads)])


def float64_argpartition(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int) -> tuple[Ids, Facts]:
    """Blocked dgemm; the best k of each block, by argpartition, are merged with those so far."""
    return _float64(rows_ND, queries_QD, threads, [_Partitioned(len(tile), k) for tile in _tiles(queries_QD, threads)])


class _Filtered:
    """The pairs of some queries that may be among the best k, thinned out as thresholds rise."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._floor_T = np.full(queries, -np.inf)
        self._kept: list[tuple[Ids, Ids, Matrix]] = []  # queries, rows, scores; rows ascend within a query
        self._held, self._blocks = 0, 0

    def add(self, scores_TB: Matrix, first_row: int) -> None:
        """Take a block of scores in. Rows arrive in order, so a later row that equals the k-th best loses to it."""
        width = scores_TB.shape[1]
        floor_T = self._floor_T
        if self._blocks == 0 and width > self._k:
            floor_T = np.nextafter(np.partition(scores_TB, width - self._k, axis=1)[:, width - self._k], -np.inf)
        flat = np.flatnonzero(scores_TB > floor_T[:, None])
        self._kept.append((flat // width, flat % width + first_row, scores_TB.reshape(-1)[flat]))
        self._held += len(flat)
        self._blocks += 1
        if self._blocks & (self._blocks - 1) == 0 or self._held > len(self._floor_T) * (3 * self._k + 256):
            self._thin()

    def best(self) -> Ids:
        """The best k of each query, ties by row number."""
        per_query = self._thin()
        ids_TK = np.full((len(per_query), self._k), -1)
        for query, (rows, scores) in enumerate(per_query):
            ids_TK[query, : len(rows)] = rows[np.argsort(-scores, kind="stable")]
        return ids_TK

    def _thin(self) -> list[tuple[Ids, Matrix]]:
        query, row, score = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
        in_order = np.argsort(query, kind="stable")
        row, score = row[in_order], score[in_order]
        ends = np.cumsum(np.bincount(query, minlength=len(self._floor_T)))
        per_query = []
        for number, (start, stop) in enumerate(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)):
            rows, scores = row[start:stop], score[start:stop]
            if len(rows) >= self._k:
                kth = np.partition(scores, len(scores) - self._k)[len(scores) - self._k]
                better, equal = scores > kth, np.flatnonzero(scores == kth)
                better[equal[: self._k - int(better.sum())]] = True
                rows, scores, self._floor_T[number] = rows[better], scores[better], kth
            per_query.append((rows, scores))
        counts = [len(rows) for rows, _ in per_query]
        rows_F, scores_F = (np.concatenate(parts) for parts in zip(*per_query, strict=True))
        self._kept = [(np.repeat(np.arange(len(counts)), counts), rows_F, scores_F)]
        self._held = len(rows_F)
        return per_query


class _Partitioned:
    """The best k so far of some queries, block by block; which of several equal rows stays is left to numpy."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._rows_TK, self._scores_TK = np.zeros((queries, 0), np.int64), np.zeros((queries, 0))

    def add(self, scores_TB: Matrix, first_row: int) -> None:
        """Take a block of scores in."""
        best = _largest(scores_TB, self._k)
        rows = np.concatenate([self._rows_TK, best + first_row], axis=1)
        scores = np.concatenate([self._scores_TK, np.take_along_axis(scores_TB, best, axis=1)], axis=1)
        best = _largest(scores, self._k)
        self._rows_TK, self._scores_TK = (np.take_along_axis(of, best, axis=1) for of in (rows, scores))

    def best(self) -> Ids:
        """The best k of each query."""
        in_order = np.lexsort((self._rows_TK, -self._scores_TK))
        ids_TK: Ids = np.take_along_axis(self._rows_TK, in_order, axis=1)
        return ids_TK


def _largest(scores: Matrix, k: int) -> Ids:
    width = scores.shape[1]
    if width <= k:
        return np.broadcast_to(np.arange(width), scores.shape)
    return np.argpartition(scores, width - k, axis=1)[:, width - k :]


def _tiles(queries_QD: Matrix, threads: int) -> list[Matrix]:
    return np.array_split(queries_QD, threads)


def _float64(
    rows_ND: Matrix, queries_QD: Matrix, threads: int, selected: "list[_Filtered] | list[_Partitioned]"
) -> tuple[Ids, Facts]:
    """Each thread multiplies and selects for queries of its own, with one BLAS thread, so that selection is shared too."""
    import torch

    torch.set_num_threads(threads)
    block_BD = np.empty((_BLOCK_ROWS, rows_ND.shape[1]))
    tiles = [np.ascontiguousarray(tile, np.float64) for tile in _tiles(queries_QD, threads)]
    buffers = [np.empty(len(tile) * _BLOCK_ROWS) for tile in tiles]

    def scan(number: int, start: int, count: int) -> None:
        scores_TB = buffers[number][: len(tiles[number]) * count].reshape(-1, count)
        np.matmul(tiles[number], block_BD[:count].T, out=scores_TB)
        selected[number].add(scores_TB, start)

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(rows_ND), _BLOCK_ROWS):
            part = rows_ND[start : start + _BLOCK_ROWS]
            torch.from_numpy(block_BD)[: len(part)].copy_(torch.from_numpy(part))
            list(pool.map(scan, range(threads), itertools.repeat(start), itertools.repeat(len(part))))
        ids = list(pool.map(lambda one: one.best(), selected))
    return np.concatenate(ids), {}


def torch_float64(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int) -> tuple[Ids, Facts]:
    """The product of torch in float64 (MKL) and topk, block by block."""
    return _torch(rows_ND, queries_QD, k, threads, "float64")


def torch_float32(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int) -> tuple[Ids, Facts]:
    """The product of torch in float32 (MKL) and topk, block by block."""
    return _torch(rows_ND, queries_QD, k, threads, "float32")


def _torch(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int, dtype: str) -> tuple[Ids, Facts]:
    import torch

    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    queries = torch.from_numpy(queries_QD).to(kind)
    block_rows = 4 * _BLOCK_ROWS  # topk costs by the block, so blocks are larger here
    block = torch.empty((block_rows, rows_ND.shape[1]), dtype=kind)
    buffer = torch.empty(len(queries) * block_rows, dtype=kind)
    best, ids = torch.empty((len(queries), 0), dtype=kind), torch.empty((len(queries), 0), dtype=torch.int64)
    for start in range(0, len(rows_ND), block_rows):
        part = torch.from_numpy(rows_ND[start : start + block_rows])
        scores = buffer[: len(queries) * len(part)].view(len(queries), len(part))
        torch.mm(queries, block[: len(part)].copy_(part).T, out=scores)
        top = torch.topk(scores, min(k, len(part)), dim=1)
        best, ids = torch.cat([best, top.values], 1), torch.cat([ids, top.indices + start], 1)
        merged = torch.topk(best, min(k, best.shape[1]), dim=1)
        best, ids = merged.values, torch.gather(ids, 1, merged.indices)
    return ids.numpy(), {}


def faiss_float32(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int) -> tuple[Ids, Facts]:
    """faiss.knn on all rows at once, as float32; faiss cuts them into blocks itself."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(threads)
    _scores, ids = faiss.knn(
        queries_QD.astype(np.float32), _float32(rows_ND, threads), k, metric=faiss.METRIC_INNER_PRODUCT
    )
    return ids, {}


def sklearn_float32(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int) -> tuple[Ids, Facts]:
    """scikit-learn's brute force by Euclidean distance, its fast path: another order where lengths differ a little."""
    neighbors = importlib.import_module("sklearn.neighbors")
    finder = neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=threads)
    with threadpool_limits(limits=threads):
        finder.fit(_float32(rows_ND, threads))
        ids = finder.kneighbors(queries_QD.astype(np.float32), return_distance=False)
    return ids, {}


def usearch_float16(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int) -> tuple[Ids, Facts]:
    """The exact search of usearch on the rows as they are."""
    index = importlib.import_module("usearch.index")
    found = index.search(rows_ND, queries_QD, k, index.MetricKind.IP, exact=True, threads=threads)
    return np.asarray(found.keys).astype(np.int64), {}


def _float32(rows_ND: Matrix, threads: int) -> Matrix:
    import torch

    torch.set_num_threads(threads)
    converted: Matrix = torch.from_numpy(rows_ND).to(torch.float32).numpy()
    return converted


def certified(precision: str) -> Contestant:
    """The certified search of raybench with one of its scans, or with the one that its calibration picks."""

    def search(rows_ND: Matrix, queries_QD: Matrix, k: int, threads: int) -> tuple[Ids, Facts]:
        from raybench.search.certified import Questions, Scanner, search_part
        from raybench.search.certified.calibrate import calibrate

        questions, facts, chosen = Questions.of(queries_QD, "ip"), {}, precision
        if precision == "auto":
            started = time.perf_counter()
            calibration = calibrate(questions, rows_ND, k, len(rows_ND))
            chosen = calibration.chosen
            facts = {"chosen": chosen, "calibration_s": round(time.perf_counter() - started, 3)}
        nothing_known = np.full(len(questions), -np.inf)
        found, tally = search_part(questions, rows_ND, 0, k, nothing_known, Scanner(chosen, threads))
        facts["copies_left_out"] = tally.rows - tally.scanned_rows
        facts["kept_per_query"] = round(tally.kept / len(questions), 1)
        facts["exact_per_query"] = round((tally.rescored + tally.settled) / len(questions), 1)
        return found.neighbors(k).ids_QK, facts

    return search


CONTESTANTS: dict[str, Contestant] = {
    "float64-filter": float64_filter,
    "float64-argpartition": float64_argpartition,
    "torch-float64": torch_float64,
    "faiss-float32": faiss_float32,
    "torch-float32": torch_float32,
    "sklearn-float32": sklearn_float32,
    "usearch-float16": usearch_float16,
    "certified-numpy-float32": certified("numpy-float32"),
    "certified-torch-float32": certified("torch-float32"),
    "certified-torch-bfloat16": certified("torch-bfloat16"),
    "certified-auto": certified("auto"),
}
BASES = ("float64-filter", "float64-argpartition", "torch-float64")
"""Float64 brute force; the fastest of them is what all others are compared with."""
OPENBLAS = ("float64-filter", "float64-argpartition", "faiss-float32", "sklearn-float32", "certified-numpy-float32",
            "certified-auto")  # fmt: skip
"""Those whose speed is decided by the kernel that OpenBLAS picks."""
TRUTH = "float64-filter"


def main() -> None:
    """Run one contestant once and write what it found and took."""
    parser = argparse.ArgumentParser(description="One contestant, once.")
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--rows", type=int, default=None, help="only so many")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="the fastest counts")
    parser.add_argument("--profile", action="store_true", help="print where the time goes (of the main thread)")
    parser.add_argument("--out", required=True, help="writes OUT.npy and OUT.json")
    asked = parser.parse_args()
    # Mapped copy-on-write: torch takes only memory that may be written, and nobody writes.
    rows_ND = np.load(asked.corpus, mmap_mode="c")[: asked.rows]
    queries_QD = np.load(asked.queries)
    contestant = CONTESTANTS[asked.contestant]
    contestant(np.array(rows_ND[:_WARM_ROWS]), queries_QD[:_WARM_QUERIES], _WARM_K, asked.threads)
    facts: Facts = {"wall_s": float("inf"), "anonymous_before_bytes": _anonymous_bytes()}
    for _ in range(asked.repeats):
        with _profiled() if asked.profile else nullcontext():
            before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            ids_QK, told = contestant(rows_ND, queries_QD, asked.k, asked.threads)
            wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        if wall_s < facts["wall_s"]:
            cpu_s = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
            facts |= {"wall_s": wall_s, "cpu_s": cpu_s, "told": told}
    facts["resident_peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    facts["kernels"] = _kernels()
    np.save(f"{asked.out}.npy", np.ascontiguousarray(ids_QK, np.int64))
    Path(f"{asked.out}.json").write_text(json.dumps(facts))


def _kernels() -> dict[str, str]:
    """The kernel of each BLAS in the process, by the name of the library's folder."""
    found = {}
    for library in threadpool_info():
        if library["user_api"] == "blas":
            name = f"{Path(library['filepath']).parent.name}: {library['internal_api']} {library['version']}"
            found[name] = library.get("architecture") or "unknown"
    return found


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class _profiled:  # noqa: N801 (used as a function)
    """cProfile around a block, its 25 longest functions printed; counts of threads other than this one are left out."""

    def __enter__(self) -> None:
        import cProfile

        self._profile = cProfile.Profile()
        self._profile.enable()

    def __exit__(self, *_: object) -> None:
        import pstats

        self._profile.disable()
        pstats.Stats(self._profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
