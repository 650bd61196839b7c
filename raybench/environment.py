"""The facts of this machine and these libraries that a reader needs beside a number; nothing that names a person.

The kernel that a BLAS library picks decides speed and last bits more than any setting, so it is a fact of every
result.
"""

import functools
import os
import platform
import sys
from collections.abc import Sequence
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
    """Versions, processor, cores, memory, GPUs and BLAS kernel; a JSON value, taken once per process."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": available_cores(),
        "memory_bytes": memory_bytes(),
        "accelerators": accelerators(),
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


def accelerators() -> list[str]:
    """The names of the NVIDIA GPUs that this process may use; the driver is asked, since torch takes seconds to import."""
    import ctypes

    try:
        driver = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if driver.nvmlInit_v2() != 0:  # a driver without a GPU that answers
        return []
    count = ctypes.c_uint(0)
    driver.nvmlDeviceGetCount_v2(ctypes.byref(count))
    found = []
    for index in range(count.value):
        handle, name, uuid = ctypes.c_void_p(), ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)
        if driver.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
            driver.nvmlDeviceGetName(handle, name, 96)
            driver.nvmlDeviceGetUUID(handle, uuid, 96)
            found.append((name.value.decode(errors="replace"), uuid.value.decode(errors="replace")))
    driver.nvmlShutdown()
    return visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(gpus: Sequence[tuple[str, str]], chosen: str | None) -> list[str]:
    """The names among GPUs (name, UUID) that CUDA_VISIBLE_DEVICES leaves: as for CUDA, an unknown one hides those after it."""
    if chosen is None:
        return [name for name, _ in gpus]
    names = []
    for one in map(str.strip, chosen.split(",")):
        if one.startswith("MIG-"):
            names.append(one)  # a part of a GPU, which has no name of its own
            continue
        by_number = gpus[int(one)][:1] if one.isdecimal() and int(one) < len(gpus) else ()
        by_uuid = [name for name, uuid in gpus if one.startswith("GPU-") and uuid.startswith(one)]
        if not (by_number or by_uuid):
            break
        names += by_number or by_uuid[:1]
    return names


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
    # Installed metadata first: a library that is loaded may add to its version how it was built, and what is measured under one
    # name must not be measured again under another.
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        loaded = getattr(sys.modules.get(name.replace("_torch", "")), "__version__", None)
        return loaded if isinstance(loaded, str) else None
