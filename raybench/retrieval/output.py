"""The tables of a retrieval: what is kept, the account of each query, and what img2dataset downloads.

    results.parquet      row, id, url, caption, score, seed (the query), strategy, rank, and the columns that were asked for
    queries.parquet      strategy, query, requested, asked, found, padded, each reason, kept, ended
    img2dataset.parquet  url, caption, row, score of results with an http address, for
                         `img2dataset --input_format parquet --url_col url --caption_col caption`

Results are in the order of queries and ranks, metadata in that of rows: so the metadata of kept rows is put into a local
file first, and taken from there. img2dataset opens addresses with Python's urllib, which reads local files too (`file:`);
so nothing but http and https goes to it. Columns of the metadata keep what they hold; text that is not UTF-8 gets
replacement characters, since most readers would stop at it.

Axes: K kept results, B of them.
"""

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from raybench import storage
from raybench.arrays import Rows
from raybench.errors import RequestError, suggest
from raybench.formats.base import VectorFile
from raybench.formats.flat import replacing
from raybench.retrieval.chosen import REASONS, Chosen
from raybench.retrieval.metadata import Metadata
from raybench.search.strategies import Queries

FILES = ("results.parquet", "queries.parquet", "img2dataset.parquet")
_BATCH_ROWS = 32_768
_URLS, _CAPTIONS = ("url", "URL", "image_url"), ("caption", "TEXT", "text")
_IDS = ("image_id", "id")
_OWN = ("row", "id", "url", "caption", "score", "seed", "strategy", "rank")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the columns of the results come from: names in the metadata."""

    url: str | None
    caption: str | None
    id: str | None
    is_in_json: bool  # the url is a key of the JSON that raybench's own folders have as `metadata`
    more: tuple[str, ...]

    @classmethod
    def of(cls, schema: pa.Schema | None, more: Sequence[str]) -> "Columns":
        """RequestError for a column that is not there, or would stand there twice."""
        names = [] if schema is None else schema.names
        for name in more:
            if name not in names:
                raise RequestError(f"--columns {name!r} is not in the metadata; {suggest(name, names)}")
            if name in _OWN:
                raise RequestError(f"--columns {name!r} is the name of a column that every result has; leave it out")
        url = next((name for name in _URLS if name in names), None)
        is_in_json = url is None and {"metadata", "image_id"} <= set(names)
        return cls(
            "metadata" if is_in_json else url, next((name for name in _CAPTIONS if name in names), None),
            next((name for name in _IDS if name in names), None), is_in_json, tuple(more),
        )  # fmt: skip

    @property
    def read(self) -> list[str]:
        """The columns that are read, each once."""
        return list(dict.fromkeys(name for name in (self.url, self.caption, self.id, *self.more) if name is not None))


def write_results(
    uri: str, chosen: Chosen, queries: Queries, file: VectorFile, metadata: Metadata | None, columns: Columns,
    advance: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """Write both tables of results; their accounts."""
    ids_N = file.ids(0, file.rows)
    names, strategies = pa.array(queries.names, pa.string()), pa.array(queries.strategies, pa.string())
    written, account = 0, {"without_url": 0, "url_not_http": 0, "img2dataset_rows": 0}
    targets = [storage.join(uri, name) for name in ("results.parquet", "img2dataset.parquet")]
    with (
        _gathered(uri, chosen.row_K, metadata, columns) as take,
        _writer(targets[0]) as results,
        _writer(targets[1]) as urls,
    ):
        for start in range(0, max(1, len(chosen.row_K)), _BATCH_ROWS):
            part = slice(start, start + _BATCH_ROWS)
            told = take(part)
            query_B = pa.array(chosen.query_K[part])
            made = {"row": pa.array(chosen.row_K[part])}
            if ids_N is not None:
                made["id"] = pa.array(ids_N[chosen.row_K[part]])
            elif columns.id is not None:
                made["id"] = told[columns.id]
            made["url"] = _url(told, columns, len(query_B))
            made["caption"] = _text(told, columns.caption, len(query_B))
            made |= {
                "score": pa.array(chosen.score_K[part]),
                "seed": names.take(query_B),
                "strategy": strategies.take(query_B),
            }
            made["rank"] = pa.array(chosen.rank_K[part] + 1)
            table = pa.table(made | {name: told[name] for name in columns.more})
            results.write(table)
            is_url = pc.and_kleene(
                pc.is_valid(table["url"]), pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(table["url"], "")), "")
            )
            is_http = pc.match_substring_regex(pc.fill_null(table["url"], ""), r"^(?i:https?)://")
            urls.write(_for_img2dataset(table.filter(is_http)))
            num_urls, num_http = (pc.sum(pc.cast(flags, pa.int64())).as_py() or 0 for flags in (is_url, is_http))
            account["without_url"] += len(table) - num_urls
            account["url_not_http"] += num_urls - num_http
            account["img2dataset_rows"] += num_http
            written += len(table)
            advance(len(table))
    return account | {"results": written}


def write_queries(uri: str, chosen: Chosen, queries: Queries, ended: Sequence[str]) -> None:
    """The account of each query."""
    counts = {name: chosen.counts[name] for name in ("asked", "found", "padded", *REASONS)}
    names = {"query": pa.array(queries.names, pa.string()), "strategy": pa.array(queries.strategies, pa.string())}
    table = names | {"requested": queries.requested_Q} | counts | {"ended": pa.array(ended, pa.string())}
    storage.write_table(storage.join(uri, "queries.parquet"), pa.table(table))


def _for_img2dataset(table: pa.Table) -> pa.Table:
    return pa.table(
        {
            "url": pc.utf8_trim_whitespace(table["url"]),
            "caption": pc.fill_null(table["caption"], ""),
            "row": table["row"],
            "score": table["score"],
        }
    )


class _Writer:
    """A Parquet file that takes its columns from the first table."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: Any = None

    def write(self, table: pa.Table) -> None:
        if self._open is None:
            self._open = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._open.write_table(table)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()


