"""Pieces of a deduplication: each reads what it needs from storage, and leaves a file or returns something small.

    <folder>/digests-<range>.npy    the digest of every row of a range, and whether it has a length
    <folder>/rows-<range>.bin       the rows of a range that are compared, cell after cell, guests too; not of a small local file
    <folder>/ids-<range>.bin        their numbers, int64, twice over, and one more for a guest
    <folder>/placed-<range>.npz     where cells begin among them, and how many rows were cut; written last

A file that is there is whole, and is not made again.

Axes: N rows of a range, C cells, D dimensions, W drawn rows, P pairs.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from raybench import storage
from raybench.arrays import Rows
from raybench.dedup.cells import Cells, Flags
from raybench.dedup.fingerprints import Digests, digests
from raybench.dedup.pairs import Pairs, Run, pairs_between
from raybench.errors import DataError
from raybench.formats import open_vectors
from raybench.formats.base import Matrix, read_rows
from raybench.formats.mapped import mapped
from raybench.search.certified.metric import norms

_READ_ROWS = 16_384
_SHORTEST, _LONGEST = 2.0**-60, 2.0**60  # squares of which are within float32
DRAWN_ROWS = 1_000  # of those that were cut
_IN_PLACE_BYTES = (
    4 * 1024**3
)  # of a local file that the system keeps in memory: its rows are taken from there, in any order
Edges = tuple[int, int]  # first and last row, or cell, of a run


@dataclass(frozen=True, slots=True)
class Place:
    """What the pieces of one deduplication share; small."""

    vectors: str  # a spec or path
    folder: str
    threshold: float

    def file(self, kind: str, rows: Edges, suffix: str) -> str:
        """A file of a range of rows."""
        return storage.join(self.folder, f"{kind}-{rows[0]:015d}-{rows[1]:015d}.{suffix}")


def in_place(place: Place, rows: Edges) -> Matrix | None:
    """A view of a range of rows, where they are taken from the file itself; else they are copied cell by cell."""
    file = open_vectors(place.vectors)
    is_small = file.rows * file.dim * file.dtype.itemsize <= _IN_PLACE_BYTES
    return mapped(file, *rows) if is_small else None


def fingerprint(rows: Edges, place: Place) -> None:
    """Write the digests of a range. DataError for a row that is not finite, or too short or long to be compared."""
    uri = place.file("digests", rows, "npy")
    if storage.exists(uri):
        return
    file = open_vectors(place.vectors)
    told: list[Digests] = []
    for start in range(*rows, _READ_ROWS):
        rows_ND = read_rows(file, start, min(start + _READ_ROWS, rows[1]))
        is_finite_N = np.isfinite(rows_ND).all(axis=1)
        if not is_finite_N.all():
            row = start + int(np.argmin(is_finite_N))
            raise DataError(f"row {row} of {place.vectors} has NaN or infinite values; embed it again or drop it")
        has_length_N = (rows_ND != 0).any(axis=1)
        is_odd_N = has_length_N & ~_are_held(rows_ND)
        if is_odd_N.any():
            row = start + int(np.argmax(is_odd_N))
            raise DataError(f"row {row} of {place.vectors} is out of the range of float32; scale the vectors")
        told.append(np.column_stack([digests(rows_ND), has_length_N.astype(np.uint64)]))
    _save(uri, np.concatenate(told))


def _are_held(rows_ND: Matrix) -> Flags:
    """Whether squares of rows are within float32; those of float16 always are."""
    if rows_ND.dtype == np.float16:
        return np.ones(len(rows_ND), np.bool_)
    with np.errstate(over="ignore"):
        length_N = norms(rows_ND)
    are_held_N: Flags = (length_N > _SHORTEST) & (length_N < _LONGEST)
    return are_held_N


def fingerprints(place: Place, ranges: Sequence[Edges]) -> tuple[Digests, Flags]:
    """The digests of all rows, and whether each has a length."""
    told = np.concatenate([_load(place.file("digests", rows, "npy")) for rows in ranges])
    return np.ascontiguousarray(told[:, :2]), told[:, 2] != 0


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Some of the rows that were cut, those with the smallest lots: joined over ranges they are a sample of all such rows."""

    lot_W: npt.NDArray[np.uint64]
    ids_W: Rows
    stored_WD: Matrix

    @classmethod
    def of(cls, run: Run, seed: int) -> "Drawn":
        """From all rows that were cut in a range."""
        key = seed.to_bytes(8, "little", signed=True)
        lot_N = np.array([xxhash.xxh3_64_intdigest(key + row.tobytes()) for row in run.ids_N], np.uint64)
        return cls(lot_N, run.ids_N, run.stored_ND).smallest()

    @classmethod
    def joined(cls, parts: Sequence["Drawn"]) -> "Drawn":
        """Of several ranges."""
        lots, ids = (np.concatenate([getattr(part, name) for part in parts]) for name in ("lot_W", "ids_W"))
        return cls(lots, ids, np.concatenate([part.stored_WD for part in parts])).smallest()

    def smallest(self) -> "Drawn":
        """Those with the smallest lots, in the order of rows, in whatever order ranges were done."""
        chosen = np.lexsort((self.ids_W, self.lot_W))[:DRAWN_ROWS]
        chosen = chosen[np.argsort(self.ids_W[chosen])]
        return Drawn(self.lot_W[chosen], self.ids_W[chosen], self.stored_WD[chosen])


