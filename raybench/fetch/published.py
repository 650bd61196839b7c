"""The published files that raybench knows by name: the SISAP challenges of 2023 and 2024 on LAION2B.

Names, sizes, MD5s and addresses are those of the challenges' own lists, one row a file in `assets/published.csv`. A
size is as listed, rounded up in powers of 1,024. Two files of 2023 are listed with an MD5 and no address; a mirror can
still have them. `laion2B-en-clip768v2-n=1M.h5` is two different files, one in each list.
"""

import csv
import functools
import importlib.resources
from collections.abc import Iterable
from dataclasses import dataclass

from raybench.errors import RequestError, suggest
from raybench.fetch.datasets import IMAGE_SETS
from raybench.fetch.items import Checksum, Item, Size, below, safe_name


@dataclass(frozen=True, slots=True)
class Published:
    """One row: the list that it is from, its file name, what it is, and how its bytes are known."""

    listing: str
    name: str
    kind: str  # corpus, queries or gold
    family: str  # clip768v2, pca32v2, pca96v2 or hammingv2
    size: str
    md5: str
    bases: tuple[str, ...]
    note: str


@functools.cache
def published() -> tuple[Published, ...]:
    """All rows, by list and kind."""
    text = (importlib.resources.files("raybench") / "assets" / "published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            row["list"], row["name"], row["kind"], row["family"], row["size"], row["md5"],
            tuple(row["bases"].split()), row["note"],
        )
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip


@functools.cache
def groups() -> dict[str, tuple[Published, ...]]:
    """Group names: each list; for three sizes of 2023 the vectors, public queries and float64 gold, and the projections."""
    named = {listing: tuple(row for row in published() if row.listing == listing) for listing in _listings()}
    for size in ("300K", "10M", "100M"):
        names = (
            f"laion2B-en-clip768v2-n={size}.h5",
            "public-queries-10k-clip768v2.h5",
            f"laion2B-en-public-gold-standard-v2-{size}-F64-IEEE754.h5",
        )
        families = ("pca32v2", "pca96v2", "hammingv2")
        projected = [
            name for one in families for name in (f"laion2B-en-{one}-n={size}.h5", f"public-queries-10k-{one}.h5")
        ]
        for group, wanted in ((f"sisap-{size}", names), (f"sisap-{size}-projections", projected)):
            named[group] = tuple(row for name in wanted for row in named["sisap2023"] if row.name == name)
    return named


def is_known(name: str) -> bool:
    """Whether a name stands for a group or a file."""
    return name in groups() or any(name in (row.name, f"{row.listing}/{row.name}") for row in published())


def find(name: str) -> tuple[Published, ...]:
    """The rows of a group, of `sisap2023/FILE` or of a file name; RequestError with the nearest name where there is none.

    A file name that means different bytes in two lists must be written with its list.
    """
    if name in groups():
        return groups()[name]
    rows = [row for row in published() if name in (row.name, f"{row.listing}/{row.name}")]
    if len({row.md5 for row in rows}) > 1:
        choices = " or ".join(f"{row.listing}/{row.name}" for row in rows)
        raise RequestError(f"{name!r} is a different file in each list; write {choices}")
    if not rows:
        files = {row.name for row in published()} | {f"{row.listing}/{row.name}" for row in published()}
        hint = suggest(name, [*IMAGE_SETS, *groups(), *files])
        if hint.startswith("known are"):  # too many to name
            hint = f"{suggest('', [*IMAGE_SETS, *groups()])}, and single files, which --dry-run lists for each"
        raise RequestError(f"no published file or group is called {name!r}, and no list file is there; {hint}")
    return tuple(rows[:1])


def items(name: str, mirrors: Iterable[str] = ()) -> list[Item]:
    """What to fetch for a name, mirrors first. In a group, a file that is listed with no address has none here either."""
    mirrors = tuple(mirrors)
    rows = find(name)
    made = []
    for row in rows:
        urls = tuple(below(base, row.name) for base in (*mirrors, *row.bases))
        if not urls and len(rows) == 1:
            raise RequestError(f"{row.listing}/{row.name} has no published address; give --mirror BASE_URL")
        size = Size.parse(row.size) if row.size else None
        made.append(Item(safe_name(row.name), urls, Checksum("md5", row.md5), size, row.note))
    return made


def _listings() -> list[str]:
    return sorted({row.listing for row in published()})
