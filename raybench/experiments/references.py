"""What others published on the same data, as rows with tolerances; a run's numbers stand beside them and agree or do not.

A table of published numbers has the columns encoder, direction, measure, value, tolerance and source; `queries` and `corpus` say
over how many queries and rows it was measured, and `tolerance_for` what the tolerance allows for. A number agrees if it is no
further from the published one than the tolerance; the interval of ours plays no part in that, since both are of the same
queries. Numbers of other data (another count of queries or rows) are shown, and neither agree nor differ.

Ours is the exact search of whole vectors, stored in float16: published numbers are of no index and no shorter vectors.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from raybench.encoders import ENCODERS
from raybench.errors import DataError, SpecError, suggest
from raybench.experiments.evaluation import DIRECTIONS
from raybench.experiments.run_file import Cell, Run, Sheet
from raybench.metrics import parse_measure
from raybench.preflight import check_readable
from raybench.results import Record
from raybench.sources.tables import TABLES
from raybench.spec import Spec

T = TypeVar("T")

COLUMNS = ("encoder", "direction", "measure", "value", "tolerance", "source")
# Parameters that do not say which model it is: how it computes, and which commit of the same repository.
_SAME_MODEL = ("precision", "revision", "trust_remote_code", "remote_code", "code_revision", "text_revision", "text_code_revision")  # fmt: skip
_TITLE = "Beside the published numbers"


@dataclass(frozen=True, slots=True)
class Reference:
    """One published number."""

    encoder: str
    direction: str
    measure: str
    value: float
    tolerance: float
    source: str
    queries: int | None = None
    corpus: int | None = None
    tolerance_for: str = ""

    def is_of(self, encoder: str) -> bool:
        """Whether an encoder's spec names the same model: all parameters alike but those that name no model."""
        theirs, ours = ENCODERS.make(self.encoder), ENCODERS.make(encoder)
        if type(theirs) is not type(ours) or not dataclasses.is_dataclass(theirs):
            return False
        names = [field.name for field in dataclasses.fields(theirs) if field.name not in _SAME_MODEL]
        return all(getattr(theirs, name) == getattr(ours, name) for name in names)


def references(spec: str) -> tuple[Reference, ...]:
    """The published numbers at an address such as `csv("published.csv")` or `shipped("open-clip-coco")`.

    Raises DataError, with the row, for what is missing, is no name, or stands twice.
    """
    table = TABLES.make(spec)
    check_readable(table.uri)
    made: dict[tuple[object, ...], Reference] = {}
    for number, row in enumerate(table.rows(), start=1):
        where = f"{table.uri}, row {number}"
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            raise DataError(f"{table.uri} has no column {missing[0]}; published numbers need {', '.join(COLUMNS)}")
        one = _reference(row, where)
        key = (Spec.parse(one.encoder), one.direction, one.measure)
        if key in made:
            raise DataError(f"{where}: {one.encoder}, {one.direction}, {one.measure} stands twice; remove one")
        made[key] = one
    if not made:
        raise DataError(f"{table.uri} holds no published numbers; check the file")
    return tuple(made.values())


def _reference(row: dict[str, Any], where: str) -> Reference:
    try:
        ENCODERS.make(str(row["encoder"]))
        measure = str(parse_measure(str(row["measure"])))
    except SpecError as error:
        raise DataError(f"{where}: {error}") from None
    if row["direction"] not in DIRECTIONS:
        raise DataError(
            f"{where}: no direction is called {row['direction']!r}; {suggest(str(row['direction']), DIRECTIONS)}"
        )
    value, tolerance = (_number(row[name], name, where, float) for name in ("value", "tolerance"))
    queries, corpus = (
        None if row.get(name) in (None, "") else _number(row[name], name, where, int) for name in ("queries", "corpus")
    )
    told = str(row.get("tolerance_for") or "")
    encoder, source = str(Spec.parse(str(row["encoder"]))), str(row["source"] or "")
    return Reference(encoder, row["direction"], measure, value, tolerance, source, queries, corpus, told)


