"""Filled indexes in storage: filled once for a recipe and a run of rows, and read by everyone after that.

    <out>/indexes/<key>/index.faiss      as faiss writes it
    <out>/indexes/<key>/manifest.json    recipe, rows, seconds and bytes; written last

The key is of the recipe, the rows (checksum of the collection, transform, first and last row), and the version of faiss. A
local file is memory-mapped where faiss can; it is compared with its checksum whenever it is read.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from raybench import storage
from raybench.arrays import Vectors
from raybench.errors import DataError
from raybench.indexes.base import Index, IndexRecipe
from raybench.indexes.joined import split_rows
from raybench.memory import peak_memory
from raybench.spec import content_key

FORMAT = 3  # raise it when the same recipe and rows give another index
_FILE = "index.faiss"


@dataclass(frozen=True, slots=True)
class RowsKey:
    """Which rows: small, and the same wherever they are read."""

    checksum: str  # of the collection
    transform: str  # the transform's key
    start: int
    stop: int


class RowSource(Protocol):
    """Stored rows: a finished folder of vectors, or anything else that reads a run of rows and knows what it is."""

    @property
    def uri(self) -> str:
        """Where they are."""
        ...

    @property
    def checksum(self) -> str:
        """What changes when they do."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def load(self, start: int = 0, stop: int | None = None) -> Vectors:
        """Rows start to stop."""
        ...


def open_index(recipe: IndexRecipe, vectors: Vectors, rows: RowsKey, out: str) -> Index:
    """The index of these rows: read if it was filled before, else filled and written. `exact()` has nothing to fill."""
    maker: Any = recipe
    if not hasattr(maker, "fill"):
        return recipe.build(vectors)
    uri = storage.join(out, "indexes", key_of(recipe, rows))
    if storage.read_manifest(uri) is None:
        _write(uri, maker, vectors, rows)
    opened: Index = maker.serve(_read(uri), vectors)
    return opened


def key_of(recipe: IndexRecipe, rows: RowsKey) -> str:
    """The content key; a recipe prints all its parameters, defaults too."""
    import faiss

    if hasattr(recipe, "fetch"):  # where rows are fetched from is not part of what is filled
        recipe = replace(recipe, fetch="stored")  # type: ignore[type-var]  # a frozen dataclass, as all recipes are
    return content_key(FORMAT, faiss.__version__, repr(recipe), rows.checksum, rows.transform, rows.start, rows.stop)


def filled_facts(out: str, recipe: IndexRecipe, rows_of: RowSource, transform: str, shards: int) -> dict[str, Any]:
    """Bytes on disk and build seconds of all partitions together, and the peak of the largest; nothing for `exact()`, which is not filled."""
    if not hasattr(recipe, "fill"):
        return {"file_bytes": None, "build_s": None, "build_peak_bytes": None}
    rows = [RowsKey(rows_of.checksum, transform, *edges) for edges in split_rows(len(rows_of), shards)]
    manifests = [storage.read_manifest(storage.join(out, "indexes", key_of(recipe, one))) or {} for one in rows]
    return {
        "file_bytes": sum(one["files"][_FILE]["size_bytes"] for one in manifests),
        "build_s": round(sum(one["build_s"] for one in manifests), 3),
        "build_peak_bytes": max(
            (one["build_peak_bytes"] for one in manifests if one["build_peak_bytes"]), default=None
        ),
    }


def _write(uri: str, maker: Any, vectors: Vectors, rows: RowsKey) -> None:
    import faiss

    started = time.perf_counter()
    with peak_memory() as peak:
        index = maker.fill(vectors)
    build_s = time.perf_counter() - started
    data = faiss.serialize_index(index)
    digest = storage.write_bytes(storage.join(uri, _FILE), data.data)
    manifest = {
        "kind": "index", "recipe": repr(maker), "rows": len(vectors), "first_row": rows.start, "dim": vectors.dim,
        "rows_of": {"collection": rows.checksum, "transform": rows.transform}, "faiss": faiss.__version__,
        "build_s": round(build_s, 3), "build_peak_bytes": peak.bytes, "files": {_FILE: {"sha256": digest, "size_bytes": len(data)}},
    }  # fmt: skip
    storage.write_manifest(uri, manifest)


def _read(uri: str) -> Any:
    """The filled index of a finished folder. DataError where the file is not what was written."""
    import faiss

    manifest, place = storage.read_manifest(uri), storage.join(uri, _FILE)
    wanted = None if manifest is None else manifest["files"][_FILE]["sha256"]
    if storage.is_s3(place):
        data = storage.read_bytes(place)
        _check(data, wanted, uri)
        return faiss.deserialize_index(np.frombuffer(data, np.uint8))
    if not Path(place).exists():
        raise DataError(f"{place} is gone; delete {uri} and run again")
    _check(np.memmap(place, np.uint8, "r").data, wanted, uri)
    return faiss.read_index(place, faiss.IO_FLAG_MMAP_IFC)


def _check(data: bytes | memoryview, wanted: str | None, uri: str) -> None:
    if storage.digest(data) != wanted:
        raise DataError(f"{storage.join(uri, _FILE)} is not what was written; delete {uri} and run again")
