"""Values per query become records: the mean of each measure with its interval, its bounds by ties, and its chance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybench.arrays import Rows
from raybench.experiments.evaluation import Intervals
from raybench.metrics import Pairs, PerQuery, chance
from raybench.metrics.uncertainty import bootstrap_intervals
from raybench.results import Record


def make_records(
    subject: Mapping[str, Any], values: Sequence[PerQuery], clusters_Q: Rows, pairs: Pairs, intervals: Intervals
) -> list[Record]:
    """One record a measure. `subject` holds the columns that say what was measured: evaluation, experiment, ..., seed."""
    found = bootstrap_intervals(
        [value.values_Q for value in values], clusters_Q, [value.measure.statistic for value in values],
        resamples=intervals.resamples, level=intervals.level, seed=subject["seed"],
    )  # fmt: skip
    return [
        Record(
            **subject, measure=str(value.measure), value=value.value,
            low=None if interval is None else interval.low, high=None if interval is None else interval.high,
            worst_tie=value.worst, best_tie=value.best, chance=chance(value.measure, pairs, subject["corpus"]),
            queries=len(clusters_Q), clusters=int(clusters_Q.max()) + 1, unit=value.measure.unit,
            method="one cluster: no interval" if interval is None else interval.method,
        )
        for value, interval in zip(values, found, strict=True)
    ]  # fmt: skip


def per_query_table(
    experiment: str, values: Sequence[PerQuery], query_ids: Sequence[str], clusters: Sequence[str]
) -> pa.Table:
    """Every query's value of every measure (QUERY_VALUES)."""
    tables = []
    for value in values:
        columns = {
            "experiment": pa.array([experiment] * len(query_ids), pa.string()),
            "query_id": pa.array(query_ids, pa.string()),
            "cluster_id": pa.array(clusters, pa.string()),
            "measure": pa.array([str(value.measure)] * len(query_ids), pa.string()),
            "value": pa.array(value.values_Q, pa.float64()),
            "worst_tie": _or_null(value.worst_Q, len(query_ids)),
            "best_tie": _or_null(value.best_Q, len(query_ids)),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _or_null(values: npt.NDArray[np.float64] | None, length: int) -> pa.Array:
    return pa.nulls(length, pa.float64()) if values is None else pa.array(values, pa.float64())
