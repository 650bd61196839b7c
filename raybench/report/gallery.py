"""What a few queries retrieved, ready to be shown: the right rows are marked, and the best answer is there if missed.

One query stands once, with a strip for each system that was asked it, so that systems are compared on the same query.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

MOST_QUERIES = 24  # of one direction; a page should open at once
MOST_SYSTEMS = 6  # strips under one query
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture or caption in a strip."""

    rank: int
    id: str
    caption: str
    score: float | None
    grade: int
    picture: str | None  # a data URI

    @property
    def is_right(self) -> bool:
        """Whether it is relevant to the query."""
        return self.grade > 0


@dataclass(frozen=True, slots=True)
class Strip:
    """What one system retrieved for one query, best first; `answer` is set where no relevant row is among it."""

    key: str
    series: int
    found_rank: int | None
    shown: tuple[Shown, ...]
    answer: Shown | None


@dataclass(frozen=True, slots=True)
class Query:
    """One query: its words, or the id and the picture of the image that asks."""

    query_id: str
    text: str
    picture: str | None
    strips: tuple[Strip, ...]

    @property
    def outcome(self) -> str:
        """`first`: every system is right at rank 1; `missed`: one has nothing right in its list; else `lower`."""
        ranks = [strip.found_rank for strip in self.strips]
        if any(rank is None for rank in ranks):
            return "missed"
        return "first" if all(rank == 1 for rank in ranks) else "lower"


@dataclass(frozen=True, slots=True)
class Gallery:
    """The queries of one direction; `num_queries` and `num_systems` say how many there were before the cut."""

    queries: tuple[Query, ...]
    num_queries: int
    num_systems: int


def gather(tables: Sequence[tuple[str, int, pa.Table]]) -> Gallery:
    """The tables (GALLERY) of some systems, each with its letter and series, as queries in the first table's order."""
    asked: dict[str, list[tuple[str, int, list[dict[str, Any]]]]] = {}
    for key, series, table in tables[:MOST_SYSTEMS]:
        by_query: dict[str, list[dict[str, Any]]] = {}
        for row in table.to_pylist():
            by_query.setdefault(row["query_id"], []).append(row)
        for query_id, rows in by_query.items():
            asked.setdefault(query_id, []).append((key, series, rows))
    queries = [_query(query_id, strips) for query_id, strips in list(asked.items())[:MOST_QUERIES]]
    return Gallery(tuple(queries), len(asked), len(tables))


def picture(jpeg: bytes | None) -> str | None:
    """A JPEG as a data URI; None where there is none or the bytes are something else."""
    if jpeg is None or not jpeg.startswith(_JPEG):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _query(query_id: str, strips: Sequence[tuple[str, int, list[dict[str, Any]]]]) -> Query:
    rows = [row for _, _, rows in strips for row in rows]
    own = next((picture(row["thumbnail"]) for row in rows if row["rank"] == -1), None)
    return Query(query_id, rows[0]["text"] or "", own, tuple(_strip(*strip) for strip in strips))


def _strip(key: str, series: int, rows: list[dict[str, Any]]) -> Strip:
    shown = tuple(sorted((_shown(row) for row in rows if row["rank"] >= 1), key=lambda row: row.rank))
    answers = [_shown(row) for row in rows if row["rank"] == 0]
    is_there = any(row.is_right for row in shown)
    return Strip(key, series, rows[0]["found_rank"], shown, answers[0] if answers and not is_there else None)


def _shown(row: Mapping[str, Any]) -> Shown:
    return Shown(
        rank=row["rank"],
        id=row["id"] or "",
        caption=row["caption"] or "",
        score=row["score"],
        grade=row["grade"] or 0,
        picture=picture(row["thumbnail"]),
    )
