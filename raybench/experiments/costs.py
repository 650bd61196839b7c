"""What each index of an evaluation costs to search and to keep, and how much of the exact neighbours it finds for it.

    <out>/results/costs/<key>.json    latencies, throughput, overlap, bytes, build seconds, and the machine they are of

Queries are asked as they would be by a user of the index: already embedded, one at a time and in batches; what a transform
takes is part of the search. On actors the time that a partition itself takes is told apart from the rest, which is
transport and merging.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from raybench import storage
from raybench.arrays import FloatMatrix
from raybench.experiments.backend import Backend
from raybench.experiments.cell import Cell
from raybench.experiments.evaluation import Cost
from raybench.experiments.reporting import Reporter
from raybench.indexes import INDEXES
from raybench.indexes.base import Activity, Index
from raybench.indexes.rerank import inner
from raybench.indexes.stored import filled_facts
from raybench.metrics import evaluate_overlap, parse_measure
from raybench.metrics.cost import Ask, Latency, Times, batches, closed_loop, open_loop
from raybench.metrics.uncertainty import bootstrap_interval
from raybench.spec import Spec, content_key

FORMAT = 2  # raise it when something else is measured
_OPEN_LOOP_S = 10.0  # of queries at each rate


def cost_cell(cell: Cell, cost: Cost, out: str, backend: Backend, reporter: Reporter) -> dict[str, Any]:
    """Measure one cell, or read what was measured before. IndexRequestError where it cannot be built or asked."""
    key = content_key("cost", FORMAT, cell.identity(), _settings(cost), machine(backend.facts()))
    uri = storage.join(out, "results", "costs", f"{key}.json")
    if storage.exists(uri):
        known: dict[str, Any] = storage.read_json(uri)
        return known
    cell.check(cost.k)
    spec, recipe = Spec.parse(cell.index), INDEXES.make(cell.index)
    with reporter.stage(f"timing {cell.title}", None), cell.open(backend, out) as index:
        measured = _measure(index, _drawn(cell, cost), cost, spec.at, cell.seed)
        measured["held_bytes"] = index.held_bytes
        measured["resident_bytes"] = sum(index.held_bytes.values())
        measured["quality"] = _quality(index, cell, cost, spec.at)
    measured |= filled_facts(out, inner(recipe), cell.asked.corpus, cell.fitted(out).key, cell.shards)
    measured |= {
        "direction": cell.asked.direction, "encoder": cell.asked.encoder, "transform": cell.transform,
        "index": cell.index, "rows": cell.rows, "settings": _settings(cost), "environment": backend.facts(),
    }  # fmt: skip
    storage.write_json(uri, measured)
    return measured


def latencies_again(cell: Cell, cost: Cost, turn: int, out: str, backend: Backend, reporter: Reporter) -> list[float]:
    """Milliseconds of the same single queries at another time, which shows what else the machine did meanwhile."""
    key = content_key("latencies", FORMAT, cell.identity(), _settings(cost), machine(backend.facts()), turn)
    uri = storage.join(out, "results", "costs", f"{key}.json")
    if not storage.exists(uri):
        queries_QD, effort = _drawn(cell, cost), Spec.parse(cell.index).at
        with reporter.stage(f"timing again {cell.title}", None), cell.open(backend, out) as index:
            seconds_Q = closed_loop(_asking(index, queries_QD, cost.k, effort), len(queries_QD), cost.warm_up)
        storage.write_json(uri, {"turn": turn, "latencies_ms": _milliseconds(seconds_Q)})
    known: list[float] = storage.read_json(uri)["latencies_ms"]
    return known


def _drawn(cell: Cell, cost: Cost) -> FloatMatrix:
    """The queries that are timed."""
    drawn_Q = np.random.default_rng([cell.seed, 0xC0]).permutation(len(cell.asked.queries_QD))[: cost.queries]
    return np.ascontiguousarray(cell.asked.queries_QD[np.sort(drawn_Q)])


def _asking(index: Index, queries_QD: FloatMatrix, k: int, effort: int | None) -> Ask:
    """Asks the n-th query alone."""
    return lambda query: index.search(queries_QD[query : query + 1], k, effort)


def _milliseconds(seconds_Q: Times) -> list[float]:
    return [round(1e3 * one, 6) for one in seconds_Q.tolist()]


def machine(facts: dict[str, Any]) -> dict[str, Any]:
    """What a time depends on: measurements of other machines, libraries or runners are not taken for this one's."""
    cluster = facts.get("cluster") or {}
    names = ("processor", "cores", "accelerators", "blas", "libraries", "runner")
    return {name: facts.get(name) for name in names} | {
        "cluster": {name: cluster.get(name) for name in ("nodes", "cpus", "gpus", "accelerators")}
    }


def _settings(cost: Cost) -> dict[str, Any]:
    """What decides a measurement, as JSON has it."""
    return {name: getattr(cost, name) for name in ("queries", "warm_up", "batch", "k")} | {"rates": list(cost.rates)}


def _quality(index: Index, cell: Cell, cost: Cost, effort: int | None) -> dict[str, Any]:
    """The overlap with the exact neighbours over all queries, with its interval."""
    found = index.search(cell.asked.queries_QD, cost.k, effort)
    values = evaluate_overlap(parse_measure(cost.measure), found, cell.asked.truth(cost.k), exact_scores=False)
    interval = bootstrap_interval(
        values.values_Q, cell.asked.clusters_Q, resamples=cell.intervals.resamples, level=cell.intervals.level, seed=cell.seed
    )  # fmt: skip
    return {
        "measure": cost.measure, "value": values.value, "low": interval and interval.low,
        "high": interval and interval.high, "queries": len(found),
    }  # fmt: skip


def _measure(index: Index, queries_QD: FloatMatrix, cost: Cost, effort: int | None, seed: int) -> dict[str, Any]:
    count, starts = len(queries_QD), range(0, len(queries_QD), cost.batch)
    told: list[list[Activity]] = []

    one = _asking(index, queries_QD, cost.k, effort)

    def one_told(query: int) -> None:
        one(query)
        told.append(index.last_search())

    seconds_Q = closed_loop(one, count, cost.warm_up)
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
        "latency": asdict(Latency.of(seconds_Q)), "throughput": asdict(together), "arriving": arriving,
        "on_shard_ms": 1e3 * float(np.median([max(part.seconds for part in parts) for parts in told])) or None,
        "fetched": _fetched(told, index.last_search()), "latencies_ms": _milliseconds(seconds_Q),
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
