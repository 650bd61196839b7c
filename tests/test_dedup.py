"""Near duplicates: pairs decided in float64, groups as a slow loop makes them, and nothing lost however the work is cut."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybench import storage
from raybench.cli import main
from raybench.dedup import cells as around
from raybench.dedup import parts
from raybench.dedup.cells import Cells
from raybench.dedup.fingerprints import digests, first_equal
from raybench.dedup.groups import LEADER, MEMBER, Firsts, Stars, forest
from raybench.dedup.pairs import Pairs, Run, pairs_between, pairs_within, unit
from raybench.dedup.parts import Drawn, Place, met_pairs, put_into_cells
from raybench.distributed.tasks import RayWorkers
from raybench.errors import DataError, RequestError
from raybench.experiments import dedup
from raybench.experiments.dedup import DedupRequest, deduplicate
from raybench.experiments.reporting import Silent
from raybench.experiments.workers import LocalWorkers

THRESHOLD = 0.9


def _cosine(rows: np.ndarray) -> np.ndarray:
    """All cosines in float64, by the definition; 0 for rows without a length."""
    wide = rows.astype(np.float64)
    length = np.sqrt((wide * wide).sum(axis=1))
    dots = np.array([(wide * one).sum(axis=1) for one in wide])
    return np.divide(dots, np.outer(length, length), out=np.zeros_like(dots), where=np.outer(length, length) > 0)


def _stars(rows: np.ndarray, threshold: float) -> list[int]:
    """The representative of every row, by the definition: a loop over rows in order."""
    cosine, leaders, chosen = _cosine(rows), [], []
    for row in range(len(rows)):
        equal = next((one for one in range(row) if rows[one].tobytes() == rows[row].tobytes()), None)
        if equal is not None:
            chosen.append(chosen[equal])
            continue
        leader = next((one for one in leaders if cosine[row, one] >= threshold), row)
        if leader == row:
            leaders.append(row)
        chosen.append(leader)
    return chosen


def _drawn(rows: int, dim: int, seed: int = 0, dtype: type = np.float16) -> np.ndarray:
    """Clusters with near rows, chains from row to row, equal rows, and two rows of zeros."""
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((12, dim))[random.integers(12, size=rows)] + 0.9 * random.standard_normal(
        (rows, dim)
    )
    for row in range(rows // 4, rows // 2):
        matrix[row] = matrix[random.integers(row)] + 0.25 * random.standard_normal(dim)
    for row in range(rows // 2, 5 * rows // 8):  # each near to the one before
        matrix[row] = matrix[row - 1] + 0.3 * random.standard_normal(dim)
    matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True) * random.uniform(0.5, 2, (rows, 1))).astype(dtype)
    matrix[3 * rows // 4 : 7 * rows // 8] = matrix[random.integers(rows // 2, size=7 * rows // 8 - 3 * rows // 4)]
    matrix[[7, -1]] = 0
    return matrix


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 rows of 16 dimensions."""
    path = tmp_path_factory.mktemp("dedup") / "base.npy"
    np.save(path, _drawn(600, 16))
    return path


def _leaders(uri: str, rows: int) -> list[int]:
    table = pq.read_table(Path(uri) / "groups.parquet")
    leader = np.arange(rows)
    leader[table["row"].to_numpy()] = table["representative"].to_numpy()
    kept = pq.read_table(Path(uri) / "keep.parquet")["row"].to_pylist()
    assert kept == [row for row in range(rows) if row not in set(table["row"].to_pylist())]
    return leader.tolist()


def _found(vectors: Path, out: Path, workers: object = None, **changes: object) -> dict:
    request = DedupRequest(str(vectors), **{"threshold": THRESHOLD} | changes)
    return deduplicate(request, str(out), workers or LocalWorkers(), Silent())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 1.0])
def test_pairs_are_those_of_float64(dtype, threshold):
    """Within a run and between two, also where the cosine is the threshold to the last bit."""
    rows = _drawn(240, 16, seed=3, dtype=dtype)
    rows = rows[(rows != 0).any(axis=1)]
    cosine = _cosine(rows)
    if threshold != 1.0:  # the cosine of some pair, which float32 cannot tell from it
        threshold = float(np.sort(cosine[np.triu_indices(len(rows), 1)])[-40 if threshold == 0.9 else -900])
    wanted = {(low, high) for low, high in zip(*np.nonzero(np.triu(cosine >= threshold, 1)), strict=True)}
    run = Run.of(np.arange(len(rows)), rows)
    within = [pair for block in pairs_within(run, threshold) for pair in zip(block.low_P, block.high_P, strict=True)]
    assert len(within) == len(set(within))
    assert set(within) == wanted
    one, other = run.at(np.arange(0, len(rows), 2)), run.at(np.arange(1, len(rows), 2))
    between = {
        pair for block in pairs_between(one, other, threshold) for pair in zip(block.low_P, block.high_P, strict=True)
    }
    assert between == {(low, high) for low, high in wanted if (low + high) % 2}


