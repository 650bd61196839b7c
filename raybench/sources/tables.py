"""Queries and judgments from tables that name their columns in any of the usual ways; ids are always strings.

Read are the column names of raybench, BEIR, mteb and Hugging Face's retrieval sets; other columns are ignored.
Duplicates and empty cells are refused with their value, since either would change a measure without a sign.
"""

import importlib.resources
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from raybench import storage
from raybench.errors import DataError, SpecError, suggest
from raybench.preflight import check_readable
from raybench.registry import Registry
from raybench.sources.base import JUDGMENT_ROWS, TEXT_ROWS
from raybench.sources.captions import cell, rows_of
from raybench.sources.rows import storable

QUERY_ROWS = TEXT_ROWS.remove(0)
"""The schema of `queries_table`; a null `cluster_id` is for the caller to fill."""

_QUERY_IDS = ("query_id", "query-id", "_id", "id")
_TEXTS = ("text", "query_text", "query", "caption")
_IMAGE_IDS = ("image_id", "document_id", "corpus-id", "corpus_id", "doc_id")
_RELEVANCES = ("relevance", "score")


class TableRecipe(Protocol):
    """What a spec such as `tsv("qrels/test.tsv")` stands for."""

    @property
    def uri(self) -> str:
        """Where the table is."""
        ...

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows as dictionaries by column."""
        ...


TABLES: Registry[TableRecipe] = Registry(
    "table",
    {
        "parquet": "raybench.sources.tables:ParquetTable",
        "csv": "raybench.sources.tables:CsvTable",
        "tsv": "raybench.sources.tables:TsvTable",
        "jsonl": "raybench.sources.tables:JsonLines",
        "shipped": "raybench.sources.tables:ShippedTable",
    },
)


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """A Parquet file."""

    uri: str

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows as dictionaries by column."""
        return rows_of(storage.absolute(self.uri), "parquet")


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A file of comma-separated values with a header, UTF-8."""

    uri: str

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows as dictionaries by column, all strings."""
        return rows_of(storage.absolute(self.uri), "csv")


@dataclass(frozen=True, slots=True)
class TsvTable:
    """A file of tab-separated values with a header, UTF-8."""

    uri: str

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows as dictionaries by column, all strings."""
        return rows_of(storage.absolute(self.uri), "tsv")


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A file of one JSON object a line."""

    uri: str

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows as dictionaries by key."""
        return rows_of(storage.absolute(self.uri), "jsonl")


@dataclass(frozen=True, slots=True)
class ShippedTable:
    """A table that comes with raybench: published numbers, by name, such as `shipped("vehicle-image-search")`."""

    name: str

    def __post_init__(self) -> None:
        folder = Path(str(importlib.resources.files("raybench"))) / "assets" / "published"
        known = sorted(file.stem for file in folder.glob("*.csv"))
        if self.name not in known:
            raise SpecError(f"no table called {self.name!r} is shipped with raybench; {suggest(self.name, known)}")

    @property
    def uri(self) -> str:
        """The file in the installed package."""
        return str(importlib.resources.files("raybench") / "assets" / "published" / f"{self.name}.csv")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows as dictionaries by column, all strings."""
        return rows_of(self.uri, "csv")


def queries_table(spec: str) -> pa.Table:
    """The queries at an address such as `parquet("queries.parquet")`, in their order: QUERY_ROWS.

    Raises DataError for a column that is missing, an empty id or text, and an id that occurs twice.
    """

    def read(row: dict[str, Any], where: str, uri: str) -> tuple[tuple[str, ...], dict[str, Any]]:
        query_id, text = _id(cell(row, _QUERY_IDS, uri), "query id", where), cell(row, _TEXTS, uri)
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: the text of query {query_id!r} is {text!r}; fill it in or remove the query")
        cluster = row.get("cluster_id")
        cluster_id = None if cluster is None or cluster == "" else _id(cluster, "cluster id", where)
        return (query_id,), {"query_id": query_id, "text": storable(text), "cluster_id": cluster_id}

    return _table(spec, QUERY_ROWS, "queries", read)


def qrels_table(spec: str) -> pa.Table:
    """The judgments at an address such as `tsv("qrels/test.tsv")`, in their order: JUDGMENT_ROWS.

    A table without relevance or score lists what is relevant: its grades are 1. Raises DataError for a column that is
    missing, an empty id, a grade that is no whole number, and a pair of query and image that occurs twice.
    """

    def read(row: dict[str, Any], where: str, uri: str) -> tuple[tuple[str, ...], dict[str, Any]]:
        query_id = _id(cell(row, _QUERY_IDS[:2], uri), "query id", where)
        image_id = _id(cell(row, _IMAGE_IDS, uri), "image id", where)
        given = [name for name in _RELEVANCES if name in row]
        grade = _grade(row[given[0]], where) if given else 1
        return (query_id, image_id), {"query_id": query_id, "image_id": image_id, "relevance": grade}

    return _table(spec, JUDGMENT_ROWS, "judgments", read)


def _table(
    spec: str,
    schema: pa.Schema,
    what: str,
    read: Callable[[dict[str, Any], str, str], tuple[tuple[str, ...], dict[str, Any]]],
) -> pa.Table:
    recipe = TABLES.make(spec)
    check_readable(recipe.uri)
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, ...]] = set()
    for number, row in enumerate(recipe.rows(), start=1):
        key, values = read(row, f"{recipe.uri}, row {number}", recipe.uri)
        if key in seen:
            raise DataError(f"{recipe.uri}, row {number}: {' with '.join(map(repr, key))} occurs twice; remove one")
        seen.add(key)
        rows.append(values)
    if not rows:
        raise DataError(f"{recipe.uri} holds no {what}; check the file")
    return pa.Table.from_pylist(rows, schema=schema)


def _id(value: object, what: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataError(f"{where}: {what} {value!r} is no id; ids are strings that are not empty, or whole numbers")
    return storable(str(value))


def _grade(value: object, where: str) -> int:
    try:
        grade = float(value) if isinstance(value, (str, int, float)) else None
    except ValueError:
        grade = None
    if grade is None or not grade.is_integer():
        raise DataError(f"{where}: relevance {value!r} is no grade; grades are whole numbers")
    return int(grade)
