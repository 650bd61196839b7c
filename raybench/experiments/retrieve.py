"""A collection by retrieval: seeds against an index, with an account of every row that was found.

    <out>/retrieved/<key>/results.parquet, queries.parquet, img2dataset.parquet    see raybench.retrieval.output
    <out>/retrieved/<key>/manifest.json    recipe, account, what was left out and why, seconds, memory; written last
    <out>/retrieved/<key>/pieces/          what a rerun goes on from; gone at the end
    <out>/indexes/  vectors/  queries/     filled indexes; seeds that were embedded; their texts

Results of `exact()` are the same bytes for every number of shards and workers.
"""

import time
from dataclasses import asdict
from typing import Any

import numpy as np

from raybench import storage
from raybench.experiments.asking import Asking
from raybench.experiments.choosing import Choosing, Rules
from raybench.experiments.file_rows import FileRows
from raybench.experiments.reporting import Reporter
from raybench.experiments.retrieve_plan import RetrievePlan, RetrieveRequest, plan_retrieve, stamps
from raybench.experiments.seeds import Searching, Seeds, collect
from raybench.experiments.stages import Stages
from raybench.experiments.workers import Workers
from raybench.formats import anchored
from raybench.retrieval import output
from raybench.retrieval.chosen import REASONS, Chosen
from raybench.search import strategies
from raybench.search.certified.metric import norms
from raybench.search.strategies import Queries
from raybench.spec import content_key
from raybench.transforms.sample import sample_rows

_LENGTHS = 4_096  # rows whose lengths are looked at
_NEAR_ONE = 0.01


def retrieve(
    request: RetrieveRequest, out: str, searching: Searching, workers: Workers, reporter: Reporter
) -> dict[str, Any]:
    """Retrieve and write; the manifest, with its place under "uri". `searching` opens a backend when one is needed."""
    plan, started, stages = plan_retrieve(request, out, makes=True), time.perf_counter(), Stages()
    out, uri = storage.absolute(out), str(plan.uri)
    done, pieces = storage.read_whole(uri), storage.join(uri, "pieces")
    if done is not None:
        reporter.say(f"{uri} is there already, and nothing was searched again")
        storage.delete_folder(pieces)  # of a run that was killed at its very end
        return done | {"uri": uri}
    storage.delete(storage.join(uri, storage.MANIFEST))  # of one that lost a file
    with stages.of("seeds"):
        seeds = collect(plan.sources, request.seeds, plan.file.dim, out, searching, reporter)
        unit_SD = strategies.unit_seeds(seeds.vectors_SD, seeds.names)
        queries = _queries(request, unit_SD, seeds)
    warnings = _warnings(request, plan, reporter)
    checksum = content_key(anchored(request.corpus), stamps(plan.file), request.metric, length=32)
    corpus = FileRows(anchored(request.corpus), request.metric, checksum, plan.file.rows, is_mapped=True)
    asking = Asking(queries, corpus, request.index, request.shards, pieces, out, searching)
    rules = Rules(
        -np.inf if request.min_score is None else request.min_score, plan.where, request.dedup, request.refill,
        None if request.keep_seeds else (seeds.vectors_SD, unit_SD), request.cells, request.seed,
    )  # fmt: skip
    choosing = Choosing(asking, rules, plan.file, plan.metadata, workers, reporter, stages)
    chosen, ended = choosing.choose()
    with stages.of("tables"), reporter.stage("writing", len(chosen.row_K)) as advance:
        written = output.write_results(
            uri, chosen, queries, plan.file, plan.metadata, plan.columns, lambda rows: advance(rows, 0)
        )
        output.write_queries(uri, chosen, queries, ended)
    manifest = {
        "kind": "retrieved", "recipe": asdict(request), "rows": plan.file.rows, "dim": plan.file.dim, "seeds": seeds.account,
        "queries": len(queries), "account": _account(chosen, queries), "by_strategy": _by_strategy(chosen, queries),
        "ended": {one: ended.count(one) for one in sorted(set(ended))}, **written, "near_duplicates": choosing.told,
        "warnings": warnings, "files": {name: _facts(uri, name) for name in output.FILES},
        "seconds": stages.seconds | {"all": round(time.perf_counter() - started, 3)},
        "resident_bytes": stages.resident_bytes, "environment": workers.facts(),
    }  # fmt: skip
    storage.write_manifest(uri, manifest)
    storage.delete_folder(pieces)
    return manifest | {"uri": uri}


def _queries(request: RetrieveRequest, unit_SD: strategies.Float32, seeds: Seeds) -> Queries:
    parts = []
    if request.knn:
        parts.append(strategies.knn(unit_SD, seeds.names, request.knn))
    if request.centroid:
        parts.append(strategies.centroid(unit_SD, request.centroid))
    if request.kmeans:
        parts.append(strategies.kmeans(unit_SD, request.centroids, request.kmeans, request.seed))
    return strategies.joined(parts)


def _warnings(request: RetrieveRequest, plan: RetrievePlan, reporter: Reporter) -> list[str]:
    """Inner products of rows that are not of length one are no cosines, which the user may not expect."""
    if request.metric == "cosine" or plan.file.dtype.kind != "f":
        return []
    length = np.concatenate(
        [norms(rows) for rows in sample_rows(plan.file, _LENGTHS, request.seed, "a look at lengths")]
    )
    if abs(length - 1).max() <= _NEAR_ONE:
        return []
    warning = (
        f"rows of {request.corpus} have lengths from {length.min():.3g} to {length.max():.3g}: scores are inner products, which "
        "favour long rows; --metric cosine compares directions"
    )
    reporter.say(f"warning: {warning}")
    return [warning]


def _account(chosen: Chosen, queries: Queries) -> dict[str, int]:
    names = ("asked", "found", "padded", *REASONS)
    return {"requested": int(queries.requested_Q.sum())} | {name: int(chosen.counts[name].sum()) for name in names}


def _by_strategy(chosen: Chosen, queries: Queries) -> dict[str, dict[str, int]]:
    told = {}
    for strategy in dict.fromkeys(queries.strategies):
        some_Q = np.array([one == strategy for one in queries.strategies])
        counts = {name: int(counts_Q[some_Q].sum()) for name, counts_Q in chosen.counts.items()}
        told[strategy] = {"queries": int(some_Q.sum()), "requested": int(queries.requested_Q[some_Q].sum())} | counts
    return told


def _facts(uri: str, name: str) -> dict[str, Any]:
    place = storage.join(uri, name)
    return {"sha256": storage.digest_of(place), "size_bytes": storage.facts(place).size_bytes}