def test_equal_rows_are_those_with_the_same_bytes():
    """The first of each stands for it; minus zero is not zero."""
    rows = np.array([[1, 2], [0.0, 0], [1, 2], [-0.0, 0], [0, 0], [1, 2]], np.float16)
    assert first_equal(digests(rows)).tolist() == [0, 1, 0, 3, 1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_every_close_pair_meets_in_a_cell(seed):
    """One of two close rows is a guest in the other's cell, unless its cells were cut; few rows are guests everywhere."""
    rows = unit(_drawn(900, 8, seed).astype(np.float32))
    rows = rows[(rows != 0).any(dim=1)]
    cosine = rows.double().numpy() @ rows.double().numpy().T
    cells = Cells(around.learn(rows.numpy(), 24, 0.1, seed), around.distance(0.95), 1_000)
    placed = cells.place(rows)
    count = len(cells.centroids_CD)
    met = np.zeros((len(rows), count), bool)
    met[np.arange(len(rows)), placed.home_N] = met[placed.row_G, placed.cell_G] = True
    low, high = np.nonzero(np.triu(cosine >= 0.95, 1))
    assert len(low) > 100
    assert (met[low, placed.home_N[high]] | met[high, placed.home_N[low]]).all()
    assert not placed.is_cut_N.any()
    assert len(placed.row_G) < 0.4 * met.size
    few = Cells(cells.centroids_CD, cells.apart, 2).place(rows)
    guests = np.bincount(placed.row_G, minlength=len(rows))
    assert few.is_cut_N.tolist() == (guests > 1).tolist()
    assert np.bincount(few.row_G, minlength=len(rows)).tolist() == np.minimum(guests, 1).tolist()


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_stars_settle_as_a_loop_does(block):
    """By rounds of firsts, and by the last pairs; whatever the blocks of pairs."""
    rows = np.unique(_drawn(500, 6, seed=9), axis=0)
    rows = rows[(rows != 0).any(axis=1)]
    wanted = _stars(rows, 0.8)
    low, high = np.nonzero(np.triu(_cosine(rows) >= 0.8, 1))
    pairs = Pairs(low, high)
    stars, rounds = Stars.of(np.ones(len(rows), bool)), 0
    while not (stars.state_N != 0).all():
        rounds += 1
        left = pairs.at(np.flatnonzero((stars.state_N[high] == 0) & (stars.state_N[low] <= LEADER)))
        blocks = [left.at(np.arange(start, min(start + block, len(left)))) for start in range(0, len(left), block)]
        stars.settle(Firsts.of(blocks))
        assert rounds < len(rows)
    assert rounds > 2  # there are chains, which one round cannot decide
    assert stars.leader_N.tolist() == wanted
    other = Stars.of(np.ones(len(rows), bool))
    other.settle(Firsts.of([pairs]))
    left = pairs.at(np.flatnonzero((other.state_N[high] == 0) & (other.state_N[low] <= LEADER)))
    other.settle_in_order(left, np.full(len(left), 0.8))
    assert other.leader_N.tolist() == wanted
    assert ((other.state_N == MEMBER) == (other.leader_N != np.arange(len(rows)))).all()


def test_a_chain_is_one_component_and_several_stars(tmp_path):
    """Seven vectors, each 15 degrees from the next: the ends are at right angles."""
    angle = np.radians(15 * np.arange(7))
    np.save(tmp_path / "chain.npy", np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32))
    near = float(np.cos(np.radians(16)))
    stars = _found(tmp_path / "chain.npy", tmp_path, threshold=near)
    assert _leaders(stars["uri"], 7) == [0, 0, 2, 2, 4, 4, 6]
    components = _found(tmp_path / "chain.npy", tmp_path, threshold=near, groups="components")
    assert _leaders(components["uri"], 7) == [0] * 7
    cosine = pq.read_table(Path(stars["uri"]) / "groups.parquet")["cosine"].to_numpy()
    assert cosine == pytest.approx(np.cos(np.radians(15)))
    assert pq.read_table(Path(components["uri"]) / "groups.parquet")["cosine"].null_count == 6


