"""Fitted transforms in storage: fitted once for a recipe, a corpus and a seed, and read by everyone after that.

<out>/transforms/<key>/    see `fitted`; the key is of recipe, fingerprint of the corpus, and seed
"""

import time
from typing import Any

import numpy.typing as npt

from raybench import storage
from raybench.errors import DataError, SpecError
from raybench.spec import Spec, content_key
from raybench.transforms import TRANSFORMS, fitted
from raybench.transforms.base import Rows, Transform

FORMAT = 1  # raise it when the same corpus gives another transform


def fit_once(spec: str, corpus: Rows, fingerprint: object, out: str, seed: int = 0) -> tuple[Transform, str | None]:
    """The transform of a recipe for a corpus, and the folder that holds it (None where there is nothing to fit).

    `fingerprint` is any JSON value that changes when the corpus does (a checksum; names, sizes and times of files).
    """
    recipe: Any = TRANSFORMS.make(spec)
    if not recipe.needs_fit:
        stateless: Transform = recipe.fit(None)
        return stateless, None
    uri = storage.join(storage.absolute(out), "transforms", content_key(FORMAT, recipe.spec, fingerprint, seed))
    if storage.read_manifest(uri) is None:
        started = time.perf_counter()
        made = recipe.fit(corpus, seed)
        made.save(uri, corpus=fingerprint, fit_s=round(time.perf_counter() - started, 3))
    return load(uri), uri


def load(uri: str) -> Transform:
    """A fitted transform from its folder. DataError where it is not finished or was changed."""

    def make(spec: str, arrays: dict[str, npt.NDArray[Any]], facts: dict[str, Any]) -> Any:
        recipe: Any = TRANSFORMS.make(spec)
        try:
            return recipe.of_arrays(arrays, facts)
        except KeyError as error:
            raise DataError(f"{uri} lacks {error}; delete it and fit again") from None

    loaded: Transform = fitted.read(uri, make)
    return loaded


def open_transform(text: str) -> Transform:
    """A transform from text: the spec of one that needs no fitting, or the folder of a fitted one."""
    try:
        recipe: Any = TRANSFORMS.make(Spec.parse(text))
    except SpecError:
        if storage.read_manifest(text) is None:
            raise
        return load(text)
    if recipe.needs_fit:
        raise DataError(f"{text} must be fitted on a corpus first; give the folder of the fitted one instead")
    stateless: Transform = recipe.fit(None)
    return stateless
