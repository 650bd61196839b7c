"""An address names its files in a fixed order: one file, a brace pattern, a list of those, or a folder of numbered files.

`{00000..00067}` counts, zero-padded if either end is; `{train,test}` lists; several in one address go through all
combinations, the last the fastest, as a shell does.
"""

import itertools
import math
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from raybench import storage
from raybench.errors import DataError, StorageError
from raybench.preflight import check_readable

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
_MOST_FILES = 5_000_000
_LOOKED_AT_ALONE = 8  # more files than this of one folder are looked up in one listing


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a data set; `name` is its path below the address's root, the same on local disks and S3."""

    name: str
    uri: str
    size_bytes: int
    modified_ns: int


def expand(pattern: str) -> list[str]:
    """All addresses that a brace pattern stands for, in order. Raises DataError for braces that say nothing."""
    parts = _BRACES.split(pattern)  # literal, braced, literal, braced, ..., literal
    if any(brace in literal for literal in parts[::2] for brace in "{}"):
        raise DataError(f"{pattern!r} has a brace without its partner; write ranges like {{00000..00067}}")
    choices = [[part] if place % 2 == 0 else _choices(part, pattern) for place, part in enumerate(parts)]
    if math.prod(len(choice) for choice in choices) > _MOST_FILES:
        raise DataError(f"{pattern!r} names more than {_MOST_FILES} files; split it")
    return ["".join(combination) for combination in itertools.product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    counted = _RANGE.fullmatch(inside)
    if counted:
        first, last = counted.groups()
        if int(first) > int(last) or int(last) - int(first) >= _MOST_FILES:
            raise DataError(f"{pattern!r}: {{{inside}}} must count upwards, over at most {_MOST_FILES} numbers")
        padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
        width = max(len(first), len(last)) if padded else 0
        return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    if "," in inside:
        return inside.split(",")
    raise DataError(f"{pattern!r}: {{{inside}}} is neither a range like {{000..127}} nor a list like {{a,b}}")


def find(address: str | tuple[str, ...], suffix: str) -> list[Found]:
    """The files at an address. Raises DataError or StorageError if there are none, or one of those named is missing."""
    given = (address,) if isinstance(address, str) else address
    patterns = [storage.absolute(pattern) for pattern in given]
    if not given or not all(given):
        raise DataError(f"{address!r} is no address; give a file, a pattern, or a folder of {suffix} files")
    check_readable(patterns[0].partition("{")[0])
    if len(patterns) == 1 and "{" not in patterns[0] and not patterns[0].endswith(suffix):
        return _in_folder(patterns[0], suffix)
    root = _common_folder([posixpath.dirname(pattern.partition("{")[0]) for pattern in patterns])
    uris = [uri for pattern in patterns for uri in expand(pattern)]
    wrong = next((uri for uri in uris if not uri.endswith(suffix)), None)
    if wrong is not None:
        raise DataError(f"{wrong} does not end in {suffix}; in a pattern or a list every address must be such a file")
    twice = next((uri for uri, times in Counter(uris).items() if times > 1), None)
    if twice is not None:
        raise DataError(f"{twice} is named twice in {address!r}; name each file once")
    return _looked_up(uris, root)


def _common_folder(folders: list[str]) -> str:
    """The deepest folder above all of these; unlike posixpath.commonpath it leaves the // of an address alone."""
    levels = zip(*(folder.split("/") for folder in folders), strict=False)
    return "/".join(names[0] for names in itertools.takewhile(lambda names: len(set(names)) == 1, levels))


def _looked_up(uris: list[str], root: str) -> list[Found]:
    by_folder: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        by_folder[posixpath.dirname(uri)].append(uri)
    known: dict[str, storage.FileFacts] = {}
    for folder, members in by_folder.items():
        if len(members) <= _LOOKED_AT_ALONE:
            known |= {uri: storage.facts(uri) for uri in members}
        else:
            known |= {storage.join(folder, file.name): file for file in storage.list_files(folder)}
    missing = [uri for uri in uris if uri not in known]
    if missing:
        raise StorageError(f"{missing[0]} is not there, nor are {len(missing) - 1} others; check the pattern")
    return [Found(uri[len(root) + 1 :], uri, known[uri].size_bytes, known[uri].modified_ns) for uri in uris]


def _in_folder(folder: str, suffix: str) -> list[Found]:
    files = [file for file in storage.list_files(folder, suffix) if not _is_hidden(file.name)]
    direct = {file.name: file for file in files if "/" not in file.name}
    if not direct:
        below = sorted({file.name.partition("/")[0] for file in files})
        if below:
            raise DataError(f"{folder} has {suffix} files only in the folders {', '.join(below[:5])}; name one of them")
        raise DataError(f"{folder} has no {suffix} files; check the path")
    return [
        Found(name, storage.join(folder, name), direct[name].size_bytes, direct[name].modified_ns)
        for name in in_numeric_order(direct)
    ]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def in_numeric_order(names: Iterable[str]) -> list[str]:
    """Names sorted with their numbers read as numbers. Raises DataError where numbers of one place are padded unevenly.

    Unevenly padded names (`1.tar` beside `02.tar`) mostly come from two runs in one folder, and programs disagree
    about their order. Numbers that outgrow their padding (`99999`, `100000`) are in order.
    """
    ordered = sorted(names, key=lambda name: [(text, int(digits or -1)) for text, digits in _pieces(name)])
    widths: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    shortest: dict[tuple[str, int], tuple[int, str]] = {}
    for name in ordered:
        skeleton = re.sub("[0-9]+", "#", name)
        for place, digits in enumerate(re.findall("[0-9]+", name)):
            where = (skeleton, place)
            shortest[where] = min(shortest.get(where, (len(digits), name)), (len(digits), name))
            if digits.startswith("0") and len(digits) > 1:
                widths[where][len(digits)] = name
    for where, padded in widths.items():
        width, name = max(padded.items())
        if shortest[where][0] < width:
            raise DataError(f"{shortest[where][1]} and {name} pad their numbers differently; rename them alike")
    return ordered


def _pieces(name: str) -> list[tuple[str, str]]:
    """The name as pairs of text and the digits after it; the digits of the last pair may be empty."""
    return [(text, digits) for text, digits in re.findall("([^0-9]*)([0-9]*)", name) if text or digits]
