"""Makes what a stage of generation leaves in a run's folder: entries of `run.json` and sampled answers with pictures."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import report_folder

from raybench import storage
from raybench.generation.tables import SAMPLES
from raybench.spec import content_key

CONTEXTS = ("retrieved", "none", "gold", "random")
BASE = {"none": 0.2, "random": 0.15, "retrieved": 0.55, "gold": 0.7}
STAGES = {"query encoding": 0.012, "search": 0.0041, "picture fetch": 0.083, "preprocessing": 0.21, "first token": 0.64,
          "decode": 1.3}  # fmt: skip
INNER = {"search: shard": 0.003, "search: transport": 0.0007, "search: merge": 0.0004}
BETWEEN_S = 0.05


def row(prompt: str, context: str, query: int, **changes: Any) -> dict[str, Any]:
    """One sampled answer; its values follow from its place, its pictures from the query."""
    found = [query + 1, query + 2]
    found.insert(query % 3, query)
    shown = {"none": [], "gold": [query], "random": [query + 7, query + 11, query + 13], "retrieved": found}[context]
    values = {"token_f1": (query % 5) / 7, "rouge_l": 0.25, "clip_score": 0.71, "cider": 1.5, "bleu@4": None}
    values |= {"accuracy": float(context == "gold")} if prompt == "answer" else {}
    made = {
        "prompt": prompt, "context": context, "query_id": f"query-{query:03d}", "query": f"a shape with number {query}",
        "words": f"{prompt} {len(shown)} pictures for a shape with number {query}",
        "answer": f"the {context} answer to {query}", "ended": "end", "problem": None,
        "references": [f"reference {query}", "another reference"], "image_ids": [f"image-{one:03d}" for one in shown],
        "scores": [0.5 - 0.01 * rank for rank in range(3)] if context == "retrieved" else None,
        "grades": [int(one == query) for one in shown], "thumbnails": [report_folder.jpeg(one) for one in shown],
        "measures": json.dumps(values),
    }  # fmt: skip
    return made | changes


def generation(prompt: str, context: str, **changes: Any) -> dict[str, Any]:
    """One entry of `generations`, whose measures follow from its context."""
    base = BASE[context]
    names = ("token_f1", "rouge_l", "groundedness") + (("accuracy", "accuracy[size]") if prompt == "answer" else ())
    measures = [
        {"measure": name, "value": base + 0.01 * place, "low": base - 0.04, "high": base + 0.06, "queries": 60,
         "clusters": 55, "unit": "share", "says": f"what {name} says"}
        for place, name in enumerate(names)
    ]  # fmt: skip
    measures.append(measures[0] | {"measure": "cider", "value": 2.5, "low": None, "high": None, "unit": "score"})
    told = {
        "key": content_key(prompt, context), "generator": 'qwen_vl("raybench:scenes-vl", precision="fp32")', "prompt": prompt,
        "prompt_version": f"{prompt}-1f0c2a9b", "context": context, "encoder": "scenes_model()", "transform": "float16()",
        "index": "exact()", "strategy": "knn", "pictures": 3, "queries": 60, "answered": 60, "problems": {},
        "measures": measures, "times": {},
    }  # fmt: skip
    return told | changes


def times(prompt: str, context: str, slowness: float = 1.0) -> dict[str, Any]:
    """One entry of `rag_times`: the stages, the parts of the search, and a total that is more than their sum."""
    total_s = (sum(STAGES.values()) + BETWEEN_S) * slowness
    means = {name: mean_s * slowness for name, mean_s in (STAGES | INNER).items()} | {"total": total_s}
    stages = [
        {"stage": name, "mean_s": mean_s, "low_s": mean_s * 0.9, "high_s": mean_s * 1.1, "median_s": mean_s, "min_s": mean_s,
         "max_s": mean_s, "std_s": 0.0, "p95_s": mean_s, "p99_s": mean_s, "share": mean_s / total_s, "share_low": None,
         "share_high": None}
        for name, mean_s in means.items()
    ]  # fmt: skip
    return {"prompt": prompt, "context": context, "warm": 20, "stages": stages}


def add(
    made: report_folder.Made,
    rows: Callable[..., dict[str, Any]] = row,
    *,
    prompts: tuple[str, ...] = ("describe", "answer"),
    queries: int = 4,
) -> list[dict[str, Any]]:
    """Add generations, their times and their samples to a run's folder; returns all rows of samples."""
    generations, written = [], []
    for prompt in prompts:
        for context in CONTEXTS:
            told = generation(prompt, context)
            if context == "retrieved":
                told |= {"answered": 59, "problems": {"out_of_memory": 1}}
            samples = [rows(prompt, context, query) for query in range(queries)]
            table = pa.Table.from_pylist(samples, schema=SAMPLES)
            storage.write_table(f"{made.uri}/results/samples/{told['key']}.parquet", table)
            generations.append(told)
            written += samples
    made.run["generations"] = generations
    made.run["rag_times"] = [
        times(prompt, context, slowness)
        for prompt in prompts
        for context, slowness in (("retrieved", 1.0), ("none", 0.6))
    ]
    storage.write_json(f"{made.uri}/run.json", made.run)
    return written
