"""Units of comparing: runs of cells, or two ranges of rows; each reads its rows from storage and returns something small.

Axes: N rows, C cells, P pairs, S rows with their first close row before them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from raybench import storage
from raybench.arrays import Rows
from raybench.dedup.cells import Flags
from raybench.dedup.groups import LEADER, OPEN, Firsts, States, forest, join
from raybench.dedup.pairs import Pairs, Run, cosines, pairs_between, pairs_within
from raybench.dedup.parts import Edges, Place, in_place
from raybench.formats import open_vectors
from raybench.formats.base import Matrix, read_rows


@dataclass(frozen=True, slots=True, eq=False)
class CellUnit:
    """A run of cells, whose rows lie in the files of all ranges; of each range, where these cells begin and the last ends."""

    place: Place
    pieces: tuple[tuple[Edges, Rows], ...]
    dim: int
    dtype: str
    has_within: bool = True  # pairs of two rows at home
    has_between: bool = True  # pairs of a row at home and a guest

    def runs(self) -> Iterator[tuple[Run, Run]]:
        """The rows at home in each cell, and its guests."""
        pieces = [self._piece(rows, starts_C) for rows, starts_C in self.pieces]
        for edges in zip(*(pairwise((starts_C - starts_C[0]).tolist()) for _, starts_C in self.pieces), strict=True):
            both = np.concatenate([both[slice(*edge)] for (both, _), edge in zip(pieces, edges, strict=True)])
            rows_ND = np.concatenate([rows[slice(*edge)] for (_, rows), edge in zip(pieces, edges, strict=True)])
            home, guest = np.flatnonzero(both % 2 == 0), np.flatnonzero(both % 2)
            yield Run.of(both[home] // 2, rows_ND[home]), Run.of(both[guest] // 2, rows_ND[guest])

    def _piece(self, rows: Edges, starts_C: Rows) -> tuple[Rows, Matrix]:
        """Numbers (twice over, and one more for a guest) and rows of one range's share of these cells."""
        first, last, dtype = int(starts_C[0]), int(starts_C[-1]), np.dtype(self.dtype)
        both = _slice(self.place.file("ids", rows, "bin"), 8 * first, 8 * last)
        view = in_place(self.place, rows)
        if view is not None:
            ids = np.frombuffer(both, np.int64)
            return ids, view[ids // 2 - rows[0]]
        width = self.dim * dtype.itemsize
        data = _slice(self.place.file("rows", rows, "bin"), width * first, width * last)
        return np.frombuffer(both, np.int64), np.frombuffer(data, dtype).reshape(-1, self.dim)


@dataclass(frozen=True, slots=True, eq=False)
class FullUnit:
    """A range of rows against another before it, or against itself: every pair is compared."""

    place: Place
    ours: Edges
    theirs: Edges
    kept: tuple[Flags, Flags]  # of each

    @property
    def has_within(self) -> bool:
        """Whether it is a range against itself."""
        return self.ours == self.theirs

    @property
    def has_between(self) -> bool:
        """Whether it is a range against another."""
        return self.ours != self.theirs

    def runs(self) -> Iterator[tuple[Run, Run]]:
        """The one range, and the other, which is empty where they are the same."""
        home = self._run(self.ours, self.kept[0])
        yield home, home.at(np.empty(0, np.int64)) if self.has_within else self._run(self.theirs, self.kept[1])

    def _run(self, rows: Edges, kept_N: Flags) -> Run:
        stored_ND = read_rows(open_vectors(self.place.vectors), *rows)
        return Run.of(np.flatnonzero(kept_N) + rows[0], stored_ND[kept_N])


Unit = CellUnit | FullUnit


def first_close(unit: Unit, state_N: States) -> Firsts:
    """For every open row of a unit the first row before it that is close, and a leader or open."""
    found = []
    for home, guests in unit.runs():
        firsts = Firsts.of(_open_pairs(unit, home, guests, state_N))
        found.append(firsts.with_cosines(_cosines(home, guests, firsts.row_S, firsts.first_S)))
    return join(found)


def all_close(unit: Unit, state_N: States) -> tuple[Pairs, npt.NDArray[np.float64]]:
    """All pairs of an open row of a unit and a leader or open row before it, with their cosines."""
    found, told = [Pairs.none()], [np.empty(0)]
    for home, guests in unit.runs():
        for pairs in _open_pairs(unit, home, guests, state_N):
            found.append(pairs)
            told.append(_cosines(home, guests, pairs.high_P, pairs.low_P))
    return Pairs.joined(found), np.concatenate(told)


def connections(unit: Unit) -> Pairs:
    """Pairs that connect what is close in a unit."""
    return forest(pairs for home, guests in unit.runs() for pairs in _pairs(unit, home, guests))


def _pairs(unit: Unit, home: Run, guests: Run) -> Iterator[Pairs]:
    if unit.has_within:
        yield from pairs_within(home, unit.place.threshold)
    if unit.has_between:
        yield from pairs_between(home, guests, unit.place.threshold)


def _open_pairs(unit: Unit, home: Run, guests: Run, state_N: States) -> Iterator[Pairs]:
    """Pairs whose later row is open and whose earlier one is open or a leader; rows of no such pair are not multiplied."""
    if (state_N[home.ids_N] == OPEN).all() and (state_N[guests.ids_N] == OPEN).all():
        yield from _pairs(unit, home, guests)
        return
    threshold = unit.place.threshold
    home_open, guest_open = (run.at(np.flatnonzero(state_N[run.ids_N] == OPEN)) for run in (home, guests))
    home_lead, guest_lead = (run.at(np.flatnonzero(state_N[run.ids_N] == LEADER)) for run in (home, guests))
    some: list[Iterator[Pairs]] = []
    if unit.has_within:
        some += [pairs_within(home_open, threshold), pairs_between(home_open, home_lead, threshold)]
    if unit.has_between:
        some += [pairs_between(one, other, threshold) for one, other in
                 ((home_open, guest_open), (home_open, guest_lead), (home_lead, guest_open))]  # fmt: skip
    for pairs in (pairs for each in some for pairs in each):
        yield pairs.at(np.flatnonzero(state_N[pairs.high_P] == OPEN))


def _cosines(home: Run, guests: Run, one_P: Rows, other_P: Rows) -> npt.NDArray[np.float64]:
    """The float64 cosines of pairs by the numbers of their rows."""
    both = Run.joined(home, guests)
    order = np.argsort(both.ids_N)
    places = [order[np.searchsorted(both.ids_N, ids, sorter=order)] for ids in (one_P, other_P)]
    return cosines(both, places[0], both, places[1])


def _slice(uri: str, start: int, stop: int) -> bytes:
    """Some bytes of a file."""
    with storage.open_random(uri) as file:
        file.seek(start)
        data: bytes = file.read(stop - start)
    return data
