"""Generations as tables: what answers are worth in every context, what retrieval adds, what batches and whole answers take."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from raybench.experiments.answer_means import Mean, Means
from raybench.experiments.answer_values import Scored
from raybench.experiments.cell import Cell as SearchCell
from raybench.experiments.evaluation import Alone
from raybench.experiments.run_file import Cell, Sheet

_NAMES = {"none": "closed book", "random": "random", "retrieved": "retrieved", "gold": "oracle"}
_SHOWN = {
    "none": "no picture (closed book)", "random": "pictures by lot (random)", "retrieved": "those that were retrieved",
    "gold": "the one that each is about (oracle)",
}  # fmt: skip


def answers_sheets(told: Sequence[Means], cell: SearchCell, level: float) -> list[Sheet]:
    """Every measure in every context, a table a prompt; and paired differences between contexts."""
    made = [_values_sheet(one, cell, level) for one in told]
    pairs = told[0].pairs
    if not pairs:
        return made
    rows: list[tuple[Cell, ...]] = [
        (one.prompt, measure, *(_signed(one.known[measure, pair]) for pair in pairs))
        for one in told
        for measure in one.measures
    ]
    meanings = {
        ("retrieved", "none"): "retrieved less closed book is what retrieval adds",
        (
            "gold",
            "retrieved",
        ): "oracle less retrieved is what is lost to pictures that do not belong, in place of the right one or beside "
        "it, for the oracle shows that one alone",
        ("retrieved", "random"): "retrieved less random is what it matters which pictures are shown",
    }
    note = (
        f"Differences of the same queries between contexts, resampled together by cluster, with {level:.0%} intervals: "
        f"{'; '.join(meanings[pair] for pair in pairs)}."
    )
    names = (f"{_NAMES[a]} - {_NAMES[b]}" for a, b in pairs)
    return [*made, Sheet("What retrieval adds", note, ("prompt", "measure", *names), tuple(rows))]


def _values_sheet(told: Means, cell: SearchCell, level: float) -> Sheet:
    rows: list[tuple[Cell, ...]] = [
        (
            measure, told.known[measure, told.contexts[0]].queries,
            *(_interval(told.known[measure, context]) for context in told.contexts),
        )
        for measure in told.measures
    ]  # fmt: skip
    shown = "; ".join(_SHOWN[name] for name in told.contexts)
    note = (
        f"{told.by_context[told.contexts[0]].answered.asking.generator}, the same queries with: {shown}. Pictures are found by "
        f"{cell.asked.encoder}, {cell.transform}, {cell.index}. Means with {level:.0%} intervals over clusters. A measure counts the queries "
        "for which it is defined; a missing answer counts as an empty one."
    )
    columns = ("measure", "queries", *(_NAMES[name] for name in told.contexts))
    return Sheet(f"Answers: {told.prompt}", note, columns, tuple(rows))


def _interval(mean: Mean) -> str:
    if mean.value is None:
        return "-"
    return f"{mean.value:.3f}" if mean.low is None else f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _signed(mean: Mean) -> str:
    if mean.value is None:
        return "-"
    return f"{mean.value:+.3f}" if mean.low is None else f"{mean.value:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"


def batches_sheet(scored: Sequence[Scored]) -> Sheet:
    """What generating took in batches, and the tokens that went in and came out."""
    rows = []
    for one in scored:
        answers, warm = one.answered.answers, _warm_rows(one)
        total_s = sum({(row["worker"], row["batch"]): row["batch_s"] for row in warm}.values())
        tokens = [row["answer_tokens"] for row in warm]
        images, prompts = answers["image_tokens"].to_pylist(), answers["prompt_tokens"].to_pylist()
        ended = answers["ended"].to_pylist()
        rows.append(
            (
                *one.title, len(answers), one.answered.manifest["rows_out"], _empty(answers["answer"].to_pylist()), ended.count("length"),
                _mean(images), _mean(_less(prompts, images)), _mean(prompts), _mean(answers["answer_tokens"].to_pylist()), one.answered.asking.batch, len(warm),
                len(warm) / total_s if total_s else None, sum(tokens) / total_s if total_s and None not in tokens else None,
                _ms(_mean([row["first_token_s"] for row in warm])), _ms(_mean([row["decode_s"] for row in warm])),
            )
        )  # fmt: skip
    columns = (
        "prompt", "context", "queries", "answered", "empty", "cut off", "image tokens", "text tokens", "tokens in", "tokens out", "batch",
        "timed", "answers/s", "tokens/s", "first token ms", "decode ms",
    )  # fmt: skip
    manifest = scored[0].answered.manifest
    device = manifest["generator_facts"].get("device", "a server")
    note = (
        "Tokens are means of a query, in: of pictures and of text. Answers and tokens a second are those of one worker, from fetched pictures to "
        "answers, without each worker's first batch and without queries that have no answer, over so many queries as are timed (batches that are "
        "not full are slower a query); first token and "
        f"decode are means over queries, which share those of their batch. Cut off: answers that ended at max_tokens. On {device}, when "
        "the answers were generated."
    )
    return Sheet("Generating in batches", note, columns, tuple(rows))


def _warm_rows(one: Scored) -> list[dict[str, Any]]:
    """Timings and tokens of the queries that have an answer, but for those of a worker's first batch."""
    answers = one.answered.answers.select(["problem", "answer_tokens"]).to_pylist()
    rows = [row | answer for row, answer in zip(one.answered.timings.to_pylist(), answers, strict=True)]
    return [row for row in rows if row["problem"] is None and not row["is_first"]]