@pytest.mark.parametrize("changes", [{}, {"exact": True}, {"most_cells": 1_000}])
def test_groups_are_those_of_a_loop(vectors, tmp_path, monkeypatch, changes):
    """For the whole at once and for many small ranges and units; every row is accounted for."""
    rows = np.load(vectors)
    whole = _found(vectors, tmp_path / "whole", **changes)
    monkeypatch.setattr(dedup, "_RANGE_ROWS", 64)
    monkeypatch.setattr(dedup, "_RANGE_BYTES", 0)
    monkeypatch.setattr(dedup, "_UNIT_BYTES", 32 * 100)
    monkeypatch.setattr(dedup, "_LAST_PAIRS", 3)
    cut = _found(vectors, tmp_path / "cut", **changes)
    assert len(dedup.plan_dedup(DedupRequest(str(vectors)), str(tmp_path)).ranges) == 10
    wanted = _stars(rows, THRESHOLD)
    if changes:
        assert whole["complete"]
        assert _leaders(whole["uri"], len(rows)) == wanted
    assert cut["files"] == whole["files"]
    assert cut["rows_in"] == cut["rows_out"] + sum(cut["dropped"].values()) == len(rows)
    equal = sum(first != row for row, first in enumerate(first_equal(digests(rows))))
    assert cut["dropped"]["equal"] == equal > 50
    assert cut["dropped"]["near"] > 50
    assert cut["without_length"] == 1  # the other is equal to it
    missed = sum(one != other for one, other in zip(_leaders(cut["uri"], len(rows)), wanted, strict=True))
    assert missed <= 0.02 * len(rows)
    assert not (Path(cut["uri"]) / "pieces").exists()


@pytest.mark.parametrize(("clumps", "noise"), [(2, 1e-3), (5, 1e-5), (10, 1e-3), (20, 1e-4), (30, 1e-6)])
def test_tight_clumps_are_not_cut_apart(tmp_path, clumps, noise):
    """Thousands of rows that hardly differ are one group, though learnt centroids may lie in one clump."""
    random = np.random.default_rng(clumps)
    rows = random.standard_normal((clumps, 64))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows[random.integers(clumps, size=2_000)] + noise / 8 * random.standard_normal((2_000, 64))
    np.save(tmp_path / "clumps.npy", rows.astype(np.float32))
    found = _found(tmp_path / "clumps.npy", tmp_path, threshold=0.95)
    assert (found["rows_out"], found["complete"]) == (clumps, True)
    threshold = 1 - noise**2  # which cuts through every clump
    exact = _found(tmp_path / "clumps.npy", tmp_path, threshold=threshold, exact=True)
    assert clumps < exact["rows_out"] < 2_000
    some = _found(tmp_path / "clumps.npy", tmp_path, threshold=threshold, most_cells=10_000)
    assert some["complete"]
    assert some["files"] == exact["files"]


def test_ranges_and_samples_without_anything_close(tmp_path, monkeypatch):
    """Rows of no near duplicates between many cells; ranges that only repeat others; nothing but zeros."""
    random = np.random.default_rng(0)
    np.save(tmp_path / "far.npy", random.standard_normal((2_000, 64)).astype(np.float32))
    far = _found(tmp_path / "far.npy", tmp_path, most_cells=2)
    assert far["rows_out"] == 2_000
    assert (far["checked"]["drawn_rows"], far["checked"]["pairs"]) == (1_000, 0)
    monkeypatch.setattr(dedup, "_RANGE_ROWS", 100)
    monkeypatch.setattr(dedup, "_RANGE_BYTES", 0)
    np.save(tmp_path / "twice.npy", np.tile(random.standard_normal((100, 16)), (3, 1)))
    assert _found(tmp_path / "twice.npy", tmp_path)["dropped"] == {"equal": 200, "near": 0}
    np.save(tmp_path / "zeros.npy", np.zeros((250, 16), np.float16))
    for groups in ("stars", "components"):
        zeros = _found(tmp_path / "zeros.npy", tmp_path, groups=groups)
        assert (zeros["rows_out"], zeros["dropped"], zeros["without_length"]) == (1, {"equal": 249, "near": 0}, 1)


@pytest.mark.parametrize("factor", [1e-200, 1e200, 1e-30, 1e30])
def test_lengths_that_float32_cannot_hold_are_refused(tmp_path, factor):
    """Squares would be lost, and rows be close to nothing."""
    rows = np.ones((20, 8))
    rows[11] *= factor
    np.save(tmp_path / "odd.npy", rows)
    with pytest.raises(DataError, match=r"row 11 of .* is out of the range of float32; scale the vectors"):
        _found(tmp_path / "odd.npy", tmp_path)


