"""Many files at once: a plan that says what will come from where, and its execution."""

import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from raybench import storage
from raybench.errors import RaybenchError, RequestError, StorageError, WorkError
from raybench.fetch import datasets, lists, published
from raybench.fetch.connection import Client, Limits
from raybench.fetch.download import Outcome, fetch
from raybench.fetch.items import Item, check_url
from raybench.fetch.part import resumable_bytes
from raybench.fetch.transfer import Work


@dataclass(frozen=True, slots=True)
class Planned:
    """One file of a plan. `state` is there (to be checked), partial, absent or no_address; bytes are None where no size is known."""

    item: Item
    state: str
    there_bytes: int
    missing_bytes: int | None


def resolve(names: Iterable[str], mirrors: Sequence[str] = ()) -> list[Item]:
    """The files that names stand for: image sets, groups, published files, and list files; each file once."""
    for mirror in mirrors:
        check_url(mirror)
    found: dict[str, Item] = {}
    for name in names:
        for item in _items(name, mirrors):
            found[item.name] = _merged(found.get(item.name, item), item)
    return list(found.values())


def _items(name: str, mirrors: Sequence[str]) -> list[Item]:
    if datasets.set_of(name) is not None:
        return datasets.items(name, mirrors)
    is_list = not published.is_known(name) and "\0" not in name and Path(name).is_file()
    return lists.read_list(name, mirrors) if is_list else published.items(name, mirrors)


def plan(items: Iterable[Item], folder: str) -> list[Planned]:
    """What there is of each file in a folder, by name and size alone.

    A file that is there counts as done, which its checksum may still refute.
    """
    if storage.is_s3(folder):
        raise StorageError(f"files are fetched to a local folder, and {folder} is not; fetch, and copy it from there")
    place = Path(storage.absolute(folder))
    return [_planned(item, place) for item in items]


def check_room(planned: Iterable[Planned], folder: Path) -> None:
    """StorageError where what is missing, as far as its size is known, does not fit on the folder's disk."""
    needed = sum(one.missing_bytes or 0 for one in planned)
    free = free_bytes(folder)
    if needed > free:
        raise StorageError(f"{needed:,} bytes are missing and {folder} has {free:,} free; make room or choose another")


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not be there yet."""
    try:
        nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
        return shutil.disk_usage(nearest).free
    except OSError as error:
        raise StorageError(f"cannot look at {folder}: {error.strerror}; choose another folder") from None


def fetch_all(
    items: Sequence[Item],
    folder: Path,
    jobs: int,
    advance: Callable[[int], None],
    say: Callable[[Outcome], None],
    limits: Limits | None = None,
    tokens: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Fetch files over at most `jobs` connections in all; outcomes in the order of the items.

    `tokens` are by the origin (`https://host`) that may see them.
    One file that fails does not stop the others; then WorkError tells of the first, and how many others there were.
    """
    limits = limits or Limits()
    work = Work(Client(limits, jobs, tokens), limits, jobs, _locked(advance))
    outcomes: dict[int, Outcome] = {}
    errors: list[RaybenchError] = []
    pending: dict[Future[Outcome], int] = {}
    with ThreadPoolExecutor(min(jobs, len(items)) or 1, thread_name_prefix="file") as pool:
        try:
            pending.update({pool.submit(fetch, item, folder, work): n for n, item in enumerate(items)})
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    number = pending.pop(future)
                    try:
                        outcomes[number] = future.result()
                    except RaybenchError as error:
                        errors.append(error)
                    else:
                        say(outcomes[number])
        except BaseException:  # an interrupt too: threads must end before the process can
            work.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            while wait(pending, timeout=0.2).not_done:
                work.client.abort()  # again and again: a thread may just have been about to read
            raise
    if errors:
        others = f" (and {len(errors) - 1} more files failed)" if len(errors) > 1 else ""
        raise WorkError(f"{errors[0]}{others}")
    return [outcomes[number] for number in range(len(items))]


def _merged(one: Item, other: Item) -> Item:
    if one == other or not other.urls:
        return one
    if not one.urls:
        return other
    if one.checksum is None or one.checksum != other.checksum:
        raise RequestError(f"two different files are called {one.name!r}; fetch them to two folders")
    return replace(one, urls=tuple(dict.fromkeys((*one.urls, *other.urls))))


def _planned(item: Item, folder: Path) -> Planned:
    target = folder / item.name
    try:
        if target.is_file():
            return Planned(item, "there", target.stat().st_size, 0)
        if not item.urls:
            return Planned(item, "no_address", 0, 0)
        there = resumable_bytes(item, folder)
    except OSError as error:
        raise StorageError(f"cannot look at {target}: {error.strerror}; choose another folder") from None
    missing = None if item.size is None else max(item.size.high - there, 0)
    return Planned(item, "partial" if there else "absent", there, missing)


def _locked(advance: Callable[[int], None]) -> Callable[[int], None]:
    lock = threading.Lock()

    def one_at_a_time(size_bytes: int) -> None:
        with lock:
            advance(size_bytes)

    return one_at_a_time
