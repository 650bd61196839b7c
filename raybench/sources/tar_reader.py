"""The members of a tar stream in order, from its bytes alone; a broken tar ends with the reason, never in silence.

Reads POSIX ustar and pax headers and GNU long names (the format pages of GNU tar and of POSIX pax). The standard
library's reader does not serve: in stream mode it takes a damaged header in the middle for the end of the archive,
accepts an archive that lacks its end mark, and reads extended headers of any size into memory.

Memory is bounded by what the caller wants to keep, whatever sizes the headers state. Nothing is written to disk, so
names such as `../../x` are only names.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from raybench.errors import StorageError

_BLOCK = 512
_PIECE = 1024 * 1024  # bytes asked for at once, so that a size in a header allocates nothing by itself
_LONGEST_HEADER = 1024 * 1024  # bytes of one extended header
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_EMPTY = bytes(_BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar; `data` is None where the caller did not want that many bytes, and for links."""

    name: str
    size_bytes: int
    data: bytes | None
    is_file: bool = True


class BrokenTarError(Exception):
    """Nothing after this place of the tar can be read; `name` is the member that was cut, if its header was read."""

    def __init__(self, problem: str, detail: str, name: str | None = None) -> None:
        super().__init__(detail)
        self.problem = problem  # truncated_shard, too_large, broken_tar or unreadable_shard
        self.detail = detail
        self.name = name


@dataclass(slots=True)
class _Bytes:
    """A stream that knows its position and turns every way to fail into BrokenTarError."""

    stream: BinaryIO
    at: int = 0

    def upto(self, size_bytes: int, name: str | None = None) -> bytes:
        """The next bytes, fewer only at the end of the file."""
        pieces: list[bytes] = []
        left = size_bytes
        while left > 0:
            try:
                piece = self.stream.read(min(left, _PIECE))
            except (OSError, StorageError) as error:
                raise BrokenTarError("unreadable_shard", str(error), name) from error
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        self.at += size_bytes - left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def exactly(self, size_bytes: int, name: str | None = None) -> bytes:
        start = self.at
        data = self.upto(size_bytes, name)
        if len(data) < size_bytes:
            raise BrokenTarError("truncated_shard", f"the tar ends at byte {self.at}, in what begins at {start}", name)
        return data

    def skip(self, size_bytes: int, name: str | None = None) -> None:
        left = size_bytes
        while left > 0:
            left -= len(self.exactly(min(left, _PIECE), name))


def members(stream: BinaryIO, keep_bytes: Callable[[str], int]) -> Iterator[Member]:
    """Files and links of a tar; a file's data is kept if it has at most `keep_bytes(name)` bytes.

    Raises BrokenTarError where the tar is cut, damaged or unreadable, after all members before that place.
    """
    source = _Bytes(stream)
    long_name: str | None = None
    pax: dict[str, str] = {}
    while True:
        start = source.at
        header = source.upto(_BLOCK)
        if header == _EMPTY:
            return _only_zeros_follow(source)
        if len(header) < _BLOCK:
            raise BrokenTarError("truncated_shard", f"the tar ends at byte {source.at} without its end mark")
        kind, name, size_bytes = _header(header, start)
        if kind in b"LKxXg":
            extension = _extension(source, size_bytes, start)
            if kind == b"L":
                long_name = _text(extension.rstrip(b"\0"))
            elif kind in b"xX":
                pax = _pax(extension, start)
            continue
        name = pax.get("path", long_name if long_name is not None else name)
        size_bytes = _pax_size(pax, size_bytes, start)
        long_name, pax = None, {}
        if kind in b"12":
            yield Member(name, 0, None, is_file=False)
        elif kind not in b"3456" and not (kind == b"\0" and name.endswith("/")):  # POSIX: unknown kinds are files
            yield _file(source, name, size_bytes, keep_bytes(name))


def _file(source: _Bytes, name: str, size_bytes: int, most_bytes: int) -> Member:
    data = None
    if size_bytes <= most_bytes:
        data = source.exactly(size_bytes, name)
    else:
        try:
            source.skip(size_bytes, name)
        except BrokenTarError as broken:
            if broken.problem == "truncated_shard" and most_bytes > 0:
                broken.problem, broken.detail = "too_large", f"{name} states {size_bytes} bytes; {broken.detail}"
            raise
    source.skip(-size_bytes % _BLOCK, name)
    return Member(name, size_bytes, data)


def _only_zeros_follow(source: _Bytes) -> None:
    while rest := source.upto(_PIECE):
        if rest.strip(b"\0"):
            raise BrokenTarError("broken_tar", f"there is more data after the end mark, before byte {source.at}")


def _header(header: bytes, start: int) -> tuple[bytes, str, int]:
    """Type flag, name and size; the checksum is that of all bytes with blanks for the checksum itself."""
    blanked = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(blanked)
    signed = unsigned - 256 * sum(byte > 127 for byte in blanked)  # some old programs summed signed bytes
    if _number(header[148:156], start) not in {unsigned, signed}:
        raise BrokenTarError("broken_tar", f"what begins at byte {start} is no tar header: its checksum is wrong")
    kind = header[156:157]
    if kind == b"S":
        raise BrokenTarError("broken_tar", f"the member at byte {start} is a sparse file; write the tar without them")
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return kind, _text(prefix + b"/" + name if prefix else name), _number(header[124:136], start)


def _number(field: bytes, start: int) -> int:
    """Octal digits, or, with the highest bit set, GNU's big-endian number of the other bits."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = _OCTAL.fullmatch(field)
    if digits is None:
        raise BrokenTarError("broken_tar", f"the header at byte {start} holds {field!r}, which is no number")
    return int(digits[1] or b"0", 8)


def _extension(source: _Bytes, size_bytes: int, start: int) -> bytes:
    if size_bytes > _LONGEST_HEADER:
        raise BrokenTarError("broken_tar", f"the extended header at byte {start} states {size_bytes} bytes")
    data = source.exactly(size_bytes)
    source.skip(-size_bytes % _BLOCK)
    return data


def _pax(data: bytes, start: int) -> dict[str, str]:
    """The records of a pax header: "LENGTH KEY=VALUE" and a line end, where LENGTH counts the whole record."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        digits = data[at : at + 8].split(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + length]
        key, separator, value = record.removesuffix(b"\n").partition(b"=")
        if not separator or not record.endswith(b"\n") or at + length > len(data) or key.startswith(b"GNU.sparse"):
            raise BrokenTarError("broken_tar", f"the extended header at byte {start} cannot be read")
        found[_text(key)] = _text(value)
        at += length
    return found


def _pax_size(pax: dict[str, str], size_bytes: int, start: int) -> int:
    if "size" not in pax:
        return size_bytes
    if not re.fullmatch("[0-9]{1,20}", pax["size"]):
        raise BrokenTarError("broken_tar", f"the header at byte {start} states a size of {pax['size'][:20]!r}")
    return int(pax["size"])


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")  # names that differ in any byte stay different
