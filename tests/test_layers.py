"""Imports point one way, and only one folder knows Ray."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "raybench"

# Each layer may import itself and the layers above it in this list.
LAYERS = [
    {"errors", "spec", "registry", "arrays", "storage", "environment", "memory", "preflight", "__init__"},
    {"sources", "encoders", "metrics", "transforms"},
    {"formats", "fetch", "sisap", "search", "results", "collection"},
    {"indexes", "embedding", "dedup", "curation", "retrieval", "generation"},
    {"experiments"},
    {"distributed"},
    {"report"},
    {"cli", "__main__"},
]
MODULES = sorted(ROOT.rglob("*.py"))


def _room(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _level(room: str) -> int:
    return next(level for level, rooms in enumerate(LAYERS) if room in rooms)


def test_every_room_has_a_layer():
    """A new module or folder must be placed before it can be imported."""
    assert {_room(module) for module in MODULES} <= set().union(*LAYERS)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_imports_point_one_way(module):
    """A module imports from its own layer and from those before it, never from those after it."""
    own = _level(_room(module))
    rooms = {name.split(".")[1] for name in _imports(module) if name.startswith("raybench.") and name.count(".")}
    wrong = {room for room in rooms if any(room in layer for layer in LAYERS) and _level(room) > own}

    assert not wrong


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_only_distributed_imports_ray(module):
    """Everything else runs where Ray is not installed."""
    uses_ray = any(name.split(".")[0] == "ray" for name in _imports(module))

    assert not uses_ray or _room(module) == "distributed"


def test_ray_is_imported_with_its_uv_hook_off():
    """Under `uv run`, Ray's workers must not build environments of their own; Ray decides that when it is imported."""
    code = (
        "import raybench.distributed.backend\nfrom ray._private import ray_constants\n"
        "print(ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    assert done.stdout.strip() == "False"
