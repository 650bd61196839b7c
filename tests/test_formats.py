"""Every format against numpy, from files that the tests make themselves, and back to the same bytes."""

import hashlib
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from format_files import CASES, drawn, fbin, hdf5, npy, own_ids, parquet, vecs
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench import storage
from raybench.errors import RequestError
from raybench.formats import FORMATS, columns, flat, open_vectors, write_vectors, writing
from raybench.formats.base import read_rows, width

NOT_FILES = {"gold", "laion_like", "transformed"}  # tested where they are made


@pytest.fixture(scope="module", params=CASES, ids=str)
def stored(request, tmp_path_factory):
    """A case, what it must read as, and the opened file."""
    case = CASES[request.param]
    rows = drawn(case)
    opened = open_vectors(case.make(tmp_path_factory.mktemp("format"), rows))
    return case, np.ascontiguousarray(case.packed(rows)), opened


def test_every_format_of_files_is_tested():
    """The table of cases covers the family."""
    assert {case.member for case in CASES.values()} == set(FORMATS.names) - NOT_FILES


def test_the_whole_is_what_was_stored(stored):
    """Rows, dimensions, dtype, whether there are bits, and every value."""
    case, expected, file = stored
    assert (file.rows, file.is_bits, file.dtype) == (len(expected), case.is_bits, expected.dtype)
    assert width(file) == expected.shape[1]
    assert file.dim == expected.shape[1] * (8 if case.is_bits else 1)
    assert read_rows(file).tobytes() == expected.tobytes()  # also the sign of zero
    assert file.files
    assert all(one.size_bytes > 0 and one.modified_ns > 0 for one in file.files)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_run_of_rows_is_that_of_numpy(stored, data):
    """Runs in any order, as searches, audits and reruns ask for them; the ids of a run are those of its rows."""
    case, expected, file = stored
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    np.testing.assert_array_equal(read_rows(file, start, stop), expected[start:stop])
    ids = file.ids(start, stop)
    if case.own_ids:
        np.testing.assert_array_equal(ids, own_ids(len(expected))[start:stop])
        assert ids.dtype == np.int64
    else:
        assert ids is None


def test_a_buffer_is_filled_in_place_and_no_more(stored):
    """The rows around a run in a larger buffer stay as they were."""
    _, expected, file = stored
    buffer = np.full((12, width(file)), 77, file.dtype)
    file.read_into(9, buffer[2:10])
    np.testing.assert_array_equal(buffer[2:10], expected[9:17])
    assert (buffer[[0, 1, 10, 11]] == 77).all()


