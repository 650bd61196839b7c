"""The page for programs: strict JSON of all that the page tells, and the records as CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from raybench.report.account import Run
from raybench.results import Record

_CSV_COLUMNS = (
    "direction",
    "encoder",
    "transform",
    "index",
    "measure",
    "value",
    "low",
    "high",
    "worst_tie",
    "best_tie",
    "chance",
)


def facts(run: Run, records: Sequence[Record], notes: Sequence[str]) -> dict[str, Any]:
    """What `summary.json` holds; a number that is not finite is null, as strict JSON has none."""
    accounts = [
        {**asdict(account), "dropped": dict(account.dropped), "balanced": account.is_balanced}
        for account in run.accounts
    ]
    told = {
        "name": run.name,
        "created": run.created,
        "command": run.command,
        "evaluation": run.evaluation,
        "seed": run.seed,
        "shards": run.shards,
        "environment": run.environment,
        "seconds": run.seconds,
        "sheets": [asdict(sheet) for sheet in run.sheets],
        "costs": list(run.costs),
        "tuned": list(run.tuned),
        "failed": list(run.failed),
        "notes": list(notes),
        "accounting": accounts,
        "generations": list(run.generations),
        "rag_times": list(run.rag_times),
        "records": [asdict(record) for record in records],
    }
    return {name: finite(value) for name, value in told.items()}


def finite(value: Any) -> Any:
    """The value with each number in it that is not finite as None; tuples become lists."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_text(records: Sequence[Record]) -> str:
    """The records as CSV, one line each."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    writer.writerows([getattr(record, column) for column in _CSV_COLUMNS] for record in records)
    return buffer.getvalue()
