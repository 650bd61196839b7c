"""Near duplicates of a set of vectors: a list of the rows to keep, and the group of every other row.

    <out>/dedup/<key>/keep.parquet      row (and id, where the file has ids) of every row that stays
    <out>/dedup/<key>/groups.parquet    row, representative, cosine, kind (equal or near) of every row that goes
    <out>/dedup/<key>/manifest.json     recipe, account, and what may have been missed; written last
    <out>/dedup/<key>/pieces/           what a rerun goes on from; gone at the end

Rows in = rows that stay + equal rows + near rows. The pairs that are found are the same for every number of workers.
"""

import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest

from raybench import storage
from raybench.arrays import Rows
from raybench.dedup import cells as around
from raybench.dedup import parts
from raybench.dedup.cells import Cells, Flags, Float32
from raybench.dedup.fingerprints import digests, first_equal
from raybench.dedup.groups import OPEN, Firsts, Stars, forest, join
from raybench.dedup.pairs import Pairs, unit
from raybench.dedup.parts import Drawn, Edges, Place
from raybench.dedup.units import CellUnit, FullUnit, Unit, all_close, connections, first_close
from raybench.errors import RequestError
from raybench.experiments.reporting import Reporter
from raybench.experiments.workers import Workers
from raybench.formats import anchored, open_vectors
from raybench.formats.base import VectorFile
from raybench.spec import content_key
from raybench.transforms.sample import sample_rows

FORMAT = 2  # raise it when the same request gives other groups
GROUPS = ("stars", "components")
ALL_PAIRS = 20_000  # rows, up to which every pair is sooner compared than cells are made
_RANGE_BYTES = 128 * 1024**2  # of rows that are read together
_RANGE_ROWS = 1_024  # at least
_UNIT_BYTES = 128 * 1024**2  # of rows that are compared together
_LAST_PAIRS = 20_000_000  # that the driver takes to decide the last rows one after another


@dataclass(frozen=True, slots=True)
class DedupRequest:
    """What is asked for; the vectors are a spec or path."""

    vectors: str
    threshold: float = 0.95  # of the cosine, and more is a near duplicate
    groups: str = "stars"
    exact: bool = False
    most_cells: int = 16  # of a row
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DedupPlan:
    """A request with its input opened, and how it will be cut."""

    request: DedupRequest
    uri: str
    rows: int
    dim: int
    ranges: tuple[Edges, ...]
    centroids: int
    is_done: bool

    @property
    def lines(self) -> list[str]:
        """The plan in words."""
        request = self.request
        how = (
            f"every pair of {self.rows:,} rows: {self.rows**2 * self.dim / 1e12:,.1f} TFLOP"
            if request.exact
            else f"{self.centroids:,} cells, up to {request.most_cells} of them for a row"
        )
        done = ["finished before"] if self.is_done else []
        return [
            f"{request.vectors}: {self.rows:,} rows of {self.dim} dimensions, in {len(self.ranges)} ranges",
            f"near is a cosine of {request.threshold:g} or more; groups are {request.groups}; {how}",
            f"into {self.uri}",
            *done,
        ]


def representatives(uri: str, rows: int) -> tuple[Rows, Float32]:
    """For each of all rows the one that stands for it (itself, where it stays), and their cosine, from a finished artifact [N]."""
    groups = storage.read_table(storage.join(uri, "groups.parquet"), ["row", "representative", "cosine"])
    leader_N, cosine_N = np.arange(rows), np.ones(rows, np.float32)
    gone = groups["row"].to_numpy()
    leader_N[gone] = groups["representative"].to_numpy()
    cosine_N[gone] = groups["cosine"].to_numpy()
    return leader_N, cosine_N