@pytest.mark.parametrize("name", CASES)
def test_the_end_of_a_file_is_missed(name, tmp_path):
    """A byte, a row or half of the largest file less: opening or reading says so, and zeros are never invented."""
    case = CASES[name]
    text = case.make(tmp_path, drawn(case))
    largest = max(
        (path for path in tmp_path.rglob("*") if path.is_file() and "_temporary" not in path.parts),
        key=lambda path: path.stat().st_size,
    )
    whole = largest.read_bytes()
    for length in (len(whole) - 1, len(whole) - 60, len(whole) // 2, 0):
        largest.write_bytes(whole[:length])
        with pytest.raises(RequestError):
            read_rows(open_vectors(text))


@pytest.mark.parametrize("name", CASES)
def test_no_rows_are_no_error_where_a_format_can_say_so(name, tmp_path):
    """Zero rows are read as zero rows, or refused in a sentence; never a traceback."""
    case = CASES[name]
    try:
        file = open_vectors(case.make(tmp_path, drawn(case, 0)))
    except RequestError as error:
        assert str(error)  # noqa: PT017 (either answer is right)
        return
    assert file.rows == 0
    assert read_rows(file).shape == (0, width(file))


ROUND_TRIPS = {
    "x.fbin": "float32", "x.f16bin": "float16", "x.hbin": "float16", "x.u8bin": "uint8", "x.i8bin": "int8",
    "x.fvecs": "float32", "x.bvecs": "uint8", "x.npy": "float16",
}  # fmt: skip


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_binary_files_come_back_byte_for_byte(name, tmp_path, monkeypatch):
    """Reading and writing gives the same file, also when it takes several runs."""
    monkeypatch.setattr(writing, "_RUN_BYTES", 1_000)
    monkeypatch.setattr(flat, "_COPY_BYTES", 300)
    rows = drawn(CASES["npy float16"], 40).astype(ROUND_TRIPS[name])
    make = vecs if name.endswith("vecs") else npy if name.endswith("npy") else fbin
    (tmp_path / "first").mkdir()
    first, again = make(tmp_path / "first" / name, rows), tmp_path / name
    write_vectors(str(again), open_vectors(str(first)))
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8"])
def test_npy_comes_back_byte_for_byte(dtype, tmp_path):
    """Also the header, of every dtype and of no rows."""
    for count in (0, 1, 100_000):
        rows = np.zeros((count, 3), dtype)
        first, again = npy(tmp_path / "a.npy", rows), tmp_path / "b.npy"
        write_vectors(str(again), open_vectors(str(first)))
        assert again.read_bytes() == first.read_bytes()


def _contents(path):
    with h5py.File(path) as file:
        found = {"/": dict(file.attrs)}

        def keep(name, item):
            if isinstance(item, h5py.Dataset):
                found[name] = (item.dtype, item.shape, item[()].tobytes())

        file.visititems(keep)
        return found


@pytest.mark.parametrize("dataset", ["emb", "pca32", "hamming"])
def test_sisap_files_come_back_with_the_same_datasets(dataset, tmp_path):
    """Name, dtype, shape and bytes of the dataset; bits as words of 64."""
    rows = drawn(CASES["sisap hamming"] if dataset == "hamming" else CASES["sisap emb"])
    first, again = hdf5(tmp_path / "a.h5")(**{dataset: rows}), tmp_path / "b.h5"
    target = str(again) if dataset != "pca32" else f"sisap({str(again)!r}, dataset='pca32')"
    write_vectors(target, open_vectors(str(first)))
    assert _contents(again) == _contents(first)


def test_a_bundle_is_written_dataset_by_dataset(tmp_path):
    """A named dataset is added to what the file holds, also in place of one of its name; without a name it is written anew."""
    rows = drawn(CASES["sisap bundle"])
    first = str(hdf5(tmp_path / "a.h5")(train=rows, itest__queries=rows[:3], otest__queries=rows[:2]))
    again = str(tmp_path / "b.h5")
    for _ in range(2):
        for name in ("train", "itest/queries", "otest/queries"):
            write_vectors(f"sisap({again!r}, dataset={name!r})", open_vectors(f"sisap({first!r}, dataset={name!r})"))
    assert _contents(again) == _contents(first)
    write_vectors(again, open_vectors(first))
    assert list(_contents(again)) == ["/", "emb"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ann_benchmarks_come_back_with_datasets_and_attributes(dtype, tmp_path):
    """Both splits, and the attributes that its own code reads."""
    rows = np.random.default_rng(0).standard_normal((29, 24)).astype(dtype)
    attributes = {"distance": "angular", "type": "dense", "dimension": 24, "point_type": "float"}
    first = str(hdf5(tmp_path / "a.hdf5", attributes=attributes)(test=rows[:5], train=rows))
    again = str(tmp_path / "b.hdf5")
    write_vectors(f"ann_benchmarks({again!r}, distance='angular')", open_vectors(first))
    write_vectors(f"ann_benchmarks({again!r}, split='test')", open_vectors(f"ann_benchmarks({first!r}, split='test')"))
    assert _contents(again) == _contents(first)


@pytest.mark.parametrize("ids", [None, own_ids(29)], ids=["row numbers", "own ids"])
def test_parquet_comes_back_with_the_same_columns(ids, tmp_path):
    """Vectors and ids, by name, type and value; twice written is the same bytes."""
    rows = drawn(CASES["parquet list"])
    first = parquet(tmp_path / "a.parquet", rows, ids=ids)
    again, third = tmp_path / "b.parquet", tmp_path / "c.parquet"
    write_vectors(str(again), open_vectors(str(first)))
    write_vectors(str(third), open_vectors(str(again)))
    assert pq.read_table(again).equals(pq.read_table(first))
    assert third.read_bytes() == again.read_bytes()


def test_vectordbbench_comes_back_with_its_ids(tmp_path):
    """Several files of the corpus become one, in their order."""
    rows = drawn(CASES["vectordbbench"])
    CASES["vectordbbench"].make(tmp_path, rows)
    write_vectors(f"vectordbbench({str(tmp_path / 'new')!r})", open_vectors(str(tmp_path)))
    table = pq.read_table(tmp_path / "new" / "train.parquet")
    assert table.schema.names == ["id", "emb"]
    np.testing.assert_array_equal(table["id"].to_numpy(), own_ids(len(rows)))
    np.testing.assert_array_equal(np.stack(table["emb"].to_numpy()), rows)


def test_a_clip_folder_is_written_as_it_is_read(tmp_path):
    """One part of all rows, in the order of the numbers of the parts."""
    rows = drawn(CASES["clip folder"])
    write_vectors(
        f"clip_retrieval({str(tmp_path / 'new')!r})",
        open_vectors(CASES["clip of 12 parts"].make(tmp_path / "old", rows)),
    )
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "img_emb" / "img_emb_0000.npy"), rows)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["x.fbin", "x.npy", "x.fvecs", "x.h5", "x.parquet"]),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(0, 9),
)
def test_any_format_into_any_other_keeps_every_value(name, count, dim, seed):
    """Through a chain of formats, any size."""
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        source = str(npy(Path(folder) / "source.npy", rows))
        write_vectors(str(Path(folder) / name), open_vectors(source))
        np.testing.assert_array_equal(read_rows(open_vectors(str(Path(folder) / name))), rows)


