"""Reading that survives a broken connection: every byte arrives once and in order, or the reading fails and says so.

After an error the file is opened afresh at the byte where it stopped, after a check that it is still the same file,
so what is read does not depend on whether anything went wrong on the way.
"""

import io
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

from raybench import storage
from raybench.errors import StorageError

T = TypeVar("T")

WAITS_S = (0.2, 1.0, 5.0)
"""Pauses before the second, third and last attempt; the count starts anew once bytes arrive."""

_LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ValueError)
_CHUNK_BYTES = 8 * 1024 * 1024  # one request each on S3, so headers of 512 bytes must not be read one by one


def open_steady(uri: str, size_bytes: int, modified_ns: int) -> BinaryIO:
    """A stream over a file of known size and time; StorageError if it cannot be read to its end."""
    return io.BufferedReader(_Steady(uri, size_bytes, modified_ns), _CHUNK_BYTES)


def attempted(action: Callable[[], T]) -> T:
    """The result of reading something small, tried again after errors of storage that may pass."""
    for wait_s in WAITS_S:
        try:
            return action()
        except (OSError, StorageError) as error:
            if _will_last(error):
                raise
            time.sleep(wait_s)
    return action()


def tried(start: Callable[[], Iterator[T]]) -> Iterator[T]:
    """The items of an iterator; after an error of storage it is started afresh and items already given are skipped.

    `start` must give the same items each time.
    """
    given = failures = 0
    while True:
        try:
            for number, item in enumerate(start()):
                if number >= given:
                    given, failures = number + 1, 0
                    yield item
        except (OSError, StorageError) as error:
            if failures == len(WAITS_S) or _will_last(error):
                raise
            time.sleep(WAITS_S[failures])
            failures += 1
        else:
            return


def _will_last(error: Exception) -> bool:
    """Whether trying again is pointless: a missing file or permission, or a file of another format.

    Storage's own sentence for it has the reason behind it.
    """
    return any(isinstance(seen, _LASTING) for seen in (error, error.__context__))


class _Steady(io.RawIOBase):
    def __init__(self, uri: str, size_bytes: int, modified_ns: int) -> None:
        super().__init__()
        self._uri, self._size_bytes, self._modified_ns = uri, size_bytes, modified_ns
        self._stream: BinaryIO | None = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # BufferedReader hands over nothing else
        for wait_s in (*WAITS_S, None):
            try:
                data = self._read(len(buffer))
                break
            except (OSError, StorageError) as error:
                self._disconnect()
                if wait_s is None or _will_last(error):
                    raise StorageError(f"{self._uri} cannot be read after byte {self._at}: {error}") from error
                time.sleep(wait_s)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, size_bytes: int) -> bytes:
        if self._stream is None:
            self._stream = storage.open_stream(self._uri) if self._at == 0 else self._reopen()
        data = self._stream.read(size_bytes)
        if not data and self._at < self._size_bytes:
            raise OSError(f"it ended at byte {self._at} of {self._size_bytes}")
        return data

    def _reopen(self) -> BinaryIO:
        now = storage.facts(self._uri)
        if (now.size_bytes, now.modified_ns) != (self._size_bytes, self._modified_ns):
            raise StorageError("it changed while it was read")
        stream: BinaryIO = storage.open_random(self._uri)
        stream.seek(self._at)
        return stream

    def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError:
                return  # it is broken already, which is why it is given up

    def close(self) -> None:
        if not self.closed:
            self._disconnect()
        super().close()