def test_a_sample_says_what_was_missed(vectors, tmp_path):
    """Every close pair of a drawn row is counted once for it, and is met if one of the two is in the other's home."""
    rows = np.load(vectors)
    kept = (rows != 0).any(axis=1) & (first_equal(digests(rows)) == np.arange(len(rows)))
    units = unit(rows[kept])
    cells = Cells(around.learn(units.numpy(), 40, 0.05, 0), around.distance(0.8), 3)
    placed = cells.place(units)
    place = Place(str(vectors), str(tmp_path), 0.8)
    told = [put_into_cells(place, edges, kept[slice(*edges)], cells, 5) for edges in ((0, 250), (250, 600))]
    assert sum(cut for _, cut, _ in told) == placed.is_cut_N.sum() > 50
    drawn = Drawn.joined([some for _, _, some in reversed(told)])  # as ranges may be done
    assert drawn.ids_W.tolist() == np.flatnonzero(kept)[placed.is_cut_N].tolist()
    member = np.zeros((kept.sum(), len(cells.centroids_CD)), bool)
    member[np.arange(len(member)), placed.home_N] = member[placed.row_G, placed.cell_G] = True
    close = _cosine(rows[kept]) >= 0.8
    np.fill_diagonal(close, val=False)
    met = member[:, placed.home_N] | member[:, placed.home_N].T
    found = [met_pairs(place, edges, kept[slice(*edges)], cells, drawn) for edges in ((0, 250), (250, 600))]
    counts, missed = (
        sum(np.bincount(at[~is_met] if only else at, minlength=len(drawn.ids_W)) for at, is_met in found)
        for only in (0, 1)
    )
    assert counts.tolist() == close[placed.is_cut_N].sum(axis=1).tolist()
    assert missed.tolist() == (close & ~met)[placed.is_cut_N].sum(axis=1).tolist()
    assert 0 < missed.sum() < counts.sum()
    assert not (close & ~met)[np.ix_(~placed.is_cut_N, ~placed.is_cut_N)].any()
    done = _found(vectors, tmp_path, most_cells=2)
    assert done["checked"]["drawn_rows"] == done["rows_in_too_many_cells"]
    assert done["checked"]["low"] <= done["checked"]["share_of_rows_that_miss"] <= done["checked"]["high"]
    assert _found(vectors, tmp_path, exact=True)["checked"] is None


def test_components_are_those_of_all_pairs(vectors, tmp_path):
    """By a slow spread over all pairs."""
    rows = np.load(vectors)
    near = _cosine(rows) >= THRESHOLD
    near |= (rows[:, None] == rows[None]).all(axis=2)
    label = np.arange(len(rows))
    for _ in range(len(rows)):
        label = np.array([label[near[row] | (np.arange(len(rows)) == row)].min() for row in range(len(rows))])
    done = _found(vectors, tmp_path, exact=True, groups="components")
    assert _leaders(done["uri"], len(rows)) == label.tolist()
    assert forest([]).low_P.tolist() == []


def test_tasks_find_the_same(vectors, tmp_path, ray_cluster):
    """On Ray; a refusal of a task is one sentence."""
    local, ray = (_found(vectors, tmp_path / name, one) for name, one in (("a", None), ("b", RayWorkers())))
    assert ray["files"] == local["files"]
    rows = np.load(vectors).astype(np.float32)
    rows[5, 2] = np.inf
    np.save(tmp_path / "bad.npy", rows)
    with pytest.raises(DataError, match=r"row 5 of .*bad\.npy has NaN or infinite values"):
        _found(tmp_path / "bad.npy", tmp_path, RayWorkers())


