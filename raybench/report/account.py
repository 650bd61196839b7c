"""What a run says about itself in `run.json`, checked when it is read: rows in = rows out + rows dropped by reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from raybench import storage
from raybench.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """One dropped row, kept to be looked at."""

    reason: str
    shard: str
    position: str
    image_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Account:
    """The rows of one artifact: how many came in, went out and were dropped, with examples."""

    kind: str
    modality: str
    encoder: str
    uri: str
    rows_in: int
    rows_out: int
    dropped: tuple[tuple[str, int], ...]  # reason and count, by reason
    examples: tuple[Example, ...]
    encoder_facts: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    seconds: float
    checksum: str
    seconds_of: str = "pipeline"  # or "encoder", busy with these rows, where others shared the pipeline
    rows_timed: int = 0  # of which the seconds are; a run that goes on after another embeds the rest

    @property
    def num_dropped(self) -> int:
        """Rows dropped for any reason."""
        return sum(count for _, count in self.dropped)

    @property
    def rows_per_s(self) -> float:
        """Rows in a second of the pipeline, or of an encoder's work; 0 where nothing was timed."""
        return (self.rows_timed or self.rows_in) / self.seconds if self.seconds else 0.0

    @property
    def is_balanced(self) -> bool:
        """Whether no row was lost or counted twice."""
        return self.rows_in == self.rows_out + self.num_dropped


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table beside the records, as the run wrote it: texts and numbers in columns."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """The facts of one run; empty where the file does not tell."""

    name: str
    created: str
    command: str
    evaluation: str
    seed: int | None
    shards: int | None
    environment: Mapping[str, Any]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    accounts: tuple[Account, ...]
    experiments: tuple[Mapping[str, Any], ...]
    sheets: tuple[Sheet, ...] = ()
    costs: tuple[Mapping[str, Any], ...] = ()
    tuned: tuple[Mapping[str, Any], ...] = ()
    failed: tuple[Mapping[str, Any], ...] = ()
    generations: tuple[Mapping[str, Any], ...] = ()
    rag_times: tuple[Mapping[str, Any], ...] = ()

    @property
    def total_s(self) -> float:
        """How long all took: `total_s` where the run says it, or the sum of the stages."""
        return self.seconds.get("total_s", sum(self.seconds.values()))


def read_run(out_uri: str) -> Run | None:
    """The facts that the run left, or None if there is no `run.json`. Raises DataError where it has another shape."""
    uri = storage.join(out_uri, "run.json")
    if not storage.exists(uri):
        return None
    facts = _as(storage.read_json(uri), dict, uri)
    seconds = _get(facts, "seconds", dict, uri) or {}
    return Run(
        name=_get(facts, "name", str, uri) or "",
        created=_get(facts, "created", str, uri) or "",
        command=_get(facts, "command", str, uri) or "",
        evaluation=_get(facts, "evaluation", str, uri) or "",
        seed=_get(facts, "seed", int, uri),
        shards=_get(facts, "shards", int, uri),
        environment=_get(facts, "environment", dict, uri) or {},
        warnings=tuple(str(warning) for warning in _get(facts, "warnings", list, uri) or []),
        seconds={stage: float(_as(value, (int, float), uri)) for stage, value in seconds.items()},
        accounts=tuple(_account(_as(item, dict, uri), uri) for item in _get(facts, "artifacts", list, uri) or []),
        experiments=tuple(_as(item, dict, uri) for item in _get(facts, "experiments", list, uri) or []),
        costs=tuple(_as(item, dict, uri) for item in _get(facts, "costs", list, uri) or []),
        tuned=tuple(_as(item, dict, uri) for item in _get(facts, "tuned", list, uri) or []),
        failed=tuple(_as(item, dict, uri) for item in _get(facts, "failed", list, uri) or []),
        generations=tuple(
            _generation(_as(item, dict, uri), uri) for item in _get(facts, "generations", list, uri) or []
        ),
        rag_times=tuple(_times(_as(item, dict, uri), uri) for item in _get(facts, "rag_times", list, uri) or []),
        sheets=tuple(_sheet(_as(item, dict, uri), uri) for item in _get(facts, "sheets", list, uri) or []),
    )


def _sheet(facts: Mapping[str, Any], uri: str) -> Sheet:
    columns = tuple(str(column) for column in _get(facts, "columns", list, uri) or [])
    rows = tuple(tuple(_as(row, list, uri)) for row in _get(facts, "rows", list, uri) or [])
    for row in rows:
        if len(row) != len(columns) or not all(cell is None or isinstance(cell, (str, int, float)) for cell in row):
            raise DataError(f"{uri}: a row of a sheet does not have a value for each column; run again")
    return Sheet(_get(facts, "title", str, uri) or "", _get(facts, "note", str, uri) or "", columns, rows)


def _generation(facts: Mapping[str, Any], uri: str) -> Mapping[str, Any]:
    """The facts of one generation as they are, after a look at those that the report uses."""
    for name in ("key", "prompt", "context"):
        _as(facts.get(name), str, f"{uri}: generations: {name}")
    for name in ("queries", "answered"):
        _get(facts, name, int, f"{uri}: generations")
    for count in (_get(facts, "problems", dict, f"{uri}: generations") or {}).values():
        _as(count, int, f"{uri}: generations: problems")
    for item in _get(facts, "measures", list, f"{uri}: generations") or []:
        told = _as(item, dict, f"{uri}: generations: measures")
        _as(told.get("measure"), str, f"{uri}: generations: measure")
        for name in ("value", "low", "high"):
            _get(told, name, (int, float), f"{uri}: generations")
    return facts


def _times(facts: Mapping[str, Any], uri: str) -> Mapping[str, Any]:
    """The times of one prompt and context as they are, after the same look."""
    for name in ("prompt", "context"):
        _as(facts.get(name), str, f"{uri}: rag_times: {name}")
    _get(facts, "warm", int, f"{uri}: rag_times")
    for item in _get(facts, "stages", list, f"{uri}: rag_times") or []:
        told = _as(item, dict, f"{uri}: rag_times: stages")
        _as(told.get("stage"), str, f"{uri}: rag_times: stage")
        for name in ("mean_s", "low_s", "high_s", "share"):
            _get(told, name, (int, float), f"{uri}: rag_times")
    return facts


def _account(facts: Mapping[str, Any], uri: str) -> Account:
    dropped: dict[str, Any] = _get(facts, "dropped", dict, uri) or {}
    examples: dict[str, Any] = _get(facts, "examples", dict, uri) or {}
    return Account(
        kind=_get(facts, "kind", str, uri) or "",
        modality=_get(facts, "modality", str, uri) or "",
        encoder=_get(facts, "encoder", str, uri) or "",
        uri=_get(facts, "uri", str, uri) or "",
        rows_in=_as(facts.get("rows_in"), int, uri),
        rows_out=_as(facts.get("rows_out"), int, uri),
        dropped=tuple((reason, _as(count, int, uri)) for reason, count in sorted(dropped.items())),
        examples=tuple(
            _example(reason, _as(item, dict, uri))
            for reason, items in sorted(examples.items())
            for item in _as(items, list, uri)
        ),
        encoder_facts=_get(facts, "encoder_facts", dict, uri) or {},
        preprocess=_get(facts, "preprocess", dict, uri) or {},
        seconds=float(_get(facts, "seconds", (int, float), uri) or 0.0),
        checksum=_get(facts, "checksum", str, uri) or "",
        seconds_of=_get(facts, "seconds_of", str, uri) or "pipeline",
        rows_timed=_get(facts, "rows_timed", int, uri) or 0,
    )


def _example(reason: str, facts: Mapping[str, Any]) -> Example:
    cells = {name: facts.get(name) for name in ("shard", "position", "image_id", "detail")}
    return Example(reason, **{name: "" if cell is None else str(cell) for name, cell in cells.items()})


def _get(facts: Mapping[str, Any], name: str, kind: type[T] | tuple[type[T], ...], uri: str) -> T | None:
    value = facts.get(name)
    return None if value is None else _as(value, kind, f"{uri}: {name}")


def _as(value: Any, kind: type[T] | tuple[type[T], ...], what: str) -> T:
    if not isinstance(value, kind):
        raise DataError(f"{what} holds {type(value).__name__} where the report expects another kind; run again")
    return value
