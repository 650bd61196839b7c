"""Equal members give equal tar files, byte for byte: no clock, user or machine leaves a trace."""

import io
import tarfile
from collections.abc import Iterable
from typing import BinaryIO


def write_tar(stream: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    """Write (name, content) members as an uncompressed ustar archive, in the order given.

    Members of one WebDataset sample share the name up to its first dot and must follow one another.
    """
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            archive.addfile(_header(name, content), io.BytesIO(content))


def tar_member(name: str, content: bytes) -> bytes:
    """One member as it lies in an archive, so that archives can be put together from members made elsewhere."""
    header = _header(name, content).tobuf(tarfile.USTAR_FORMAT)
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE)


END_OF_TAR = bytes(2 * tarfile.BLOCKSIZE)
"""What follows the last member."""


def _header(name: str, content: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # its defaults are time 0, user 0 and no user name
    member.mode = 0o644
    member.size = len(content)
    return member
