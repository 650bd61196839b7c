"""What open_clip can load, read from its own files without importing it.

Importing open_clip costs seconds and imports torch; the command line and decoding workers need only its tables. The
architectures are the JSON files of its `model_configs` folder. The pretrained tags are the table in its
`pretrained.py`, whose assignments are run without the imports around them; a test keeps them equal to the originals.
"""

import ast
import copy
import functools
import importlib.util
from pathlib import Path
from typing import Any

from raybench.encoders.model_files import read_config
from raybench.errors import RequestError, suggest


@functools.cache
def _folder() -> Path:
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise RequestError("open_clip is not installed; install the package open_clip_torch")
    return Path(found.origin).parent


@functools.cache
def architectures() -> tuple[str, ...]:
    """The names of all architectures."""
    return tuple(sorted(file.stem for file in (_folder() / "model_configs").glob("*.json")))


def architecture(name: str) -> dict[str, Any]:
    """The configuration of an architecture. Raises RequestError, suggesting the nearest name, where there is none."""
    if name not in architectures():
        nearest = suggest(name, architectures())
        if nearest.startswith("known"):  # 144 names are no help in one sentence
            nearest = "open_clip.list_models() has all names, and a folder is given as local-dir:/path"
        raise RequestError(f"open_clip has no architecture called {name!r}; {nearest}")
    return read_config(_folder() / "model_configs" / f"{name}.json")


def tags(name: str) -> dict[str, dict[str, Any]]:
    """The pretrained tags of an architecture, each with its preprocessing, activation and place on the hub."""
    found: dict[str, dict[str, Any]] = _table().get(name, {})
    return found


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    constants: dict[str, Any] = {}
    exec((_folder() / "constants.py").read_text(), constants)  # noqa: S102  # an installed library's own constants
    tree = ast.parse((_folder() / "pretrained.py").read_text())
    tree.body = [node for node in tree.body if _is_table(node)]
    names = {**constants, "copy": copy}
    exec(compile(tree, "pretrained.py", "exec"), names)  # noqa: S102  # what importing it would run, less its imports
    table: dict[str, dict[str, dict[str, Any]]] = names["_PRETRAINED"]
    return table


def _is_table(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name.startswith("_") and node.name.endswith("cfg")
    return isinstance(node, (ast.Assign, ast.For, ast.Expr))