def _number(value: Any, name: str, where: str, kind: Callable[[Any], T]) -> T:
    try:
        number = kind(value)
    except (TypeError, ValueError):
        number = kind(-1)
    if not (math.isfinite(float(number)) and float(number) >= 0):  # type: ignore[arg-type]  # an int or a float
        raise DataError(f"{where}: {name} is {value!r}; it must be a number from 0")
    return number


def beside_published(progress: Run, published: Sequence[Reference]) -> None:
    """Add the table of a run's numbers beside the published ones, and warn where they differ or cannot be compared."""
    ours = [
        one
        for one in progress.records
        if (Spec.parse(one.transform).name, Spec.parse(one.index).name) == ("float16", "exact")
    ]
    rows: list[tuple[Cell, ...]] = []
    absent: Counter[str] = Counter()
    for one in published:
        alike = [record for record in ours if one.is_of(record.encoder)]
        found = [record for record in alike if (record.direction, record.measure) == (one.direction, one.measure)]
        rows += [_row(one, record) for record in found]
        if not found:
            absent["of a direction or measure that is not" if alike else "of an encoder that is not"] += 1
    verdicts = Counter(str(row[-1]) for row in rows)
    told = [f"{count} {what}" for what, count in absent.items()]
    note = " ".join(
        [
            f"{verdicts['agrees']} of {len(rows)} agree: the difference is no more than the tolerance.",
            *([f"{absent.total()} of {len(published)} published numbers are not in this run: {', '.join(told)}."] if told else []),
            *_allowances(published),
            f"Source: {'; '.join(dict.fromkeys(one.source for one in published))}.",
        ]
    )  # fmt: skip
    columns = (
        "encoder",
        "direction",
        "measure",
        "ours",
        "low",
        "high",
        "published",
        "difference",
        "tolerance",
        "verdict",
    )
    progress.sheets.append(Sheet(_TITLE, note, columns, tuple(rows)))
    _warn(progress, verdicts, len(rows), len(published))


def _row(one: Reference, record: Record) -> tuple[Cell, ...]:
    difference = record.value - one.value
    verdict = "agrees" if abs(difference) <= one.tolerance * (1 + 1e-9) else "differs"
    if any(theirs not in (None, own) for theirs, own in ((one.queries, record.queries), (one.corpus, record.corpus))):
        verdict = (
            f"other data: published of {_data(one.queries, one.corpus)}, ours {_data(record.queries, record.corpus)}"
        )
    numbers = (record.value, record.low, record.high, one.value, round(difference, 12), one.tolerance)
    return record.encoder, one.direction.replace("_", " "), one.measure, *numbers, verdict


def _data(queries: int | None, corpus: int | None) -> str:
    return f"{'?' if queries is None else f'{queries:,}'} queries over {'?' if corpus is None else f'{corpus:,}'} rows"


def _allowances(published: Sequence[Reference]) -> list[str]:
    """What tolerances stand for, each with its sizes."""
    sizes: dict[str, dict[float, None]] = {}
    for one in published:
        sizes.setdefault(one.tolerance_for, {})[one.tolerance] = None
    return [
        f"A tolerance of {' or '.join(f'{size:g}' for size in sorted(each))} allows for {reason}."
        for reason, each in sizes.items()
        if reason
    ]


def _warn(progress: Run, verdicts: Counter[str], rows: int, published: int) -> None:
    if not rows:
        progress.warnings.append(
            f"none of the {published} published numbers is of this run's encoders, directions and measures"
        )
    if verdicts["differs"]:
        progress.warnings.append(
            f"{verdicts['differs']} numbers differ from the published ones by more than their tolerance: look at weights, preprocessing "
            "and data before anything else"
        )
    other = rows - verdicts["agrees"] - verdicts["differs"]
    if other:
        progress.warnings.append(
            f"{other} published numbers are of other data than this run's, so nothing is said of agreement"
        )
