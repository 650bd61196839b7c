"""One part of an exact search: read a run of rows, search it, and leave a file from which a rerun goes on.

A part file holds, for each query, the rows of the part that could be among the best k of the corpus when it was
searched, with float64 scores. It is written whole; nothing else is needed to go on after a kill, on any machine.

    <gold>/parts/<start>-<stop>.npz    count [Q], offset [F] (row - start), score [F], facts (JSON)

Axes: Q queries, F found pairs, B rows of a run.
"""

import io
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import xxhash

from raybench import storage
from raybench.environment import blas_kernel
from raybench.errors import DataError, StorageError, WorkError
from raybench.formats import open_vectors
from raybench.formats.base import VectorFile, width
from raybench.search.certified import Found, Questions, Scanner, search_part
from raybench.search.certified.bound import Terms
from raybench.search.certified.calibrate import Calibration, calibrate
from raybench.search.certified.matrix import GPU_SCAN
from raybench.search.certified.metric import Float64, Matrix, longest

FORMAT = 1  # raise it when the same inputs give another file
_GPU_BLOCK_ROWS = 32_768  # a GPU wants larger products
_INFINITY = 0x7C00  # the bits of float16's
CHUNK_ROWS = 65_536  # parts begin at multiples of this, and checksums of the corpus are of chunks


