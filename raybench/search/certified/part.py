"""A run of rows in memory is searched block by block; what comes out is the float64 answer of these rows.

The rows of a block are made ready once, one block ahead, for all threads; each thread scans for queries of its own, so no
two share a threshold, and BLAS runs one thread in each. Candidates are thinned out as thresholds
rise, and those that remain at the end are scored in float64.

Axes: Q queries, N rows of the part, C candidates of one query.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from raybench.arrays import Rows
from raybench.errors import DataError, WorkError
from raybench.search.certified.blocks import Part, Ring
from raybench.search.certified.duplicates import Groups, group
from raybench.search.certified.found import Found, order, slots
from raybench.search.certified.matrix import MatrixScan
from raybench.search.certified.metric import Float64, Matrix, Questions, granularity, longest, score_pairs
from raybench.search.certified.reservoir import Reservoir
from raybench.search.certified.scan import Block, Scan, Tile
from raybench.search.certified.scoring import RowScores
from raybench.search.certified.tally import Tally

_TILE_QUERIES = 1_024  # with 8,192 rows, 32 MiB of scores per thread
_FEWEST_QUERIES = 32  # a thread of its own is not worth less
_AUDITED = 64  # pairs of every tile and block that are compared with float64
_GROUPED_FROM = 256  # queries: below, finding copies costs more than scanning them


@dataclass(frozen=True, slots=True)
class Scanner:
    """How a part is searched; nothing here can change an answer."""

    precision: str = "numpy-float32"  # one of SCANS
    threads: int = 1
    block_rows: int = 8_192

    def scan(self, metric: str, dim: int) -> Scan:
        """The cheap precision at work."""
        return MatrixScan(metric, dim, self.precision)


def search_part(
    questions: Questions, rows_ND: Matrix, first_row: int, k: int, floor_Q: Float64, scanner: Scanner
) -> tuple[Found, Tally]:
    """The best k rows of each query among these rows (packed bits for hamming), with float64 scores.

    `floor_Q` are scores proven to be at most each query's k-th best of the whole corpus (-inf where nothing is known):
    rows under it are left out. The answer does not depend on `scanner`.
    """
    _check(questions, rows_ND, k)
    part = _prepare(questions, rows_ND)
    scan, tally = scanner.scan(questions.metric, questions.dim), Tally(rows=len(rows_ND), scanned_rows=part.places)
    tally.inexact_rows = 0 if part.is_exact else len(rows_ND)
    tally.by_precision = {scan.name: len(rows_ND)}
    tally.pairs = part.places * len(questions)
    edges = _tiles(len(questions), scanner.threads)
    inner = max(1, scanner.threads // max(len(edges), 1))
    with _threads(scanner.threads, inner) as pool:
        tiles = [_Search(questions.part(*edge), floor_Q[slice(*edge)], part, k, scan, scanner) for edge in edges]
        shares = [tiles[number :: scanner.threads] for number in range(min(scanner.threads, len(tiles)))]
        ring = Ring(part, scan, scanner.block_rows, len(shares))
        list(pool.map(lambda share: _run(share, ring), shares))
        answers = list(pool.map(lambda tile: tile.answers(), tiles))
    for tile in tiles:
        tally.add(tile.tally)
    per_query = [(rows + first_row, scores) for answer in answers for rows, scores in answer]
    return Found.of(per_query), tally


def _check(questions: Questions, rows_ND: Matrix, k: int) -> None:
    if k < 1:
        raise DataError(f"k={k} asks for nothing; use at least 1")
    width = questions.dim // 8 if questions.metric == "hamming" else questions.dim
    if rows_ND.ndim != 2 or rows_ND.shape[1] != width:
        raise DataError(f"rows have shape {rows_ND.shape}, the queries {width} columns; use one encoder")
    if len(rows_ND) >= 2**31:
        raise DataError(f"a part of {len(rows_ND)} rows is too large; search it in parts of fewer than 2^31")


def _prepare(questions: Questions, rows_ND: Matrix) -> Part:
    groups = group(rows_ND) if len(questions) >= _GROUPED_FROM else None
    if questions.metric == "hamming":
        return Part(rows_ND, groups, is_exact=True)
    return Part(rows_ND, groups, questions.are_exact(granularity(rows_ND), longest(rows_ND)))


def _tiles(num_queries: int, threads: int) -> list[tuple[int, int]]:
    """Runs of queries of nearly one length: for each thread as many, none too small to be worth a thread."""
    least = math.ceil(num_queries / _TILE_QUERIES)
    shared = min(threads, math.ceil(num_queries / _FEWEST_QUERIES))
    count = max(1, math.ceil(least / max(shared, 1)) * shared)
    edges = [num_queries * number // count for number in range(count + 1)]
    return [(a, b) for a, b in itertools.pairwise(edges) if a < b]


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looks through every library that is loaded, which takes a while


@contextmanager
def _threads(count: int, inner: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in each of which BLAS and torch run `inner` threads."""
    before = torch.get_num_threads()
    try:
        with (
            _libraries().limit(limits=inner, user_api="blas"),
            ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(inner,)) as pool,
        ):
            yield pool
    finally:
        torch.set_num_threads(before)