@contextmanager
def _writer(uri: str) -> Iterator[_Writer]:
    with replacing(uri) as path:
        writer = _Writer(path)
        try:
            yield writer
        finally:
            writer.close()


@contextmanager
def _gathered(
    uri: str, row_K: Rows, metadata: Metadata | None, columns: Columns
) -> Iterator[Callable[[slice], dict[str, Any]]]:
    """What takes the metadata of a run of results: columns by name."""
    if metadata is None or not columns.read:
        yield lambda _part: {}
        return
    rows_U, place_K = np.unique(row_K, return_inverse=True)
    below = None if storage.is_s3(uri) else uri
    with tempfile.TemporaryDirectory(prefix=".metadata-", dir=below) as folder:
        path = str(Path(folder) / "rows.arrow")
        schema = pa.schema([_wide(metadata.schema.field(name)) for name in columns.read])
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for _, table in metadata.at(rows_U, columns.read):
                writer.write_table(_mended(table).cast(schema))
        with pa.memory_map(path) as source, pa.ipc.open_file(source) as reader:
            held = reader.read_all()

            def take(part: slice) -> dict[str, Any]:
                table = held.take(pa.array(place_K[part]))
                return {name: _narrow(table[name]) for name in columns.read}

            yield take


def _wide(field: pa.Field) -> pa.Field:
    """Text of more than 2 GiB has no room in one array of Arrow's usual strings."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return pa.field(field.name, pa.large_string() if pa.types.is_string(kind) else kind)


def _narrow(column: Any) -> Any:
    return column.cast(pa.string()) if pa.types.is_large_string(column.type) else column


def _mended(table: pa.Table) -> pa.Table:
    """The same with replacement characters in text that is not UTF-8."""
    for place, field in enumerate(table.schema):
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        try:
            table[field.name].validate(full=True)
        except pa.ArrowInvalid:
            data = table[field.name].cast(pa.large_binary()).to_pylist()
            texts = [None if one is None else one.decode("utf-8", "replace") for one in data]
            table = table.set_column(place, field, pa.array(texts, field.type))
    return table


def _text(told: dict[str, Any], name: str | None, count: int) -> Any:
    if name is None or not count:
        return pa.nulls(count, pa.string())
    column = told[name]
    return column.cast(pa.string()) if not pa.types.is_nested(column.type) else pa.nulls(count, pa.string())


def _url(told: dict[str, Any], columns: Columns, count: int) -> Any:
    text = _text(told, columns.url, count)
    return _keys(pc.fill_null(text, "{}").to_pylist()) if columns.is_in_json and count else text


def _keys(objects: list[str]) -> Any:
    """The key `url` of JSON objects, where it is a string."""
    options = pj.ParseOptions(explicit_schema=pa.schema([("url", pa.string())]), unexpected_field_behavior="ignore")
    try:
        table = pj.read_json(io.BytesIO("\n".join(objects).encode()), parse_options=options)
        if len(table) == len(objects):
            return table["url"]
    except pa.ArrowInvalid:  # one of them has another kind of url, or is very long
        pass
    read = [_loaded(text).get("url") for text in objects]
    return pa.array([one if isinstance(one, str) else None for one in read], pa.string())


def _loaded(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
