"""Images as plain files at any depth of a folder, in the order of their paths; the path is the image's id.

Problems: missing_file (a row of the captions table without a file), unreadable_file, zero_bytes, too_large.
Images that the table does not name have no captions: they are distractors.
"""

import functools
import posixpath
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raybench import storage
from raybench.errors import DataError, StorageError
from raybench.preflight import check_readable
from raybench.sources.base import Shard
from raybench.sources.captions import read_captions
from raybench.sources.rows import LARGEST_IMAGE_BYTES, Row, tables
from raybench.sources.steady import attempted
from raybench.spec import content_key

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_FILES_PER_SHARD = 1_000


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of images; `captions` is a csv, tsv, jsonl or Parquet table, by its address or its path in the folder.

    The table has a column file_name, image, filename, image_id or image_name, and one of caption, text, captions, raw
    or comment; several rows per image, lists, and JSON lists in a string are all captions of that image. A name is an
    image's path in the folder, or the last part of it, with or without extension, where only one image has that.
    """

    address: str
    captions: str | None = None

    def is_ready(self, datasets_uri: str) -> bool:  # noqa: ARG002 - it is read where it lies
        """Always: nothing is made or fetched."""
        return True

    def open(self, datasets_uri: str) -> "Files":  # noqa: ARG002 - nothing is made or fetched
        """The source; the folder is listed when it plans."""
        folder = storage.absolute(self.address)
        captions = self.captions
        if captions is not None and not captions.startswith(("/", "~")) and "://" not in captions:
            captions = storage.join(folder, captions)
        return Files(folder, captions and storage.absolute(captions), uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a name in the captions table; `size_bytes` is None where there is no such file."""

    name: str
    size_bytes: int | None
    modified_ns: int
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Files:
    """The source of a folder; one shard is a run of 1,000 paths."""

    folder: str
    captions: str | None
    token: str  # tells one opening from another, since a process lists the folder once for all its shards

    def plan(self) -> list[Shard]:
        """Runs of paths; the captions table counts towards the size and time of each, so that a change is seen."""
        _forget()
        entries = self._entries()
        if not entries:
            raise DataError(f"{self.folder} has no images ({', '.join(EXTENSIONS)}) at any depth; check the path")
        runs = range(0, len(entries), _FILES_PER_SHARD)
        return [
            self._shard(number, first, entries[first : first + _FILES_PER_SHARD]) for number, first in enumerate(runs)
        ]

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The rows of one run. Raises DataError if the folder is no longer what was planned."""
        entries = self._run(shard)
        if entries is None:  # this process may have listed the folder for an earlier plan
            _forget()
            entries = self._run(shard)
        if entries is None:
            raise DataError(f"{self.folder} changed after it was listed; start again")
        return tables(self._row(entry) for entry in entries)

    def queries(self) -> None:
        """None: the captions are the queries."""

    def judgments(self) -> None:
        """None: a caption's image is its answer."""

    def _entries(self) -> tuple[Entry, ...]:
        return _entries(self.folder, self.captions, self.token)

    def _run(self, shard: Shard) -> tuple[Entry, ...] | None:
        """The planned paths, or None where the folder as it was listed here is another."""
        entries = self._entries()[shard.first : shard.first + (shard.count or 0)]
        return entries if entries and self._shard(shard.number, shard.first, entries) == shard else None

    def _shard(self, number: int, first: int, entries: tuple[Entry, ...]) -> Shard:
        table = () if self.captions is None else (_facts(self.captions, self.token),)
        size_bytes = sum(entry.size_bytes or 0 for entry in entries) + sum(file.size_bytes for file in table)
        modified_ns = max([entry.modified_ns for entry in entries] + [file.modified_ns for file in table])
        name = f"{entries[0].name}+{len(entries)}"
        each = content_key([[entry.name, entry.size_bytes, entry.modified_ns] for entry in entries])
        return Shard(number, name, self.folder, size_bytes, modified_ns, first, len(entries), each)

    def _row(self, entry: Entry) -> Row:
        if entry.size_bytes is None:
            detail = "the captions table names it; no file, or more than one, has this name"
            return Row(entry.name, None, entry.captions, None, "missing_file", detail)
        if entry.size_bytes > LARGEST_IMAGE_BYTES:
            detail = f"the file has {entry.size_bytes} bytes; at most {LARGEST_IMAGE_BYTES} are read"
            return Row(entry.name, None, entry.captions, None, "too_large", detail)
        try:
            image = attempted(lambda: storage.read_bytes(storage.join(self.folder, entry.name)))
        except (OSError, StorageError) as error:
            return Row(entry.name, None, entry.captions, None, "unreadable_file", str(error))
        if not image:
            return Row(entry.name, None, entry.captions, None, "zero_bytes", "the file is empty")
        return Row(entry.name, image, entry.captions)


@functools.lru_cache(maxsize=2)
def _entries(folder: str, captions: str | None, token: str) -> tuple[Entry, ...]:  # noqa: ARG001 - a part of the key
    """Images and names of missing ones, sorted by name."""
    check_readable(folder)
    files = {file.name: file for file in storage.list_files(folder) if is_image(file.name)}
    texts = {} if captions is None else read_captions(captions)
    paths = _paths_by_name(list(files))
    by_path: dict[str, list[str]] = defaultdict(list)
    missing: list[Entry] = []
    for name, given in texts.items():
        path = name if name in files else paths.get(name)
        if path is None:
            missing.append(Entry(name, None, 0, tuple(given)))
        else:
            by_path[path].extend(given)
    found = [Entry(n, file.size_bytes, file.modified_ns, tuple(by_path.get(n, ()))) for n, file in files.items()]
    return tuple(sorted(found + missing, key=lambda entry: entry.name))


def _forget() -> None:
    _entries.cache_clear()
    _facts.cache_clear()


@functools.lru_cache(maxsize=2)
def _facts(uri: str, token: str) -> storage.FileFacts:  # noqa: ARG001 - a part of the key
    return storage.facts(uri)


def is_image(name: str) -> bool:
    """Whether a path is that of an image by its extension, and no part of it is hidden."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and name.lower().endswith(EXTENSIONS)


def _paths_by_name(paths: list[str]) -> dict[str, str | None]:
    """Paths by their last part, with and without extension; None where several share it."""
    found: dict[str, str | None] = {}
    for path in paths:
        base = posixpath.basename(path)
        for name in {base, posixpath.splitext(base)[0]}:
            found[name] = None if name in found else path
    return found
