"""One input row becomes one `Row`, good or not, and rows become tables of IMAGE_ROWS; hostile text is made storable."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raybench.sources.base import IMAGE_ROWS

_TABLE_BYTES = 16 * 1024 * 1024
_TABLE_ROWS = 512
_DEEPEST = 40  # levels of nested metadata that are kept

LARGEST_IMAGE_BYTES = 512 * 1024 * 1024
"""A larger compressed image is a row with the problem "too_large" and is never held in memory."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row before it has a position: `image` is there exactly if `problem` is None."""

    image_id: str
    image: bytes | None = None
    captions: tuple[str, ...] = ()
    metadata: str | None = None
    problem: str | None = None
    detail: str | None = None


def tables(rows: Iterable[Row]) -> Iterator[pa.Table]:
    """The rows in order with positions 0, 1, 2, ...; a table ends at 512 rows or once it holds 16 MiB of images."""
    held: list[Row] = []
    position = held_bytes = 0
    for row in rows:
        held.append(row)
        held_bytes += len(row.image or b"")
        if held_bytes >= _TABLE_BYTES or len(held) >= _TABLE_ROWS:
            yield _table(held, position)
            position, held, held_bytes = position + len(held), [], 0
    if held:
        yield _table(held, position)


def _table(rows: list[Row], position: int) -> pa.Table:
    columns = [
        list(range(position, position + len(rows))),
        [storable(row.image_id) for row in rows],
        [row.image for row in rows],
        [[storable(text) for text in row.captions] for row in rows],
        [row.metadata for row in rows],
        [row.problem for row in rows],
        [None if row.detail is None else storable(row.detail)[:200] for row in rows],
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, IMAGE_ROWS, strict=True)], schema=IMAGE_ROWS)


def storable(text: str) -> str:
    """The text with "?" for what UTF-8 cannot hold (lone surrogates, which JSON can smuggle in)."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def dictionaries(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows as dictionaries; strings that are not UTF-8, which Parquet does not check, get replacement characters."""
    names = table.column_names if isinstance(table, pa.Table) else table.schema.names
    columns = [_values(column) for column in table.columns]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _values(array: Any) -> list[Any]:
    try:
        values: list[Any] = array.to_pylist()
    except UnicodeDecodeError:
        if isinstance(array, pa.ChunkedArray):
            return [value for chunk in array.chunks for value in _values(chunk)]
        return _mended(array)
    return values


def _mended(array: Any) -> list[Any]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _values(array.dictionary_decode())
    if pa.types.is_struct(kind):
        fields = {kind.field(place).name: _values(array.field(place)) for place in range(kind.num_fields)}
        rows = [dict(zip(fields, cells, strict=True)) for cells in zip(*fields.values(), strict=True)]
        return [row if valid else None for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_values(cell.values) if cell.is_valid else None for cell in array]
    data = array.cast(pa.large_binary()).to_pylist()
    return [None if cell is None else cell.decode("utf-8", "replace") for cell in data]


def texts_in(value: object) -> tuple[str, ...]:
    """The captions in a cell: a string, a list of strings, or a string that is a JSON list of strings."""
    if isinstance(value, str):
        listed = _json_list(value)
        return _stripped([value] if listed is None else listed)
    if isinstance(value, (list, tuple)):
        return _stripped([item for item in value if isinstance(item, str)])
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    return _stripped([str(value)])


def lines_in(text: bytes) -> tuple[str, ...]:
    """The captions in a text file, one a line; bytes that are not UTF-8 become replacement characters."""
    return _stripped(text.decode("utf-8-sig", "replace").splitlines())


def _json_list(text: str) -> list[str] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _stripped(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(stripped for text in texts if (stripped := text.strip()))


def as_json(values: Mapping[str, object]) -> str | None:
    """One JSON object in ASCII; non-finite numbers become null, bytes are left out, other types are printed."""
    kept = {str(name): _plain(value, 0) for name, value in values.items() if not isinstance(value, (bytes, bytearray))}
    return json.dumps(kept) if kept else None


def _plain(value: object, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        inner = {str(name): item for name, item in value.items() if not isinstance(item, (bytes, bytearray))}
        return {name: _plain(item, depth + 1) for name, item in inner.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    return "..." if isinstance(value, (bytes, bytearray)) else str(value)
