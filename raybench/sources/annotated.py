"""A captioned image set as it is published: pictures in a folder or its zips, and a file that says what is which split.

The split is what the annotations say of each image, and is held against the published number of images and captions. So
the whole of a data set, or another split of it, cannot pass for its test set.
"""

import functools
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raybench import storage
from raybench.errors import DataError
from raybench.preflight import check_readable
from raybench.sources import pictures, zips
from raybench.sources.annotations import Annotated, read_annotations
from raybench.sources.base import Shard
from raybench.sources.pictures import Picture, pictures_in
from raybench.sources.published import PUBLISHED, Published
from raybench.sources.rows import Row, as_json, tables
from raybench.spec import content_key

_IMAGES_PER_SHARD = 1_000


@dataclass(frozen=True, slots=True)
class AnnotatedPictures:
    """The source of such a set; one shard is a run of 1,000 images in the order of the annotations."""

    dataset: str  # among PUBLISHED
    folder: str
    split: str
    annotations: str | None
    whole: bool
    token: str  # tells one opening from another, since a process lists the folder once for all its shards

    @property
    def published(self) -> Published:
        """What is known of the data set."""
        return PUBLISHED[self.dataset]

    def plan(self) -> list[Shard]:
        """Runs of images. Raises DataError where the split is not there, not the published one, or has no pictures."""
        _forget()
        entries = self._entries()
        if all(entry.picture is None for entry in entries):
            known = self.published
            places = ", ".join(known.archives)
            raise DataError(
                f"{self.folder} has none of the {len(entries):,} pictures of {known.name} {self.split}; put them there as"
                f" files or as {places}, or run `raybench fetch {known.fetch} --out {self.folder}`"
            )
        runs = range(0, len(entries), _IMAGES_PER_SHARD)
        return [self._shard(n, first, entries[first : first + _IMAGES_PER_SHARD]) for n, first in enumerate(runs)]

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

    def notes(self) -> list[str]:
        """What was taken from which file, in a sentence."""
        entries = self._entries()
        captions = sum(len(entry.image.captions) for entry in entries)
        file, member = annotations_of(self)
        counts = f"{len(entries):,} images and {captions:,} captions by {posixpath.basename(member or file)}"
        lost = sum(entry.picture is None for entry in entries)
        return [f"{self.published.name} {self.split}: {counts}" + (f"; {lost:,} pictures are missing" if lost else "")]

    def _entries(self) -> "tuple[_Entry, ...]":
        return _entries(self)

    def _run(self, shard: Shard) -> "tuple[_Entry, ...] | None":
        """The planned images, or None where what lies here is another."""
        entries = self._entries()[shard.first : shard.first + (shard.count or 0)]
        return entries if entries and self._shard(shard.number, shard.first, entries) == shard else None

    def _shard(self, number: int, first: int, entries: "tuple[_Entry, ...]") -> Shard:
        there = [entry.picture for entry in entries if entry.picture is not None]
        size_bytes = sum(picture.size_bytes for picture in there)
        modified_ns = max((picture.modified_ns for picture in there), default=0)
        each = content_key([entry.identity() for entry in entries])
        name = f"{self.split}/{entries[0].image.name}+{len(entries)}"
        return Shard(number, name, self.folder, size_bytes, modified_ns, first, len(entries), each)

    def _row(self, entry: "_Entry") -> Row:
        image = entry.image
        row = Row(image.name, None, image.captions, as_json({"split": image.split} if image.split else {}))
        if entry.picture is None:
            return pictures.missing(row)
        return pictures.row_of(self.folder, self.token, entry.picture, row)


@dataclass(frozen=True, slots=True)
class _Entry:
    image: Annotated
    picture: Picture | None

    def identity(self) -> list[object]:
        """All that decides the row."""
        one = self.picture
        place = None if one is None else [one.path, one.archive, one.size_bytes, one.modified_ns, one.checksum]
        return [self.image.name, list(self.image.captions), self.image.split, place]


def annotations_of(source: AnnotatedPictures) -> tuple[str, str]:
    """The first annotation file that is there, and "", or a zip and its member. Raises DataError without one."""
    known, folder = source.published, source.folder
    if source.annotations is not None:
        file, _, member = source.annotations.partition("!")
        is_place = file.startswith(("/", "~")) or "://" in file
        return storage.absolute(file) if is_place else storage.join(folder, file), member
    names = [name.replace("{split}", source.split) for name in known.annotations]
    for name in names:
        file, _, member = name.partition("!")
        uri = storage.join(folder, file)
        if storage.exists(uri) and (not member or member in {one.name for one in zips.members(uri, source.token)}):
            return uri, member
    looked = ", ".join(dict.fromkeys(posixpath.basename(name.rpartition("!")[2]) for name in names))
    raise DataError(
        f"{folder} has no annotations of {known.name} (looked for {looked}); name the file with annotations=, or run"
        f" `raybench fetch {known.fetch} --out {folder}`"
    )


@functools.lru_cache(maxsize=2)
def _entries(source: AnnotatedPictures) -> tuple[_Entry, ...]:
    check_readable(source.folder)
    known = source.published
    uri, member = annotations_of(source)
    where = f"{uri}/{member}" if member else uri
    images = _of_split(source, read_annotations(uri, member, source.token), where)
    there = pictures_in(source.folder, known.archives, source.token)

    def find(image: Annotated) -> Picture | None:
        folders = tuple(folder.replace("{folder}", image.folder) for folder in known.folders)
        return pictures.choose(there.get(image.name, ()), image.name, folders)

    return tuple(_Entry(image, find(image)) for image in images)


def _of_split(source: AnnotatedPictures, images: tuple[Annotated, ...], where: str) -> tuple[Annotated, ...]:
    """The images of the split that is asked for; DataError where the file does not say, or says another number."""
    known, split = source.published, source.split
    wanted = known.splits.get(split, (split,))
    found = tuple(image for image in images if not wanted or image.split in wanted)
    if not found:
        holds = sorted({image.split for image in images if image.split})
        says = (
            f"holds {', '.join(holds)} ({len(images):,} images)"
            if holds
            else f"lists {len(images):,} images of no split"
        )
        raise DataError(f"{where} {says}, and not {split!r} of {known.name}; {known.hint}")
    if source.whole and split in known.sizes:
        captions = sum(len(image.captions) for image in found)
        fits = any(len(found) == size and count in (None, captions) for size, count in known.sizes[split])
        if not fits:
            size, count = known.sizes[split][0]
            published = f"{size:,} images" + (f" and {count:,} captions" if count else "")
            raise DataError(
                f"{where} has {len(found):,} images and {captions:,} captions as {split!r} of {known.name}, which has"
                f" {published}; {known.hint}, or say whole=False if a part of it is meant"
            )
    return found


def _forget() -> None:
    _entries.cache_clear()
    pictures.forget()
