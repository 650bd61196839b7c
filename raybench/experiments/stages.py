"""How long the stages of a work take, and the highest resident size of this process in each."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from raybench.memory import peak_memory


@dataclass(slots=True)
class Stages:
    """Seconds add up over the turns of a stage; memory is the highest. Stages do not nest."""

    seconds: dict[str, float] = field(default_factory=dict)
    resident_bytes: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Measure a block."""
        started = time.perf_counter()
        with peak_memory() as peak:
            yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 3)
        if peak.resident_bytes is not None:
            self.resident_bytes[name] = max(self.resident_bytes.get(name, 0), peak.resident_bytes)
