"""Formats of vectors and neighbours: one recipe per format, looked up by name; a bare path is recognised.

Where a format numbers from 1, stores distances, or packs bits is known to its own file and to nobody else.
"""

import dataclasses
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from raybench import storage
from raybench.errors import DataError, RequestError
from raybench.formats.base import FormatRecipe, StoredNeighbors, VectorFile
from raybench.registry import Registry
from raybench.spec import Spec
from raybench.transforms import TRANSFORMS

FORMATS: Registry[FormatRecipe] = Registry(
    "vector format",
    {
        "sisap": "raybench.formats.sisap:Sisap",
        "ann_benchmarks": "raybench.formats.ann_benchmarks:AnnBenchmarks",
        "xbin": "raybench.formats.xbin:Xbin",
        "vecs": "raybench.formats.vecs:Vecs",
        "npy": "raybench.formats.matrices:Npy",
        "clip_retrieval": "raybench.formats.matrices:ClipRetrieval",
        "vectordbbench": "raybench.formats.tables:VectorDbBench",
        "parquet": "raybench.formats.tables:ParquetVectors",
        "gold": "raybench.formats.artifact:Gold",
        "laion_like": "raybench.formats.laion_like:LaionLike",
        "transformed": "raybench.formats.transformed:TransformedRecipe",
    },
)

_SUFFIXES = {
    ".npy": "npy", ".parquet": "parquet", ".fvecs": "vecs", ".bvecs": "vecs", ".ivecs": "vecs", ".fbin": "xbin",
    ".f16bin": "xbin", ".hbin": "xbin", ".u8bin": "xbin", ".i8bin": "xbin", ".ibin": "xbin", ".u64bin": "xbin",
    ".bin": "xbin",
}  # fmt: skip
_HDF5 = (".h5", ".hdf5", ".jld2")
_CALL = re.compile(r"(\w+)\(.*\)\s*", re.DOTALL)


def _is_spec(text: str) -> bool:
    """Whether a text is a spec and not the path of a file or folder that is called like one, such as `laion(1)`."""
    call = _CALL.fullmatch(text.strip())
    return call is not None and (call[1] in FORMATS.names or not Path(text).exists())


def recipe_of(text: str, *, is_target: bool = False) -> Any:
    """The recipe of a spec, or of a bare path by its suffix and, where that is not enough, by what is there.

    RequestError for what is not recognised, with what can be given instead.
    """
    if _is_spec(text):
        return FORMATS.make(Spec.parse(text))
    suffix = PurePosixPath(text).suffix.lower()
    if suffix in _SUFFIXES:
        return FORMATS.load(_SUFFIXES[suffix])(text)
    if is_target and suffix == ".hdf5":
        raise RequestError(
            f"{text!r} may be of two formats; write sisap({text!r}) or ann_benchmarks({text!r}, distance=...)"
        )
    if suffix in _HDF5:
        return FORMATS.load("sisap" if is_target else _hdf5_kind(text))(text)
    if not is_target:
        return FORMATS.load(_folder_kind(text))(text)
    raise RequestError(
        f"{text!r} does not say in which format to write; end it in {', '.join((*_SUFFIXES, *_HDF5[:1]))}, or give a spec "
        "such as clip_retrieval('folder')"
    )


def anchored(text: str) -> str:
    """The same vectors, named so that a process in another folder finds them: local paths made absolute."""
    if not _is_spec(text):
        return storage.absolute(text)
    spec = Spec.parse(text)
    fields = [field.name for field in dataclasses.fields(FORMATS.load(spec.name))]
    args = tuple(_anchor(name, value) for name, value in zip(fields, spec.args, strict=False))
    params = tuple((name, _anchor(name, value)) for name, value in spec.params)
    return str(dataclasses.replace(spec, args=args, params=params))


