"""Images in a column of Parquet files: raw bytes, or Hugging Face's struct of `bytes` and `path`; read undecoded.

Problems: no_image (null, or only a path), zero_bytes, too_large, no_id, unreadable_row (every row that a damaged or
unreachable row group takes with it) and unreadable_shard (one row, for a file whose footer cannot be read).

Files above 256 MiB become several shards by row groups; rows are streamed, so a file of one huge row group is read
in flat memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raybench import storage
from raybench.errors import DataError, StorageError, suggest
from raybench.sources.addresses import Found, find
from raybench.sources.base import Shard
from raybench.sources.rows import LARGEST_IMAGE_BYTES, Row, as_json, dictionaries, tables, texts_in
from raybench.sources.steady import attempted, tried

_SHARD_BYTES = 256 * 1024 * 1024
_BATCH_BYTES = 16 * 1024 * 1024
_MOST_ROWS = 256  # of one batch
_IDS = ("image_id", "id", "key", "img_id", "filename")
_CAPTIONS = ("caption", "captions", "text", "raw")


@dataclass(frozen=True, slots=True)
class Parquet:
    """Parquet files at an address: a file, a brace pattern, a list of those, or a folder.

    image    the column of images
    caption  a column of strings, lists of strings, or JSON lists in a string; None takes the first there is of
             caption, captions, text and raw; without one no image has captions
    id       a column of strings or whole numbers; None takes the first there is of image_id, id, key, img_id and
             filename, and where there is none, ids are the file's name and the row's number in it
    """

    address: str | tuple[str, ...]
    image: str = "image"
    caption: str | None = None
    id: str | None = None

    def is_ready(self, datasets_uri: str) -> bool:  # noqa: ARG002 - it is read where it lies
        """Always: nothing is made or fetched."""
        return True

    def open(self, datasets_uri: str) -> "ParquetImages":  # noqa: ARG002 - nothing is made or fetched
        """The source; its files are looked up when it plans."""
        return ParquetImages(self)


@dataclass(frozen=True, slots=True)
class ParquetImages:
    """The source of Parquet files; one shard is a file or a run of its row groups."""

    recipe: Parquet

    def plan(self) -> list[Shard]:
        """Shards in the address's order. Raises DataError if the first file lacks a column that is asked for."""
        files = find(self.recipe.address, ".parquet")
        self._columns(read_footer(files[0].uri).schema.to_arrow_schema(), files[0].uri)
        planned = [run for file in files for run in runs(file)]
        return [replace(run, number=number) for number, run in enumerate(planned)]

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The rows of one shard."""
        return tables(self._rows(shard))

    def queries(self) -> None:
        """None: the captions are the queries."""

    def judgments(self) -> None:
        """None: a caption's image is its answer."""

    def _rows(self, shard: Shard) -> Iterator[Row]:
        try:
            footer = attempted(lambda: read_footer(shard.uri))
            columns = self._columns(footer.schema.to_arrow_schema(), shard.uri)
        except (OSError, StorageError, DataError) as error:
            yield Row(shard.name, problem="unreadable_shard", detail=str(error))
            return
        stem = shard.name.removesuffix(".parquet")
        num_rows = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        last = footer.num_row_groups if shard.count is None else shard.first + shard.count
        for group in range(shard.first, last):
            start, done = sum(num_rows[:group]), 0
            try:
                for batch in batches(shard.uri, footer, group):
                    for values in dictionaries(batch):
                        yield self._row(values, columns, f"{stem}-{start + done}")
                        done += 1
            except (OSError, StorageError, pa.ArrowException) as error:
                for row in range(done, num_rows[group]):
                    yield Row(f"{stem}-{start + row}", problem="unreadable_row", detail=f"row group {group}: {error}")

    def _columns(self, schema: pa.Schema, uri: str) -> "_Columns":
        image = image_column(self.recipe.image, schema, uri)
        caption = self.recipe.caption and named(self.recipe.caption, schema, uri)
        caption = caption or next((name for name in _CAPTIONS if name in schema.names), None)
        if self.recipe.id is None:
            return _Columns(
                image, caption, next((n for n in _IDS if n in schema.names and _holds_ids(schema, n)), None)
            )
        if not _holds_ids(schema, named(self.recipe.id, schema, uri)):
            raise DataError(f"{uri}: column {self.recipe.id!r} does not hold ids; they are strings or whole numbers")
        return _Columns(image, caption, self.recipe.id)

    @staticmethod
    def _row(values: dict[str, Any], columns: "_Columns", default_id: str) -> Row:
        image, problem, detail = picture_in(values.pop(columns.image))
        captions = texts_in(values.pop(columns.caption)) if columns.caption else ()
        image_id = values.get(columns.id) if columns.id else default_id
        metadata = as_json(values)
        if image_id is None or image_id == "":
            image, problem, detail = None, "no_id", f"column {columns.id!r} is empty"
        return Row(str(image_id or default_id), image, captions, metadata, problem, detail)


