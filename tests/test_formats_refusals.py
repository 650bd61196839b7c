"""What no format can read or hold is refused in one sentence that names the thing, the value and the next step."""

import os
import struct

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import CASES, drawn, fbin, hdf5, npy, npy_bytes, own_ids, parquet, vecs

from raybench.errors import DataError, RequestError, StorageError
from raybench.formats import open_neighbors, open_vectors, write_neighbors, write_vectors
from raybench.formats.base import StoredNeighbors, read_rows

ROWS = np.arange(48, dtype=np.float32).reshape(12, 4)


def _read(text):
    return read_rows(open_vectors(str(text)))


def _file(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _header(shape, dtype="<f4", order=False):
    """An `.npy` of 16 bytes of data whose header says something else."""
    text = str({"descr": dtype, "fortran_order": order, "shape": shape}).encode()
    text += b" " * ((-len(text) - 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16)


def _ragged(path, values, kind=None):
    pq.write_table(pa.table({"emb": pa.array(values, kind or pa.list_(pa.float32()))}), path)
    return path


def _linked(folder, make):
    """A file whose `emb` is not in it: `make` gets the open file and another file that holds vectors."""
    other = hdf5(folder / "other.h5")(emb=ROWS)
    with h5py.File(folder / "x.h5", "w") as file:
        make(file, str(other))
    return folder / "x.h5"


def _virtual(file, other):
    layout = h5py.VirtualLayout((12, 4), "f4")
    layout[:] = h5py.VirtualSource(other, "emb", (12, 4))
    file.create_virtual_dataset("emb", layout)


def _external_group(file, other):
    file["itest"] = h5py.ExternalLink(other, "/")


def _soft(file, other):
    file["elsewhere"] = h5py.ExternalLink(other, "/")
    file["emb"] = h5py.SoftLink("/elsewhere/emb")


def _sparse(folder):
    return hdf5(folder / "x.hdf5", attributes={"type": "sparse", "distance": "jaccard"})(
        train=np.arange(9), test=np.arange(3)
    )


def _mixed(folder, *parts, name="img_emb"):
    for file, part in parts:
        npy(folder / name / file, part)
    return folder


READS = {
    "a file that is not there": (lambda at: at / "x.npy", "x.npy is not there; check the path"),
    "a Parquet that is not there": (lambda at: at / "x.parquet", "x.parquet is not there; check the path"),
    "an HDF5 that is not there": (lambda at: at / "x.h5", "x.h5 is not there; check the path"),
    "nothing of that name": (lambda at: at / "nothing", "is not there; check the path, or give a spec"),
    "another suffix": (lambda at: _file(at / "x.txt", b"1 2 3"), "has a suffix of no format; give a spec"),
    "a folder of something else": (lambda at: _file(at / "y" / "x.txt", b"").parent, "is in no format that is recognised"),
    "a folder named .npy": (lambda at: _file(at / "y.npy" / "x", b"").parent, "y.npy is not there"),
    "an unknown format": (lambda at: "fbim('x.fbin')", "no vector format is called 'fbim'"),
    "an unknown parameter": (lambda at: "npy('x.npy', split='a')", "has no parameter 'split'"),
    "a wrong split": (lambda at: "ann_benchmarks('x.hdf5', split='train2')", "must be 'train' or 'test'"),
    "a NUL in a name": (lambda at: "x\0.npy", "is no path"),
    # .npy
    "npy of 0 bytes": (lambda at: _file(at / "x.npy", b""), "is no .npy matrix"),
    "npy cut off": (lambda at: _file(at / "x.npy", npy_bytes(ROWS)[:-1]), "its header says"),
    "npy with more": (lambda at: _file(at / "x.npy", npy_bytes(ROWS) + b"1"), "its header says"),
    "npy of objects": (lambda at: _file(at / "x.npy", npy_bytes(np.array([[{}]]))), "pickled objects, which are never loaded"),
    "npy in Fortran order": (lambda at: npy(at / "x.npy", np.asfortranarray(ROWS)), "Fortran order; write it again"),
    "npy of one axis": (lambda at: npy(at / "x.npy", ROWS[0]), "of shape (4,); vectors are two axes"),
    "npy of three axes": (lambda at: npy(at / "x.npy", ROWS[None]), "vectors are two axes"),
    "npy of int64": (lambda at: npy(at / "x.npy", ROWS.astype(int)), "holds int64"),
    "npy of big-endian": (lambda at: npy(at / "x.npy", ROWS.astype(">f4")), "holds >f4"),
    "npy of records": (lambda at: npy(at / "x.npy", np.zeros((2, 2), "f4,f4")), "vectors are two axes of"),
    "npy of negative shape": (lambda at: _file(at / "x.npy", _header((-2, -2))), "shape (-2, -2), which no vectors have"),
    "npy of no width": (lambda at: _file(at / "x.npy", _header((4, 0))), "which no vectors have"),
    "npy of huge shape": (lambda at: _file(at / "x.npy", _header((2**40, 2**40))), "its header says"),
    "npy that overflows": (lambda at: _file(at / "x.npy", _header((2**62, 4))), "its header says"),
    "npy with code": (lambda at: _file(at / "x.npy", _header("__import__('os').abort()")), "is no .npy matrix"),
    # big-ann and cuvs
    "fbin of 0 bytes": (lambda at: _file(at / "x.fbin", b""), "has 0 bytes, which no header"),
    "fbin of 7 bytes": (lambda at: _file(at / "x.fbin", bytes(7)), "has 7 bytes, which no header"),
    "fbin of zeros": (lambda at: _file(at / "x.fbin", bytes(16)), "which no header"),
    "fbin cut off": (lambda at: _file(at / "x.fbin", fbin(at / "x.fbin", ROWS).read_bytes()[:-1]), "which no header"),
    "fbin with more": (lambda at: _file(at / "x.fbin", fbin(at / "x.fbin", ROWS).read_bytes() + bytes(4)), "which no header"),
    "fbin of huge numbers": (lambda at: _file(at / "x.fbin", b"\xff" * 64), "which no header"),
    "fbin that overflows": (lambda at: _file(at / "x.fbin", struct.pack("<QQ", 2**62, 4)), "which no header"),
    "half the rows": (lambda at: _file(at / "x.f16bin", fbin(at / "x", ROWS).read_bytes()), "explains for float16"),
    "ids as vectors": (lambda at: fbin(at / "x.ibin", ROWS), "is named like ids, not vectors"),
    "truth as vectors": (lambda at: fbin(at / "x.bin", ROWS), "is named like ids, not vectors"),
    # fvecs
    "fvecs of 0 bytes": (lambda at: _file(at / "x.fvecs", b""), "0 bytes are no rows of 0 dimensions"),
    "fvecs of negative dim": (lambda at: _file(at / "x.fvecs", struct.pack("<i", -1)), "no rows of -1 dimensions"),
    "fvecs of huge dim": (lambda at: _file(at / "x.fvecs", struct.pack("<if", 2**31 - 1, 0)), "are no rows of 2147483647"),
    "fvecs cut off": (lambda at: _file(at / "x.fvecs", vecs(at / "x.fvecs", ROWS).read_bytes()[:-4]), "are no rows of 4 dim"),
    "fvecs of two widths": (
        lambda at: _file(at / "x.fvecs", struct.pack("<i3fi3fi3f", 3, 1, 2, 3, 3, 1, 2, 3, 2, 1, 2, 3)),
        "row 2 has 2 dimensions, the first 3; mend it",
    ),
    "ivecs as vectors": (lambda at: vecs(at / "x.ivecs", ROWS.astype("i4")), "holds ids, no vectors"),
    "vecs of no suffix": (lambda at: f"vecs({str(at / 'x')!r})", "must end in .fvecs, .bvecs, .ivecs"),
    # HDF5
    "h5 of 0 bytes": (lambda at: _file(at / "x.h5", b""), "is no readable HDF5 file"),
    "h5 of something else": (lambda at: _file(at / "x.h5", bytes(999)), "is no readable HDF5 file"),
    "h5 cut off": (lambda at: _file(at / "x.h5", hdf5(at / "x.h5")(emb=ROWS).read_bytes()[:-9]), "is no readable HDF5 file"),
    "h5 without vectors": (lambda at: hdf5(at / "x.h5")(other=ROWS), "holds other; give the dataset, as in sisap("),
    "h5 of nothing": (lambda at: hdf5(at / "x.h5")(), "holds nothing"),
    "h5 of many and strange names": (
        lambda at: hdf5(at / "x.h5")(**{"a\nb": ROWS} | {f"d{number}": ROWS[:1] for number in range(40)}),
        "holds 'a\\nb', d0, d1, d10, d11, d12, d13, d14, d15, d16, d17, d18 and 29 more; give the dataset",
    ),
    "h5 of several": (lambda at: hdf5(at / "x.h5")(emb=ROWS, pca32=ROWS), "holds several vectors (emb, pca32); give dataset="),
    "h5 of neighbours": (lambda at: hdf5(at / "x.h5")(knns=ROWS, dists=ROWS), "holds no known vectors (dists, knns)"),
    "h5 without that dataset": (
        lambda at: f"sisap({str(hdf5(at / 'x.h5')(emb=ROWS))!r}, 'itest/queries')", "no dataset 'itest/queries'; it has emb",
    ),
    "h5 below a dataset": (lambda at: f"sisap({str(hdf5(at / 'x.h5')(emb=ROWS))!r}, 'emb/x')", "no dataset 'emb/x'"),
    "h5 group": (lambda at: f"sisap({str(hdf5(at / 'x.h5')(itest__queries=ROWS))!r}, 'itest')", "'itest' is no matrix"),
    "h5 root": (lambda at: f"sisap({str(hdf5(at / 'x.h5')(emb=ROWS))!r}, '/')", "'/' is no matrix"),
    "h5 of one axis": (lambda at: hdf5(at / "x.h5")(emb=ROWS[0]), "'emb' is no matrix; vectors have two axes"),
    "h5 of text": (lambda at: hdf5(at / "x.h5")(emb=np.full((2, 2), b"a")), "'emb' holds |S1; vectors are"),
    "h5 of int64": (lambda at: hdf5(at / "x.h5")(emb=ROWS.astype(int)), "'emb' holds int64; vectors are"),
    "h5 of big-endian": (lambda at: hdf5(at / "x.h5")(emb=ROWS.astype(">f4")), "'emb' holds >f4"),
    "h5 external link": (
        lambda at: _linked(at, lambda file, other: file.__setitem__("emb", h5py.ExternalLink(other, "emb"))),
        "'emb' is a link to elsewhere, which is not followed",
    ),
    "h5 external group": (lambda at: _linked(at, _external_group), "is a link to elsewhere, which is not followed"),
    "h5 soft link": (lambda at: _linked(at, _soft), "'emb' is a link to elsewhere, which is not followed"),
    "h5 virtual": (lambda at: _linked(at, _virtual), "the data of 'emb' lie in other files, which are not opened"),
    "h5 external storage": (
        lambda at: _linked(
            at, lambda file, other: file.create_dataset("emb", (12, 4), "f4", external=[(other, 0, h5py.h5f.UNLIMITED)])
        ),
        "the data of 'emb' lie in other files, which are not opened",
    ),
    "h5 never written": (
        lambda at: _linked(at, lambda file, _: file.create_dataset("emb", (2**40, 768), "f2")), "parts of 'emb' were never written",
    ),
    "h5 partly written": (
        lambda at: _linked(
            at, lambda file, _: file.create_dataset("emb", (2**40, 8), "f2", chunks=(8, 8)).write_direct(np.ones((8, 8), "f2"), None, np.s_[:8])
        ),
        "parts of 'emb' were never written",
    ),
    "ann-benchmarks sparse": (_sparse, "holds sparse vectors"),
    "ann-benchmarks of another dimension": (
        lambda at: hdf5(at / "x.hdf5", attributes={"dimension": 5})(train=ROWS, test=ROWS), "says 5 dimensions and train has 4",
    ),
    "ann-benchmarks without train": (lambda at: hdf5(at / "x.hdf5")(test=ROWS), "has no dataset 'train'; it has test"),
    # Parquet
    "parquet of 0 bytes": (lambda at: _file(at / "x.parquet", b""), "is no readable Parquet file"),
    "parquet cut off": (
        lambda at: _file(at / "x.parquet", parquet(at / "x.parquet", ROWS).read_bytes()[:-9]), "is no readable Parquet file",
    ),
    "parquet of names in no encoding": (
        lambda at: _file(at / "x.parquet", parquet(at / "x.parquet", ROWS).read_bytes().replace(b"emb", b"\xff\xfe\xfd")),
        "is no readable Parquet file",
    ),
    "parquet of one null": (lambda at: _ragged(at / "x.parquet", [[1, 2], None, [1, 2]]), "row 1 of emb is null; drop it"),
    "parquet of a first null": (lambda at: _ragged(at / "x.parquet", [None, [1, 2]]), "row 0 of emb is null; drop it"),
    "parquet of null values": (
        lambda at: _ragged(at / "x.parquet", [[1, 2], [1, None]]), "row 1 of emb has a null value; drop it",
    ),
    "parquet of ragged rows": (
        lambda at: _ragged(at / "x.parquet", [[1, 2], [3, 4], [1, 2, 3]]), "row 2 has 3 values, the first 2; mend it",
    ),
    "parquet of ragged rows that add up": (
        lambda at: _ragged(at / "x.parquet", [[1, 2], [1], [1, 2, 3]]), "row 1 has 1 values, the first 2; mend it",
    ),
    "parquet of empty rows": (lambda at: _ragged(at / "x.parquet", [[], []]), "row 0 of emb has no values"),
    "parquet of text": (lambda at: _ragged(at / "x.parquet", [["a"]], pa.list_(pa.string())), "emb holds string; vectors are"),
    "parquet without lists": (lambda at: _ragged(at / "x.parquet", [1], pa.int64()), "no columns of lists; its columns are emb"),
    "parquet without that column": (
        lambda at: f"parquet({str(parquet(at / 'x.parquet', ROWS))!r}, 'vector')", "no column 'vector' of lists; its columns",
    ),
    "parquet without ids": (
        lambda at: f"parquet({str(parquet(at / 'x.parquet', ROWS))!r}, id_column='key')", "has no column 'key'; its columns",
    ),
    "parquet of text as ids": (
        lambda at: f"parquet({str(parquet(at / 'x.parquet', ROWS, ids=list('abcdefghijkl')))!r}, id_column='id')", "ids are whole",
    ),
    "a folder of two widths": (
        lambda at: parquet(at / "b" / "1.parquet", ROWS) and parquet(at / "b" / "2.parquet", ROWS[:, :3]).parent,
        "of 4 dimensions (1.parquet) and float32 of 3 (2.parquet)",
    ),
    "a folder where some have ids": (
        lambda at: parquet(at / "b" / "1.parquet", ROWS) and parquet(at / "b" / "2.parquet", ROWS, ids=range(12)).parent,
        "of 1.parquet and 2.parquet only one has ids",
    ),
    # VectorDBBench
    "vectordbbench without train": (lambda at: parquet(at / "b" / "test.parquet", ROWS, ids=range(12)).parent, "holds no train"),
    "vectordbbench without ids": (lambda at: parquet(at / "b" / "train.parquet", ROWS).parent, "has no column 'id'"),
    "vectordbbench in two orders": (
        lambda at: parquet(at / "b" / "train.parquet", ROWS, ids=range(12))
        and parquet(at / "b" / "shuffle_train.parquet", ROWS, ids=range(12)).parent,
        "holds train in two orders; say shuffled=True or shuffled=False",
    ),
    "vectordbbench without a part": (
        lambda at: parquet(at / "b" / "train-00-of-03.parquet", ROWS, ids=range(12))
        and parquet(at / "b" / "train-02-of-03.parquet", ROWS, ids=range(12)).parent,
        "has 2 files of train, not 3",
    ),
    # clip-retrieval
    "clip without texts": (
        lambda at: f"clip_retrieval({str(_mixed(at, ('img_emb_0.npy', ROWS)))!r}, 'text')", "holds no text_emb/*.npy; check",
    ),
    "clip of two dtypes": (
        lambda at: _mixed(at, ("img_emb_0.npy", ROWS), ("img_emb_1.npy", ROWS.astype("f2"))),
        "mixes float32 of 4 dimensions (img_emb_0.npy) and float16 of 4 (img_emb_1.npy); embed it again",
    ),
    "clip with a gap": (
        lambda at: _mixed(at, ("img_emb_9.npy", ROWS), ("img_emb_11.npy", ROWS)), "no part between img_emb_9.npy and img_emb_11",
    ),
    "clip with a part twice": (
        lambda at: _mixed(at, ("img_emb_1.npy", ROWS), ("img_emb_01.npy", ROWS)), "img_emb_01.npy and img_emb_1.npy, of one number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_what_is_no_set_of_vectors_is_refused(name, tmp_path):
    """Before anything is searched; at the latest when the wrong row is read."""
    make, sentence = READS[name]
    with pytest.raises(RequestError) as refusal:
        _read(make(tmp_path))
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    """Permission denied, as a sentence."""
    path = npy(tmp_path / "x.npy", ROWS)

    def deny(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", deny)
    with pytest.raises(StorageError, match=r"cannot read .*x\.npy: Permission denied"):
        open_vectors(str(path))


def test_a_file_that_shrinks_is_refused(tmp_path):
    """Opened whole, cut off before it is read."""
    path = npy(tmp_path / "x.npy", ROWS)
    file = open_vectors(str(path))
    os.truncate(path, 200)
    with pytest.raises(DataError, match=r"ends \d+ bytes early"):
        read_rows(file)


def test_rows_that_are_not_there_are_refused(tmp_path):
    """Beyond the end, or backwards."""
    file = open_vectors(str(npy(tmp_path / "x.npy", ROWS)))
    for start, stop in ((0, 13), (-1, 2), (3, 2)):
        with pytest.raises(DataError, match="are not there; the file has 12"):
            read_rows(file, start, stop)


IDS = np.arange(12).reshape(3, 4)
NEIGHBORS = {
    "vectors as neighbours": (lambda at: npy(at / "x.npy", ROWS), "is of a format that holds no neighbours"),
    "fvecs as neighbours": (lambda at: vecs(at / "x.fvecs", ROWS), "holds vectors, no neighbours; neighbours are in .ivecs"),
    "fbin as neighbours": (lambda at: fbin(at / "x.fbin", ROWS), "is named like vectors, not neighbours"),
    "no knns": (lambda at: hdf5(at / "x.h5")(emb=ROWS), "holds no knns; it has emb"),
    "no neighbors": (lambda at: hdf5(at / "x.hdf5")(train=ROWS, test=ROWS), "holds no neighbors; it has test, train"),
    "several knns": (
        lambda at: hdf5(at / "x.h5")(itest__knns=IDS + 1, otest__knns=IDS + 1), "has neighbours in 'itest', 'otest'; say which",
    ),
    "knns from 0": (lambda at: hdf5(at / "x.h5")(knns=IDS), "id 0 cannot be: its format counts from 1"),
    "knns of floats": (lambda at: hdf5(at / "x.h5")(knns=IDS + 1.5), "ids are float64 of shape (3, 4), no matrix of whole"),
    "knns of one axis": (lambda at: hdf5(at / "x.h5")(knns=IDS[0] + 1), "'knns' is no matrix of numbers"),
    "knns linked": (
        lambda at: _linked(at, lambda file, other: file.__setitem__("knns", h5py.ExternalLink(other, "emb"))), "is a link to elsewhere",
    ),
    "dists linked": (
        lambda at: _linked(
            at, lambda file, other: (file.__setitem__("knns", IDS + 1), file.__setitem__("dists", h5py.SoftLink("/knns")))
        ),
        "'dists' is a link to elsewhere",
    ),
    "dists of another shape": (lambda at: hdf5(at / "x.h5")(knns=IDS + 1, dists=ROWS), "(3, 4) and distances (12, 4) differ"),
    "dists with NaN": (
        lambda at: hdf5(at / "x.h5")(knns=IDS + 1, dists=np.where(IDS == 6, np.nan, IDS)), "distances of query 1 have NaN",
    ),
    "dists in no order": (
        lambda at: hdf5(at / "x.h5")(knns=IDS + 1, dists=np.array([[1, 2, 3, 4], [1, 1, 1, 1], [1, 3, 2, 4]])),
        "distances of query 2 are not in the order of those before; sort each list",
    ),
    "negative neighbours": (lambda at: hdf5(at / "x.hdf5")(neighbors=IDS - 2), "id -2 cannot be: its format counts from 0"),
    "ids beyond int64": (
        lambda at: fbin(at / "x.u64bin", np.array([[1, 2**64 - 1]], "<u8")), "id 18446744073709551615 cannot be",
    ),
    "truth cut off": (lambda at: _file(at / "x.bin", struct.pack("<II", 3, 4) + bytes(95)), "is no truth of big-ann"),
    "truth of 0 bytes": (lambda at: _file(at / "x.bin", b""), "is no truth of big-ann"),
    "truth of huge numbers": (lambda at: _file(at / "x.bin", b"\xff" * 99), "is no truth of big-ann"),
    "range truth": (lambda at: _file(at / "x.bin", struct.pack("<II", 2, 3) + bytes(2 * 4 + 3 * 8)), "is no truth of big-ann"),
    "vectordbbench of an unknown id": (lambda at: _database(at, [[0, 99]]), "names id 99, which is not in the corpus"),
    "vectordbbench of an unknown own id": (lambda at: _database(at, [[100, 101]], own_ids(12)), "names id 101, which is not"),
    "vectordbbench of ids twice": (lambda at: _database(at, [[5, 5]], [5] * 12), "two rows of the corpus have id 5"),
    "vectordbbench of ragged lists": (lambda at: _database(at, [[1, 2], [1]]), "lists of different lengths"),
    "vectordbbench of nulls": (lambda at: _database(at, [[1, None]]), "holds nulls"),
    "vectordbbench without lists": (lambda at: _database(at, [[1]], column="other"), "has no column neighbors_id"),
    "vectordbbench without neighbours": (lambda at: parquet(at / "train.parquet", ROWS, ids=range(12)).parent, "is not there"),
}  # fmt: skip


def _database(folder, lists, ids=range(12), column="neighbors_id"):
    parquet(folder / "train.parquet", ROWS, ids=ids)
    pq.write_table(pa.table({column: pa.array(lists, pa.list_(pa.int64()))}), folder / "neighbors.parquet")
    return folder


@pytest.mark.parametrize("name", NEIGHBORS)
def test_what_are_no_neighbours_is_refused(name, tmp_path):
    """Wrong ids and distances are never taken for right ones."""
    make, sentence = NEIGHBORS[name]
    with pytest.raises(RequestError) as refusal:
        open_neighbors(str(make(tmp_path)))
    assert sentence in str(refusal.value)


def _with_nan(at):
    rows = ROWS.copy()
    rows[5, 1] = np.nan
    return npy(at / "a.npy", rows)


def _bits(at):
    return hdf5(at / "a.h5")(hamming=drawn(CASES["sisap hamming"]))


def _odd_bits(at):
    return hdf5(at / "a.hdf5")(train=np.ones((3, 8), np.bool_), test=np.ones((3, 8), np.bool_))


def _ids(at):
    return parquet(at / "a.parquet", ROWS, ids=own_ids(12))


def _plain(at):
    return npy(at / "a.npy", ROWS)


def _halves(at):
    return npy(at / "a.npy", ROWS.astype(np.float16))


WRITES = {
    "no suffix": (_plain, "b", None, "does not say in which format to write; end it in"),
    "another suffix": (_plain, "b.csv", None, "does not say in which format to write"),
    "a generated format": (_plain, "laion_like(rows=9)", None, "cannot be written; give a file or folder format"),
    "float16 into fvecs": (_halves, "b.fvecs", None, ".fvecs cannot hold float16; it holds float32: give one of these as --dtype"),
    "float16 into fbin": (_halves, "b.fbin", None, ".fbin cannot hold float16; it holds float32"),
    "float32 into f16bin": (_plain, "b.f16bin", None, ".f16bin cannot hold float32; it holds float16"),
    "float16 into ann-benchmarks": (_halves, "ann_benchmarks('b.hdf5', distance='angular')", None, "cannot hold float16"),
    "float16 into vectordbbench": (_halves, "vectordbbench('b')", None, "VectorDBBench's Parquet cannot hold float16"),
    "a new ann-benchmarks": (_plain, "ann_benchmarks('b.hdf5')", None, "names its distance; write ann_benchmarks('b.hdf5', "),
    "vectors into ivecs": (_plain, "b.ivecs", None, ".ivecs cannot hold vectors; choose another format"),
    "vectors into ibin": (_plain, "b.ibin", None, ".ibin cannot hold vectors; choose another format"),
    "vectors into truth": (_plain, "xbin('b')", None, "b cannot hold vectors; choose another format"),
    "JLD2": (_plain, "b.jld2", None, "would be JLD2, which Julia alone writes; end it in .h5"),
    "own ids into npy": (_ids, "b.npy", None, ".npy cannot hold ids, and row 0 has id 100; write Parquet instead"),
    "own ids into fbin": (_ids, "b.fbin", None, ".fbin cannot hold ids"),
    "own ids into fvecs": (_ids, "b.fvecs", None, ".fvecs cannot hold ids"),
    "own ids into SISAP": (_ids, "b.h5", None, "SISAP's HDF5 cannot hold ids"),
    "own ids into ann-benchmarks": (_ids, "ann_benchmarks('b.hdf5', distance='angular')", None, "cannot hold ids"),
    "own ids into clip": (_ids, "clip_retrieval('b')", None, "cannot hold ids"),
    "NaN": (_with_nan, "b.fbin", None, "row 5 has NaN or infinite values; drop it before converting"),
    "bits into npy": (_bits, "b.npy", None, ".npy cannot say that bytes are packed bits; write SISAP's HDF5 instead"),
    "bits into u8bin": (_bits, "b.u8bin", None, ".u8bin cannot hold packed bits"),
    "bits into bvecs": (_bits, "b.bvecs", None, ".bvecs cannot hold packed bits"),
    "bits into Parquet": (_bits, "b.parquet", None, "Parquet cannot say that bytes are packed bits"),
    "bits into vectordbbench": (_bits, "vectordbbench('b')", None, "packed bits"),
    "bits into ann-benchmarks": (_bits, "ann_benchmarks('b.hdf5', distance='angular')", None, "holds bits as single values"),
    "bits as numbers": (_bits, "b.h5", "float32", "packed bits have no values to be turned into float32"),
    "8 bits into words": (_odd_bits, "b.h5", None, "holds bits as words of 64, and rows have 8"),
    "too large for float16": (lambda at: npy(at / "a.npy", ROWS * 1e5), "b.npy", "float16", "does not fit into float16"),
    "too large for uint8": (lambda at: npy(at / "a.npy", ROWS * 9), "b.u8bin", "uint8", "row 7 does not fit into uint8"),
    "fractions into int8": (lambda at: npy(at / "a.npy", ROWS / 2), "b.i8bin", "int8", "row 0 does not fit into int8"),
    "uint8 into int8": (lambda at: npy(at / "a.npy", np.array([[1], [200]], "u1")), "b.npy", "int8", "row 1 does not fit into int8"),
    "no rows into fvecs": (lambda at: npy(at / "a.npy", ROWS[:0]), "b.fvecs", None, "and there are no rows"),
    "below a file": (_plain, "a.npy/b.npy", None, "a.npy/b.npy"),
    "onto a folder": (lambda at: _mixed(at, ("1.npy", ROWS), name="b.npy") and _plain(at), "b.npy", None, "cannot write b.npy"),
    "into an HDF5 that is none": (
        lambda at: _file(at / "b.h5", b"none") and _plain(at), "sisap('b.h5', dataset='emb')", None, "cannot write b.h5",
    ),
    "below a dataset": (
        lambda at: hdf5(at / "b.h5")(emb=ROWS) and _plain(at), "sisap('b.h5', dataset='emb/x')", None, "has no place for 'emb/x'",
    ),
    "through a link": (
        lambda at: _linked(at, _external_group) and _plain(at), "sisap('x.h5', dataset='itest/queries')", None, "is a link to elsewhere",
    ),
    "beside other parts": (
        lambda at: _mixed(at / "b", ("img_emb_0001.npy", ROWS)) and _plain(at), "clip_retrieval('b')", None, "already has img_emb_0001",
    ),
    "beside other trains": (
        lambda at: parquet(at / "b" / "shuffle_train.parquet", ROWS, ids=range(12)) and _plain(at), "vectordbbench('b')", None,
        "already has shuffle_train.parquet; write into another folder",
    ),
}  # fmt: skip


def _tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", WRITES)
def test_what_a_format_cannot_hold_is_refused(name, tmp_path, monkeypatch):
    """In a sentence, and nothing is left behind or changed."""
    make, target, dtype, sentence = WRITES[name]
    monkeypatch.chdir(tmp_path)
    file = open_vectors(str(make(tmp_path)))
    before = _tree(tmp_path)
    with pytest.raises(RequestError) as refusal:
        write_vectors(target, file, dtype)
    assert sentence in str(refusal.value)
    assert _tree(tmp_path) == before


SCORES = -np.sort(np.random.default_rng(0).random((3, 4)), axis=1)
FULL = StoredNeighbors(IDS, SCORES, "distance")
PADDED = StoredNeighbors(np.where(IDS == 7, -1, IDS), SCORES, "distance")
UNSCORED = StoredNeighbors(IDS, None)
LARGE = StoredNeighbors(IDS + 2**31, SCORES, "distance")
NEIGHBOR_WRITES = {
    "npy": (FULL, "b.npy", "is of a format without neighbours"),
    "fvecs": (FULL, "b.fvecs", "b.fvecs is for vectors; write neighbours to .ivecs"),
    "fbin": (FULL, "b.fbin", "b.fbin is for vectors; write neighbours to .ibin"),
    "padding into SISAP": (PADDED, "b.h5", "SISAP's HDF5 has no padding, and query 1 has fewer than"),
    "padding into ann-benchmarks": (PADDED, "ann_benchmarks('b.hdf5', distance='angular', wide=True)", "has no padding"),
    "padding into ivecs": (PADDED, "b.ivecs", ".ivecs has no padding, and query 1 has fewer"),
    "padding into truth": (PADDED, "b.bin", ".bin has no padding, and query 1"),
    "padding into ibin": (PADDED, "b.ibin", ".ibin has no padding, and query 1"),
    "padding into u64bin": (PADDED, "b.u64bin", ".u64bin has no padding, and query 1"),
    "padding into vectordbbench": (PADDED, "vectordbbench('b')", "neighbors.parquet has no padding"),
    "large ids into SISAP": (LARGE, "b.h5", "holds ids as int32, and there is id 2147483659; use another format"),
    "the last id into SISAP": (StoredNeighbors(IDS + 2**31 - 12, SCORES), "b.h5", "holds ids as int32, and there is id 2147483647"),
    "large ids into ivecs": (LARGE, "b.ivecs", ".ivecs holds ids as int32"),
    "large ids into truth": (LARGE, "xbin('b')", "big-ann's truth holds ids as int32"),
    "no scores into SISAP": (UNSCORED, "b.h5", "SISAP's HDF5 needs distances, and the source has none"),
    "no scores into truth": (UNSCORED, "b.bin", "big-ann's truth needs distances"),
    "no scores into ann-benchmarks": (UNSCORED, "ann_benchmarks('b.hdf5', distance='angular')", "needs distances"),
    "a new ann-benchmarks": (FULL, "ann_benchmarks('b.hdf5')", "names its distance"),
    "huge distances": (StoredNeighbors(IDS, SCORES * 1e300, "distance"), "b.h5", "holds distances as float32, and some are too"),
}  # fmt: skip


@pytest.mark.parametrize("name", NEIGHBOR_WRITES)
def test_neighbours_that_a_format_cannot_hold_are_refused(name, tmp_path, monkeypatch):
    """In a sentence, and nothing is left behind."""
    stored, target, sentence = NEIGHBOR_WRITES[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError) as refusal:
        write_neighbors(target, stored)
    assert sentence in str(refusal.value)
    assert _tree(tmp_path) == {}


def test_distances_of_another_truth_are_not_left_beside(tmp_path, monkeypatch):
    """Ids without scores beside a file of distances would be read with those."""
    monkeypatch.chdir(tmp_path)
    fbin(tmp_path / "x.distances.fbin", SCORES.astype("f4"))
    with pytest.raises(DataError, match=r"x\.distances\.fbin is there and would be taken for distances"):
        write_neighbors("x.neighbors.ibin", UNSCORED)


def test_neighbours_of_another_folder_are_refused(tmp_path):
    """VectorDBBench's lists must be of its corpus and of its queries."""
    parquet(tmp_path / "train.parquet", ROWS, ids=own_ids(12))
    target = f"vectordbbench({str(tmp_path)!r})"
    with pytest.raises(DataError, match="has 12 rows, and row 12 is a neighbour"):
        write_neighbors(target, StoredNeighbors(IDS + 1, None))
    parquet(tmp_path / "test.parquet", ROWS[:2], ids=[0, 1])
    with pytest.raises(DataError, match="has 2 queries, and there are neighbours of 3"):
        write_neighbors(target, UNSCORED)


def test_ids_that_are_missing_are_refused(tmp_path):
    """A null is no id, and neither is a number that 63 bits do not hold."""
    for ids in ([1, None, *range(10)], np.arange(12).astype(np.uint64) + 2**63):
        file = open_vectors(str(parquet(tmp_path / "x.parquet", ROWS, ids=ids)))
        with pytest.raises(DataError, match=r"id is null near row 0|ids are below"):
            file.ids(0, 12)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    """A row that cannot be written, after many that could: the old file is as it was, and no other is there."""
    good, bad = np.ones((50, 4), np.float32), np.ones((50, 4), np.float32)
    bad[49, 3] = np.inf
    write_vectors(str(tmp_path / "x.fbin"), open_vectors(str(npy(tmp_path / "good.npy", good))))
    before = _tree(tmp_path)
    source = npy(tmp_path / "bad.npy", bad)
    with pytest.raises(DataError, match="row 49"):
        write_vectors(str(tmp_path / "x.fbin"), open_vectors(str(source)))
    source.unlink()
    assert _tree(tmp_path) == before
