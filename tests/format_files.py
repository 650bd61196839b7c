"""Files of every vector format, made byte by byte from what each format's own description says, not by raybench."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def fbin(path: Path, rows: np.ndarray, *, wide: bool = False) -> Path:
    """A header of two numbers, then the rows."""
    path.write_bytes(struct.pack("<QQ" if wide else "<II", *rows.shape) + rows.tobytes())
    return path


def vecs(path: Path, rows: np.ndarray) -> Path:
    """The number of dimensions before every row."""
    path.write_bytes(b"".join(struct.pack("<i", len(row)) + row.tobytes() for row in rows))
    return path


def npy(path: Path, rows: np.ndarray) -> Path:
    """What numpy writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rows, allow_pickle=False)
    return path


def hdf5(path: Path, *, userblock: int = 0, attributes: dict | None = None, **options: object) -> Callable[..., Path]:
    """A file of datasets by name, as in `hdf5(path)(emb=rows)`; __ in a name is a slash."""

    def make(**datasets: np.ndarray) -> Path:
        with h5py.File(path, "w", userblock_size=userblock) as file:
            for name, array in datasets.items():
                file.create_dataset(name.replace("__", "/"), data=array, **options if len(array) else {})
            file.attrs.update(attributes or {})
        if userblock:  # as Julia's JLD2 begins its files
            with path.open("rb+") as raw:
                raw.write(b"HDF5-based Julia Data Format, version 0.1.1\0 (Julia 1.8.5)")
        return path

    return make


