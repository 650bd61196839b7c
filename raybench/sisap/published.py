"""What the SISAP 2023 challenge published: exact recall in its projections, and the results of its participants.

Facts of `recall-projections.csv` (recall of an exact search in each projection for the 30 true neighbours, public
queries) and of `results/res.csv` (k = 10, private queries), as `assets/sisap2023_projections.csv` and
`assets/sisap2023_results.csv`. Of the second, for each system, family and size, the fastest search that counted: with a
recall of 0.9 or more on vectors, of 90 % of the exact search's on the challenge's sketches; and for sketches of one's
own making the one of highest recall.
"""

import csv
import functools
import importlib.resources
from dataclasses import dataclass

from raybench.errors import RequestError, suggest


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """One row: times are seconds, recall is a share."""

    data: str
    size: str
    algo: str
    buildtime_s: float
    querytime_s: float
    recall: float
    params: str


def published_projection_recall(family: str, size: str) -> PublishedResult:
    """The published row of an exact search in a projection (pca32, pca96, hamming; "v2" may follow) at a size.

    RequestError for a family or size that was not published.
    """
    rows = {(row.data, row.size): row for row in _rows("sisap2023_projections.csv")}
    name = family.removesuffix("v2")
    if (name, size) not in rows:
        known = (
            sorted({data for data, _ in rows})
            if name not in {data for data, _ in rows}
            else [s for d, s in rows if d == name]
        )
        wrong = family if name not in {data for data, _ in rows} else size
        raise RequestError(f"no recall was published for {family} at {size}: {suggest(wrong, known)}")
    return rows[name, size]


def published_results(size: str | None = None, data: str | None = None) -> tuple[PublishedResult, ...]:
    """The headline results of 2023, fastest search first, of a size and a family where they are given."""
    rows = _rows("sisap2023_results.csv")
    return tuple(
        sorted(
            (row for row in rows if size in (None, row.size) and data in (None, row.data)),
            key=lambda row: (row.size, row.querytime_s),
        )
    )


@functools.cache
def _rows(name: str) -> tuple[PublishedResult, ...]:
    text = (importlib.resources.files("raybench") / "assets" / name).read_text(encoding="utf-8")
    return tuple(
        PublishedResult(
            row["data"], row["size"], row["algo"], float(row["buildtime"]), float(row["querytime"]),
            float(row["recall"]), row["params"],
        )
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip
