"""The same code runs on a Ray of several nodes, with the same records."""

import json
import os
import subprocess
import sys

import pytest

ON_TWO_NODES = """
import os, secrets, sys
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
from ray.cluster_utils import Cluster
import ray
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=2)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
try:
    from raybench.cli import main
    main(sys.argv[1:])
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.ray
def test_two_nodes_give_the_records_of_one_process(tmp_path):
    """Embedding and search spread over two nodes; every record is that of a run without Ray."""
    arguments = ["run", "demo", "--set", "images=scenes(images=200, seed=4)", "--set", "encoders=[tiny(dim=16)]"]
    arguments += ["--set", "shards=3", "--set", "embed.chunk=16", "--set", "grid.transforms=truncate(dim=8)", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def last_line(command, out, *more):
        done = subprocess.run(
            [sys.executable, *command, *arguments, "--out", str(out), *more],
            capture_output=True, text=True, timeout=280, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    spread = last_line(["-c", ON_TWO_NODES], tmp_path / "spread")
    local = last_line(["-m", "raybench"], tmp_path / "local", "--local")

    run = json.loads((tmp_path / "spread" / "run.json").read_text())
    assert run["environment"]["cluster"]["nodes"] == 2
    assert spread["records"] == local["records"]