def _anchor(field: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if field == "vectors":
        return anchored(value)
    is_place = field in ("path", "folder") or (
        field == "transform" and not _CALL.fullmatch(value) and value not in TRANSFORMS.names
    )
    return storage.absolute(value) if is_place else value


def _hdf5_kind(path: str) -> str:
    """Which family an HDF5 file is of, by what it holds."""
    from raybench.formats import hdf5
    from raybench.formats.sisap import DATASETS, GROUPS

    with hdf5.opened(path) as file:
        if any(hdf5.find(file, name, path) is not None for name in ("test", "neighbors")) or "distance" in file.attrs:
            return "ann_benchmarks"
        known = (*DATASETS, *(f"{group}knns" for group in GROUPS))
        if any(hdf5.find(file, name, path) is not None for name in known):
            return "sisap"
        there = hdf5.names(file)
    raise DataError(f"{path} holds {there}; give the dataset, as in sisap({path!r}, dataset=...)")


def _folder_kind(text: str) -> str:
    place = storage.absolute(text)
    if storage.exists(place):
        raise RequestError(
            f"{text!r} has a suffix of no format; give a spec: {', '.join(FORMATS.names)}, as in npy({text!r})"
        )
    names = {file.name for file in storage.list_files(place)}
    if not names:
        raise RequestError(f"{text!r} is not there; check the path, or give a spec such as npy('vectors.npy')")
    if "ids.npy" in names and storage.MANIFEST in names:
        return "gold"
    if any(name.startswith(("img_emb/", "text_emb/")) for name in names):
        return "clip_retrieval"
    if any(name.removeprefix("shuffle_").startswith(("train.", "train-", "test.parquet")) for name in names):
        return "vectordbbench"
    if any(name.endswith(".parquet") for name in names):
        return "parquet"
    raise RequestError(
        f"{text!r} is in no format that is recognised; give a spec: {', '.join(FORMATS.names)}, as in npy({text!r})"
    )


def open_vectors(text: str) -> VectorFile:
    """Vectors by a spec or a path. DataError, StorageError or SpecError in one sentence for what cannot be read."""
    opened: VectorFile = recipe_of(text).open()
    return opened


def open_neighbors(text: str) -> StoredNeighbors:
    """Neighbours by a spec or a path. DataError where the format or the file holds none."""
    # The suffixes of vectors are also those of big-ann's truth, so only the recipe can say.
    recipe = recipe_of(text)
    if not hasattr(recipe, "neighbors"):
        raise DataError(
            f"{text} is of a format that holds no neighbours; give SISAP's or ann-benchmarks' HDF5, .ivecs, .ibin"
        )
    found: StoredNeighbors = recipe.neighbors()
    return found


def check_vectors(target: str, file: VectorFile, dtype: str | None = None) -> None:
    """DataError for what the target cannot hold: a dtype, ids, bits. Reads no vectors, and writes nothing."""
    _vectors_target(target, file, dtype)


def write_vectors(target: str, file: VectorFile, dtype: str | None = None) -> None:
    """Write all rows to a spec or a path, whole or not at all; `dtype` changes their type, and nothing else does.

    DataError for what the target cannot hold, as `check_vectors` has it, and for values that do not fit a narrower dtype.
    """
    recipe, stored = _vectors_target(target, file, dtype)
    recipe.write(file, stored)


def _vectors_target(target: str, file: VectorFile, dtype: str | None) -> tuple[Any, np.dtype[Any]]:
    recipe = recipe_of(target, is_target=True)
    if not hasattr(recipe, "write"):
        raise DataError(f"{target} cannot be written; give a file or folder format")
    stored = file.dtype if dtype is None else np.dtype(dtype)
    if file.is_bits and stored != file.dtype:
        raise DataError(f"packed bits have no values to be turned into {stored}; leave the dtype out")
    recipe.check(file, stored)
    return recipe, stored


def write_neighbors(target: str, stored: StoredNeighbors) -> bool:
    """Write neighbours to a spec or a path; whether scores have a place there, which are left out if not.

    DataError for what the target cannot hold: scores missing, padding, large ids.
    """
    recipe = recipe_of(target, is_target=True)
    if not hasattr(recipe, "write_neighbors"):
        raise DataError(f"{target} is of a format without neighbours; give SISAP's HDF5, .ivecs, or a spec")
    has_place: bool = recipe.write_neighbors(stored)
    return has_place
