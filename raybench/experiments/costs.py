"""What each index of an evaluation costs to search and to keep, beside how much it finds.

    <out>/results/costs/<experiment>.json    latencies, throughput, bytes, build seconds, and the machine they are of

Queries are asked as they would be by a user of the index: already embedded, one at a time and in batches; what a transform
takes is part of the search. On actors the time that a partition itself takes is told apart from the rest, which is transport and merging.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from raybench import storage
from raybench.arrays import FloatMatrix
from raybench.experiments import judgments
from raybench.experiments.backend import Backend
from raybench.experiments.evaluation import Cost
from raybench.experiments.experiment import Experiment, check_request
from raybench.experiments.fitting import fitted_transform
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Sheet
from raybench.indexes import INDEXES
from raybench.indexes.base import Activity, Index
from raybench.indexes.exact import Exact
from raybench.indexes.rerank import inner
from raybench.indexes.stored import filled_facts
from raybench.metrics.cost import Latency, batches, closed_loop, dominated, open_loop
from raybench.results import Record
from raybench.spec import Spec

_OPEN_LOOP_S = 10.0  # of queries at each rate


def cost_experiment(
    experiment: Experiment, cost: Cost, out: str, backend: Backend, reporter: Reporter
) -> dict[str, Any]:
    """Measure the costs of one experiment, or read them where they were measured before."""
    uri = storage.join(out, "results", "costs", f"{experiment.key}.json")
    if storage.exists(uri):
        known: dict[str, Any] = storage.read_json(uri)
        if known["settings"] == _settings(cost):
            return known
    evaluation, spec = experiment.evaluation, Spec.parse(experiment.index)
    check_request(experiment, cost.k)
    transform = fitted_transform(experiment.transform, experiment.corpus, evaluation.seed, out)
    queries_QD = _queries(experiment, cost.queries)
    recipe = INDEXES.make(experiment.index)
    place = experiment.corpus, transform
    opened = (
        backend.exact(*place, recipe, evaluation.shards) if isinstance(recipe, Exact)
        else backend.index(*place, recipe, evaluation.shards, out)
    )  # fmt: skip
    with reporter.stage(f"timing {experiment.title}", None), opened as index:
        measured = _measure(index, queries_QD, cost, spec.at, evaluation.seed)
        measured["held_bytes"] = index.held_bytes
        measured["resident_bytes"] = sum(index.held_bytes.values())
    measured |= filled_facts(out, inner(recipe), experiment.corpus, transform.key, evaluation.shards)
    measured |= {"experiment": experiment.key, "settings": _settings(cost), "environment": backend.facts()}
    storage.write_json(uri, measured)
    return measured


def _settings(cost: Cost) -> dict[str, Any]:
    """As JSON has them."""
    return asdict(cost) | {"rates": list(cost.rates)}


def _queries(experiment: Experiment, most: int) -> FloatMatrix:
    """Up to so many queries, drawn by the seed, as they are stored."""
    judge = judgments.text_to_image if experiment.direction == "text_to_image" else judgments.image_to_text
    rows, _ = judge(experiment.judged, experiment.images)
    drawn = np.random.default_rng([experiment.evaluation.seed, 0xC0]).permutation(len(rows))[:most]
    return np.ascontiguousarray(experiment.asking.load().matrix_ND[np.asarray(rows)[np.sort(drawn)]])


def _measure(index: Index, queries_QD: FloatMatrix, cost: Cost, effort: int | None, seed: int) -> dict[str, Any]:
    count, starts = len(queries_QD), range(0, len(queries_QD), cost.batch)
    told: list[list[Activity]] = []

    def one(query: int) -> None:
        index.search(queries_QD[query : query + 1], cost.k, effort)

    def one_told(query: int) -> None:
        one(query)
        told.append(index.last_search())

    singles = Latency.of(closed_loop(one, count, cost.warm_up))
    # Asking partitions what they did takes time, so some queries are asked again for it.
    closed_loop(one_told, min(count, max(cost.warm_up, 1)), 0)
    blocks = [queries_QD[start : start + cost.batch] for start in starts]
    together = batches(lambda number: index.search(blocks[number], cost.k, effort), [len(block) for block in blocks])
    arriving = {
        f"{rate:g}": asdict(Latency.of(open_loop(one, max(1, min(count, round(rate * _OPEN_LOOP_S))), rate, seed)))
        for rate in cost.rates
    }
    index.search(queries_QD, cost.k, effort)
    return {
        "latency": asdict(singles), "throughput": asdict(together), "arriving": arriving,
        "on_shard_ms": 1e3 * float(np.median([max(part.seconds for part in parts) for parts in told])) or None,
        "fetched": _fetched(told, index.last_search()),
    }  # fmt: skip


def _fetched(told: Sequence[Sequence[Activity]], together: Sequence[Activity]) -> dict[str, float] | None:
    """Rows fetched again: on average by a query, and different ones by all queries; None for an index that holds its rows."""
    per_query = float(np.mean([sum(part.fetched for part in parts) for parts in told]))
    if not per_query:
        return None
    return {
        "per_query": per_query, "different": sum(part.different for part in together),
        "queries": max(part.queries for part in together),
    }  # fmt: skip


def cost_sheet(
    cost: Cost, pairs: Sequence[tuple[Experiment, dict[str, Any]]], records: Sequence[Record]
) -> list[Sheet]:
    """The costs of every system beside the first measure of the evaluation; one table for each direction."""
    values = {(record.experiment, record.measure): record for record in records}
    sheets = []
    for direction in dict.fromkeys(experiment.direction for experiment, _ in pairs):
        mine = [(experiment, told) for experiment, told in pairs if experiment.direction == direction]
        measure = _quality(mine[0][0].evaluation.measures)
        quality = [values[experiment.key, measure].value for experiment, _ in mine]
        slower = dominated(quality, [told["throughput"]["median_qps"] for _, told in mine])
        larger = dominated(quality, [-float(told["resident_bytes"]) for _, told in mine])
        sheets.append(_sheet(cost, direction, measure, mine, quality, (slower, larger)))
    return sheets


def _quality(measures: Sequence[str]) -> str:
    """What is set against costs: the first overlap, or else the first measure."""
    return next((text for text in measures if text.startswith("overlap@")), measures[0])


def _sheet(
    cost: Cost, direction: str, measure: str, mine: Sequence[tuple[Experiment, dict[str, Any]]],
    quality: Sequence[float], is_dominated: tuple[Sequence[bool], Sequence[bool]],
) -> Sheet:  # fmt: skip
    encoders = list(dict.fromkeys(experiment.encoder for experiment, _ in mine))
    rows = []
    for place, (experiment, told) in enumerate(mine):
        names = [experiment.transform, experiment.index] if len(encoders) == 1 else [
            experiment.encoder, experiment.transform, experiment.index]  # fmt: skip
        latency, together = told["latency"], told["throughput"]
        front = [name for name, out in zip(("speed", "bytes"), is_dominated, strict=True) if not out[place]]
        rows.append(
            (
                ", ".join(names), quality[place], latency["p50_ms"], latency["p95_ms"], latency["p99_ms"],
                told["on_shard_ms"], together["median_qps"],
                told["fetched"] and f"{told['fetched']['per_query']:,.0f} ({told['fetched']['different']:,})",
                told["resident_bytes"], told["file_bytes"], told["build_s"],
                " and ".join(front) or "dominated",
            )
        )  # fmt: skip
    columns = (
        "system", measure, "p50_ms", "p95_ms", "p99_ms", "on shard", "queries/s", "fetched", "resident", "on disk", "build_s", "front",
    )  # fmt: skip
    same = f" Encoder {encoders[0]}." if len(encoders) == 1 else ""
    note = (
        f"Single queries in a closed loop ({cost.queries:,} at most, {cost.warm_up} before them not timed), k = {cost.k}; "
        f"queries/s in batches of {cost.batch:,}, the median of rounds; bytes of what was built, without the rows by which "
        "candidates are scored again, which stay where they are stored; fetched: rows that the index does not hold and a query "
        "looks at, and how many different ones all queries together; all on the machine below. "
        f"Front: no other system has at least its {measure} and more speed, or fewer bytes.{same}"
    )
    used = [place for place in range(len(columns)) if any(row[place] is not None for row in rows)]
    kept = tuple(tuple(row[place] for place in used) for row in rows)
    return Sheet(f"What it costs, {direction.replace('_', ' ')}", note, tuple(columns[place] for place in used), kept)
