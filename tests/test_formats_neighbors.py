"""Neighbours in every format: ids from 0, higher scores better, and back to the same bytes."""

import struct

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import fbin, hdf5, own_ids, parquet, vecs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from raybench import storage
from raybench.errors import DataError
from raybench.formats import open_neighbors, write_neighbors
from raybench.formats.base import StoredNeighbors
from raybench.formats.direction import from_distances

QUERIES, K = 9, 6
IDS = np.random.default_rng(0).permutation(1_000)[: QUERIES * K].reshape(QUERIES, K)
DISTANCES = np.sort(np.random.default_rng(1).random((QUERIES, K)).astype(np.float32), axis=1)
SIMILARITIES = DISTANCES[:, ::-1].copy()


def _big_ann(path, ids=IDS, distances=DISTANCES):
    path.write_bytes(struct.pack("<II", *ids.shape) + ids.astype("<i4").tobytes() + distances.tobytes())
    return str(path)


def _cuvs(folder, ids=IDS, suffix=".ibin", **kwargs):
    folder = folder / "neighbors of cuvs"  # a folder's name is no part of the rule
    folder.mkdir()
    dtype = "<i4" if suffix == ".ibin" else "<u8"
    fbin(folder / "groundtruth.distances.fbin", DISTANCES, **kwargs)
    return str(fbin(folder / f"groundtruth.neighbors{suffix}", ids.astype(dtype), **kwargs))


def _ann(path, ids="int32", distances="float32", **attributes):
    datasets = {"neighbors": IDS.astype(ids), "distances": DISTANCES.astype(distances)}
    return str(hdf5(path, attributes=attributes)(train=np.ones((3, 4), np.float32), **datasets))


SCORED = {
    "sisap 2023": lambda at: str(hdf5(at / "x.h5")(knns=(IDS + 1).astype("i4"), dists=DISTANCES)),
    "sisap of Julia": lambda at: str(hdf5(at / "x.h5", userblock=512)(knns=(IDS + 1).astype("i4"), dists=DISTANCES)),
    "sisap compressed": lambda at: str(hdf5(at / "x.h5", compression="gzip")(knns=(IDS + 1).astype("i4"), dists=DISTANCES)),
    "sisap itest": lambda at: str(
        hdf5(at / "x.h5")(train=np.ones((2, 2), "f2"), itest__knns=(IDS + 1).astype("i4"), itest__dists=DISTANCES)
    ),
    "sisap otest": lambda at: (
        f"sisap({str(hdf5(at / 'x.h5')(itest__knns=IDS[:1] + 1, otest__knns=IDS + 1, otest__dists=DISTANCES))!r}, 'otest')"
    ),
    "sisap allknn": lambda at: str(hdf5(at / "x.h5")(allknn__knns=(IDS + 1).astype("i8"), allknn__dists=DISTANCES)),
    "ann-benchmarks int32": lambda at: _ann(at / "x.hdf5", distance="angular", type="dense", dimension=4),
    "ann-benchmarks int64": lambda at: _ann(at / "x.hdf5", "int64", "float64", distance="euclidean"),
    "ann-benchmarks old": lambda at: _ann(at / "x.hdf5"),
    "big-ann": lambda at: _big_ann(at / "truth.bin"),
    "big-ann .ibin": lambda at: _big_ann(at / "truth.ibin"),
    "big-ann by spec": lambda at: f"xbin({_big_ann(at / 'GT_10M')!r})",
    "cuvs": _cuvs,
    "cuvs wide": lambda at: _cuvs(at, wide=True),
    "cuvs u64bin": lambda at: _cuvs(at, suffix=".u64bin"),
    "cuvs u64bin wide": lambda at: _cuvs(at, suffix=".u64bin", wide=True),
}  # fmt: skip
UNSCORED = {
    "ivecs": lambda at: str(vecs(at / "x.ivecs", IDS.astype("<i4"))),
    "ibin alone": lambda at: str(fbin(at / "x.ibin", IDS.astype("<i4"))),
    "ibin without its pair": lambda at: str(fbin(at / "x.neighbors.ibin", IDS.astype("<i4"))),
    "sisap ids": lambda at: str(hdf5(at / "x.h5")(knns=(IDS + 1).astype("i4"))),
    "ann-benchmarks ids": lambda at: str(hdf5(at / "x.hdf5")(neighbors=IDS)),
}


