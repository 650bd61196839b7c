"""A source is rows at an address: planning is cheap and runs on the driver, reading runs on a worker.

Every input row is in what `read` yields, also the unreadable ones: those have a `problem` (a short fixed word that
is counted) and a `detail` (what was seen, kept as an example). So rows in = rows out + rows with a problem.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

IMAGE_ROWS = pa.schema(
    [
        ("position", pa.int64()),  # 0, 1, 2, ... within the shard
        ("image_id", pa.string()),
        ("image", pa.large_binary()),  # compressed bytes as stored; null where there is a problem
        ("captions", pa.list_(pa.string())),
        ("metadata", pa.string()),  # the other columns of the row as one JSON object
        ("problem", pa.string()),  # null, or the reason why there is no image
        ("detail", pa.string()),
    ]
)
"""The schema of every table that a source of images yields."""

TEXT_ROWS = pa.schema(
    [
        ("position", pa.int64()),
        ("query_id", pa.string()),
        ("text", pa.string()),
        ("cluster_id", pa.string()),  # the image that a caption came from, or the query itself
    ]
)
"""The schema of queries in their order."""

JUDGMENT_ROWS = pa.schema([("query_id", pa.string()), ("image_id", pa.string()), ("relevance", pa.int64())])
"""The schema of judgments; a relevance of 0 or less is a judged row that is not relevant."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One unit of reading, of work and of resuming.

    `first`, `count` bound the rows (row groups of a Parquet file, lines of a table) where a file holds several shards.
    """

    number: int  # position in the plan
    name: str  # stable: the file's name below the source's root, the same on local disk and S3
    uri: str
    size_bytes: int
    modified_ns: int
    first: int = 0
    count: int | None = None
    fingerprint: str = ""  # of whatever else decides the rows: files beside it, the files of a run one by one


class Source(Protocol):
    """Images at an address; small enough to be sent to every worker."""

    def plan(self) -> list[Shard]:
        """All shards in a fixed order. Raises RequestError if there are none or the place cannot be read."""
        ...

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The rows of a shard in order, as tables of IMAGE_ROWS, some tens of MB at most; opened afresh by each call."""
        ...

    def queries(self) -> pa.Table | None:
        """The queries that come with the images (TEXT_ROWS without position), or None: their captions are the queries."""
        ...

    def judgments(self) -> pa.Table | None:
        """The judgments that come with the images (JUDGMENT_ROWS), or None: a caption's image is its answer."""
        ...


class SourceRecipe(Protocol):
    """What a spec such as `webdataset("s3://bucket/{00000..00067}.tar")` stands for."""

    def open(self, datasets_uri: str) -> Source:
        """The source, ready to plan. Data sets that are made or fetched are put below `datasets_uri` first."""
        ...

    def is_ready(self, datasets_uri: str) -> bool:
        """Whether `open` only looks: False for a data set that it would have to make or fetch first."""
        ...


def notes_of(source: Source) -> list[str]:
    """What a source has to say of its choice of rows, such as how many it leaves unread; nothing from most sources."""
    told = getattr(source, "notes", None)
    return list(told()) if callable(told) else []


class Truth(Protocol):
    """What is known to be true of pictures that were made, and what can be asked about them."""

    def question(self, query_id: str, image_id: str, query: str) -> tuple[str, str] | None:
        """A question about a picture that its query does not answer, and the answer; the same for the same query."""
        ...

    def is_right(self, image_id: str, question: str, right: str, said: str) -> bool:
        """Whether an answer says the right one, in any words for it."""
        ...

    def judge(self, image_id: str, query: str, said: str) -> dict[str, tuple[int, int]]:
        """By measure, how many facts of a picture a text states rightly, and of how many."""
        ...


def truth_of(source: Source) -> Truth | None:
    """What a source knows of its pictures; nothing from most sources."""
    told = getattr(source, "truth", None)
    known: Truth | None = told() if callable(told) else None
    return known