def test_a_dtype_is_changed_only_when_it_is_asked_for(tmp_path):
    """Widening keeps every value; narrowing rounds to nearest as numpy does."""
    rows = np.random.default_rng(0).standard_normal((29, 24))
    source = str(npy(tmp_path / "a.npy", rows))
    for dtype in ("float16", "float32"):
        write_vectors(str(tmp_path / "b.npy"), open_vectors(source), dtype)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), rows.astype(dtype))
    halves = str(npy(tmp_path / "c.npy", rows.astype(np.float16)))
    write_vectors(str(tmp_path / "b.fbin"), open_vectors(halves), "float32")
    np.testing.assert_array_equal(
        read_rows(open_vectors(str(tmp_path / "b.fbin"))), rows.astype(np.float16).astype(np.float32)
    )
    whole = str(npy(tmp_path / "d.npy", np.array([[-128.0, 127.0, 0.0]])))
    write_vectors(str(tmp_path / "b.i8bin"), open_vectors(whole), "int8")
    np.testing.assert_array_equal(read_rows(open_vectors(str(tmp_path / "b.i8bin"))), [[-128, 127, 0]])


def test_long_row_groups_are_decoded_once(tmp_path, monkeypatch):
    """A file of one row group, read in runs, opens its reader once; a step back opens it once more."""
    monkeypatch.setattr(columns, "_BATCH_BYTES", 1_000)
    rows = drawn(CASES["parquet list"], 500)
    file = open_vectors(str(parquet(tmp_path / "x.parquet", rows, groups=500)))
    opened = []
    seek = columns._Cursor._seek
    monkeypatch.setattr(columns._Cursor, "_seek", lambda self, start: (opened.append(start), seek(self, start)))
    for start in range(0, 500, 30):
        np.testing.assert_array_equal(read_rows(file, start, min(start + 30, 500)), rows[start : start + 30])
    assert opened == [0]
    np.testing.assert_array_equal(read_rows(file, 30, 90), rows[30:90])
    assert opened == [0, 30]


def test_a_step_that_failed_leaves_no_wrong_place(tmp_path, monkeypatch):
    """A step back that broke off half way: reading on where the reader was before still gives those rows."""
    monkeypatch.setattr(columns, "_BATCH_BYTES", 1_000)
    rows = drawn(CASES["parquet list"], 200)
    file = open_vectors(str(parquet(tmp_path / "x.parquet", rows, groups=200)))
    read_rows(file, 0, 100)
    whole = pq.ParquetFile.iter_batches

    def broken(self, *arguments, **options):
        yield next(whole(self, *arguments, **options))
        raise OSError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "iter_batches", broken)
        with pytest.raises(RequestError, match="the connection was lost"):
            read_rows(file, 50, 60)
    np.testing.assert_array_equal(read_rows(file, 100, 130), rows[100:130])


def test_parts_without_rows_are_left_out(tmp_path):
    """Engines write empty files; they have no width, and mix with any other."""
    rows = drawn(CASES["parquet list"], 10)
    parquet(tmp_path / "part-0.parquet", rows[:0])
    parquet(tmp_path / "part-1.parquet", rows)
    np.testing.assert_array_equal(read_rows(open_vectors(str(tmp_path))), rows)


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    """Spark writes folders that end in .parquet."""
    rows = drawn(CASES["parquet list"], 10)
    parquet(tmp_path / "x.parquet" / "part-00000-5e1c.snappy.parquet", rows)
    np.testing.assert_array_equal(read_rows(open_vectors(str(tmp_path / "x.parquet"))), rows)


