"""Tables of text on storage, whatever their form, become rows of named cells; and tables of captions become a mapping.

Forms, told by the file's extension: `.parquet`, `.csv` (comma; `|` or tab where the header has those and no comma),
`.tsv`, `.txt` (read as .csv), `.jsonl` and `.ndjson`.

A line of two or more columns whose last one is a caption may have the caption's commas unquoted, as in the files that
circulate for Flickr8k and Flickr30k: what exceeds the header is joined to the last column again.
"""

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from raybench import storage
from raybench.errors import DataError
from raybench.sources.rows import dictionaries, texts_in
from raybench.sources.steady import attempted

_FILES = ("file_name", "image", "filename", "image_id", "image_name")
_TEXTS = ("caption", "text", "captions", "raw", "comment")
_LONGEST_CELL = 16 * 1024 * 1024  # characters


def read_captions(uri: str) -> dict[str, list[str]]:
    """Captions by the name that a table gives an image, in the table's order; several rows of one name are joined.

    Raises DataError if there is no column of names or none of captions, or a row without a name.
    """
    captions: dict[str, list[str]] = {}
    for number, row in enumerate(rows_of(uri), start=1):
        name = cell(row, _FILES, uri)
        texts = texts_in(cell(row, _TEXTS, uri))
        if name is None or not str(name).strip():
            raise DataError(f"{uri}: row {number} names no image; fill it in or remove it")
        captions.setdefault(str(name).strip(), []).extend(texts)
    return captions


def cell(row: Mapping[str, Any], names: tuple[str, ...], uri: str) -> Any:
    """The value of the first of `names` that a row has. Raises DataError, with the row's columns, if it has none."""
    for name in names:
        if name in row:
            return row[name]
    raise DataError(f"{uri} has none of the columns {', '.join(names)}; it has {', '.join(map(str, row))}")


def rows_of(uri: str, form: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a table; `form` is "parquet", "csv", "tsv" or "jsonl", by default as the file's extension says."""
    form = form or {"txt": "csv", "ndjson": "jsonl"}.get(end := posixpath.splitext(uri)[1][1:].lower(), end)
    if form == "parquet":
        yield from dictionaries(attempted(lambda: storage.read_table(uri)))
    elif form in {"csv", "tsv", "jsonl"}:
        text = _text(uri)
        yield from _json_rows(text, uri) if form == "jsonl" else csv_rows(text, "\t" if form == "tsv" else None, uri)
    else:
        raise DataError(f"{uri} is not a table that can be read; use .parquet, .csv, .tsv or .jsonl")


def _text(uri: str) -> str:
    try:
        return attempted(lambda: storage.read_bytes(uri)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{uri} is not UTF-8 at byte {error.start}; write it again as UTF-8") from None


def csv_rows(text: str, delimiter: str | None, uri: str) -> Iterator[dict[str, Any]]:
    """The rows of a text with a header; without a delimiter the header tells it. `uri` is named in errors."""
    csv.field_size_limit(_LONGEST_CELL)
    first = text.split("\n", 1)[0]
    separator = delimiter or next((mark for mark in ",|\t" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not cells:
                continue
            if len(cells) > len(header) >= 2 and header[-1] in _TEXTS:
                cells = [*cells[: len(header) - 1], separator.join(cells[len(header) - 1 :])]  # noqa: PLW2901 - mended
            if len(cells) != len(header):
                raise DataError(
                    f"{uri}: line {reader.line_num} has {len(cells)} cells, its header {len(header)}; mend it"
                )
            yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{uri}: line {reader.line_num} cannot be read: {error}") from None


def _json_rows(text: str, uri: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{uri}: line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{uri}: line {number} is not a JSON object; write one object a line")
        yield row
