"""Generations as tables: what answers are worth in every context, what retrieval adds, what batches and whole answers take."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from raybench.experiments.answer_values import Scored
from raybench.experiments.evaluation import Alone, Intervals
from raybench.experiments.run_file import Cell, Sheet
from raybench.metrics.paired import paired_differences

_ORDER = ("none", "random", "retrieved", "gold")
_PAIRS = (("retrieved", "none"), ("gold", "retrieved"), ("retrieved", "random"))
_NAMES = {"none": "closed book", "random": "random", "retrieved": "retrieved", "gold": "oracle"}


def answers_sheet(scored: Sequence[Scored], intervals: Intervals, seed: int) -> Sheet:
    """Every measure in every context, and paired differences between contexts."""
    prompts = list(dict.fromkeys(one.title[0] for one in scored))
    contexts = [name for name in _ORDER if any(one.title[1] == name for one in scored)]
    pairs = [pair for pair in _PAIRS if set(pair) <= set(contexts)]
    rows: list[tuple[Cell, ...]] = []
    for prompt in prompts:
        by_context = {one.title[1]: one for one in scored if one.title[0] == prompt}
        for measure in by_context[contexts[0]].values:
            cells: list[Cell] = [prompt, measure]
            told = {name: by_context[name].measured(measure) for name in contexts}
            cells.append(max(one["queries"] for one in told.values()))
            cells += [_interval(told[name]["value"], told[name]["low"], told[name]["high"]) for name in contexts]
            cells += [_difference(by_context[a], by_context[b], measure, intervals, seed) for a, b in pairs]
            rows.append(tuple(cells))
    columns = (
        "prompt",
        "measure",
        "queries",
        *(_NAMES[name] for name in contexts),
        *(f"{_NAMES[a]} - {_NAMES[b]}" for a, b in pairs),
    )
    manifest = scored[0].answered.manifest
    note = (
        f"{manifest['generator']}: the same queries with no picture (closed book), with those that were retrieved, and with the one "
        f"that each is about (oracle). Means with {intervals.level:.0%} intervals over clusters; differences are of the same "
        "queries, resampled together. A measure counts the queries for which it is defined; a missing answer counts as an empty one."
    )
    return Sheet("Answers by context", note, columns, tuple(rows))


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _difference(a: Scored, b: Scored, measure: str, intervals: Intervals, seed: int) -> str:
    a_Q, b_Q = a.values[measure], b.values[measure]
    there_Q = np.isfinite(a_Q) & np.isfinite(b_Q)
    if not there_Q.any():
        return "-"
    [found] = paired_differences(
        [a_Q[there_Q]],
        [b_Q[there_Q]],
        a.clusters_Q[there_Q],
        ["mean"],
        resamples=intervals.resamples,
        level=intervals.level,
        seed=seed,
    )
    return f"{found.value:+.3f}" if found.low is None else f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def batches_sheet(scored: Sequence[Scored]) -> Sheet:
    """What generating took in batches, and the tokens that went in and came out."""
    rows = []
    for one in scored:
        answers, timings = one.answered.answers, one.answered.timings
        known = timings.to_pylist()
        counted = [row["answer_tokens"] for row in answers.to_pylist()]
        warm = [row for row in known if not row["is_first"] and row["batch_s"] is not None] or [
            row for row in known if row["batch_s"] is not None
        ]
        batch_s = {(row["worker"], row["batch"]): row["batch_s"] for row in warm}
        warm_ids = {row["query_id"] for row in warm}
        tokens = [count for row, count in zip(answers["query_id"].to_pylist(), counted, strict=True) if row in warm_ids]
        total_s = sum(batch_s.values())
        rows.append(
            (
                *one.title, len(answers), one.answered.manifest["rows_out"], sum(ended == "length" for ended in answers["ended"].to_pylist()),
                _mean(answers["image_tokens"].to_pylist()), _mean(_less(answers["prompt_tokens"].to_pylist(), answers["image_tokens"].to_pylist())),
                _mean(counted), one.answered.asking.batch, len(warm) / total_s if total_s else None,
                sum(tokens) / total_s if total_s and None not in tokens else None,
                _ms(_mean([row["first_token_s"] for row in warm])), _ms(_mean([row["decode_s"] for row in warm])),
            )
        )  # fmt: skip
    columns = (
        "prompt", "context", "queries", "answered", "cut off", "image tokens", "text tokens", "tokens out", "batch", "answers/s",
        "tokens/s", "first token ms", "decode ms",
    )  # fmt: skip
    note = (
        "Generating in batches. Tokens are means of a query. Answers and tokens a second are those of one worker, from fetched pictures to "
        "answers, without each worker's first batch; first token and decode are means over queries, which share those of their batch. "
        "Cut off: answers that ended at max_tokens."
    )
    return Sheet("Generating in batches", note, columns, tuple(rows))


def _less(a: Sequence[int | None], b: Sequence[int | None]) -> list[int | None]:
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def times_sheet(told: Sequence[dict[str, Any]], alone: Alone, level: float) -> Sheet:
    """Where the time of one answer goes."""
    rows: list[tuple[Cell, ...]] = []
    for one in told:
        for stage in one["stages"]:
            low_high = "" if stage["low_s"] is None else f" [{1e3 * stage['low_s']:.1f}, {1e3 * stage['high_s']:.1f}]"
            share = f"{stage['share']:.1%}" + (
                "" if stage["share_low"] is None else f" [{stage['share_low']:.1%}, {stage['share_high']:.1%}]"
            )
            numbers = (1e3 * stage[name] for name in ("median_s", "min_s", "max_s", "std_s", "p95_s", "p99_s"))
            rows.append((one["prompt"], stage["stage"], f"{1e3 * stage['mean_s']:.1f}{low_high}", *numbers, share))
    starts = "; ".join(
        f"{one['prompt']}: loading {one['load_s'] or 0:.1f} s, then {one['first_s']:.2f} s for the first answer" for one in told if one["first_s"] is not None
    )  # fmt: skip
    note = (
        f"Milliseconds of queries that are answered one at a time ({told[0]['warm']}, after {alone.warm_up} that are not counted), from words to "
        f"answer. Search is made of shard, transport and merge. Mean and share with {level:.0%} intervals over queries. Cold start: {starts}."
    )
    columns = ("prompt", "stage", "mean", "median", "min", "max", "std", "p95", "p99", "share of the total")
    return Sheet("Time of one answer", note, columns, tuple(rows))


def split_sheet(told: Sequence[dict[str, Any]]) -> Sheet:
    """Search against generation: two numbers whose sum is the whole."""
    rows: list[tuple[Cell, ...]] = []
    for one in told:
        by_stage = {stage["stage"]: stage for stage in one["stages"]}
        total = by_stage["total"]["mean_s"]
        generation = sum(
            by_stage[name]["mean_s"] for name in ("preprocessing", "first token", "decode") if name in by_stage
        )
        search = total - generation
        rows.append(
            (
                one["prompt"],
                one["warm"],
                1e3 * search,
                1e3 * generation,
                1e3 * total,
                f"{search / total:.1%}",
                f"{generation / total:.1%}",
            )
        )
    columns = ("prompt", "queries", "search ms", "generation ms", "total ms", "search", "generation")
    note = "Search: from words to fetched pictures, with what lies between the steps. Generation: preprocessing, first token and decoding."
    return Sheet("Search against generation", note, columns, tuple(rows))