def plan_dedup(request: DedupRequest, out: str) -> DedupPlan:
    """Open the input. RequestError for what cannot be searched for near duplicates."""
    if not 0 < request.threshold <= 1:
        raise RequestError(
            f"--threshold {request.threshold:g} is no cosine of near duplicates; give more than 0 and up to 1, such as 0.95"
        )
    if request.groups not in GROUPS:
        raise RequestError(f"--groups {request.groups!r} is not known; use {' or '.join(GROUPS)}")
    if request.most_cells < 1:
        raise RequestError(f"--cells {request.most_cells} is no number of cells; give 1 or more")
    if not 0 <= request.seed < 2**31:
        raise RequestError(f"--seed {request.seed} is out of range; give 0 to {2**31 - 1}")
    file = open_vectors(request.vectors)
    if file.is_bits or file.dtype.kind != "f":
        kind = "packed bits" if file.is_bits else str(file.dtype)
        raise RequestError(f"{request.vectors} holds {kind}, and near duplicates are found by cosines of float vectors")
    if not file.rows:
        raise RequestError(f"{request.vectors} holds no vectors")
    step = max(_RANGE_ROWS, _RANGE_BYTES // (file.dim * file.dtype.itemsize))
    ranges = tuple((start, min(start + step, file.rows)) for start in range(0, file.rows, step))
    stamps = [[one.name, one.size_bytes, one.modified_ns] for one in file.files]
    recipe = asdict(request) | ({"most_cells": None, "seed": None} if request.exact else {})
    uri = storage.join(storage.absolute(out), "dedup", content_key("dedup", FORMAT, recipe, stamps))
    done = storage.read_whole(uri) is not None
    return DedupPlan(request, uri, file.rows, file.dim, ranges, around.count_of(file.rows), done)


def deduplicate(request: DedupRequest, out: str, workers: Workers, reporter: Reporter) -> dict[str, Any]:
    """Find groups and write them; the manifest, with its place under "uri"."""
    plan = plan_dedup(request, out)
    manifest = storage.read_whole(plan.uri)
    if manifest is not None:
        reporter.say(f"{plan.uri} is there already, and nothing was compared again")
        storage.delete_folder(storage.join(plan.uri, "pieces"))  # of a run that was killed at its very end
        return manifest | {"uri": plan.uri}
    storage.delete(storage.join(plan.uri, storage.MANIFEST))  # of one that lost a file
    started, seconds = time.perf_counter(), dict[str, float]()
    file = open_vectors(request.vectors)
    place = Place(anchored(request.vectors), storage.join(plan.uri, "pieces"), request.threshold)
    first_N, compared_N = _equal_rows(plan, place, workers, reporter)
    seconds["equal rows"] = round(time.perf_counter() - started, 3)
    kept = [((start, stop), compared_N[start:stop]) for start, stop in plan.ranges]
    divided = _divided(plan, place, file, kept, workers, reporter)
    seconds["cells"] = round(time.perf_counter() - started - sum(seconds.values()), 3)
    stars, told = _grouped(plan, divided.units, compared_N, workers, reporter)
    seconds["pairs"] = round(time.perf_counter() - started - sum(seconds.values()), 3)
    checked = _checked(divided, place, kept, workers, reporter)
    seconds["check"] = round(time.perf_counter() - started - sum(seconds.values()), 3)
    files, account = _write(plan, file, first_N, compared_N, stars)
    seconds["all"] = round(time.perf_counter() - started, 3)
    manifest = {
        "kind": "dedup", "recipe": asdict(request), "rows_in": plan.rows, "dim": plan.dim, **account, "files": files,
        "complete": not divided.cut, "rows_in_too_many_cells": divided.cut, "checked": checked, **told, "seconds": seconds,
        "environment": workers.facts(),
    }  # fmt: skip
    storage.write_manifest(plan.uri, manifest)
    storage.delete_folder(place.folder)
    return manifest | {"uri": plan.uri}


def _equal_rows(plan: DedupPlan, place: Place, workers: Workers, reporter: Reporter) -> tuple[Rows, Flags]:
    """For every row the first that is equal to it, and which rows are compared: first ones that have a length."""
    with reporter.stage("equal rows", plan.rows) as advance:
        for (start, stop), _ in workers.each(parts.fingerprint, plan.ranges, place):
            advance(stop - start, (stop - start) / plan.rows)
    digest_N2, has_length_N = parts.fingerprints(place, plan.ranges)
    first_N = first_equal(digest_N2)
    return first_N, has_length_N & (first_N == np.arange(plan.rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Divided:
    """What is compared with what; `cut` rows are in fewer cells than they might need, `drawn` are some of them."""

    units: Sequence[Unit]
    cut: int = 0
    cells: Cells | None = None
    drawn: Drawn | None = None


def _divided(
    plan: DedupPlan,
    place: Place,
    file: VectorFile,
    kept: Sequence[tuple[Edges, Flags]],
    workers: Workers,
    reporter: Reporter,
) -> _Divided:
    """The units of the work; rows are put into cells unless every pair is compared."""
    if plan.request.exact:
        return _Divided(
            [FullUnit(place, rows, before, (mine, theirs)) for number, (rows, mine) in enumerate(kept)
             for before, theirs in kept[: number + 1]]
        )  # fmt: skip
    if not any(flags.any() for _, flags in kept):
        return _Divided([])
    cells = Cells(_centroids(plan, place, file), around.distance(plan.request.threshold), plan.request.most_cells)
    starts: dict[Edges, Rows] = {}
    cut, drawn = 0, list[Drawn]()
    with reporter.stage("rows into cells", plan.rows, flop=2.0 * plan.dim * plan.centroids) as advance:
        for (rows, _), (starts_C, more, some) in workers.each(_put, kept, place, cells, plan.request.seed):
            starts[rows] = starts_C
            cut += more
            drawn.append(some)
            advance(rows[1] - rows[0], (rows[1] - rows[0]) / plan.rows)
    rows_C = np.sum([np.diff(starts_C) for starts_C in starts.values()], axis=0)
    units = [
        CellUnit(place, tuple((rows, starts[rows][first : last + 1]) for rows in plan.ranges), plan.dim, file.dtype.str)
        for first, last in pairwise(_edges(rows_C, _UNIT_BYTES // (plan.dim * file.dtype.itemsize)))
    ]
    return _Divided(units, cut, cells, Drawn.joined(drawn))


def _checked(
    divided: _Divided, place: Place, kept: Sequence[tuple[Edges, Flags]], workers: Workers, reporter: Reporter
) -> dict[str, float] | None:
    """How many close pairs of rows that were cut meet, for a sample of those rows; None where every pair does.

    The share of such rows that miss a close row has its exact binomial 95 % interval (Clopper and Pearson 1934).
    """
    if divided.drawn is None or not divided.cut:
        return None
    drawn_P, met_P = [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
    with reporter.stage("a sample against all rows", len(kept)) as advance:
        for _, (some_P, is_met_P) in workers.each(_meet, kept, place, divided.cells, divided.drawn):
            drawn_P.append(some_P)
            met_P.append(is_met_P)
            advance(1, 1 / len(kept))
    drawn, met = np.concatenate(drawn_P), np.concatenate(met_P)
    rows, misses = len(divided.drawn.ids_W), len(np.unique(drawn[~met]))
    between = binomtest(misses, rows).proportion_ci(method="exact")
    return {
        "drawn_rows": rows, "rows_with_pairs": len(np.unique(drawn)), "pairs": len(met), "missed_pairs": int((~met).sum()),
        "share_of_rows_that_miss": misses / rows, "low": float(between.low), "high": float(between.high),
    }  # fmt: skip


def _meet(item: tuple[Edges, Flags], place: Place, cells: Cells, drawn: Drawn) -> tuple[Rows, Flags]:
    return parts.met_pairs(place, *item, cells, drawn)


def _put(item: tuple[Edges, Flags], place: Place, cells: Cells, seed: int) -> tuple[Rows, int, Drawn]:
    return parts.put_into_cells(place, *item, cells, seed)


def _centroids(plan: DedupPlan, place: Place, file: VectorFile) -> Float32:
    """Learnt once, and read again by a rerun."""
    uri = storage.join(place.folder, "centroids.npy")
    if not storage.exists(uri):
        wanted = around.sample_of(plan.centroids)
        drawn = np.concatenate(list(sample_rows(file, wanted, plan.request.seed, "a cell")))
        first = np.unique(first_equal(digests(drawn)))
        unit_SD = unit(drawn[first]).numpy()
        apart = around.distance(plan.request.threshold)
        learnt = around.learn(unit_SD[(unit_SD != 0).any(axis=1)], plan.centroids, apart, plan.request.seed)
        buffer = io.BytesIO()
        np.save(buffer, learnt, allow_pickle=False)
        storage.write_bytes(uri, buffer.getbuffer())
    loaded: Float32 = np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False)
    return loaded


def _edges(rows_C: Rows, most: int) -> list[int]:
    """Where to cut cells into runs of so many rows, or of one cell."""
    edges, held = [0], 0
    for cell, rows in enumerate(rows_C.tolist()):
        if held and held + rows > most:
            edges.append(cell)
            held = 0
        held += rows
    return [*edges, len(rows_C)]


def _grouped(
    plan: DedupPlan, units: Sequence[Unit], compared_N: Flags, workers: Workers, reporter: Reporter
) -> tuple[Stars, dict[str, Any]]:
    """Representatives of the compared rows, and what is worth telling about how they were found."""
    if plan.request.groups == "components":
        return _components(units, compared_N, workers, reporter)
    stars, rounds, pairs_met = Stars.of(compared_N), 0, 0
    while True:
        rounds += 1
        found: list[Firsts] = []
        with reporter.stage(f"close rows, round {rounds}", len(units)) as advance:
            for _, firsts in workers.each(first_close, units, stars.state_N):
                found.append(firsts)
                advance(1, 1 / len(units))
        firsts = join(found)
        pairs_met += int(firsts.count_S.sum()) if rounds == 1 else 0
        stars.settle(firsts)
        is_open_S = stars.state_N[firsts.row_S] == OPEN
        if firsts.count_S[is_open_S].sum() <= _LAST_PAIRS:
            break
    left = int(is_open_S.sum())
    if left:
        _decide_last(stars, units, workers, reporter)
    return stars, {"rounds": rounds, "decided_one_by_one": left, "pairs_met": pairs_met}


def _decide_last(stars: Stars, units: Sequence[Unit], workers: Workers, reporter: Reporter) -> None:
    listed, told = [Pairs.none()], [np.empty(0)]
    with reporter.stage("close rows, last round", len(units)) as advance:
        for _, (pairs, cosine_P) in workers.each(all_close, units, stars.state_N):
            listed.append(pairs)
            told.append(cosine_P)
            advance(1, 1 / len(units))
    stars.settle_in_order(Pairs.joined(listed), np.concatenate(told))


def _components(
    units: Sequence[Unit], compared_N: Flags, workers: Workers, reporter: Reporter
) -> tuple[Stars, dict[str, Any]]:
    listed: list[Pairs] = []
    with reporter.stage("close rows", len(units)) as advance:
        for _, pairs in workers.each(connections, units):
            listed.append(pairs)
            advance(1, 1 / len(units))
    stars, joined = Stars.of(compared_N), forest(listed)
    rows = np.flatnonzero(compared_N)
    stars.leader_N[rows] = rows
    stars.leader_N[joined.high_P] = joined.low_P
    return stars, {"rounds": 1}


def _write(
    plan: DedupPlan, file: VectorFile, first_N: Rows, compared_N: Flags, stars: Stars
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two tables, and the account of rows."""
    row_N = np.arange(plan.rows)
    leader_N = np.where(stars.leader_N >= 0, stars.leader_N, row_N)  # rows without a length lead themselves
    is_equal_N = first_N != row_N
    is_near_N = compared_N & (leader_N != row_N)
    gone = np.flatnonzero(is_equal_N | is_near_N)
    kept = np.flatnonzero(~(is_equal_N | is_near_N))
    # An equal row goes with the representative of the first of its kind, and is as close to it.
    leader = leader_N[first_N[gone]]
    cosine = np.where(leader == first_N[gone], 1.0, stars.cosine_N[first_N[gone]])
    ids = file.ids(0, plan.rows)
    tables = {
        "keep.parquet": {"row": kept} | ({} if ids is None else {"id": ids[kept]}),
        "groups.parquet": {
            "row": gone, "representative": leader, "cosine": pa.array(cosine.astype(np.float32), from_pandas=True),
            "kind": np.where(is_equal_N[gone], "equal", "near"),
        } | ({} if ids is None else {"id": ids[gone], "representative_id": ids[leader]}),
    }  # fmt: skip
    files = {}
    for name, columns in tables.items():
        uri = storage.join(plan.uri, name)
        digest = storage.write_table(uri, pa.table(columns))
        files[name] = {"sha256": digest, "size_bytes": storage.facts(uri).size_bytes, "rows": len(columns["row"])}
    sizes = np.unique(leader, return_counts=True)[1]
    account = {
        "rows_out": len(kept), "dropped": {"equal": int(is_equal_N.sum()), "near": int(is_near_N.sum())},
        "groups": len(sizes), "largest_group": int(sizes.max(initial=0)) + 1 if len(sizes) else 0,
        "without_length": int((~compared_N & ~is_equal_N).sum()),
    }  # fmt: skip
    return files, account
