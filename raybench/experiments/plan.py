"""The plan of an evaluation, for `--dry-run`: what would be read, made and used, without starting or writing anything."""

from typing import Any

from raybench import storage
from raybench.experiments.evaluation import Evaluation
from raybench.preflight import check_readable
from raybench.sources import SOURCES
from raybench.sources.tables import qrels_table, queries_table


def plan(evaluation: Evaluation, out: str) -> dict[str, Any]:
    """Shards, bytes and experiments; `lines` says it in words. Raises RequestError where a place cannot be read."""
    check_readable(out)
    recipe = SOURCES.make(evaluation.images)
    lines: list[str] = []
    content: dict[str, Any] = {"name": evaluation.name, "images": evaluation.images, "lines": lines}
    datasets = storage.join(out, "datasets")
    if recipe.is_ready(datasets):
        shards = recipe.open(datasets).plan()
        content |= {"shards": len(shards), "input_bytes": sum(shard.size_bytes for shard in shards)}
        lines.append(f"read {len(shards)} shards, {content['input_bytes'] / 1e6:,.1f} MB: {evaluation.images}")
    else:
        lines.append(f"make the data set first: {evaluation.images}")
    if evaluation.queries is not None and evaluation.qrels is not None:
        queries, qrels = queries_table(evaluation.queries), qrels_table(evaluation.qrels)
        content |= {"queries": len(queries), "judgments": len(qrels)}
        lines.append(f"ask {len(queries)} queries with {len(qrels)} judgments")
    experiments = (
        len(evaluation.directions)
        * len(evaluation.encoders)
        * len(evaluation.grid.transforms)
        * len(evaluation.grid.indexes)
    )
    content |= {"encoders": list(evaluation.encoders), "experiments": experiments, "shards_of_index": evaluation.shards}
    lines += [f"embed images and texts with {encoder}" for encoder in evaluation.encoders]
    lines.append(
        f"{experiments} experiments over {evaluation.shards} index shards, each with "
        f"{len(evaluation.measures)} measures: {', '.join(evaluation.measures)}"
    )
    return content
