"""Results are tidy Parquet: one file of records per experiment, and one sibling file with every query's values.

A record is one number with its interval, its unit and how it was obtained. Files are written whole, one per
experiment, so any number of experiments can be written at once and a folder can be read directly by DuckDB or pandas:

    results/records/<experiment>.parquet     one row per measure (RECORDS)
    results/queries/<experiment>.parquet     one row per query and measure (QUERY_VALUES)
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa

from raybench import storage

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
    """The records of one file."""
    return [Record(**row) for row in storage.read_table(uri).to_pylist()]


def read_all(results_uri: str) -> list[Record]:
    """The records of all experiments below a results folder, by file name."""
    folder = storage.join(results_uri, "records")
    return [
        record for file in storage.list_files(folder, ".parquet") for record in read(storage.join(folder, file.name))
    ]


def read_queries(results_uri: str, experiment: str) -> pa.Table:
    """Every query's values in one experiment."""
    return storage.read_table(storage.join(results_uri, "queries", f"{experiment}.parquet"))
