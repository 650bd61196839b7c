"""cluster.yaml is what Ray's launcher of the pinned version takes, and says what the launchers must say."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def _cluster() -> dict[str, object]:
    content = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    assert isinstance(content, dict)
    return content


def test_the_launcher_accepts_the_file(monkeypatch):
    """Ray's own schema finds no unknown or missing key, and every node type is complete."""
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    filled = fillout_defaults(_cluster())
    validate_config(filled)

    assert filled["head_node_type"] in filled["available_node_types"]


def test_the_image_has_the_pinned_ray():
    """The cluster runs the same version of Ray as pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = next(re.search(r"==([\d.]+)", line) for line in project["dependencies"] if line.startswith("ray["))

    assert f":{pinned.group(1)}-py311" in _cluster()["docker"]["image"]


def test_every_start_command_is_explicit():
    """Head and workers start with token authentication, the uv hook off, and a dashboard on loopback only."""
    cluster = _cluster()
    starts = [cluster[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]

    for start in starts:
        assert "RAY_AUTH_MODE=token" in start
        assert "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0" in start
    assert "--dashboard-host=127.0.0.1" in starts[0]