@dataclass(frozen=True, slots=True)
class _Columns:
    image: str
    caption: str | None
    id: str | None


def image_column(name: str, schema: pa.Schema, uri: str) -> str:
    """The name of the column of images; DataError where there is none or it does not hold bytes."""
    kind = schema.field(named(name, schema, uri)).type
    bytes_field = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(bytes_field) or pa.types.is_large_binary(bytes_field)):
        raise DataError(f"{uri}: column {name!r} is {kind}; images are bytes, or a struct of bytes and path")
    return name


def picture_in(cell: Any) -> tuple[bytes | None, str | None, str | None]:
    """The bytes in a cell, or None with the problem and its detail."""
    image, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if image is None:
        return None, "no_image", "the image is null" + (f"; its path is {path!r}" if path else "")
    if not image:
        return None, "zero_bytes", "the image is empty"
    if len(image) > LARGEST_IMAGE_BYTES:
        return None, "too_large", f"the image has {len(image)} bytes; at most {LARGEST_IMAGE_BYTES} are read"
    return image, None, None


def named(name: str, schema: pa.Schema, uri: str) -> str:
    """The name itself, or DataError with the nearest one where no column is called so."""
    if name not in schema.names:
        raise DataError(f"{uri} has no column {name!r}; {suggest(name, schema.names)}")
    return name


def _holds_ids(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def read_footer(uri: str) -> Any:
    """The footer of a file. Raises DataError for what is no Parquet file."""
    with storage.open_random(uri) as file:
        try:
            return pq.read_metadata(file)
        except pa.ArrowInvalid as error:
            raise DataError(f"{uri} is not a readable Parquet file: {error}") from None


def runs(file: Found) -> Iterator[Shard]:
    """One shard for a small or unreadable file, otherwise runs of row groups that reach 256 MiB each."""
    whole = Shard(0, file.name, file.uri, file.size_bytes, file.modified_ns)
    if file.size_bytes <= _SHARD_BYTES:
        yield whole
        return
    try:
        footer = read_footer(file.uri)
    except (OSError, StorageError, DataError):
        yield whole  # reading it says why
        return
    first = run_bytes = 0
    for group in range(footer.num_row_groups):
        facts = footer.row_group(group)
        run_bytes += sum(facts.column(column).total_compressed_size for column in range(facts.num_columns))
        if run_bytes >= _SHARD_BYTES or group == footer.num_row_groups - 1:
            yield replace(whole, size_bytes=run_bytes, first=first, count=group + 1 - first)
            first, run_bytes = group + 1, 0


def batches(uri: str, footer: Any, group: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a row group, all columns or some; after an error of storage it is opened afresh, and none is given twice."""
    facts = footer.row_group(group)
    row_bytes = max(1, facts.total_byte_size // max(1, facts.num_rows))
    size = max(1, min(_MOST_ROWS, _BATCH_BYTES // row_bytes))

    def opened() -> Iterator[pa.RecordBatch]:
        with storage.open_random(uri) as raw:
            file = pq.ParquetFile(raw, metadata=footer, pre_buffer=False, buffer_size=1024 * 1024)
            yield from file.iter_batches(batch_size=size, row_groups=[group], columns=columns, use_threads=False)

    return tried(opened)