def put_into_cells(place: Place, rows: Edges, kept_N: Flags, cells: Cells, seed: int) -> tuple[Rows, int, Drawn]:
    """Write the rows of a range by cell; where each cell begins among them [C + 1], how many rows were cut, and some of them.

    `kept_N` says which rows of the range are compared.
    """
    uri = place.file("placed", rows, "npz")
    if not storage.exists(uri):
        stored_ND = read_rows(open_vectors(place.vectors), *rows)[kept_N]
        run = Run.of(np.flatnonzero(kept_N) + rows[0], stored_ND)
        placed = cells.place(run.unit_ND)
        local = np.concatenate([np.arange(len(run)), placed.row_G])
        cell = np.concatenate([placed.home_N, placed.cell_G])
        is_guest = np.arange(len(local)) >= len(run)
        order = np.lexsort((local, is_guest, cell))  # in a cell those at home first, each in row order
        if in_place(place, rows) is None:
            storage.write_bytes(place.file("rows", rows, "bin"), np.ascontiguousarray(stored_ND[local[order]]).data)
        storage.write_bytes(place.file("ids", rows, "bin"), (2 * run.ids_N[local[order]] + is_guest[order]).data)
        starts_C = np.searchsorted(cell[order], np.arange(len(cells.centroids_CD) + 1))
        drawn = Drawn.of(run.at(np.flatnonzero(placed.is_cut_N)), seed)
        buffer = io.BytesIO()
        np.savez(
            buffer, starts=starts_C, cut=placed.is_cut_N.sum(), lot=drawn.lot_W, ids=drawn.ids_W, rows=drawn.stored_WD
        )
        storage.write_bytes(uri, buffer.getbuffer())
    with np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False) as told:
        return told["starts"], int(told["cut"]), Drawn(told["lot"], told["ids"], told["rows"])


def met_pairs(place: Place, rows: Edges, kept_N: Flags, cells: Cells, drawn: Drawn) -> tuple[Rows, Flags]:
    """The close pairs of a drawn row and another row of a range: which of the drawn rows [P], and whether they meet in a cell."""
    stored_ND = read_rows(open_vectors(place.vectors), *rows)[kept_N]
    run, asked = Run.of(np.flatnonzero(kept_N) + rows[0], stored_ND), Run.of(drawn.ids_W, drawn.stored_WD)
    found = Pairs.joined([Pairs.none(), *pairs_between(asked, run, place.threshold)])
    # A pair of two drawn rows is found from both sides, once for each of them.
    is_low_drawn_P, is_high_drawn_P = np.isin(found.low_P, asked.ids_N), np.isin(found.high_P, asked.ids_N)
    ours = np.concatenate([found.low_P[is_low_drawn_P], found.high_P[is_high_drawn_P]])
    theirs = np.concatenate([found.high_P[is_low_drawn_P], found.low_P[is_high_drawn_P]])
    kept = np.flatnonzero((ours != theirs) & np.isin(theirs, run.ids_N))
    both_P2 = np.unique(np.column_stack([ours[kept], theirs[kept]]), axis=0)
    drawn_P, row_P = np.searchsorted(asked.ids_N, both_P2[:, 0]), np.searchsorted(run.ids_N, both_P2[:, 1])
    ours_placed, theirs_placed = cells.place(asked.unit_ND), cells.place(run.at(row_P).unit_ND)
    is_met_P = ours_placed.are_in(drawn_P, theirs_placed.home_N)
    return drawn_P, is_met_P | theirs_placed.are_in(np.arange(len(row_P)), ours_placed.home_N[drawn_P])


def _save(uri: str, array: npt.NDArray[np.uint64]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    storage.write_bytes(uri, buffer.getbuffer())


def _load(uri: str) -> npt.NDArray[np.uint64]:
    loaded: npt.NDArray[np.uint64] = np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False)
    return loaded
