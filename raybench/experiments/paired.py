"""Two experiments on the same queries: paired differences with intervals, and the queries that changed most.

A query takes part if both have it, with the same text, cluster and judgments; the others are left out and counted by reason. A
verdict is given where the interval of the difference leaves out zero and the randomisation test agrees, since with few
clusters an interval alone is too narrow.

Axes: Q queries, M measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench import results, storage
from raybench.arrays import Rows
from raybench.errors import DataError, RequestError, suggest
from raybench.experiments.asked import asked_otherwise
from raybench.experiments.changed import Changed, changed_most
from raybench.experiments.evaluation import Intervals
from raybench.experiments.pairing import Stored
from raybench.metrics import parse_measure
from raybench.metrics.measure import Values, summary
from raybench.metrics.paired import Difference, paired_differences
from raybench.metrics.uncertainty import number_clusters

DIFFERENCES = pa.schema(
    [
        ("a_experiment", pa.string()), ("b_experiment", pa.string()), ("direction", pa.string()),
        ("query_id", pa.string()), ("cluster_id", pa.string()), ("measure", pa.string()),
        ("a", pa.float64()), ("b", pa.float64()), ("difference", pa.float64()),
    ]
)  # fmt: skip
"""One row per query and measure of a pair; difference is b minus a."""


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of both experiments; shares are of queries on which B does better, worse, and alike."""

    measure: str
    a: float
    b: float
    difference: Difference  # B minus A
    better: float
    worse: float
    equal: float
    verdict: str  # "B better", "A better" or "not told apart"


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What two experiments gave on the queries that both have."""

    a: Stored
    b: Stored
    queries: int
    clusters: int
    left_out: Mapping[str, int]  # by reason
    notes: tuple[str, ...]
    lines: tuple[Line, ...]
    changed: tuple[Changed, ...]
    per_query: pa.Table  # DIFFERENCES


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    """The values of the queries that take part, in the order of their ids."""

    query_ids: list[str]
    clusters_Q: Rows
    cluster_ids: list[str]
    a_MQ: list[Values]
    b_MQ: list[Values]


def compare(
    a: Stored, b: Stored, measures: Sequence[str] = (), intervals: Intervals | None = None, seed: int = 0, top: int = 10
) -> Compared:
    """Compare two experiments by some measures, or by all that both have; the first measure ranks the changed queries."""
    intervals = intervals or Intervals()
    names = _measures(a, b, measures)
    tables = [results.read_queries(storage.join(one.out, "results"), one.facet("experiment")) for one in (a, b)]
    others, notes = asked_otherwise(a, b)
    aligned, left_out = _align(tables[0], tables[1], names, others, a, b)
    parsed = [parse_measure(name) for name in names]
    differences = paired_differences(
        aligned.b_MQ, aligned.a_MQ, aligned.clusters_Q, [measure.statistic for measure in parsed],
        resamples=intervals.resamples, level=intervals.level, seed=seed,
    )  # fmt: skip
    lines = [
        _line(name, aligned.a_MQ[place], aligned.b_MQ[place], differences[place], intervals.level)
        for place, name in enumerate(names)
    ]
    if a.corpus != b.corpus:
        notes.append(f"A searched {a.corpus:,} rows and B {b.corpus:,}: fewer rows are easier to search")
    changed = changed_most(a, b, aligned.query_ids, aligned.a_MQ[0], aligned.b_MQ[0], tables, top)
    return Compared(
        a, b, len(aligned.query_ids), int(aligned.clusters_Q.max()) + 1, left_out, tuple(notes), tuple(lines),
        tuple(changed), _per_query(a, b, names, aligned),
    )  # fmt: skip


def _measures(a: Stored, b: Stored, wanted: Sequence[str]) -> list[str]:
    common = [name for name in a.records if name in b.records]
    if not common:
        raise RequestError(
            f"A has {', '.join(a.records)} and B {', '.join(b.records)}: no measure in common; run one again"
        )
    for name in wanted:
        if str(parse_measure(name)) not in common:
            raise RequestError(f"{name} was not measured on both sides; {suggest(name, common)}")
    return list(dict.fromkeys(str(parse_measure(name)) for name in wanted)) or common


def _align(
    a: pa.Table, b: pa.Table, names: Sequence[str], others: list[str], a_of: Stored, b_of: Stored
) -> tuple[_Aligned, dict[str, int]]:
    """The queries that both have alike, and how many there are that are not, by reason."""
    ids_a, ids_b = (_of_measure(table, names[0], one) for table, one in ((a, a_of), (b, b_of)))
    both = pc.index_in(ids_a["query_id"], value_set=ids_b["query_id"].combine_chunks())
    is_both = pc.is_valid(both)
    left_out = {"only in A": int(pc.sum(pc.invert(is_both)).as_py() or 0)}
    left_out["only in B"] = len(ids_b) - (len(ids_a) - left_out["only in A"])
    kept = ids_a.filter(is_both)
    there = ids_b.take(both.drop_null())
    is_alike = pc.equal(kept["cluster_id"], there["cluster_id"])
    left_out["of another cluster"] = int(pc.sum(pc.invert(is_alike)).as_py() or 0)
    is_other = pc.is_in(kept["query_id"], value_set=pa.array(others, pa.string()))
    left_out["of another text or judgment"] = int(pc.sum(pc.and_(is_other, is_alike)).as_py() or 0)
    is_alike = pc.and_(is_alike, pc.invert(is_other))
    kept = kept.filter(is_alike)
    if not len(kept):
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        raise RequestError(f"no query is the same on both sides ({counts}): A and B were asked other questions")
    values = [
        [_in_order(_of_measure(table, name, one), kept["query_id"]) for name in names]
        for table, one in ((a, a_of), (b, b_of))
    ]
    clusters = kept["cluster_id"].to_pylist()
    aligned = _Aligned(kept["query_id"].to_pylist(), number_clusters(clusters), clusters, *values)
    return aligned, {reason: count for reason, count in left_out.items() if count}


def _of_measure(table: pa.Table, measure: str, one: Stored) -> pa.Table:
    """The rows of a measure by query id. DataError for an id that is there twice."""
    rows = table.filter(pc.equal(table["measure"], measure)).sort_by("query_id").combine_chunks()
    if len(pc.unique(rows["query_id"])) != len(rows):
        raise DataError(
            f"the values of {measure} in {one.out} hold a query twice; delete the folder's results and run again"
        )
    return rows


def _in_order(rows: pa.Table, query_ids: Any) -> Values:
    places = pc.index_in(query_ids, value_set=rows["query_id"].combine_chunks())
    values: Values = rows["value"].take(places).to_numpy()
    if np.isnan(values).any():
        raise DataError("a query has no value for a measure; delete the folder's results and run again")
    return values


def _line(name: str, a_Q: Values, b_Q: Values, difference: Difference, level: float) -> Line:
    measure = parse_measure(name)
    sign = 1 if measure.better == "higher" else -1
    gain_Q = sign * (b_Q - a_Q)
    verdict = "not told apart"
    if difference.low is not None and difference.high is not None and (difference.p or 0) <= 1 - level:
        if sign * difference.low > 0 and sign * difference.high > 0:
            verdict = "B better"
        elif sign * difference.low < 0 and sign * difference.high < 0:
            verdict = "A better"
    better, worse = float((gain_Q > 0).mean()), float((gain_Q < 0).mean())
    equal = float((gain_Q == 0).mean())
    return Line(
        name, summary(a_Q, measure.statistic), summary(b_Q, measure.statistic), difference, better, worse, equal, verdict
    )  # fmt: skip


def _per_query(a: Stored, b: Stored, names: Sequence[str], aligned: _Aligned) -> pa.Table:
    count = len(aligned.query_ids)
    parts = []
    for name, a_Q, b_Q in zip(names, aligned.a_MQ, aligned.b_MQ, strict=True):
        fixed = (a.facet("experiment"), b.facet("experiment"), a.facet("direction"))
        columns = [pa.array([text] * count) for text in fixed]
        columns += [pa.array(aligned.query_ids), pa.array(aligned.cluster_ids), pa.array([name] * count)]
        parts.append(pa.table([*columns, pa.array(a_Q), pa.array(b_Q), pa.array(b_Q - a_Q)], schema=DIFFERENCES))
    return pa.concat_tables(parts)
