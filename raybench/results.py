"""Results are tidy Parquet: one file of records per experiment, and sibling files with what the numbers came from.

A record is one number with its interval, its unit and how it was obtained. Files are written whole, one per
experiment, so any number of experiments can be written at once and a folder can be read directly by DuckDB or pandas:

    results/records/<experiment>.parquet     one row per measure (RECORDS)
    results/queries/<experiment>.parquet     one row per query and measure (QUERY_VALUES)
    results/neighbors/<experiment>.parquet   one row per query and retrieved row (NEIGHBORS)
    results/gallery/<experiment>.parquet     the same for a few queries, with captions and thumbnails (GALLERY)
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa

from raybench import storage
from raybench.errors import DataError

RECORDS = pa.schema(
    [
        ("evaluation", pa.string()),  # the evaluation's name
        ("experiment", pa.string()),  # content key of everything that decides the number
        ("direction", pa.string()),  # text_to_image or image_to_text
        ("encoder", pa.string()),
        ("transform", pa.string()),
        ("index", pa.string()),
        ("measure", pa.string()),
        ("value", pa.float64()),  # mean over all judged queries
        ("low", pa.float64()),  # the interval of the mean; null where there is none
        ("high", pa.float64()),
        (
            "worst_tie",
            pa.float64(),
        ),  # the mean if every tie went against the relevant rows; null where ties mean nothing
        ("best_tie", pa.float64()),  # the mean if every tie went for them
        ("chance", pa.float64()),  # the mean expected of a random ranking; null where it is not defined
        ("queries", pa.int64()),  # over how many
        ("clusters", pa.int64()),  # how many independent clusters they form
        ("corpus", pa.int64()),  # how many rows were searched
        ("unit", pa.string()),
        ("method", pa.string()),  # how value and interval were obtained, in words
        ("seed", pa.int64()),
        ("environment", pa.string()),  # JSON: versions, processor, BLAS kernel
    ]
)
"""One row per number."""

QUERY_VALUES = pa.schema(
    [
        ("experiment", pa.string()),
        ("query_id", pa.string()),
        ("cluster_id", pa.string()),
        ("measure", pa.string()),
        ("value", pa.float64()),
        ("worst_tie", pa.float64()),
        ("best_tie", pa.float64()),
    ]
)
"""One row per query and measure; the mean of `value` is the record's value."""

NEIGHBORS = pa.schema(
    [
        ("query_id", pa.string()),
        ("rank", pa.int64()),  # 1, 2, ..., K
        ("id", pa.string()),  # the image_id that was retrieved, or the query_id of a retrieved caption
        ("score", pa.float64()),
        ("grade", pa.int64()),  # 0 where the row is not relevant to the query
    ]
)
"""One row per query and retrieved row, best first."""

GALLERY = pa.schema(
    [
        ("query_id", pa.string()),
        ("text", pa.string()),  # the caption that asks, or the id of the image that asks
        ("rank", pa.int64()),  # 1, 2, ... retrieved; 0 the best relevant row; -1 the query's own picture, if it is one
        ("id", pa.string()),
        ("caption", pa.string()),  # a caption of the retrieved image, or the retrieved caption
        ("score", pa.float64()),
        ("grade", pa.int64()),
        ("found_rank", pa.int64()),  # of the first relevant row of this query; null where none was retrieved
        ("thumbnail", pa.binary()),  # a small JPEG; null where the row is a caption
    ]
)
"""One row per shown picture or caption of a few queries, the rows of one query together."""


@dataclass(frozen=True, slots=True)
class Record:
    """One number, its interval and where it comes from; the fields are the columns of RECORDS."""

    evaluation: str
    experiment: str
    direction: str
    encoder: str
    transform: str
    index: str
    measure: str
    value: float
    low: float | None
    high: float | None
    worst_tie: float | None
    best_tie: float | None
    chance: float | None
    queries: int
    clusters: int
    corpus: int
    unit: str
    method: str
    seed: int
    environment: str


def records_uri(results_uri: str, experiment: str) -> str:
    """Where the records of an experiment are."""
    return storage.join(results_uri, "records", f"{experiment}.parquet")


def write(results_uri: str, experiment: str, records: Iterable[Record], per_query: pa.Table) -> None:
    """Write one experiment: values per query first, records last, so that records are there only if both are."""
    storage.write_table(storage.join(results_uri, "queries", f"{experiment}.parquet"), per_query.cast(QUERY_VALUES))
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=RECORDS)
    storage.write_table(records_uri(results_uri, experiment), table)


def read(uri: str) -> list[Record]:
    """The records of one file. Raises DataError where it has other columns."""
    return [Record(**row) for row in _read(uri, RECORDS).to_pylist()]


def read_all(results_uri: str) -> list[Record]:
    """The records of all experiments below a results folder, by file name."""
    folder = storage.join(results_uri, "records")
    return [
        record for file in storage.list_files(folder, ".parquet") for record in read(storage.join(folder, file.name))
    ]


def read_queries(results_uri: str, experiment: str) -> pa.Table:
    """Every query's values in one experiment."""
    return _read(storage.join(results_uri, "queries", f"{experiment}.parquet"), QUERY_VALUES)


def neighbors_uri(results_uri: str, experiment: str) -> str:
    """Where the retrieved rows of an experiment are."""
    return storage.join(results_uri, "neighbors", f"{experiment}.parquet")


def gallery_uri(results_uri: str, experiment: str) -> str:
    """Where the shown queries of an experiment are."""
    return storage.join(results_uri, "gallery", f"{experiment}.parquet")


def write_neighbors(results_uri: str, experiment: str, table: pa.Table) -> None:
    """Write what every query of an experiment retrieved (NEIGHBORS)."""
    storage.write_table(neighbors_uri(results_uri, experiment), table.cast(NEIGHBORS))


def write_gallery(results_uri: str, experiment: str, table: pa.Table) -> None:
    """Write the queries of an experiment that a reader is shown (GALLERY)."""
    storage.write_table(gallery_uri(results_uri, experiment), table.cast(GALLERY))


def read_neighbors(results_uri: str, experiment: str, columns: list[str] | None = None) -> pa.Table:
    """What every query of an experiment retrieved (NEIGHBORS), or some columns of it, in the schema's order."""
    return _read(neighbors_uri(results_uri, experiment), NEIGHBORS, columns)


def read_gallery(results_uri: str, experiment: str) -> pa.Table:
    """The queries of an experiment that a reader is shown (GALLERY)."""
    return _read(gallery_uri(results_uri, experiment), GALLERY)


def _read(uri: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    table = storage.read_table(uri, columns)
    if table.schema.names != (columns or schema.names):
        raise DataError(f"{uri} has columns {', '.join(table.schema.names)}; delete it and run again")
    return table
