"""The whole exact search, from file to artifact, in one process and on 1, 2 and 4 workers of Ray that share its cores.

The clock starts when the searchers are ready and first ask for floors, and stops when the last part is taken in, so
that what starting processes costs is left out. The corpus is cut for the workers as `raybench gold` cuts it; the
precision is fixed, so that no worker calibrates.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from raybench.distributed.gold import RayGold
from raybench.distributed.runtime import connected
from raybench.experiments.gold import Floors, GoldBackend, GoldRequest, LocalGold, Workers, find_gold
from raybench.experiments.reporting import Silent
from raybench.search.certified.metric import Float64, Matrix
from raybench.search.gold import Range, Search

_SHAPES = ((1, 2), (2, 1), (4, 1))  # workers, threads of each
_MEMORY_BYTES = 3 * 1024**3


class _Timed:
    """A backend that notes when its searchers begin and end."""

    def __init__(self, backend: GoldBackend) -> None:
        self._backend = backend
        self.started = self.stopped = 0.0

    def workers(self) -> Workers:
        return self._backend.workers()

    def facts(self) -> dict[str, Any]:
        return self._backend.facts()

    def search(self, search: Search, queries: Matrix, ranges: Sequence[Range], running: Floors) -> Iterator[Range]:
        yield from self._backend.search(search, queries, ranges, _Noted(running, self))
        self.stopped = time.perf_counter()


class _Noted:
    """Floors that note when they are first asked for."""

    def __init__(self, floors: Floors, timed: _Timed) -> None:
        self._floors, self._timed = floors, timed

    def floor(self) -> Float64:
        self._timed.started = self._timed.started or time.perf_counter()
        return self._floors.floor()


def one_round(corpus: str, queries: str, k: int, threads: int, precision: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A name and facts of each shape, once, in turn; `wall_s` among them."""
    request = GoldRequest(corpus, queries, k, "ip", _MEMORY_BYTES, precision)
    yield f"one process, {threads} threads", _search(request, LocalGold(threads))
    with connected(num_cpus=max(workers * each for workers, each in _SHAPES)):
        for workers, each in _SHAPES:
            yield f"{workers} worker(s), {each} thread(s)", _search(request, RayGold(workers, each))


def _search(request: GoldRequest, backend: GoldBackend) -> dict[str, Any]:
    timed = _Timed(backend)
    with tempfile.TemporaryDirectory() as folder:
        manifest = find_gold(request, folder, timed, Silent())
    certificate = manifest["certificate"]
    return {
        "wall_s": timed.stopped - timed.started,
        "with_start_s": manifest["seconds"],
        "ids": manifest["files"]["ids.npy"]["sha256"][:12],
        **{
            name: certificate[name] for name in ("parts", "worker_seconds", "waited_for_rows_s", "candidates_per_query")
        },
    }
