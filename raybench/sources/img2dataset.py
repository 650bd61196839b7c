"""Beside each tar, img2dataset writes a table of all rows of the shard, those that failed as well.

`00000.parquet` has the columns caption, url, key, status, error_message, width, height, original_width,
original_height, exif, sha256 and whatever else was asked for. A tar with such a table accounts for every row of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from raybench import storage
from raybench.errors import StorageError
from raybench.sources.rows import Row, as_json, dictionaries, texts_in
from raybench.sources.steady import attempted

_FAILURES = ("failed_to_download", "failed_to_resize")
_CAPTIONS = ("caption", "captions")


@dataclass(slots=True)
class ShardTable:
    """The rows of a shard's table that no sample of the tar has claimed yet, in the table's order."""

    unclaimed: dict[str, dict[str, Any]] = field(default_factory=dict)
    repeated: list[dict[str, Any]] = field(default_factory=list)  # rows whose key an earlier row has
    unreadable: str | None = None  # why there is no table although there is a file

    def claim(self, key: str) -> dict[str, Any]:
        """The columns of a sample's row, {} if it has none."""
        return self.unclaimed.pop(key, {})

    def leftovers(self) -> Iterator[Row]:
        """Rows without a sample: those that failed, those missing from the tar, and rows of a repeated key."""
        if self.unreadable is not None:
            yield Row("", problem="unreadable_table", detail=self.unreadable)
        for key, row in self.unclaimed.items():
            yield _lost(key, row, *_problem(row))
        for row in self.repeated:
            yield _lost(str(row["key"]), row, "duplicate_key", "the shard's table has this key in an earlier row")


def table_of(tar_uri: str) -> str:
    """Where the table beside a tar is, if there is one."""
    return tar_uri.removesuffix(".tar") + ".parquet"


def read_shard_table(tar_uri: str) -> ShardTable:
    """The table beside a tar; empty where there is none, or where it is of another kind (no key or status)."""
    uri = table_of(tar_uri)
    table = ShardTable()
    try:
        rows = attempted(lambda: storage.read_table(uri) if storage.exists(uri) else None)
    except (OSError, StorageError) as error:
        table.unreadable = str(error)
        return table
    if rows is None or not {"key", "status"} <= set(rows.column_names):
        return table
    for row in dictionaries(rows):
        key = str(row["key"])
        if key in table.unclaimed:
            table.repeated.append(row)
        else:
            table.unclaimed[key] = row
    return table


def facts_of(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that are kept as metadata: all but the captions."""
    return {name: value for name, value in row.items() if name not in _CAPTIONS}


def captions_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The captions in a row or in a sample's JSON."""
    return tuple(text for name in _CAPTIONS for text in texts_in(row.get(name)))


def _problem(row: dict[str, Any]) -> tuple[str, str]:
    status = row["status"]
    if status == "success":
        return "missing_from_tar", "the shard's table calls it a success"
    message = str(row.get("error_message") or "")
    if status in _FAILURES:
        return status, message
    return "failed", f"status {status!r} {message}"


def _lost(key: str, row: dict[str, Any], problem: str, detail: str) -> Row:
    return Row(key, None, captions_of(row), as_json(facts_of(row)), problem, detail)
