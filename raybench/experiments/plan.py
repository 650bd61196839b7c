"""The plan of an evaluation, for `--dry-run`: what would be read, made and used, without starting or writing anything."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from raybench import storage
from raybench.environment import available_cores, parse_bytes
from raybench.experiments.evaluation import Chosen, Evaluation, Generate, Sections, tuned_indexes
from raybench.experiments.references import references
from raybench.experiments.vector_evaluation import VectorEvaluation
from raybench.indexes import INDEXES
from raybench.preflight import check_readable
from raybench.sources import SOURCES
from raybench.sources.tables import qrels_table, queries_table
from raybench.spec import Spec

PlannedCommand = Literal["run", "embed", "tune", "generate"]


def plan(evaluation: Evaluation | VectorEvaluation, out: str, command: PlannedCommand = "run") -> dict[str, Any]:
    """What a command would do; `lines` says it in words. Raises RequestError where a place cannot be read."""
    check_readable(out)
    return (
        _of_images(evaluation, out, command)
        if isinstance(evaluation, Evaluation)
        else _of_vectors(evaluation, out, command)
    )


def _of_images(evaluation: Evaluation, out: str, command: PlannedCommand) -> dict[str, Any]:
    """Shards, bytes and experiments."""
    content: dict[str, Any] = {"name": evaluation.name, "images": evaluation.images}
    lines = _input(evaluation, out, content)
    if command != "embed":
        lines += _asked(evaluation, content)
    what = "images" if command == "embed" else "images and texts"
    content |= {"encoders": list(evaluation.encoders), "lines": lines}
    lines += [f"embed {what} with {encoder}" for encoder in evaluation.encoders]
    if command == "run":
        lines += _experiments(evaluation, content)
    if command in ("run", "tune"):
        lines += _sections(evaluation, evaluation.directions, evaluation.encoders, evaluation.grid.transforms, command)
    if command in ("run", "generate") and evaluation.generate is not None:
        lines += _generated(evaluation.generate)
    if command == "run" and evaluation.hard is not None:
        encoders = evaluation.hard.encoders or evaluation.encoders
        lines.append(f"make and measure {', '.join(evaluation.hard.recipes)} with {', '.join(encoders)}")
    return content


def _input(evaluation: Evaluation, out: str, content: dict[str, Any]) -> list[str]:
    """What would be read; its numbers go into the content."""
    recipe, lines = SOURCES.make(evaluation.images), []
    datasets = storage.join(out, "datasets")
    if recipe.is_ready(datasets):
        shards = recipe.open(datasets).plan()
        content |= {"shards": len(shards), "input_bytes": sum(shard.size_bytes for shard in shards)}
        lines.append(f"read {len(shards)} shards, {content['input_bytes'] / 1e6:,.1f} MB: {evaluation.images}")
    else:
        lines.append(f"make the data set first: {evaluation.images}")
    return lines


def _asked(evaluation: Evaluation, content: dict[str, Any]) -> list[str]:
    """The queries that are given; their numbers go into the content."""
    if evaluation.queries is None or evaluation.qrels is None:
        return []
    queries, qrels = queries_table(evaluation.queries), qrels_table(evaluation.qrels)
    content |= {"queries": len(queries), "judgments": len(qrels)}
    return [f"ask {len(queries)} queries with {len(qrels)} judgments"]


def _experiments(evaluation: Evaluation, content: dict[str, Any]) -> list[str]:
    """How many there are; the number goes into the content."""
    lines, grid = [], evaluation.grid
    if evaluation.published is not None:
        published = references(evaluation.published)
        told = sum(one.is_of(encoder) for one in published for encoder in evaluation.encoders)
        lines.append(f"compare with {len(published)} published numbers, {told} of them of encoders that are embedded")
    count = math.prod(map(len, (evaluation.directions, evaluation.encoders, grid.transforms, grid.indexes)))
    content |= {"experiments": count, "shards_of_index": evaluation.shards}
    lines.append(
        f"{count} experiments over {evaluation.shards} index shards, each with "
        f"{len(evaluation.measures)} measures: {', '.join(evaluation.measures)}"
    )
    return lines


def _generated(asked: Generate) -> list[str]:
    what = (
        f"generate with {asked.generator}: at most {asked.queries} queries, prompts {', '.join(asked.prompts)}, each with "
        f"{', '.join(asked.contexts)}; {asked.pictures} pictures by {asked.index}"
    )
    lines = [what]
    dial = INDEXES.make(asked.index).dial
    if dial is not None and dial.is_needed and Spec.parse(asked.index).at is None:
        lines.append(f"tune the effort of {asked.index} with half of the queries first, and answer others")
    if asked.alone.queries:
        lines.append(f"time {asked.alone.queries} answers one at a time")
    return lines


def _sections(
    sections: Sections,
    directions: Sequence[str],
    encoders: Sequence[str],
    transforms: Sequence[str],
    command: PlannedCommand,
) -> list[str]:
    """What the sections that measure cells will do."""
    is_run = command == "run"

    def cells(section: Chosen, indexes: Sequence[str]) -> int:
        chosen = (section.directions or directions, section.encoders or encoders, section.transforms or transforms)
        return math.prod(map(len, (*chosen, indexes)))

    lines = []
    if is_run and sections.cost is not None:
        lines.append(f"measure what {cells(sections.cost, sections.cost.indexes or sections.grid.indexes)} cells cost")
    if sections.tune is not None:
        count = cells(sections.tune, tuned_indexes(sections.grid, sections.tune))
        lines.append(f"tune {count} efforts to {sections.tune.measure} of {sections.tune.target:g}")
    if is_run and sections.compare is not None:
        count = cells(sections.compare, sections.compare.indexes)
        lines.append(f"compare {count} indexes at effort {sections.compare.effort} and at {sections.compare.target:g}")
    return lines


def _of_vectors(evaluation: VectorEvaluation, out: str, command: PlannedCommand) -> dict[str, Any]:
    """Rows, dimensions and operations of the search for the truth; the spaces and files that follow."""
    from raybench.experiments.gold import GoldRequest, Workers, plan_gold
    from raybench.experiments.vector_runner import check_inputs

    check_inputs(evaluation, out)
    workers = Workers(evaluation.workers or 1, max(1, available_cores() // (evaluation.workers or 1)))
    memory = parse_bytes(evaluation.gold.memory, "gold.memory")
    request = GoldRequest(evaluation.corpus, evaluation.queries, evaluation.gold.k, evaluation.metric, memory)
    gold = plan_gold(request, out, workers)
    names = [*evaluation.grid.transforms, *(one.name for one in evaluation.projections)]
    lines = [*gold.lines, *(f"then an exact search for {evaluation.depth} neighbours in {name}" for name in names)]
    if names:
        lines.append(f"each with {len(evaluation.measures)} measures: {', '.join(evaluation.measures)}")
    if evaluation.truth is not None:
        lines.append(f"compare the truth with {evaluation.truth}")
    if evaluation.challenge is not None:
        lines.append(f"{len(names) + 1} result files for SISAP {evaluation.challenge.year} into {out}/sisap")
    lines += _sections(evaluation, ("nearest_vectors",), (evaluation.corpus,), ("stored()",), command)
    return {
        "name": evaluation.name, "corpus": evaluation.corpus, "rows": gold.rows, "queries": gold.queries,
        "flop": gold.flop, "spaces": names, "lines": lines,
    }  # fmt: skip