@dataclass(frozen=True, slots=True)
class Range:
    """Rows start to stop of the corpus."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        """The name of its part file; sorts in row order."""
        return f"{self.start:015d}-{self.stop:015d}.npz"

    @classmethod
    def of_name(cls, name: str) -> "Range | None":
        """The range of a part file, or None for another file."""
        start, dash, stop = name.removesuffix(".npz").partition("-")
        return cls(int(start), int(stop)) if dash and start.isdigit() and stop.isdigit() else None


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for what; small, and all that a worker needs beside the queries."""

    corpus: str  # a spec or path of vectors
    metric: str
    k: int
    parts_uri: str
    precision: str  # "auto" or one of SCANS
    threads: int
    total_rows: int


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What a part says beside its rows; goes into the certificate."""

    start: int
    stop: int
    tally: dict[str, Any]
    chunks: tuple[str, ...]  # checksums of its chunks of rows, as stored
    seconds: float
    waited_s: float  # for rows to arrive
    blas: str
    calibration: dict[str, Any] | None


class Worker:
    """Searches one part after another, and reads the next while it searches; used by one thread."""

    def __init__(self, search: Search, queries: Matrix) -> None:
        self._search = search
        self._questions = Questions.of(queries, search.metric)
        self._file: VectorFile = open_vectors(search.corpus)
        self._calibration: Calibration | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._ahead: tuple[Range, Future[tuple[Matrix, tuple[str, ...]]]] | None = None
        self._lock = threading.Lock()

    def search(self, part: Range, following: Range | None, floor_Q: Float64) -> None:
        """Search a part and write its file; `following` is read meanwhile."""
        started = time.perf_counter()
        rows, chunks = self._rows(part, following)
        waited_s = time.perf_counter() - started
        precision = self._precision(rows)
        scanner = Scanner(precision, self._search.threads)
        if precision == GPU_SCAN:
            scanner = replace(scanner, block_rows=_GPU_BLOCK_ROWS)
        found, tally = search_part(self._questions, rows, part.start, self._search.k, floor_Q, scanner)
        calibration = None if self._calibration is None else self._calibration.facts()
        facts = PartFacts(
            part.start, part.stop, asdict(tally), chunks, time.perf_counter() - started, waited_s, blas_kernel(),
            calibration,
        )  # fmt: skip
        write_part(self._search.parts_uri, part, found, facts)

    def _rows(self, part: Range, following: Range | None) -> tuple[Matrix, tuple[str, ...]]:
        with self._lock:
            ready, self._ahead = self._ahead, None
        rows = ready[1].result() if ready is not None and ready[0] == part else self._read(part)
        if following is not None:
            self._ahead = (following, self._reader.submit(self._read, following))
        return rows

    def _read(self, part: Range) -> tuple[Matrix, tuple[str, ...]]:
        rows = np.empty((part.stop - part.start, width(self._file)), self._file.dtype)
        chunks = []
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            self._file.read_into(part.start + start, chunk)
            _check_finite(chunk, part.start + start, self._search.corpus)
            chunks.append(xxhash.xxh3_128_hexdigest(chunk.data))
        return rows, tuple(chunks)

    def _precision(self, rows: Matrix) -> str:
        if self._search.precision != "auto":
            if self._search.precision == GPU_SCAN and not torch.cuda.is_available():
                raise WorkError(f"precision {GPU_SCAN} needs a GPU, and this worker has none; use auto")
            return self._search.precision
        if torch.cuda.is_available():
            greatest = max(longest(rows), float(self._questions.norms_Q.max(initial=0)))
            if greatest <= Terms(self._search.metric, self._questions.dim, torch.float16).longest:
                return GPU_SCAN
        if self._calibration is None:
            self._calibration = calibrate(self._questions, rows, self._search.k, self._search.total_rows)
        return self._calibration.chosen


def _check_finite(rows: Matrix, first_row: int, where: str) -> None:
    if rows.dtype.kind != "f":
        return
    if rows.dtype == np.float16:
        # Infinity and NaN have an exponent of all ones; whole numbers are looked at much faster.
        wrong = int((rows.view(np.uint16) & 0x7FFF).max(initial=0)) >= _INFINITY
    else:
        wrong = not np.isfinite(rows).all()
    if wrong:
        row = first_row + int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise DataError(f"{where}: row {row} has NaN or infinite values; embed it again or drop it")


def write_part(parts_uri: str, part: Range, found: Found, facts: PartFacts) -> None:
    """Write a part file whole."""
    buffer = io.BytesIO()
    offset_F = (found.row_F - part.start).astype(np.int32)
    text = np.frombuffer(json.dumps(asdict(facts)).encode(), np.uint8)
    np.savez(buffer, count=found.count_Q, offset=offset_F, score=found.score_F, facts=text)
    storage.write_bytes(storage.join(parts_uri, part.name), buffer.getbuffer())


def read_part(parts_uri: str, part: Range) -> tuple[Found, PartFacts]:
    """The rows and facts of a part. StorageError if the file is damaged."""
    uri = storage.join(parts_uri, part.name)
    try:
        with np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False) as content:
            found = Found(content["count"], content["offset"].astype(np.int64) + part.start, content["score"])
            told = json.loads(content["facts"].tobytes())
    except (ValueError, KeyError, OSError) as error:
        raise StorageError(f"{uri} is damaged: {error}; delete it and run again") from None
    return found, PartFacts(**told | {"chunks": tuple(told["chunks"])})


def finished(parts_uri: str, rows: int) -> list[Range]:
    """The parts that are there, without overlap, in row order."""
    named = (Range.of_name(file.name) for file in storage.list_files(parts_uri))
    ranges = sorted((one for one in named if one is not None and one.stop <= rows), key=lambda one: one.start)
    kept: list[Range] = []
    for one in ranges:
        if not kept or one.start >= kept[-1].stop:
            kept.append(one)
    return kept


def missing(done: Sequence[Range], rows: int, part_rows: int) -> list[Range]:
    """The runs of rows that no finished part covers, cut into parts that begin at multiples of CHUNK_ROWS."""
    left: list[Range] = []
    position = 0
    for one in [*done, Range(rows, rows)]:
        while position < one.start:
            stop = min(one.start, position + part_rows)
            left.append(Range(position, stop))
            position = stop
        position = max(position, one.stop)
    return left


def fingerprint(facts: Sequence[PartFacts]) -> str:
    """One checksum of the rows of a corpus as stored, from those of its chunks in row order."""
    chunks = [chunk for one in sorted(facts, key=lambda one: one.start) for chunk in one.chunks]
    return xxhash.xxh3_128_hexdigest("".join(chunks).encode())
