"""Files inside a zip on any storage, read in place by ranges; nothing is unpacked, so no member's name reaches a path.

A process keeps the last few zips open with their lists of members; an error of storage opens them afresh.
"""

import functools
import io
import zipfile
import zlib
from dataclasses import dataclass

from raybench import storage
from raybench.errors import DataError, StorageError
from raybench.sources.steady import attempted

_BUFFER_BYTES = 256 * 1024  # members are smaller than this mostly, and then one request on S3 reads header and content


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a zip; `size_bytes` is what its list says, and what is read at most."""

    name: str
    size_bytes: int
    checksum: int  # CRC-32 of the content


def members(uri: str, token: str) -> list[Member]:
    """The files of a zip in its own order; `token` tells one look from another. Raises DataError for what is no zip."""
    listed = attempted(lambda: _open(uri, token)).infolist()
    return [Member(one.filename, one.file_size, one.CRC) for one in listed if not one.is_dir()]


def read_member(uri: str, token: str, name: str, most_bytes: int) -> bytes:
    """The content of a member, at most so many bytes; DataError where it is damaged, locked, larger or not there."""

    def read() -> bytes:
        try:
            archive = _open(uri, token)
            size_bytes = archive.getinfo(name).file_size
            if size_bytes > most_bytes:
                raise DataError(f"{name!r} in {uri} has {size_bytes} bytes; at most {most_bytes} are read")
            with archive.open(name) as file:
                return file.read(size_bytes)  # a member that unpacks to more than it says is cut and fails its checksum
        except (OSError, StorageError):
            forget()  # a connection that broke stays broken
            raise
        except KeyError:
            raise DataError(f"{uri} has no member {name!r}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise DataError(f"{name!r} in {uri} cannot be read: {error}") from None

    return attempted(read)


def forget() -> None:
    """Close what is open, so that the next look sees what is there now."""
    _open.cache_clear()


@functools.lru_cache(maxsize=4)
def _open(uri: str, token: str) -> zipfile.ZipFile:  # noqa: ARG001 - a part of the key
    try:
        return zipfile.ZipFile(io.BufferedReader(storage.open_random(uri), _BUFFER_BYTES))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{uri} is no readable zip: {error}; fetch it again") from None
