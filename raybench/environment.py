"""The facts of this machine and these libraries that a reader needs beside a number; nothing that names a person.

The kernel that a BLAS library picks decides speed and last bits more than any setting, so it is a fact of every
result.
"""

import functools
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from raybench.errors import RequestError

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_LIBRARIES = (
    "raybench",
    "numpy",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "pyarrow",
    "pillow",
    "ray",
)


@functools.cache
def environment() -> dict[str, Any]:
    """Versions, processor, cores, memory and BLAS kernel; a JSON value, taken once per process."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": available_cores(),
        "memory_bytes": memory_bytes(),
        "blas": blas_kernel(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
    }


def available_cores() -> int:
    """The cores that this process may run on, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory, or 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def parse_bytes(text: str, what: str) -> int:
    """A size such as 4GiB, 512M or 1.5G (all in powers of 1,024); RequestError that names `what` for anything else."""
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in _UNITS and number[-1:] else ""
    try:
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise RequestError(f"{what} {text!r} is no size; write it like 4GiB or 512MiB")
    return size


def let_blas_choose() -> str | None:
    """Drop OPENBLAS_CORETYPE, which makes numpy run the kernel of an older processor; returns what it was, or None.

    For work whose results cannot depend on the kernel. Does nothing once numpy is loaded, when it is too late.
    """
    if "numpy" in sys.modules:
        return None
    return os.environ.pop("OPENBLAS_CORETYPE", None)


def blas_kernel() -> str:
    """The BLAS library of numpy and the kernel that it chose for this processor, as far as it can be asked."""
    import numpy as np

    wanted = os.environ.get("OPENBLAS_CORETYPE")
    forced = f", OPENBLAS_CORETYPE={wanted}" if wanted else ""
    config = np.show_config(mode="dicts")
    library = config["Build Dependencies"]["blas"]["name"] if isinstance(config, dict) else "unknown"
    return f"{library}: {_openblas_corename() or 'kernel unknown'}{forced}"


def _openblas_corename() -> str | None:
    """Ask the OpenBLAS that numpy loaded which kernel it runs."""
    import ctypes

    maps = Path("/proc/self/maps")
    if not maps.exists():
        return None
    libraries = {line.split()[-1] for line in maps.read_text().splitlines() if "openblas" in line and ".so" in line}
    for library in sorted(libraries):
        for symbol in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
            function = getattr(ctypes.CDLL(library), symbol, None)
            if function is not None:
                function.restype = ctypes.c_char_p
                return str(function().decode())
    return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    # Libraries that are loaded know best; reading installed metadata does not import the others.
    loaded = getattr(sys.modules.get(name.replace("_torch", "")), "__version__", None)
    if isinstance(loaded, str):
        return loaded
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
