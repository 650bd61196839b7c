"""Packages that one encoder needs in other versions than raybench: laid over those of its own process, and of no other.

They are installed without their dependencies into a folder of the user's cache, named by their content key, and come first on this
process's path; everything else is found where it was. So a model that needs an older transformers loads beside one that needs the
new one, on any node that reaches a package index or has the folder already. Copying the whole environment, as the plug-ins of
Ray for `uv` and `pip` do where it is a virtual environment, would take 8 GB on each node.
"""

import fcntl
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from raybench.errors import RequestError, WorkError
from raybench.spec import content_key

ENVIRONMENT = (
    "RAYBENCH_PACKAGES"  # a variable of processes with packages of their own, so that no other work shares them
)
_WHOLE = ".whole"
_INSTALL_S = 900


def key(packages: Sequence[str]) -> str:
    """What decides an overlay: the requirements, the content of local wheels, and this Python."""
    told = [hashlib.sha256(Path(one).read_bytes()).hexdigest() if Path(one).is_file() else one for one in packages]
    return content_key(told, sys.version_info[:2], sys.platform)


def check_installed(packages: Sequence[str], what: str) -> None:
    """RequestError unless this process has every package in the version that is named."""
    for package in packages:
        name, _, wanted = package.partition("==")
        if not wanted:
            continue
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            raise RequestError(
                f"{what} needs {package}, and this process has {found}; run it on Ray, where it gets packages of its own (leave out "
                "--local), or name what is installed as packages=[...]"
            )


def activate(packages: Sequence[str]) -> None:
    """Put packages first on this process's path, installing them if they are not there; WorkError where that fails."""
    if not packages:
        return
    folder = _folder(packages)
    names = {path.name for path in folder.iterdir() if path.is_dir() and re.fullmatch(r"[A-Za-z_]\w*", path.name)}
    early = sorted(name for name in names & sys.modules.keys() if name != "bin" and str(folder) not in _place(name))
    if early:
        raise WorkError(
            f"this process has imported {early[0]} already, and needs {', '.join(packages)}; give the encoder a process of its own"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def _place(name: str) -> str:
    return str(getattr(sys.modules[name], "__file__", ""))


def root() -> Path:
    """Where overlays are kept on this node."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raybench" / "packages"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache = Path(tempfile.gettempdir()) / f"raybench-packages-{os.getuid()}"
        cache.mkdir(mode=0o700, exist_ok=True)
    return cache


def _folder(packages: Sequence[str]) -> Path:
    """The overlay, made if it is missing: by one process of a node at a time, and whole or not at all."""
    folder = root() / key(packages)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _WHOLE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
            try:
                _install(packages, part)
                (part / _WHOLE).touch()
                part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return folder


def _install(packages: Sequence[str], folder: Path) -> None:
    beside = str(Path(sys.executable).parent)
    uv = shutil.which("uv", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable] if uv else pip
    try:
        done = subprocess.run(
            [*command, "--no-deps", "--target", str(folder), "--", *packages], capture_output=True, text=True, timeout=_INSTALL_S, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkError(
            f"{', '.join(packages)} could not be installed: {error}; install uv or pip on every node"
        ) from None
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())[-300:]
        raise WorkError(
            f"{', '.join(packages)} could not be installed: {reason}; every node needs a package index, or the wheels as paths"
        )
