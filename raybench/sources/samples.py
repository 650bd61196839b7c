"""Members of a WebDataset tar become samples: files that follow one another and share the name up to its first dot.

The folder is part of the key, and the first dot is that of the file's own name: `a.b/c.jpg` and `a.b/c.0.txt` are
`jpg` and `0.txt` of the key `a.b/c`. Names that begin with a dot (`._x.jpg`) or look like `__this__` belong to no
sample, as in the webdataset library.

A tar that breaks off takes exactly one sample with it: the one that was cut, or, where the place is between two
members, the last one, since nobody can tell whether it was complete.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from raybench.sources.tar_reader import BrokenTarError, Member, members


@dataclass(slots=True)
class Sample:
    """Members of one key by extension, in the tar's order; a `key` of None stands for the rest of a broken tar."""

    key: str | None
    by_extension: dict[str, Member] = field(default_factory=dict)  # extensions in lower case
    problem: str | None = None
    detail: str | None = None

    def fail(self, problem: str, detail: str) -> "Sample":
        """The sample with its first problem; later ones change nothing."""
        if self.problem is None:
            self.problem, self.detail = problem, detail
        return self


def split_name(name: str) -> tuple[str, str] | None:
    """Key and extension (in lower case, "" if there is none) of a member, or None where it belongs to no sample."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    if not stem or (base.startswith("__") and base.endswith("__")):
        return None
    return folder + slash + stem, extension.lower()


def samples(stream: BinaryIO, keep_bytes: Callable[[str], int]) -> Iterator[Sample]:
    """All samples of a tar, also the broken ones; of a member, at most `keep_bytes(extension)` bytes are kept."""
    seen: set[str] = set()
    current: Sample | None = None
    try:
        for member in members(stream, lambda name: keep_bytes((split_name(name) or ("", ""))[1])):
            named = split_name(member.name)
            if named is None:
                continue
            key, extension = named
            if current is None or key != current.key:
                if current is not None:
                    yield current
                current = _begin(key, seen)
            if extension in current.by_extension:
                current.fail("duplicate_member", f"the tar has {member.name} twice")
            current.by_extension[extension] = member
    except BrokenTarError as broken:
        cut = split_name(broken.name) if broken.name is not None else None
        if current is not None and cut is not None and cut[0] != current.key:
            yield current
            current = None
        if current is None:
            current = _begin(cut[0], seen) if cut is not None else Sample(None)
        current.problem, current.detail = broken.problem, f"{broken.detail}; the rest of the tar is lost"
    if current is not None:
        yield current


def _begin(key: str, seen: set[str]) -> Sample:
    sample = Sample(key)
    if key in seen:
        sample.fail("split_key", f"other samples stand between this member of {key!r} and earlier ones")
    seen.add(key)
    return sample
