"""Formats of vectors and neighbours: one recipe per format, looked up by name; a bare path is recognised.

Where a format numbers from 1, stores distances, or packs bits is known to its own file and to nobody else.
"""

import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from raybench import storage
from raybench.errors import DataError, RequestError
from raybench.formats.base import FormatRecipe, StoredNeighbors, VectorFile
from raybench.registry import Registry
from raybench.spec import Spec

FORMATS: Registry[FormatRecipe] = Registry(
    "vector format",
    {
        "sisap": "raybench.formats.hdf5:Sisap",
        "ann_benchmarks": "raybench.formats.hdf5:AnnBenchmarks",
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
}  # fmt: skip
_HDF5 = (".h5", ".hdf5", ".jld2")
_CALL = re.compile(r"\w+\(.*\)\s*", re.DOTALL)


def recipe_of(text: str, *, is_target: bool = False) -> Any:
    """The recipe of a spec, or of a bare path by its suffix and, where that is not enough, by what is there.

    RequestError for what is not recognised, with what can be given instead.
    """
    if _CALL.fullmatch(text.strip()):
        return FORMATS.make(Spec.parse(text))
    suffix = PurePosixPath(text).suffix.lower()
    if suffix in _SUFFIXES:
        return FORMATS.load(_SUFFIXES[suffix])(text)
    if suffix in _HDF5:
        from raybench.formats.hdf5 import kind

        return FORMATS.load("sisap" if is_target or suffix == ".jld2" else kind(text))(text)
    if not is_target:
        return FORMATS.load(_folder_kind(text))(text)
    raise RequestError(
        f"{text!r} does not say in which format to write; end it in {', '.join((*_SUFFIXES, *_HDF5))}, or give a spec "
        "such as clip_retrieval('folder')"
    )


def _folder_kind(text: str) -> str:
    names = {file.name for file in storage.list_files(storage.absolute(text))}
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


def write_vectors(target: str, file: VectorFile, dtype: str | None = None) -> None:
    """Write all rows to a spec or a path, whole or not at all; `dtype` changes their type, and nothing else does.

    DataError for what the target cannot hold: a dtype, ids, bits; and for values that do not fit a narrower dtype.
    """
    recipe = recipe_of(target, is_target=True)
    if not hasattr(recipe, "write"):
        raise DataError(f"{target} cannot be written; give a file or folder format")
    recipe.write(file, file.dtype if dtype is None else np.dtype(dtype))


def write_neighbors(target: str, stored: StoredNeighbors) -> None:
    """Write neighbours to a spec or a path. DataError for what the target cannot hold: scores missing, padding, large ids."""
    recipe = recipe_of(target, is_target=True)
    if not hasattr(recipe, "write_neighbors"):
        raise DataError(f"{target} is of a format without neighbours; give SISAP's HDF5, .ivecs, or a spec")
    recipe.write_neighbors(stored)