class _Killed(LocalWorkers):
    """Stops after so many pieces."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces

    def each(self, work, items, *shared):
        for done in super().each(work, items, *shared):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield done


@pytest.mark.parametrize("pieces", [3, 12, 21])
def test_a_killed_run_goes_on(vectors, tmp_path, monkeypatch, pieces):
    """Files that are there are not made again, and the result is the same bytes."""
    whole = _found(vectors, tmp_path / "whole")
    monkeypatch.setattr(dedup, "_RANGE_ROWS", 64)
    monkeypatch.setattr(dedup, "_RANGE_BYTES", 0)
    monkeypatch.setattr(dedup, "_UNIT_BYTES", 32 * 100)
    with pytest.raises(KeyboardInterrupt):
        _found(vectors, tmp_path / "killed", _Killed(pieces))
    folder = next((tmp_path / "killed" / "dedup").iterdir()) / "pieces"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) >= pieces

    kept = {}
    delete = storage.delete_folder
    monkeypatch.setattr(
        storage,
        "delete_folder",
        lambda uri: (kept.update({p: p.stat().st_mtime_ns for p in Path(uri).iterdir()}), delete(uri)),
    )
    done = _found(vectors, tmp_path / "killed")
    assert done["files"] == whole["files"]
    assert {path: kept[path] for path in before} == before
    monkeypatch.setattr(storage, "delete_folder", delete)
    assert _found(vectors, tmp_path / "killed")["seconds"] == done["seconds"]  # nothing was compared again


def test_a_list_that_was_lost_is_made_again(vectors, tmp_path):
    """A manifest alone is no result."""
    done = _found(vectors, tmp_path)
    (Path(done["uri"]) / "keep.parquet").unlink()

    assert _found(vectors, tmp_path)["files"] == done["files"]
    assert (Path(done["uri"]) / "keep.parquet").exists()


def test_everything_on_s3(vectors, s3, tmp_path):
    """The work in between as well."""
    local = _found(vectors, tmp_path)
    remote = deduplicate(DedupRequest(str(vectors), THRESHOLD), s3, LocalWorkers(), Silent())
    assert remote["files"] == local["files"]
    assert {file.name for file in storage.list_files(remote["uri"])} == {
        "keep.parquet",
        "groups.parquet",
        "manifest.json",
    }


def test_ids_of_a_file_go_along(tmp_path):
    """Where a format has ids, the tables have them beside row numbers."""
    rows = np.repeat(np.eye(3, 8, dtype=np.float32), 2, axis=0)
    table = pa.table({"id": np.arange(6) * 10, "emb": list(rows)})
    (tmp_path / "set").mkdir()
    pq.write_table(table, tmp_path / "set" / "train.parquet")
    done = _found(tmp_path / "set", tmp_path)
    groups = pq.read_table(Path(done["uri"]) / "groups.parquet")
    assert groups["id"].to_pylist() == [10, 30, 50]
    assert groups["representative_id"].to_pylist() == [0, 20, 40]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold": 1.5}, "--threshold 1.5 is no cosine"),
        ({"groups": "star"}, "--groups 'star' is not known; use stars or components"),
        ({"most_cells": 0}, "--cells 0 is no number"),
        ({"seed": 99_999_999_999}, "--seed 99999999999 is out of range"),
    ],
)
def test_wrong_requests(vectors, tmp_path, changes, words):
    """One sentence each, before anything is read."""
    with pytest.raises(RequestError, match=words):
        _found(vectors, tmp_path, **changes)


def test_the_command(vectors, tmp_path, capsys):
    """A table for people, one JSON object for programs, and a plan that starts nothing."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["dedup", *arguments, "--out", str(tmp_path), "--local"])
        return int(stop.value.code or 0), *capsys.readouterr()

    code, out, _ = call(str(vectors), "--dry-run")
    assert code == 0
    assert "600 rows of 16 dimensions" in out
    assert not (tmp_path / "dedup").exists()
    code, out, _ = call(str(vectors), "--threshold", "0.9", "--cells", "1", "--json")
    told = json.loads(out.splitlines()[-1])
    assert code == 0
    assert f"{told['rows_out']:,} stay" in out
    assert "raise --cells" in out
    assert "1 rows are all zero" in out
    assert call(str(tmp_path / "none.npy"))[0] == 2
    np.save(tmp_path / "whole.npy", np.ones((3, 8), np.int8))
    code, _, err = call(str(tmp_path / "whole.npy"))
    assert code == 2
    assert "holds int8, and near duplicates are found by cosines of float vectors" in err


def test_rows_taken_in_place_are_those_that_are_copied(vectors, tmp_path, monkeypatch):
    """A file that the system keeps in memory is not copied cell by cell, and the groups are the same."""
    in_place = _found(vectors, tmp_path / "in place")
    monkeypatch.setattr(parts, "_IN_PLACE_BYTES", 0)
    copied = _found(vectors, tmp_path / "copied")
    assert [copied["files"], copied["dropped"]] == [in_place["files"], in_place["dropped"]]


def test_no_cell_has_most_rows_of_a_ball():
    """Rows around one direction that differ in many dimensions, as results of one query do: cells are of like sizes."""
    random = np.random.default_rng(1)
    rows = unit((1.5 * np.eye(64)[0] + 0.15 * random.standard_normal((3_000, 64))).astype(np.float32))
    apart = around.distance(0.95)
    centroids = around.learn(rows.numpy()[:1_500], 64, apart, 0)
    assert len(centroids) > 32
    home_N = Cells(centroids, apart, 4).place(rows).home_N
    assert np.bincount(home_N, minlength=len(centroids)).max() < 300
