"""`ray job submit` of jobs/run.py on a real head with token authentication: it succeeds, ends with JSON, or exits non-zero."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

SMALL = [
    part
    for setting in (
        "images=scenes(images=200, seed=4)", "encoders=[tiny(dim=48)]", "shards=2", "cost=null", "tune=null", "compare=null", "hard=null", "generate=null",
    )
    for part in ("--set", setting)
]  # fmt: skip


def _free_port() -> int:
    # Ray keeps 10002 to 19999 for its workers.
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port > 20_000:
            return port


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """A Ray head on loopback that demands a token; the environment of its clients."""
    scripts = str(Path(sys.executable).parent)
    folder = tempfile.mkdtemp(prefix="rb-", dir=tempfile.gettempdir())
    port, dashboard = _free_port(), _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": scripts + os.pathsep + os.environ["PATH"],
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [
        f"{scripts}/ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--disable-usage-stats", f"--temp-dir={folder}",
        "--object-store-memory=200000000", f"--ray-client-server-port={_free_port()}",
        # The agent that starts jobs: its usual port belongs to any Ray that already runs here, and without it no job starts.
        "--dashboard-agent-listen-port=0",
    ]  # fmt: skip
    log = Path(folder) / "start.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            clients = environment | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
            _wait_for_jobs(clients, scripts, process, log)
            yield clients
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for_jobs(environment: dict[str, str], scripts: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        # The job server answers before the agent that starts jobs is there, so only an accepted job says that it is.
        command = [f"{scripts}/ray", "job", "submit", "--no-wait", "--", "true"]
        if subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(1)
    raise AssertionError(f"the job server took no job within two minutes: {log.read_text()}")


def _submit(head: dict[str, str], repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        f"{Path(sys.executable).parent}/ray", "job", "submit", "--working-dir", str(repository), "--",
        "python", "jobs/run.py", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, env=head, capture_output=True, text=True, timeout=280, check=False)


def test_a_submitted_evaluation_ends_with_json(head, repository, tmp_path):
    """The job succeeds, its log ends with the JSON line, and the records lie where they were asked for."""
    done = _submit(head, repository, "demo", "--out", str(tmp_path / "out"), *SMALL)

    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    last = json.loads(lines[-1])
    assert last["ok"]
    assert {record["encoder"] for record in last["records"]} == {"tiny(dim=48)"}
    assert Path(last["report"]).is_file()
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["environment"]["cluster"]["nodes"] == 1


def test_a_failing_job_exits_with_an_error(head, repository, tmp_path):
    """A wrong request fails the job, and the log says it in one sentence."""
    done = _submit(head, repository, "demo", "--out", str(tmp_path / "out"), "--set", "encoders=[tinny(dim=16)]")

    assert done.returncode != 0
    assert "did you mean 'tiny'?" in done.stdout + done.stderr
    assert '"ok": false' in done.stdout + done.stderr


def test_a_stranger_without_the_token_is_refused(head, repository):
    """The same submission without the head's token does not run."""
    stranger = head | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = _submit(stranger, repository, "demo", "--out", "unused")

    assert done.returncode != 0
    assert "auth" in (done.stdout + done.stderr).lower()
