"""The way of one file's bytes from one source into its part: pieces over several connections, gone on with after breaks."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from raybench.fetch.connection import Answer, BrokenError, Client, Limits, RefusedError, StoppedError
from raybench.fetch.items import Item
from raybench.fetch.part import Part


@dataclass(slots=True)
class Work:
    """What all files of one command share: connections, the places at the wire, the bar, and the way to stop."""

    client: Client
    limits: Limits
    jobs: int
    advance: Callable[[int], None]
    stop: threading.Event = field(default_factory=threading.Event)
    places: threading.BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self.places = threading.BoundedSemaphore(self.jobs)


class Transfer:
    """The way of one item's bytes from a source into its part."""

    def __init__(self, item: Item, part: Part, work: Work) -> None:
        self.item, self.part, self.work = item, part, work
        self.fetched_bytes = self.retries = 0
        self._halt = threading.Event()
        self._lock = threading.Lock()

    def run(self, url: str) -> None:
        """Fetch all that is missing from one source. RefusedError or BrokenError where it does not come to an end."""
        part = self.part
        self._halt.clear()
        if part.total_bytes is not None and not part.missing():
            return
        first, answer = self._open(url)
        if not answer.is_range:
            self._whole(url, answer)
            return
        part.check_room((part.total_bytes or 0) - part.done_bytes)
        threads = min(self.work.jobs, len(part.missing()))
        with ThreadPoolExecutor(threads, thread_name_prefix="fetch") as pool:
            rest = [piece for piece in part.missing() if piece != first]
            futures = [pool.submit(self._piece, url, first, answer)]
            futures += [pool.submit(self._piece, url, piece) for piece in rest]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self._halt.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        part.cut(part.total_bytes or 0)

    def _open(self, url: str) -> tuple[int, Answer]:
        """The answer to the first missing piece; by it the part knows whether what it has is of this file."""
        part, length = self.part, self.work.limits.piece_bytes
        for _ in range(2):
            missing = part.missing()
            first = missing[0] if missing else 0
            start, stop = part.bounds(first) if missing else (0, length)
            try:
                answer = self._ask(url, start, stop)
            except RefusedError as error:
                if not error.is_beyond_end or not start:
                    raise
                part.restart()  # what was there is of a longer file than this source has
                continue
            self._check_size(answer)
            if not answer.is_range or answer.total_bytes is None:
                return first, answer
            part.adopt(url, answer.total_bytes, answer.validator, length)
            if part.total_bytes and part.bounds(first) == (start, min(stop, part.total_bytes)):
                return first, answer
            answer.response.close()  # what was there is of another file, and the first piece is another now
        raise RefusedError("gives a file that keeps changing")

    def _ask(self, url: str, start: int | None = None, stop: int | None = None) -> Answer:
        failures = 0
        while True:
            try:
                with self.work.places:
                    return self.work.client.ask(url, start, stop)
            except BrokenError as error:
                failures += 1
                self._pause(failures, error)

    def _piece(self, url: str, piece: int, answer: Answer | None = None) -> None:
        """One piece, gone on with after each break from the byte where it broke."""
        part = self.part
        at, stop = part.bounds(piece)
        failures = 0
        while at < stop:
            before = at
            try:
                with self.work.places:
                    if self._stopped():
                        raise StoppedError
                    answer = answer or self.work.client.ask(url, at, stop)
                    self._check_same(answer)
                    for data in self.work.client.read(answer, self._stopped, stop - at):
                        part.write(at, data)
                        at += len(data)
                        self._count(len(data))
            except BrokenError as error:
                # A source that drips gets on too, and would be waited for until it ends.
                got_on = at - before >= self.work.limits.slowest_bytes_per_s * self.work.limits.read_s
                failures = 1 if got_on else failures + 1
                self._pause(failures, error)
            answer = None
        part.mark(piece)

    def _whole(self, url: str, answer: Answer | None) -> None:
        """The whole file from a server without ranges; each break starts it over."""
        failures = 0
        while True:
            self.part.restart()
            at = 0
            try:
                answer = answer or self._ask(url)
                self._check_size(answer)
                if self.item.checksum is None and not answer.is_framed:
                    answer.response.close()
                    raise RefusedError("does not say where the file ends, and no checksum is known")
                self.part.check_room(answer.total_bytes or 0)
                with self.work.places:
                    for data in self.work.client.read(answer, self._stopped, answer.total_bytes):
                        self.part.write(at, data)
                        at += len(data)
                        self._count(len(data))
            except BrokenError as error:
                failures += 1
                self.work.advance(-at)
                self._pause(failures, error)
                answer = None
            else:
                return

    def _check_size(self, answer: Answer) -> None:
        size, total = self.item.size, answer.total_bytes
        if size is not None and total is not None and not size.low <= total <= size.high:
            answer.response.close()
            raise RefusedError(f"has {total:,} bytes where {size} is listed")

    def _check_same(self, answer: Answer) -> None:
        part = self.part
        same = answer.is_range and answer.total_bytes == part.total_bytes
        # Mirrors, and servers behind one address, may give different validators for the same bytes.
        if not same or (self.item.checksum is None and answer.validator != part.validator):
            answer.response.close()
            raise RefusedError("changed the file while it was fetched")

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self.fetched_bytes += size_bytes
        self.work.advance(size_bytes)

    def _stopped(self) -> bool:
        return self._halt.is_set() or self.work.stop.is_set()

    def _pause(self, failures: int, error: BrokenError) -> None:
        """Wait before the next try, longer each time; the error itself after the last."""
        limits = self.work.limits
        if failures >= limits.tries:
            raise BrokenError(f"{error}, {failures} times") from None
        with self._lock:
            self.retries += 1
        # Spread, so that pieces that broke together do not come back together.
        pause_s = min(limits.backoff_s * 2 ** (failures - 1), 60.0) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        deadline = time.monotonic() + max(pause_s, error.after_s)
        while (left := deadline - time.monotonic()) > 0 and not self._stopped():
            self.work.stop.wait(min(left, 0.2))
        if self._stopped():
            raise StoppedError
