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


def answers_sheets(scored: Sequence[Scored], intervals: Intervals, seed: int) -> list[Sheet]:
    """Every measure in every context, a table a prompt; and paired differences between contexts."""
    contexts = [name for name in _ORDER if any(one.title[1] == name for one in scored)]
    prompts = dict.fromkeys(one.title[0] for one in scored)
    made = [_values_sheet(prompt, _of(scored, prompt), contexts, intervals) for prompt in prompts]
    pairs = [pair for pair in _PAIRS if set(pair) <= set(contexts)]
    if not pairs:
        return made
    rows: list[tuple[Cell, ...]] = []
    for prompt in prompts:
        of = _of(scored, prompt)
        rows += [
            (prompt, measure, *(_difference(of[a], of[b], measure, intervals, seed) for a, b in pairs))
            for measure in of[contexts[0]].values
        ]
    note = (
        f"Differences of the same queries between contexts, resampled together by cluster, with {intervals.level:.0%} intervals: retrieved "
        "less closed book is what retrieval adds; oracle less retrieved is what is lost to pictures that do not belong, in place of the right "
        "one or beside it, for the oracle shows that one alone."
    )
    return [
        *made,
        Sheet(
            "What retrieval adds",
            note,
            ("prompt", "measure", *(f"{_NAMES[a]} - {_NAMES[b]}" for a, b in pairs)),
            tuple(rows),
        ),
    ]


def _of(scored: Sequence[Scored], prompt: str) -> dict[str, Scored]:
    """The answers to one prompt, by context."""
    return {one.title[1]: one for one in scored if one.title[0] == prompt}


def _values_sheet(prompt: str, of: dict[str, Scored], contexts: Sequence[str], intervals: Intervals) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for measure in of[contexts[0]].values:
        told = [of[name].measured(measure) for name in contexts]
        rows.append((measure, told[0]["queries"], *(_interval(one["value"], one["low"], one["high"]) for one in told)))
    note = (
        f"{of[contexts[0]].answered.asking.generator}: the same queries with no picture (closed book), with those that were retrieved, and with "
        f"the one that each is about (oracle). Means with {intervals.level:.0%} intervals over clusters. A measure counts the queries for "
        "which it is defined; a missing answer counts as an empty one."
    )
    return Sheet(f"Answers: {prompt}", note, ("measure", "queries", *(_NAMES[name] for name in contexts)), tuple(rows))


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
        answers, warm = one.answered.answers, _warm_rows(one)
        total_s = sum({(row["worker"], row["batch"]): row["batch_s"] for row in warm}.values())
        tokens = [row["answer_tokens"] for row in warm]
        images, prompts = answers["image_tokens"].to_pylist(), answers["prompt_tokens"].to_pylist()
        ended = answers["ended"].to_pylist()
        rows.append(
            (
                *one.title, len(answers), one.answered.manifest["rows_out"], ended.count("length"), _mean(images),
                _mean(_less(prompts, images)), _mean(answers["answer_tokens"].to_pylist()), one.answered.asking.batch,
                len(warm) / total_s if total_s else None, sum(tokens) / total_s if total_s and None not in tokens else None,
                _ms(_mean([row["first_token_s"] for row in warm])), _ms(_mean([row["decode_s"] for row in warm])),
            )
        )  # fmt: skip
    columns = (
        "prompt", "context", "queries", "answered", "cut off", "image tokens", "text tokens", "tokens out", "batch", "answers/s",
        "tokens/s", "first token ms", "decode ms",
    )  # fmt: skip
    manifest = scored[0].answered.manifest
    device = manifest["generator_facts"].get("device", "a server")
    note = (
        "Generating in batches. Tokens are means of a query. Answers and tokens a second are those of one worker, from fetched pictures to "
        "answers, without each worker's first batch and without queries that have no answer (- where nothing is left); first token and "
        f"decode are means over queries, which share those of their batch. Cut off: answers that ended at max_tokens. On {device}, when "
        "the answers were generated."
    )
    return Sheet("Generating in batches", note, columns, tuple(rows))


def _warm_rows(one: Scored) -> list[dict[str, Any]]:
    """Timings and tokens of the queries that have an answer, but for those of a worker's first batch."""
    answers = one.answered.answers.select(["problem", "answer_tokens"]).to_pylist()
    rows = [row | answer for row, answer in zip(one.answered.timings.to_pylist(), answers, strict=True)]
    return [row for row in rows if row["problem"] is None and not row["is_first"]]


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
