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
    arguments += [part for name in ("cost", "tune", "compare", "hard") for part in ("--set", f"{name}=null")]
    arguments += ["--set", "shards=3", "--set", "embed.chunk=16", "--set", "grid.transforms=truncate(dim=8)", "--json"]
    arguments += ["--set", "generate.queries=12", "--set", "generate.alone.queries=3"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def last_line(command, out, *more):
        done = subprocess.run(
            [sys.executable, *command, *arguments, "--out", str(out), *more],
            capture_output=True, text=True, timeout=280, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    spread = last_line(["-c", ON_TWO_NODES], tmp_path / "spread", "--set", "embed.workers=2")
    local = last_line(["-m", "raybench"], tmp_path / "local", "--local")

    run = json.loads((tmp_path / "spread" / "run.json").read_text())
    assert run["environment"]["cluster"]["nodes"] == 2
    assert spread["records"] == local["records"]


LOSING_A_NODE = """
import os, secrets, sys, threading, time
from pathlib import Path
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
from ray.cluster_utils import Cluster
import ray
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
from raybench.distributed import gold
gold._LATE_S = 2.0
out = Path(sys.argv[sys.argv.index("--out") + 1])

def lose():
    while not list(out.glob("gold/*/parts/*.npz")):
        time.sleep(0.01)
    cluster.remove_node(other, allow_graceful=False)
    (out / "lost").touch()

thread = threading.Thread(target=lose)
thread.start()
try:
    from raybench.cli import main
    main(sys.argv[1:])
finally:
    thread.join(30)
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.ray
def test_a_node_that_is_lost_changes_no_neighbor(tmp_path):
    """A node is killed after the first part of an exact search: the others take its parts over, and the bytes are the same."""
    corpus = "laion_like(rows=300_000, dim=16)"
    queries = "laion_like(rows=300_000, dim=16, part='queries', queries=64, asking='image')"
    arguments = ["gold", "--corpus", corpus, "--queries", queries, "-k", "10", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def last_line(command, out, *more):
        done = subprocess.run(
            [sys.executable, *command, *arguments, "--out", str(out), *more],
            capture_output=True, text=True, timeout=280, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        # Ray may tell of the lost node after the last line of the command.
        return json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])

    survived = last_line(["-c", LOSING_A_NODE], tmp_path / "survived", "--workers", "2")
    alone = last_line(["-m", "raybench"], tmp_path / "alone", "--local")

    assert (tmp_path / "survived" / "lost").exists()
    assert survived["files"] == alone["files"]
    assert survived["fingerprint"] == alone["fingerprint"]