def parquet(
    path: Path, rows: np.ndarray, *, kind: str = "list", name: str = "emb", ids: object = None, groups: int = 7
) -> Path:
    """A column of lists of some kind, in row groups of a few rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = pa.from_numpy_dtype(rows.dtype)
    types = {"list": pa.list_(value), "large": pa.large_list(value), "fixed": pa.list_(value, rows.shape[1])}
    columns = {} if ids is None else {"id": pa.array(ids)}
    columns[name] = pa.array([list(row) for row in rows], types[kind])
    pq.write_table(pa.table(columns), path, row_group_size=groups)
    return path


def npy_bytes(rows: np.ndarray) -> bytes:
    """A whole `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class Case:
    """A way to store vectors: the member of the family it shows, the dtype, and how the test makes it."""

    member: str
    dtype: str
    make: Callable[[Path, np.ndarray], str]
    dim: int = 24
    is_bits: bool = False
    own_ids: bool = False
    packed: Callable[[np.ndarray], np.ndarray] = np.asarray  # the bytes that are read of bits


def own_ids(count: int) -> np.ndarray:
    """Ids that are no row numbers."""
    return np.arange(count) * 7 + 100


def _clip(folder: Path, rows: np.ndarray, name: str) -> str:
    for number, part in zip((2, 3, 10), np.array_split(rows, [7, 12]), strict=True):
        npy(folder / name / f"{name}_{number if number != 10 else 4}.npy", part)
    return str(folder)


def _unordered_clip(folder: Path, rows: np.ndarray) -> str:
    for number, part in enumerate(np.array_split(rows, 12)):  # img_emb_10 is before img_emb_2 in the order of letters
        npy(folder / "img_emb" / f"img_emb_{number}.npy", part)
    return str(folder)


def _folder(folder: Path, rows: np.ndarray) -> str:
    for number, part in zip((1, 2, 10), np.array_split(rows, [7, 12]), strict=True):
        parquet(folder / f"part-{number}.parquet", part, name="vector")
    (folder / "_temporary").mkdir()
    parquet(folder / "_temporary" / "part-3.parquet", rows, name="vector")
    return str(folder)


def _several_trains(folder: Path, rows: np.ndarray, before: str = "") -> str:
    for number, part in enumerate(np.array_split(np.arange(len(rows)), 3)):
        ids = own_ids(len(rows))[part]
        parquet(folder / f"{before}train-{number:02d}-of-03.parquet", rows[part], ids=ids)
    parquet(folder / "test.parquet", rows[:2], ids=range(len(rows[:2])))
    return str(folder)


def _words(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows).view(np.uint8)


CASES = {
    "fbin": Case("xbin", "float32", lambda at, rows: str(fbin(at / "x.fbin", rows))),
    "f16bin": Case("xbin", "float16", lambda at, rows: str(fbin(at / "x.f16bin", rows))),
    "hbin": Case("xbin", "float16", lambda at, rows: str(fbin(at / "x.hbin", rows))),
    "u8bin": Case("xbin", "uint8", lambda at, rows: str(fbin(at / "x.u8bin", rows))),
    "i8bin": Case("xbin", "int8", lambda at, rows: str(fbin(at / "x.i8bin", rows))),
    "wide fbin": Case("xbin", "float32", lambda at, rows: str(fbin(at / "x.fbin", rows, wide=True))),
    "wide u8bin": Case("xbin", "uint8", lambda at, rows: str(fbin(at / "x.u8bin", rows, wide=True))),
    "fvecs": Case("vecs", "float32", lambda at, rows: str(vecs(at / "x.fvecs", rows))),
    "bvecs": Case("vecs", "uint8", lambda at, rows: str(vecs(at / "x.bvecs", rows))),
    "npy float16": Case("npy", "float16", lambda at, rows: str(npy(at / "x.npy", rows))),
    "npy float64": Case("npy", "float64", lambda at, rows: str(npy(at / "x.npy", rows))),
    "npy int8": Case("npy", "int8", lambda at, rows: str(npy(at / "x.npy", rows))),
    "npy one column": Case("npy", "float32", lambda at, rows: str(npy(at / "x.npy", np.asfortranarray(rows))), dim=1),
    "clip folder": Case("clip_retrieval", "float16", lambda at, rows: _clip(at, rows, "img_emb")),
    "clip texts": Case(
        "clip_retrieval", "float32", lambda at, rows: f"clip_retrieval({_clip(at, rows, 'text_emb')!r}, modality='text')"
    ),
    "clip of 12 parts": Case("clip_retrieval", "float16", _unordered_clip),
    "sisap emb": Case("sisap", "float16", lambda at, rows: str(hdf5(at / "x.h5")(emb=rows))),
    "sisap queries": Case("sisap", "float32", lambda at, rows: str(hdf5(at / "x.h5")(emb=rows))),
    "sisap pca32": Case("sisap", "float32", lambda at, rows: str(hdf5(at / "x.h5")(pca32=rows)), dim=32),
    "sisap pca96": Case("sisap", "float32", lambda at, rows: str(hdf5(at / "x.h5")(pca96=rows)), dim=96),
    "sisap JLD2": Case("sisap", "float16", lambda at, rows: str(hdf5(at / "x.jld2", userblock=512)(emb=rows))),
    "sisap chunks": Case("sisap", "float16", lambda at, rows: str(hdf5(at / "x.h5", chunks=(5, 24))(emb=rows))),
    "sisap gzip": Case(
        "sisap", "float32", lambda at, rows: str(hdf5(at / "x.h5", chunks=(5, 9), compression="gzip", shuffle=True)(emb=rows))
    ),
    "sisap hamming": Case(
        "sisap", "uint64", lambda at, rows: str(hdf5(at / "x.h5")(hamming=rows)), dim=16, is_bits=True, packed=_words
    ),
    "sisap hamming chunks": Case(
        "sisap", "uint64", lambda at, rows: str(hdf5(at / "x.h5", chunks=(4, 16))(hamming=rows)), dim=16, is_bits=True,
        packed=_words,
    ),
    "sisap bundle": Case(
        "sisap", "float16",
        lambda at, rows: str(hdf5(at / "x.h5")(train=rows, itest__queries=rows[:3], otest__queries=rows[:2])),
    ),
    "sisap itest": Case(
        "sisap", "float32",
        lambda at, rows: f"sisap({str(hdf5(at / 'x.h5')(train=rows[:1], itest__queries=rows))!r}, dataset='itest/queries')",
    ),
    "ann-benchmarks": Case(
        "ann_benchmarks", "float32",
        lambda at, rows: str(hdf5(at / "x.hdf5", attributes={"distance": "angular", "type": "dense"})(train=rows, test=rows[:2])),
    ),
    "ann-benchmarks test": Case(
        "ann_benchmarks", "float64",
        lambda at, rows: f"ann_benchmarks({str(hdf5(at / 'x.hdf5')(train=rows[:2], test=rows))!r}, split='test')",
    ),
    "ann-benchmarks bits": Case(
        "ann_benchmarks", "bool", lambda at, rows: str(hdf5(at / "x.hdf5")(train=rows, test=rows[:2])), dim=64, is_bits=True,
        packed=lambda rows: np.packbits(rows, axis=1),
    ),
    "parquet list": Case("parquet", "float32", lambda at, rows: str(parquet(at / "x.parquet", rows))),
    "parquet large list": Case("parquet", "float64", lambda at, rows: str(parquet(at / "x.parquet", rows, kind="large"))),
    "parquet fixed list": Case("parquet", "float16", lambda at, rows: str(parquet(at / "x.parquet", rows, kind="fixed"))),
    "parquet int8": Case("parquet", "int8", lambda at, rows: str(parquet(at / "x.parquet", rows, name="embedding"))),
    "parquet with ids": Case(
        "parquet", "float32", lambda at, rows: str(parquet(at / "x.parquet", rows, ids=own_ids(len(rows)))), own_ids=True
    ),
    "parquet folder": Case("parquet", "float32", _folder),
    "vectordbbench": Case("vectordbbench", "float32", _several_trains, own_ids=True),
    "vectordbbench shuffled": Case(
        "vectordbbench", "float32", lambda at, rows: _several_trains(at, rows, "shuffle_"), own_ids=True
    ),
    "vectordbbench test": Case(
        "vectordbbench", "float32",
        lambda at, rows: f"vectordbbench({str(parquet(at / 'test.parquet', rows, ids=own_ids(len(rows))).parent)!r}, 'test')",
        own_ids=True,
    ),
}  # fmt: skip


def drawn(case: Case, count: int = 29, seed: int = 0) -> np.ndarray:
    """Rows that use the whole of a dtype, to its ends, without NaN."""
    random = np.random.default_rng(seed)
    dtype = np.dtype(case.dtype)
    if dtype.kind == "f":
        rows = random.standard_normal((count, case.dim)).astype(dtype)
        ends = [-0.0, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal, -np.finfo(dtype).tiny]
        rows.reshape(-1)[: len(ends)] = ends[: rows.size]
        return rows
    if dtype.kind == "b":
        return random.random((count, case.dim)) < 0.5
    return np.frombuffer(random.bytes(count * case.dim * dtype.itemsize), dtype).reshape(count, case.dim)
