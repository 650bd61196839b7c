"""How much memory a piece of work took at its peak, as the operating system counts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(slots=True)
class Peak:
    """Bytes above what the process held before, and the highest resident size; None where the system does not tell."""

    bytes: int | None = None
    resident_bytes: int | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the block: the process's highest resident size in it, less its size before.

    Linux alone can set its mark of the highest size back, which is process-wide: blocks do not nest, and what other threads
    take meanwhile counts too.
    """
    peak = Peak()
    try:
        _RESET.write_text("5")
        before = _kib("VmRSS")
    except (OSError, KeyError):
        yield peak
        return
    yield peak
    peak.resident_bytes = _kib("VmHWM") * 1024
    peak.bytes = max(0, peak.resident_bytes - before * 1024)


def _kib(name: str) -> int:
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return int(fields[name].split()[0])
