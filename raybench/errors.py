"""Every error that raybench raises on purpose is one of these, and says the thing, the value and the next step.

RaybenchError
├── RequestError        the request is wrong: the command line exits with 2 and prints the sentence
│   ├── SpecError       a name or parameter that no family knows
│   ├── DataError       files that break a rule of their format
│   ├── IndexRequestError  an index cannot be built or searched so: one row of a grid fails, the others go on
│   └── StorageError    a place that cannot be read or written
└── WorkError           the request was right, the work failed: the command line exits with 1
"""

import difflib
from collections.abc import Iterable


class RaybenchError(Exception):
    """The root of all errors raised on purpose."""


class RequestError(RaybenchError):
    """What was asked for cannot be done as asked; nothing was started."""


class SpecError(RequestError):
    """A name as a value does not parse, or names nothing known."""


class DataError(RequestError):
    """Data breaks a rule of its format: wrong shape, dtype, order, duplicate ids, non-finite numbers."""


class IndexRequestError(RequestError):
    """An index cannot be built from these rows, or not be searched with this effort."""


class StorageError(RequestError):
    """A folder, file or bucket is missing, unreadable or not writable."""


class WorkError(RaybenchError):
    """The work itself failed: too many bad images, a worker that kept dying, a checksum that changed."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of a message: the nearest known name, or all of them where none is near."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are: {', '.join(choices)}" if choices else "there are none"