def test_a_folder_named_like_a_call_is_a_folder(tmp_path, monkeypatch):
    """`laion(1)`, as browsers name a second download, is a path where it is there; a format's name stays a spec."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "laion(1)").mkdir()
    np.save(tmp_path / "laion(1)" / "x.npy", np.eye(4, dtype=np.float16))
    for place in ("laion(1)/x.npy", "npy('laion(1)/x.npy')"):
        assert open_vectors(place).rows == 4
    with pytest.raises(RequestError, match=r"'laion\(1\)' is in no format"):
        open_vectors("laion(1)")
    (tmp_path / "laion(1)" / "img_emb").mkdir()
    np.save(tmp_path / "laion(1)" / "img_emb" / "img_emb_0000.npy", np.eye(4, dtype=np.float16))
    assert open_vectors("laion(1)").rows == 4
    with pytest.raises(RequestError, match="no vector format is called 'laion'"):
        open_vectors("laion(2)")


def test_our_own_folder_may_lack_parts(tmp_path):
    """A shard without images leaves no part; the manifest of the folder accounts for it."""
    rows = drawn(CASES["clip folder"], 10)
    for number, part in ((0, rows[:4]), (3, rows[4:])):
        npy(tmp_path / "img_emb" / f"img_emb_{number:04d}.npy", part)
    storage.write_manifest(str(tmp_path), {})
    np.testing.assert_array_equal(read_rows(open_vectors(str(tmp_path))), rows)


@pytest.mark.s3
@pytest.mark.parametrize("name", ["x.fbin", "x.npy", "x.fvecs", "x.h5", "x.parquet", "clip"])
def test_an_object_store_is_a_place_like_any_other(name, s3, tmp_path):
    """Written to S3, the object has the bytes of the local file, and is read in place, any run."""
    rows = drawn(CASES["fbin"])
    source = str(npy(tmp_path / "source.npy", rows))
    place = f"{s3}/formats-{name}/{name}"
    target = f"clip_retrieval({place!r})" if name == "clip" else place
    write_vectors(target, open_vectors(source))
    file = open_vectors(place)
    np.testing.assert_array_equal(read_rows(file), rows)
    np.testing.assert_array_equal(read_rows(file, 11, 23), rows[11:23])
    assert file.files[0].size_bytes > 0
    if name != "clip":
        write_vectors(str(tmp_path / name), open_vectors(source))
        local = (tmp_path / name).read_bytes()
        assert hashlib.sha256(storage.read_bytes(place)).digest() == hashlib.sha256(local).digest()


@pytest.mark.s3
def test_hdf5_on_s3_is_read_in_chunks_and_added_to(s3, tmp_path):
    """A compressed dataset is read through ranges; a second dataset is added to the object."""
    rows = drawn(CASES["sisap gzip"])
    path = hdf5(tmp_path / "x.h5", chunks=(5, 9), compression="gzip")(emb=rows)
    storage.write_bytes(f"{s3}/chunked/x.h5", path.read_bytes())
    np.testing.assert_array_equal(read_rows(open_vectors(f"{s3}/chunked/x.h5"), 3, 20), rows[3:20])
    write_vectors(f"sisap('{s3}/chunked/x.h5', dataset='itest/queries')", open_vectors(str(path)))
    np.testing.assert_array_equal(read_rows(open_vectors(f"sisap('{s3}/chunked/x.h5', dataset='emb')")), rows)
    np.testing.assert_array_equal(read_rows(open_vectors(f"sisap('{s3}/chunked/x.h5', dataset='itest/queries')")), rows)


@pytest.mark.parametrize("name", ["fbin", "fvecs", "npy float16", "sisap emb", "sisap gzip", "parquet list"])
def test_a_damaged_file_is_refused_or_read_never_a_traceback(name, tmp_path_factory):
    """Bytes changed at random or the end cut off: vectors or a sentence."""
    case = CASES[name]
    path = Path(case.make(tmp_path_factory.mktemp("damaged"), drawn(case)))
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for attempt in range(60):
        changed = bytearray(whole)
        for _ in range(random.integers(1, 6)):
            # Headers are where damage confuses most.
            changed[random.integers(0, len(whole) if attempt % 2 else min(len(whole), 160))] = random.integers(0, 256)
        path.write_bytes(bytes(changed[: random.integers(0, len(whole))] if attempt % 3 == 0 else changed))
        try:
            file = open_vectors(str(path))
            if file.rows < 10_000:
                read_rows(file)
        except RequestError as error:
            assert str(error)  # noqa: PT017 (either answer is right)