def _empty(answers: Sequence[str | None]) -> int:
    """Answers without a word, failed ones among them."""
    return sum(not (answer or "").strip() for answer in answers)


def _less(a: Sequence[int | None], b: Sequence[int | None]) -> list[int | None]:
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def times_sheets(told: Sequence[dict[str, Any]], alone: Alone, level: float) -> list[Sheet]:
    """Where the time of one answer goes, and how it varies."""
    shares: list[tuple[Cell, ...]] = []
    spread: list[tuple[Cell, ...]] = []
    for one in told:
        for stage in one["stages"]:
            ms = {
                name: 1e3 * stage[name] for name in ("mean_s", "median_s", "min_s", "max_s", "std_s", "p95_s", "p99_s")
            }
            within = "" if stage["low_s"] is None else f" [{1e3 * stage['low_s']:.1f}, {1e3 * stage['high_s']:.1f}]"
            share = "" if stage["share_low"] is None else f" [{stage['share_low']:.1%}, {stage['share_high']:.1%}]"
            shares.append(
                (one["prompt"], stage["stage"], f"{ms['mean_s']:.1f}{within}", f"{stage['share']:.1%}{share}")
            )
            spread.append((one["prompt"], stage["stage"], *(ms[name] for name in list(ms)[1:])))
    colds = [one["cold_s"] for one in told if one["cold_s"] is not None]
    starts = f" Cold start, with the loading of generator and encoder: {colds[0]:.2f} s." if colds else ""
    note = (
        f"Milliseconds from words to answer of queries that are answered one at a time ({told[0]['warm']}, after {alone.warm_up} that are not "
        f"counted), with {level:.0%} intervals over queries. Search is made of shard, transport and merge.{starts}"
    )
    return [
        Sheet("Time of one answer", note, ("prompt", "stage", "mean ms", "share of the total"), tuple(shares)),
        Sheet(
            "How the time varies",
            "The same queries; milliseconds.",
            ("prompt", "stage", "median", "min", "max", "std", "p95", "p99"),
            tuple(spread),
        ),
    ]


def split_sheet(told: Sequence[dict[str, Any]], level: float) -> Sheet:
    """Search against generation: two numbers whose sum is the whole."""
    rows: list[tuple[Cell, ...]] = []
    for one in told:
        both = [one["split"][name] for name in ("search", "generation")]
        means = [_interval_of(1e3, part["mean_s"], part["low_s"], part["high_s"], "") for part in both]
        shares = [_interval_of(100, part["share"], part["share_low"], part["share_high"], " %") for part in both]
        rows.append((one["prompt"], one["warm"], *means, *shares))
    columns = ("prompt", "queries", "search ms", "generation ms", "search", "generation")
    note = (
        f"Queries answered one at a time, {level:.0%} intervals over queries. Search: from words to fetched pictures. "
        "Generation: all that comes after, to the answer."
    )
    return Sheet("Search against generation", note, columns, tuple(rows))


def _interval_of(scale: float, value: float, low: float | None, high: float | None, unit: str) -> str:
    within = "" if low is None or high is None else f" [{scale * low:.1f}, {scale * high:.1f}]"
    return f"{scale * value:.1f}{unit}{within}"
