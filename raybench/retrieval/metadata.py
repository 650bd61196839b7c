"""Tables of Parquet whose rows stand beside the rows of vectors, in the same order; read at some rows, never whole.

A folder as clip-retrieval writes it has one table for each part of vectors, under the same number; there the rows of
every part are compared, because one lost table would give each later row the words of another. Anywhere else the sum is.

Axes: U rows that are asked for, ascending and different.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raybench import storage
from raybench.arrays import Rows
from raybench.errors import DataError
from raybench.formats.base import listed
from raybench.formats.columns import reading
from raybench.storage import FileFacts

_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Part:
    """One file."""

    uri: str
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """Files in the order of their rows, and the columns that all of them have."""

    parts: tuple[Part, ...]
    schema: pa.Schema
    files: tuple[FileFacts, ...]

    def at(self, rows_U: Rows, columns: Sequence[str]) -> Iterator[tuple[slice, pa.Table]]:
        """Columns at some rows, a few at a time and in order, with the run of `rows_U` that each table is of."""
        for part in self.parts:
            low, high = np.searchsorted(rows_U, [part.first_row, part.first_row + part.rows]).tolist()
            if low == high:
                continue
            with reading(part.uri), _opened(part.uri) as source:
                for place, table in _at(pq.ParquetFile(source), rows_U[low:high] - part.first_row, list(columns)):
                    fields = [self.schema.field(name) for name in columns]
                    yield slice(low + place.start, low + place.stop), table.cast(pa.schema(fields))


def _at(file: Any, rows_U: Rows, columns: list[str]) -> Iterator[tuple[slice, pa.Table]]:
    """The same within one file: row groups without an asked row are not read."""
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    first = 0
    for group, size in enumerate(sizes):
        low, high = np.searchsorted(rows_U, [first, first + size]).tolist()
        if low < high:
            start = first
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns):
                some, more = np.searchsorted(rows_U, [start, start + len(batch)]).tolist()
                if some < more:
                    taken = pa.Table.from_batches([batch]).select(columns).take(pa.array(rows_U[some:more] - start))
                    yield slice(some, more), taken
                start += len(batch)
        first += size


def open_metadata(place: str, rows: int, numbered: Mapping[int, int] | None = None) -> Metadata:
    """The tables of a Parquet file or a folder of them, for so many rows; `numbered` are the rows of each part of vectors.

    DataError where rows do not agree, or two tables have no column in common.
    """
    uri = storage.absolute(place)
    if storage.exists(uri):
        files, uri = [storage.facts(uri)], uri.rpartition("/")[0] or "/"
    else:
        files = storage.list_files(uri, ".parquet")
    files = sorted((one for one in files if not one.name.startswith((".", "_"))), key=lambda one: _order(one.name))
    if not files:
        raise DataError(f"{place} holds no Parquet; give the file or folder that has a row for each vector")
    parts, schemas, first = [], [], 0
    for file in files:
        part_uri = storage.join(uri, file.name)
        with reading(part_uri), _opened(part_uri) as source:
            opened = pq.ParquetFile(source)
            parts.append(Part(part_uri, first, opened.metadata.num_rows))
            if parts[-1].rows:
                schemas.append(opened.schema_arrow.remove_metadata())
        first += parts[-1].rows
    if numbered is not None:
        _check_numbers(
            {_number(file.name): part.rows for file, part in zip(files, parts, strict=True)}, numbered, place
        )
    if first != rows:
        raise DataError(f"{place} has {first:,} rows and the vectors {rows:,}; each vector needs its own, in order")
    return Metadata(tuple(parts), _common(schemas, place), tuple(files))


def _check_numbers(found: dict[int, int], wanted: Mapping[int, int], place: str) -> None:
    for number in sorted({*found, *wanted}):
        if found.get(number, 0) != wanted.get(number, 0):
            raise DataError(
                f"{place}: part {number} has {found.get(number, 0):,} rows of metadata and {wanted.get(number, 0):,} "
                "vectors; fetch or write both again"
            )


def _common(schemas: Sequence[pa.Schema], place: str) -> pa.Schema:
    """The columns that all files have, each of a type that all of them fit."""
    if not schemas:
        return pa.schema([])
    names = [name for name in schemas[0].names if all(name in schema.names for schema in schemas[1:])]
    if any(schema.names.count(name) > 1 for schema in schemas for name in names):
        raise DataError(f"{place} has a column twice, of {listed(schemas[0].names)}; write it again")
    chosen = [pa.schema([schema.field(name) for name in names]) for schema in schemas]
    try:
        return pa.unify_schemas(chosen, promote_options="permissive")
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{place} has tables that do not fit one another: {reason}; write them alike") from None


def _opened(uri: str) -> Any:
    """A file for reads at any place; not mapped, because what was read of a map stays resident."""
    return storage.open_random(uri) if storage.is_s3(uri) else pa.OSFile(uri, "rb")


def _number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else 0


def _order(name: str) -> list[tuple[int, str]]:
    """Names by their numbers, so that part 10 follows part 9."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]
