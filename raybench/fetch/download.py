"""Fetching a file: from the first source that has it, in pieces over several connections, verified before it has its name.

Why this is our own, on urllib3. pypdl 1.5.7 turns to a mirror only when its first, small request fails, never when the
body stalls or breaks; it asks again without a pause, resumes only where a header promises ranges, appends an answer to a
segment without looking which range it is, copies every byte once more to join its segments, compares no digest, and had
its last release in October 2025. parfive 2.3.1 and pooch 1.9.0 do not resume. The downloader of huggingface_hub resumes
well, but is not public and refuses to work where the hub is switched off. aria2 does it all, but no kept build of it
installs with a Python package. urllib3 does what is hard (connections, TLS, timeouts, bodies shorter than announced);
pieces, sources and verification are left, and they are what has to be right.
"""

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from raybench.errors import RequestError, StorageError, WorkError
from raybench.fetch.connection import BrokenError, RefusedError, StoppedError
from raybench.fetch.items import BAD, Checksum, Item
from raybench.fetch.part import Part
from raybench.fetch.record import record, recorded
from raybench.fetch.transfer import Transfer, Work


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file. `state` is fetched, present, or present_unchecked where no checksum is known.

    `checksum` is the published one, or what was recorded when it came, or "".
    """

    name: str
    state: str
    size_bytes: int
    fetched_bytes: int
    source: str
    checksum: str
    wrong: int  # times that bytes did not have the checksum, a file found at the start included
    retries: int
    time_s: float


def fetch(item: Item, folder: Path, work: Work) -> Outcome:
    """Bring one file into a folder. WorkError where no source gives it, or two in a row give wrong bytes."""
    try:
        return _fetch(item, folder, work)
    except OSError as error:
        raise WorkError(f"cannot write {item.name} in {folder}: {error.strerror}; run again to go on") from None


def _fetch(item: Item, folder: Path, work: Work) -> Outcome:
    began = time.monotonic()
    target = folder / item.name
    known = item.checksum or recorded(folder, item.name)
    wrong = 0
    if target.exists() or target.is_symlink():
        if not target.is_file():
            raise RequestError(f"{target} is in the way and no file; move it or choose another folder")
        got, size = digest(target, known, work.stop), target.stat().st_size
        if known is None or got == known.value:
            state = "present" if known else "present_unchecked"
            return Outcome(item.name, state, size, 0, "", str(known or ""), 0, 0, time.monotonic() - began)
        target.replace(folder / (item.name + BAD))
        wrong = 1
    with Part(item, folder) as part:
        transfer = Transfer(item, part, work)
        source, wrong_here = _from_sources(transfer)
        size = part.path.stat().st_size
        checksum = item.checksum
        if checksum is None:
            checksum = Checksum("sha256", digest(part.path, Checksum("sha256", "0" * 64), work.stop))
            record(folder, item.name, checksum)  # before the file has its name, so that none is there without it
        part.finish()
    wrong += wrong_here
    fetched, retries, time_s = transfer.fetched_bytes, transfer.retries, time.monotonic() - began
    return Outcome(item.name, "fetched", size, fetched, source, str(checksum), wrong, retries, time_s)


def digest(path: Path, checksum: Checksum | None, stop: threading.Event) -> str:
    """The digest of a file by a checksum's algorithm, in hexadecimal; empty where no checksum is known."""
    if checksum is None:
        return ""
    state = hashlib.new(checksum.algorithm, usedforsecurity=False)
    try:
        with path.open("rb", buffering=0) as file:
            while data := file.read(1 << 20):
                state.update(data)
                if stop.is_set():
                    raise StoppedError
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    return state.hexdigest()


def _from_sources(transfer: Transfer) -> tuple[str, int]:
    """Try the sources in turn; the one that gave the file, and how often bytes were wrong before."""
    item, part = transfer.item, transfer.part
    order, reasons, wrong = list(item.urls), [], 0
    useful = list(item.urls)
    for turn, url in enumerate(order):  # grows by one where the only source, or the last, gave wrong bytes
        try:
            transfer.run(url)
        except (RefusedError, BrokenError) as error:
            reasons.append(f"{url} {error}")
            useful.remove(url)
            continue
        got = digest(part.path, item.checksum, transfer.work.stop)
        if item.checksum is None or got == item.checksum.value:
            return url, wrong
        wrong += 1
        part.set_aside()
        if wrong == 2:
            what = f"{item.name} came with wrong bytes twice: expected {item.checksum}, got {got}, last from {url}"
            raise WorkError(f"{what}; the bytes are kept in {item.name}{BAD}; try another --mirror")
        reasons.append(f"{url} gave {item.checksum.algorithm} {got} where {item.checksum.value} is expected")
        if turn + 1 == len(order):
            order.append(useful[0])
    refused = any(" answered 401" in reason or " answered 403" in reason for reason in reasons)
    then = item.login if item.login and refused else "run again to go on, or give a --mirror"
    raise WorkError(f"{item.name} could not be fetched: {'; '.join(reasons)}; {then}")
