"""The runner of evaluations of vectors: truth -> every space searched exactly -> overlap per query -> records and tables.

    <out>/gold/<key>/  transforms/<key>/  results/{records,queries}/  sisap/*.h5  run.json

Searches and fits are artifacts and are not done again; a search that was stopped goes on where it was.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np

from raybench import results, storage
from raybench.arrays import Neighbors
from raybench.environment import parse_bytes
from raybench.errors import RequestError
from raybench.experiments import challenge, sheets
from raybench.experiments.agreement import agreement
from raybench.experiments.backend import Backend, LocalBackend
from raybench.experiments.evaluation import Tune
from raybench.experiments.file_rows import DIRECTION, cells
from raybench.experiments.gold import GoldBackend, GoldRequest, Workers, find_gold, plan_gold
from raybench.experiments.records import make_records, per_query_table
from raybench.experiments.reporting import Reporter
from raybench.experiments.rescoring import score_found
from raybench.experiments.run_file import Run, Sheet
from raybench.experiments.sections import measure_sections, tune_cells
from raybench.experiments.spaces import Searched, Space, check_fits, projections, spaces, stored
from raybench.experiments.vector_evaluation import VectorEvaluation
from raybench.formats import open_neighbors, open_vectors
from raybench.formats.artifact import read_gold
from raybench.formats.base import StoredNeighbors
from raybench.metrics import Pairs, evaluate_overlap, parse_measure
from raybench.results import Record
from raybench.spec import content_key

OpenBackend = Callable[[], AbstractContextManager[Backend]]
FORMAT = 1  # raise it when the same inputs give other numbers

_UNRELATED = 0.5  # of a published truth that is right: even float32 and other tie orders agree far better


def check_inputs(evaluation: VectorEvaluation, out: str) -> None:
    """RequestError for what is missing, or does not fit together; nothing is searched."""
    memory = parse_bytes(evaluation.gold.memory, "gold.memory")
    for one in (stored(evaluation), *projections(evaluation)):
        k = evaluation.gold.k if one.is_stored else evaluation.depth
        plan_gold(GoldRequest(one.corpus, one.queries, k, one.metric, memory), out, Workers(1, 1))
    sides = [(evaluation.corpus, one.corpus) for one in evaluation.projections]
    sides += [(evaluation.queries, one.queries) for one in evaluation.projections]
    for place in (evaluation.corpus, evaluation.queries):
        open_vectors(place)
    for original, projected in sides:
        rows, others = open_vectors(original).rows, open_vectors(projected).rows
        if rows != others:
            raise RequestError(
                f"{projected} has {others:,} rows and {original} {rows:,}; a projection has the same rows"
            )
    for text in evaluation.grid.transforms:
        for place in (evaluation.corpus, evaluation.queries):
            check_fits(text, open_vectors(place), place)
    if evaluation.truth is not None:
        check_goes_with(open_neighbors(evaluation.truth), evaluation)
    challenge.check(evaluation)


def check_goes_with(published: StoredNeighbors, evaluation: VectorEvaluation) -> None:
    """RequestError for a truth of another number of queries, or with rows that the corpus does not have."""
    rows, queries = open_vectors(evaluation.corpus).rows, open_vectors(evaluation.queries).rows
    if len(published.ids_QK) != queries:
        raise RequestError(
            f"{evaluation.truth} is of {len(published.ids_QK)} queries, and {evaluation.queries} has {queries}; give the truth "
            "of these queries"
        )
    if int(published.ids_QK.max(initial=-1)) >= rows:
        raise RequestError(
            f"{evaluation.truth} names row {int(published.ids_QK.max())}, and {evaluation.corpus} has {rows:,} rows; give the "
            "truth of this corpus"
        )


def _in_this_process() -> AbstractContextManager[Backend]:
    return nullcontext(LocalBackend())


def run(
    evaluation: VectorEvaluation, out: str, backend: GoldBackend, reporter: Reporter, command: str,
    open_indexes: OpenBackend = _in_this_process,
) -> Run:  # fmt: skip
    """Run an evaluation into its folder; returns what was made. The report is written by the caller.

    `open_indexes` gives who builds and searches indexes, for the sections that measure them.
    """
    started, progress = time.perf_counter(), Run(evaluation, out)
    seen = spaces(evaluation, out, reporter)  # first, because what cannot be fitted should not wait for a long search
    exact = _search(evaluation, stored(evaluation), out, backend, reporter)
    searched = []
    for space in seen:
        one = exact if space.is_stored else _search(evaluation, space, out, backend, reporter)
        searched.append(dataclasses.replace(one, space=space))
    facts = backend.facts()
    for key, one in _measured(evaluation, exact, searched, progress.place("results"), facts, reporter):
        progress.records += results.read(results.records_uri(progress.place("results"), key))
        progress.experiments.append(
            {
                "experiment": key, "direction": DIRECTION, "encoder": evaluation.corpus, "transform": one.space.name,
                "index": "exact()", "corpus": one.manifest["rows_out"], "queries": one.manifest["queries"],
                "clusters": one.manifest["queries"], "neighbors": one.manifest["uri"],
            }
        )  # fmt: skip
    others = [one for one in searched if not one.space.is_stored]
    progress.sheets += _sheets(evaluation, [exact, *others], progress.records, progress)
    for one in [exact, *others]:
        progress.seconds[f"searching {one.space.name}"] = one.search_s
    if evaluation.cost or evaluation.tune or evaluation.compare:
        with open_indexes() as indexes:
            measure_sections(progress, evaluation, cells(evaluation, exact), indexes, reporter)
    progress.seconds["total_s"] = round(time.perf_counter() - started, 3)
    progress.write(facts, command)
    return progress


def tune(
    evaluation: VectorEvaluation, out: str, backend: GoldBackend, reporter: Reporter, open_indexes: OpenBackend
) -> Run:
    """Find the truth where it is missing, and tune the efforts of indexes; run.json stays as it is."""
    progress = Run(evaluation, out)
    exact = _search(evaluation, stored(evaluation), out, backend, reporter)
    with open_indexes() as indexes:
        settings = evaluation.tune or Tune()
        tune_cells(progress, settings, evaluation.grid, cells(evaluation, exact), indexes, reporter)
    progress.tell_failed()
    return progress


def _search(evaluation: VectorEvaluation, space: Space, out: str, backend: GoldBackend, reporter: Reporter) -> Searched:
    """The exact search in one space: an artifact, made if it is not there."""
    settings = evaluation.gold
    request = GoldRequest(
        space.corpus, space.queries, settings.k if space.is_stored else evaluation.depth, space.metric,
        parse_bytes(settings.memory, "gold.memory"), settings.precision,
    )  # fmt: skip
    manifest = find_gold(request, out, backend, reporter)
    one = Searched(space, read_gold(manifest["uri"])[0], manifest)
    rate = manifest["certificate"]["gflop_per_worker_s"]
    reporter.say(
        f"{space.name}: {manifest['rows_out']:,} rows by {space.metric}, {one.search_s:.1f} s, {rate:.0f} GFLOP/s"
    )
    return one


def _measured(
    evaluation: VectorEvaluation,
    exact: Searched,
    searched: Sequence[Searched],
    uri: str,
    facts: dict[str, Any],
    reporter: Reporter,
) -> list[tuple[str, Searched]]:
    """Every space with the key of its records, which are there afterwards.

    What was found is scored by the vectors as they are stored, for all spaces in one pass over the corpus.
    """
    keyed = [(_key(evaluation, exact, one), one) for one in searched]
    left = [(key, one) for key, one in keyed if not storage.exists(results.records_uri(uri, key))]
    lists = [one.found.top(evaluation.depth).ids_QK for _, one in left]
    with reporter.stage("scoring what was found", None) as advance:
        scores = score_found(lists, exact.found, evaluation.corpus, evaluation.queries, evaluation.metric, advance)
    for (key, one), ids_QK, scores_QK in zip(left, lists, scores, strict=True):
        values = [
            evaluate_overlap(parse_measure(text), Neighbors(ids_QK, scores_QK), exact.found, exact_scores=True)
            for text in evaluation.measures
        ]
        subject = {
            "evaluation": evaluation.name, "experiment": key, "direction": DIRECTION, "encoder": evaluation.corpus,
            "transform": one.space.name, "index": "exact()", "corpus": int(one.manifest["rows_out"]),
            "seed": evaluation.seed, "environment": json.dumps(facts, sort_keys=True),
        }  # fmt: skip
        own_Q = np.arange(len(ids_QK))  # no two queries are known to be of one origin
        names = [str(row) for row in own_Q]
        nobody = np.empty(0, np.int64)
        records = make_records(
            subject, values, own_Q, Pairs(nobody, nobody, nobody, len(own_Q)), evaluation.intervals
        )  # fmt: skip
        results.write(uri, key, records, per_query_table(key, values, names, names))
    return keyed


def _key(evaluation: VectorEvaluation, exact: Searched, one: Searched) -> str:
    return content_key(
        "vectors", FORMAT, evaluation.name, one.space.name, evaluation.corpus,
        [[each.manifest["recipe"]["metric"], each.manifest["fingerprint"]] for each in (exact, one)],
        list(evaluation.measures), evaluation.depth, asdict(evaluation.intervals), evaluation.seed,
    )  # fmt: skip


def _sheets(
    evaluation: VectorEvaluation, searched: Sequence[Searched], records: Sequence[Record], progress: Run
) -> list[Sheet]:
    """The tables beside the records; with a challenge, its result files are written as well. The truth comes first."""
    made, exact = [sheets.searches(searched)], searched[0].found
    published = None if evaluation.truth is None else open_neighbors(evaluation.truth)
    if published is not None:
        compared = agreement(exact, published, evaluation.corpus, evaluation.queries, evaluation.metric)
        made.append(sheets.published_truth(compared, str(evaluation.truth)))
        if min(found["with_ties"] for found in compared["depths"].values()) < _UNRELATED:
            progress.warnings.append(
                f"{evaluation.truth} agrees so little with the proven neighbours that it is of other queries, rows or metric"
            )
    if evaluation.challenge is not None:
        made += sheets.published_projections(evaluation.challenge, [one.space for one in searched], records)
        files = [
            challenge.submit(evaluation, one.space, one.found, (exact, published), one.search_s, progress.out)
            for one in searched
        ]
        made.append(sheets.submissions(evaluation.challenge, files))
    return made
