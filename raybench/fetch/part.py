"""A file on its way: bytes in `NAME.part`, and in `NAME.part.pieces` which pieces of it are there.

The pieces file opens with a line of JSON about the whole (size, piece size, source); each line after it is the number of
a piece, added once the piece's bytes are on the disk. A kill at any moment loses the pieces that were on their way.
"""

import fcntl
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any, Self

from raybench.errors import RequestError, StorageError, WorkError
from raybench.fetch.items import BAD, PART, PIECES, Item


class Part:
    """The partial file of an item; a context that holds it against other processes."""

    def __init__(self, item: Item, folder: Path) -> None:
        self.total_bytes: int | None = None
        self.validator = ""
        self.done: set[int] = set()
        self._item, self._folder = item, folder
        self._path, self._journal = folder / (item.name + PART), folder / (item.name + PIECES)
        self._piece_bytes, self._url = 0, ""
        self._lock = threading.Lock()
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            is_ours = self._hold()
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}; choose another folder") from None
        if not is_ours:
            os.close(self._fd)
            raise RequestError(f"{self._path} is being fetched by another process; wait for it")
        self._load()
        return self

    def __exit__(self, *_: object) -> None:
        # A part with nothing in it, or of a file that came otherwise, is not left behind.
        if self._path.exists() and not self.done and not self._journal.exists():
            self._path.unlink()
        os.close(self._fd)

    def adopt(self, url: str, total_bytes: int, validator: str, piece_bytes: int) -> None:
        """Go on with what is there if it is of the same file, and start afresh if it is not.

        With a checksum the size is enough, as the whole is verified. Without, the source and its validator must be the
        same, because a mix of two versions would show nowhere.
        """
        same = self.total_bytes == total_bytes
        if self._item.checksum is None:
            same = same and bool(validator) and (self._url, self.validator) == (url, validator)
        if same:
            return
        self.restart()
        self._url, self.total_bytes, self.validator, self._piece_bytes = url, total_bytes, validator, piece_bytes
        header = {"url": url, "size_bytes": total_bytes, "validator": validator, "piece_bytes": piece_bytes}
        self._journal.write_text(json.dumps(header) + "\n", encoding="utf-8")

    def restart(self) -> None:
        """Forget all bytes and pieces."""
        self._journal.unlink(missing_ok=True)
        os.ftruncate(self._fd, 0)
        self.total_bytes, self.validator, self._url, self.done = None, "", "", set()

    def bounds(self, piece: int) -> tuple[int, int]:
        """The bytes [start, stop) of a piece."""
        start = piece * self._piece_bytes
        return start, min(start + self._piece_bytes, self.total_bytes or 0)

    def missing(self) -> list[int]:
        """The pieces that are not there, in order."""
        count = -(-(self.total_bytes or 0) // self._piece_bytes) if self._piece_bytes else 0
        return [piece for piece in range(count) if piece not in self.done]

    @property
    def done_bytes(self) -> int:
        """How much is there, in whole pieces."""
        return sum(stop - start for start, stop in map(self.bounds, self.done))

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes in their place."""
        try:
            view = memoryview(data)
            while view:
                wrote = os.pwrite(self._fd, view, offset)
                view, offset = view[wrote:], offset + wrote
        except OSError as error:
            raise WorkError(f"cannot write {self._path}: {error.strerror}; make room and run again to go on") from None

    def mark(self, piece: int) -> None:
        """Note that a piece is there; its bytes reach the disk before the note does."""
        os.fdatasync(self._fd)
        with self._lock, self._journal.open("a", encoding="utf-8") as journal:
            journal.write(f"{piece}\n")
            self.done.add(piece)

    def cut(self, size_bytes: int) -> None:
        """Drop what lies beyond the end of the file."""
        os.ftruncate(self._fd, size_bytes)

    def check_room(self, needed_bytes: int) -> None:
        """WorkError where the disk has less room than what is still to come."""
        free = shutil.disk_usage(self._folder).free
        if needed_bytes > free:
            what = f"{self._item.name} needs {needed_bytes:,} more bytes, and {self._folder} has {free:,} free"
            raise WorkError(f"{what}; make room and run again to go on")

    @property
    def path(self) -> Path:
        """Where the bytes are."""
        return self._path

    def finish(self) -> None:
        """Give the file its name."""
        os.fsync(self._fd)
        self._path.replace(self._folder / self._item.name)
        self._journal.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Keep the bytes as `NAME.bad`, and start with none."""
        bad = self._folder / (self._item.name + BAD)
        self._path.replace(bad)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(self._fd)
        self._fd = fd
        self.restart()

    def _hold(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Another process may have finished the file, and so renamed it, between the opening and the lock.
        return self._path.exists() and os.path.samestat(os.fstat(self._fd), self._path.stat())

    def _load(self) -> None:
        known = read_journal(self._journal)
        if known is None or os.fstat(self._fd).st_size == 0:
            return
        header, done = known
        total, length, held = int(header["size_bytes"]), int(header["piece_bytes"]), os.fstat(self._fd).st_size
        done = {piece for piece in done if piece * length < total}
        # Bytes that the journal does not account for, or that it has and the part has not: another hand was here.
        if held > total or any(min((piece + 1) * length, total) > held for piece in done):
            return
        self._url, self.validator, self.done = str(header["url"]), str(header["validator"]), done
        self.total_bytes, self._piece_bytes = total, length


def read_journal(path: Path) -> tuple[dict[str, Any], set[int]] | None:
    """What a pieces file says, or None where there is none to go on with; a last line that was cut off is not read."""
    try:
        first, *lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        header = json.loads(first)
        if int(header["piece_bytes"]) < 1 or int(header["size_bytes"]) < 0 or "url" not in header:
            return None
        str(header["validator"])
        return header, {int(line) for line in lines if line.isdecimal()}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def resumable_bytes(item: Item, folder: Path) -> int:
    """How many bytes of a file an earlier try has left to go on with."""
    part = folder / (item.name + PART)
    known = read_journal(folder / (item.name + PIECES))
    if known is None or not part.exists() or part.stat().st_size == 0:
        return 0
    header, done = known
    size, length = int(header["size_bytes"]), int(header["piece_bytes"])
    return sum(min(length, size - piece * length) for piece in done if piece * length < size)
