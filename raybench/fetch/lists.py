"""A list of files is an aria2 input file: a line of addresses, then indented lines with what is known of the file.

    https://a.example/base.fbin<TAB>https://b.example/base.fbin
      out=base.fbin
      checksum=sha-256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

Addresses on one line, apart by tabs, are of one file. A plain list of addresses is such a file too. Of aria2's options
`out`, `checksum` (md5, sha-1, sha-256, sha-512) and no others are known. Two short forms are read besides: a line
`https://... md5:HEX 1234` with checksum and size in bytes apart by spaces, and the same with commas, of which a first
line `url,...` names the columns among `url,checksum,size,name`. Empty lines and those from `#` say nothing.
(https://aria2.github.io/manual/en/html/aria2c.html#input-file)
"""

import csv
from collections.abc import Iterable
from pathlib import Path

from raybench.errors import DataError, RaybenchError, StorageError
from raybench.fetch.items import Checksum, Item, Size, below, check_url, name_of, safe_name

_LARGEST_BYTES = 64 << 20
_COLUMNS = ("url", "checksum", "size", "name")


def read_list(path: str, mirrors: Iterable[str] = ()) -> list[Item]:
    """The files of a list, mirrors first in each; DataError names the line that cannot be read."""
    try:
        if Path(path).stat().st_size > _LARGEST_BYTES:
            raise DataError(f"{path} is over {_LARGEST_BYTES >> 20} MiB; a list of addresses is text")
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; give a list of addresses") from None
    entries = _entries(text, path)
    if not entries:
        raise DataError(f"{path} names no file; write one address on each line")
    return [_item(where, entry, tuple(mirrors)) for where, entry in entries]


def _entries(text: str, path: str) -> list[tuple[str, dict[str, str]]]:
    """Each file's fields, with the place to name in an error."""
    found: list[tuple[str, dict[str, str]]] = []
    columns: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}, line {number}"
        if not line.strip() or line.startswith("#"):
            continue
        if columns is None and not found and line.replace(" ", "").lower().split(",")[0] == "url":
            columns = [name.strip().lower() for name in line.split(",")]
            if not set(columns) <= set(_COLUMNS) or len(set(columns)) < len(columns):
                raise DataError(f"{where}: columns are {line.strip()[:80]!r}; they may be {','.join(_COLUMNS)}")
        elif columns is not None:
            found.append((where, _cells(line, columns, where)))
        elif line[0] in " \t":
            if not found:
                raise DataError(f"{where}: {line.strip()[:80]!r} stands before any address")
            key, _, value = line.strip().partition("=")
            found[-1][1].update(_option(key, value, where))
        else:
            found.append((where, _short(line, where)))
    return found


def _cells(line: str, columns: list[str], where: str) -> dict[str, str]:
    cells = [cell.strip() for cell in next(csv.reader([line]))]
    if len(cells) > len(columns):
        raise DataError(f"{where} has {len(cells)} cells for {len(columns)} columns")
    return {name: cell for name, cell in zip(columns, cells, strict=False) if cell}


def _short(line: str, where: str) -> dict[str, str]:
    if "\t" in line.strip():
        return {"url": line.strip()}
    url, *rest = line.split()
    fields = {"url": url}
    for word in rest:
        key = "size" if word.isdecimal() else "checksum"
        if key in fields or (key == "checksum" and ":" not in word):
            raise DataError(f"{where}: {word[:80]!r} is not read; write the address, md5:HEX or sha256:HEX, and bytes")
        fields[key] = word
    return fields


def _option(key: str, value: str, where: str) -> dict[str, str]:
    if key == "out":
        return {"name": value}
    if key == "checksum":
        return {"checksum": value.replace("=", ":", 1)}
    raise DataError(f"{where}: option {key[:40]!r} is not known; known are out=NAME and checksum=ALGORITHM=HEX")


def _item(where: str, entry: dict[str, str], mirrors: tuple[str, ...]) -> Item:
    try:
        urls = [check_url(url.strip()) for url in entry.get("url", "").split("\t")]
        name = safe_name(entry["name"]) if "name" in entry else name_of(urls[0])
        algorithm, _, value = entry.get("checksum", "").partition(":")
        checksum = Checksum(algorithm.lower().replace("-", ""), value.lower()) if algorithm else None
        size = Size.parse(entry["size"]) if "size" in entry else None
    except RaybenchError as error:
        raise DataError(f"{where}: {error}") from None
    return Item(name, (*(below(base, name) for base in mirrors), *urls), checksum, size)
