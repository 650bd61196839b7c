"""What fitted transforms share: a content key over recipe and arrays, and an artifact folder without pickles.

<uri>/<name>.npy       one file an array
<uri>/manifest.json    kind, recipe (a spec), facts of the fit, and the SHA-256 of each array; written last
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench import storage
from raybench.errors import DataError
from raybench.spec import content_key

KIND = "transform"
Arrays = Mapping[str, npt.NDArray[Any]]


def key_of(spec: str, arrays: Arrays) -> str:
    """The content key of a fitted transform: recipe, shapes, dtypes and bytes."""
    parts = [
        (name, str(one.dtype), list(one.shape), storage.digest(_bytes(one))) for name, one in sorted(arrays.items())
    ]
    return content_key(spec, parts)


def save(uri: str, spec: str, key: str, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write the artifact; whatever else the caller wants told goes into `facts`."""
    files = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        files[f"{name}.npy"] = {"sha256": storage.write_bytes(storage.join(uri, f"{name}.npy"), buffer.getvalue())}
    storage.write_manifest(uri, {"kind": KIND, "recipe": spec, "key": key, "facts": dict(facts), "files": files})


def read(uri: str, make: Callable[[str, dict[str, npt.NDArray[Any]], dict[str, Any]], Any]) -> Any:
    """The transform of a finished folder, made from recipe, arrays and facts. DataError where it was changed."""
    manifest = storage.read_manifest(uri)
    if manifest is None or manifest.get("kind") != KIND:
        raise DataError(f"{uri} is no fitted transform (it has no manifest of one); fit it again")
    arrays = {}
    for name, facts in manifest["files"].items():
        data = storage.read_bytes(storage.join(uri, name))
        if storage.digest(data) != facts["sha256"]:
            raise DataError(f"{storage.join(uri, name)} is not what was written; delete {uri} and fit again")
        arrays[name.removesuffix(".npy")] = np.load(io.BytesIO(data), allow_pickle=False)
    made = make(manifest["recipe"], arrays, manifest["facts"])
    if made.key != manifest["key"]:
        raise DataError(f"{uri} has the key {manifest['key']}, its arrays have {made.key}; delete it and fit again")
    return made


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
