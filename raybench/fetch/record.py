"""What came without a published checksum is recorded in the folder, as `sha256sum -c` reads it, and held against it later."""

import os
from pathlib import Path

from raybench.fetch.items import RECORD, Checksum


def recorded(folder: Path, name: str) -> Checksum | None:
    """The checksum that a file had when it was fetched, the last one where it was fetched more than once."""
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return None
    values = [line[:64] for line in lines if line[64:] == f"  {name}"]
    return Checksum("sha256", values[-1]) if values else None


def record(folder: Path, name: str, checksum: Checksum) -> None:
    """Add a file's line; one write, so that files which end at once do not mix their lines."""
    fd = os.open(folder / RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.write(fd, f"{checksum.value}  {name}\n".encode("utf-8", "replace"))
    finally:
        os.close(fd)