def _run(tiles: "list[_Search]", ring: Ring) -> None:
    """Scan all blocks for the tiles of one thread."""
    try:
        for number, start in enumerate(ring.starts):
            block = ring.block(number)
            for tile in tiles:
                tile.scan(number, start, block)
            ring.release(number)
    except BaseException as error:
        ring.fail(error)
        raise


class _Search:
    """Some queries against one part; used by one thread at a time."""

    def __init__(
        self, questions: Questions, floor_T: Float64, part: Part, k: int, scan: Scan, scanner: Scanner
    ) -> None:
        self.tally = Tally()
        self._questions, self._floor_T, self._part, self._k = questions, floor_T, part, k
        self._scores = RowScores(questions, part)
        self._tile: Tile = scan.tile(questions, scanner.block_rows)
        known_T = np.isfinite(floor_T)
        least_T = floor_T.copy()
        least_T[known_T] = questions.value_bounds(floor_T[known_T], questions.norms_Q[known_T])[0]
        self._reservoir = Reservoir(least_T, k)

    def scan(self, number: int, start: int, block: Block) -> None:
        """Take the candidates of a block in."""
        found = self._tile.scan(block, self._reservoir.floor_T, self._k)
        self.tally.kept += len(found.query_C)
        self._audit(start, block)
        self._reservoir.add(found, start, self._settle)
        if number & (number + 1) == 0:  # after blocks 1, 2, 4, 8, ...: thresholds rise fast at first
            self._reservoir.thin()

    def answers(self) -> list[tuple[Rows, Float64]]:
        """Rows of the part and float64 scores of each query, the best k or fewer."""
        self._reservoir.thin()
        self.tally.settled = self._reservoir.settled
        return [self._answer(query, self._reservoir.rows(query)) for query in range(len(self._questions))]

    def _answer(self, query: int, place_C: Rows) -> tuple[Rows, Float64]:
        score_C = self._scores.of(query, place_C)
        self.tally.rescored += len(place_C)
        kept = np.flatnonzero(score_C >= self._floor_T[query])
        kept = kept[order(place_C[kept], score_C[kept], self._k)]
        place_C, score_C = place_C[kept], score_C[kept]
        if self._part.groups is None:
            return place_C, score_C
        return _opened(self._part.groups, place_C, score_C, self._k)

    def _settle(self, query: int, place_C: Rows) -> tuple[Rows, Float64, Float64]:
        score_C = self._scores.of(query, place_C)
        best = order(place_C, score_C, self._k)
        return place_C[best], *self._questions.value_bounds(score_C[best], self._questions.norms_Q[query])

    def _audit(self, start: int, block: Block) -> None:
        """Compare bounds with float64 for some pairs: a processor in a mode of lower precision must not pass."""
        draw = np.random.default_rng(start)
        query_C = np.sort(draw.integers(0, len(self._questions), min(_AUDITED, len(block))))
        row_C = draw.integers(0, len(block), len(query_C))
        bounds = self._tile.sample(block, query_C, row_C)
        score_C = score_pairs(self._questions, query_C, self._part.rows_ND[self._part.rows(row_C + start)])
        least, greatest = self._questions.value_bounds(score_C, self._questions.norms_Q[query_C])
        wrong = ~((bounds.lower_C <= greatest) & (bounds.upper_C >= least))
        self.tally.audited += len(query_C)
        if wrong.any():
            one = int(np.argmax(wrong))
            raise WorkError(
                f"a cheap score is outside its bound ({bounds.lower_C[one]:.9g} to {bounds.upper_C[one]:.9g}, float64 "
                f"says {least[one]:.9g}): this machine multiplies in a lower precision than it says; use another one"
            )


def _opened(groups: Groups, place_U: Rows, score_U: Float64, k: int) -> tuple[Rows, Float64]:
    """The best k rows, given the best k of those that stand for groups."""
    length_U = np.minimum(groups.length_U[place_U], k)
    enough = int(np.searchsorted(np.cumsum(length_U), k))
    if enough < len(score_U):
        # Copies of equally good rows mix by row number, so all groups of the last score are opened.
        length_U = length_U[score_U >= score_U[enough]]
    place_U, score_U = place_U[: len(length_U)], score_U[: len(length_U)]
    row_C = groups.member_N[np.repeat(groups.start_U[place_U], length_U) + slots(length_U)]
    score_C = np.repeat(score_U, length_U)
    best = order(row_C, score_C, k)
    return row_C[best], score_C[best]