@pytest.mark.parametrize("name", SCORED)
def test_ids_count_from_0_and_higher_scores_are_better(name, tmp_path):
    """Whatever a format counts from and stores."""
    found = open_neighbors(SCORED[name](tmp_path))
    np.testing.assert_array_equal(found.ids_QK, IDS)
    np.testing.assert_array_equal(found.scores_QK, -DISTANCES.astype(np.float64))
    assert (found.meaning, found.ids_QK.dtype, found.scores_QK.dtype) == ("distance", np.int64, np.float64)


@pytest.mark.parametrize("name", UNSCORED)
def test_formats_without_distances_have_no_scores(name, tmp_path):
    """Ids alone; a file of vectors beside an .ibin is not taken for distances."""
    fbin(tmp_path / "x.fbin", DISTANCES)
    found = open_neighbors(UNSCORED[name](tmp_path))
    np.testing.assert_array_equal(found.ids_QK, IDS)
    assert found.scores_QK is None


def test_similarities_stay_as_they_are(tmp_path):
    """Descending numbers are similarities, in the same datasets."""
    found = open_neighbors(str(hdf5(tmp_path / "x.h5")(knns=IDS + 1, dists=SIMILARITIES)))
    np.testing.assert_array_equal(found.scores_QK, SIMILARITIES)
    assert found.meaning == "similarity"


@settings(deadline=None)
@given(npst.arrays(np.float32, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=st.floats(-4, 4, width=16)))
def test_the_direction_is_what_all_lists_say(values):
    """An oracle in Python: ascending lists are distances, descending ones similarities, both at once are refused."""
    rises = any(list(row) == sorted(row) and len(set(row)) > 1 for row in values)
    falls = any(list(row) == sorted(row, reverse=True) and len(set(row)) > 1 for row in values)
    in_no_order = any(list(row) not in (sorted(row), sorted(row, reverse=True)) for row in values)
    ids = np.zeros(values.shape, np.int64)
    if in_no_order or (rises and falls):
        with pytest.raises(DataError, match=r"distances of query \d+ are not in the order"):
            from_distances(ids, values, "x.h5")
        return
    found = from_distances(ids, values, "x.h5")
    if not rises and not falls:
        assert found.scores_QK is None
        assert found.meaning is None
    else:
        np.testing.assert_array_equal(found.scores_QK, -values if rises else values)
        assert (np.diff(found.scores_QK, axis=1) <= 0).all()


def test_the_query_that_is_out_of_order_is_named():
    """The first list that says something decides; the first against it is named."""
    values = np.array([[1, 1, 1], [3, 2, 1], [2, 2, 2], [1, 2, 3]])
    with pytest.raises(DataError, match="query 3"):
        from_distances(np.zeros((4, 3), int), values, "x.h5")
    with pytest.raises(DataError, match="query 1"):
        from_distances(np.zeros((4, 3), int), -np.abs(np.array([[1, 1, 1], [1, 2, 1], [2, 2, 2], [1, 2, 3]])), "x.h5")


def test_infinite_distances_are_distances(tmp_path):
    """Ann-benchmarks pads results with -1 at an infinite distance."""
    ids, distances = IDS.copy(), DISTANCES.copy()
    ids[2, 4:], distances[2, 4:] = -1, np.inf
    found = open_neighbors(str(hdf5(tmp_path / "x.hdf5")(neighbors=ids, distances=distances)))
    np.testing.assert_array_equal(found.ids_QK, ids)
    np.testing.assert_array_equal(found.scores_QK, -distances)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("big-ann", "again.bin"), ("big-ann by spec", "xbin({!r})"), ("ivecs", "again.ivecs"), ("ibin alone", "again.ibin"),
        ("cuvs", "again.neighbors.ibin"), ("cuvs u64bin", "again.neighbors.u64bin"),
    ],
)  # fmt: skip
def test_binary_neighbours_come_back_byte_for_byte(name, target, tmp_path):
    """Reading and writing gives the same file, and the same distances beside it."""
    first = (SCORED | UNSCORED)[name](tmp_path)
    path = str(tmp_path / (target if "{" not in target else "again"))
    has_place = write_neighbors(path if "{" not in target else target.format(path), open_neighbors(first))
    first = first.removeprefix("xbin('").removesuffix("')")
    assert storage.read_bytes(path) == storage.read_bytes(first)
    assert has_place == (name not in UNSCORED)
    if "cuvs" in name:
        beside = str(tmp_path / "again.distances.fbin")
        assert storage.read_bytes(beside) == storage.read_bytes(f"{first.rsplit('/', 1)[0]}/groundtruth.distances.fbin")


