"""Pictures by their file name, wherever they lie: in a folder at any depth, or in zips at its top that are read in place.

A name is looked up among what was listed, and never opened as a path, so names in annotations may be anything. A file of
the folder goes before a member of a zip. Of several with one name, the one in an expected folder is taken; without that
there is none. Problems: missing_file, unreadable_file, zero_bytes, too_large.
"""

import functools
import posixpath
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from raybench import storage
from raybench.errors import DataError, StorageError
from raybench.sources import zips
from raybench.sources.folder import is_image
from raybench.sources.rows import LARGEST_IMAGE_BYTES, Row
from raybench.sources.steady import attempted


@dataclass(frozen=True, slots=True)
class Picture:
    """A file of a folder, or a member of a zip in it; `checksum` is 0 for a file."""

    path: str  # below the folder, or in the zip
    archive: str  # the zip's path below the folder, "" for a file
    size_bytes: int
    modified_ns: int  # of the file, or of the zip
    checksum: int = 0


@functools.lru_cache(maxsize=2)
def pictures_in(folder: str, archives: tuple[str, ...], token: str) -> Mapping[str, tuple[Picture, ...]]:
    """Pictures by the last part of their name; `archives` are the names of zips that are looked into if they are there."""
    found: dict[str, list[Picture]] = defaultdict(list)
    files = storage.list_files(folder)
    for file in files:
        if is_image(file.name):
            picture = Picture(file.name, "", file.size_bytes, file.modified_ns)
            found[posixpath.basename(file.name)].append(picture)
    for file in files:
        if file.name in archives:
            for member in zips.members(storage.join(folder, file.name), token):
                if is_image(member.name):
                    picture = Picture(member.name, file.name, member.size_bytes, file.modified_ns, member.checksum)
                    found[posixpath.basename(member.name)].append(picture)
    return {name: tuple(pictures) for name, pictures in found.items()}


def choose(pictures: tuple[Picture, ...], name: str, folders: tuple[str, ...]) -> Picture | None:
    """The picture that a name stands for, or None where there is none, or several of which none is expected."""
    files = [one for one in pictures if not one.archive] or list(pictures)
    if len(files) == 1:
        return files[0]
    expected = {posixpath.join(folder, name) for folder in folders}
    first = [one for one in files if one.path in expected]
    return first[0] if len(first) == 1 else None


def row_of(folder: str, token: str, picture: Picture, row: Row) -> Row:
    """The row with the picture's bytes, or with the reason why there are none."""
    if picture.size_bytes > LARGEST_IMAGE_BYTES:
        detail = f"the file has {picture.size_bytes} bytes; at most {LARGEST_IMAGE_BYTES} are read"
        return _failed(row, "too_large", detail)
    try:
        if picture.archive:
            uri = storage.join(folder, picture.archive)
            image = zips.read_member(uri, token, picture.path, LARGEST_IMAGE_BYTES)
        else:
            image = attempted(lambda: storage.read_bytes(storage.join(folder, picture.path)))
    except (OSError, StorageError, DataError) as error:
        return _failed(row, "unreadable_file", str(error))
    if not image:
        return _failed(row, "zero_bytes", "the file is empty")
    return Row(row.image_id, image, row.captions, row.metadata)


def missing(row: Row) -> Row:
    """The row of a picture that is not there."""
    return _failed(row, "missing_file", "the annotations name it; no file, or more than one, has this name")


def forget() -> None:
    """Forget what was listed, so that the next look sees what is there now."""
    pictures_in.cache_clear()
    zips.forget()


def _failed(row: Row, problem: str, detail: str) -> Row:
    return Row(row.image_id, None, row.captions, row.metadata, problem, detail)
