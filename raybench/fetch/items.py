"""A file to fetch is a name, addresses in the order in which they are tried, and what is known of its bytes.

A name is the last part of an address with percent-escapes undone; it stays inside the folder that it is fetched to.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from raybench.errors import DataError, RequestError

# Files beside a target while it is fetched, or when its bytes were wrong.
PART, PIECES, BAD = ".part", ".part.pieces", ".bad"
RECORD = "fetched.sha256"  # of all files of a folder that came without a checksum
_LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest that the bytes must have, such as md5 and 32 lower-case hexadecimal digits."""

    algorithm: str
    value: str

    def __post_init__(self) -> None:
        if self.algorithm not in _LENGTHS:
            raise DataError(f"checksum {self.algorithm!r} is not known; use one of {', '.join(_LENGTHS)}")
        if not re.fullmatch(rf"[0-9a-f]{{{_LENGTHS[self.algorithm]}}}", self.value):
            length = _LENGTHS[self.algorithm]
            raise DataError(f"{self.value[:140]!r} is no {self.algorithm}; it has {length} hexadecimal digits")

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


@dataclass(frozen=True, slots=True)
class Size:
    """A file's size as far as it is known: at least `low` bytes and at most `high`."""

    low: int
    high: int
    listed: str

    @classmethod
    def parse(cls, text: str) -> "Size":
        """`15G` as `ls -h` prints it: powers of 1,024, rounded up in the last digit shown; without a unit it is exact."""
        match = re.fullmatch(r"(\d+)(?:\.(\d+))?([KMGT]?)", text)
        if match is None or (match[2] and not match[3]):
            raise DataError(f"size {text[:40]!r} is not read; write bytes, or 1.3M, 440M, 15G")
        digits, unit = match[2] or "", _UNITS[match[3]]
        scaled, step = int(match[1] + digits), 10 ** len(digits)
        if not match[3]:
            return cls(scaled, scaled, text)
        return cls((scaled - 1) * unit // step + 1, -(-scaled * unit // step), text)

    def __str__(self) -> str:
        return self.listed if self.low != self.high else f"{self.high:,} bytes"


@dataclass(frozen=True, slots=True)
class Item:
    """One file: mirrors are already among its addresses. `login` says what to do where it is refused for want of one."""

    name: str
    urls: tuple[str, ...]
    checksum: Checksum | None = None
    size: Size | None = None
    note: str = ""
    login: str = ""


def safe_name(name: str) -> str:
    """The name itself, or RequestError where it would leave its folder or meet the fetcher's own files."""
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", name):
        raise RequestError(f"{name[:80]!r} is no file name; give a name without folders or control characters")
    if name.endswith((PART, PIECES, BAD)) or name == RECORD:
        raise RequestError(f"{name[:80]!r} ends like a file that is being fetched; give it another name")
    if len(name.encode("utf-8", "surrogateescape")) > 255 - len(PIECES):
        raise RequestError(f"the file name {name[:60]!r}... is too long; give a shorter one")
    return name


def name_of(url: str) -> str:
    """The file name that an address ends in."""
    return safe_name(unquote(urlsplit(url).path.rsplit("/", 1)[-1]))


def below(base_url: str, name: str) -> str:
    """The address of a name below a base address; `=` and all else that is no plain letter is percent-escaped."""
    return check_url(base_url).rstrip("/") + "/" + quote(name, safe="")


def check_url(url: str) -> str:
    """The address itself, or RequestError unless it is http or https with a host, and no user in it."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        fine = fine and parts.port != 0
    except ValueError:
        fine = False
    if not fine or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise RequestError(
            f"{url[:120]!r} is not an address to fetch from; use http:// or https://, a host and no password"
        )
    return url