def _contents(path):
    with h5py.File(path) as file:
        found = []
        file.visititems(
            lambda name, item: (
                found.append((name, item.dtype, item.shape, item[()].tobytes()))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
        return sorted(found, key=lambda one: one[0]), dict(file.attrs)


@pytest.mark.parametrize("numbers", [DISTANCES, SIMILARITIES], ids=["distances", "similarities"])
@pytest.mark.parametrize("group", ["", "itest", "allknn"])
def test_sisap_neighbours_come_back_with_the_same_datasets(group, numbers, tmp_path):
    """Knns int32 from 1 and dists float32, at the root or in a group."""
    prefix = f"{group}__" if group else ""
    first = str(hdf5(tmp_path / "a.h5")(**{f"{prefix}knns": (IDS + 1).astype("i4"), f"{prefix}dists": numbers}))
    again = str(tmp_path / "b.h5")
    write_neighbors(f"sisap({again!r}, dataset={group!r})" if group else again, open_neighbors(first))
    assert _contents(again) == _contents(first)


@pytest.mark.parametrize(("ids", "distances"), [("int32", "float32"), ("int64", "float64")])
def test_ann_benchmarks_neighbours_come_back_in_their_width(ids, distances, tmp_path):
    """Published files are narrow, what its code writes today is wide."""
    first = _ann(tmp_path / "a.hdf5", ids, distances, distance="angular")
    again = str(hdf5(tmp_path / "b.hdf5", attributes={"distance": "angular"})(train=np.ones((3, 4), np.float32)))
    write_neighbors(f"ann_benchmarks({again!r}, wide={ids == 'int64'})", open_neighbors(first))
    assert _contents(again) == _contents(first)


def _database(folder, names, ids, asked=None, before=""):
    rows = np.ones((len(names), 4), np.float32)
    parquet(folder / f"{before}train.parquet", rows, ids=names)
    columns = {"neighbors_id": pa.array([list(row) for row in ids], pa.list_(pa.int64()))}
    pq.write_table(
        pa.table({"id": asked if asked is not None else range(len(ids)), **columns}), folder / "neighbors.parquet"
    )
    return f"vectordbbench({str(folder)!r})"


@pytest.mark.parametrize(
    "names", [np.arange(1_000), own_ids(1_000), own_ids(1_000)[::-1]], ids=["rows", "own", "descending"]
)
def test_vectordbbench_names_ids_and_we_give_rows(names, tmp_path):
    """Ids that are no row numbers are turned into rows, and back into ids where neighbours are written."""
    spec = _database(tmp_path, names, names[IDS], before="shuffle_")
    found = open_neighbors(spec)
    np.testing.assert_array_equal(found.ids_QK, IDS)
    before = pq.read_table(tmp_path / "neighbors.parquet")
    assert not write_neighbors(spec, found)
    assert pq.read_table(tmp_path / "neighbors.parquet").equals(before)


def test_vectordbbench_lists_the_queries_of_its_test_file(tmp_path):
    """Lists of other queries, or in another order, would be compared with the wrong ones."""
    spec = _database(tmp_path, np.arange(1_000), IDS, asked=np.arange(QUERIES) + 50)
    parquet(tmp_path / "test.parquet", np.ones((QUERIES, 4), np.float32), ids=np.arange(QUERIES) + 50)
    assert len(open_neighbors(spec).ids_QK) == QUERIES
    parquet(tmp_path / "test.parquet", np.ones((QUERIES, 4), np.float32), ids=np.arange(QUERIES)[::-1] + 50)
    with pytest.raises(DataError, match="in another order"):
        open_neighbors(spec)


@pytest.mark.s3
@pytest.mark.parametrize("name", ["x.h5", "x.neighbors.ibin", "x.bin"])
def test_neighbours_on_s3(name, s3):
    """Written to and read from an object store."""
    place = f"{s3}/neighbors-{name}/{name}"
    write_neighbors(place, StoredNeighbors(IDS, -DISTANCES.astype(float), "distance"))
    found = open_neighbors(place)
    np.testing.assert_array_equal(found.ids_QK, IDS)
    np.testing.assert_array_equal(found.scores_QK, -DISTANCES)
