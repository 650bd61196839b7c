"""The card of a set: what it is made of, what was left out, and how to use it; Markdown, from the manifest alone."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 80  # characters of a cell


def card(manifest: Mapping[str, Any], examples: Mapping[str, Sequence[Mapping[str, str]]], uri: str) -> str:
    """The text of README.md in the folder of a set."""
    files = [(_plain(name), _code(facts["sha256"])) for name, facts in manifest["files"].items()]
    lines = [
        f"# {_plain(manifest['name'])}", "", _summary(manifest["counts"]), "", *_given(manifest["given"]), *_expected(manifest["expected"]),
        "## What it is made of", "", *_pools(manifest["pools"]), "",
        "Rows = pictures in the set + rows dropped, for every pool. Pictures belong to those whom the sources name.", "",
        "## Steps", "", *_steps(manifest["steps"]), "",
        "## Examples of what was dropped", "", *_dropped(examples), "",
        "All of them are in `dropped.parquet`; suspected false negatives, with their queries, in `review.parquet`.", "",
        "## Use", "", "```yaml", f"images: curated({uri!r})", "```", "",
        "in an evaluation file of raybench. `beir/` holds queries and judgments as BEIR reads them; the tars are WebDataset.", "",
        "## Checksums (SHA-256)", "", *_table(("file", "sha256"), files), "",
        "## Recipe", "", "~~~yaml", manifest["recipe"].rstrip().replace("~~~", "~ ~"), "~~~", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _pools(pools: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            _plain(one["pool"]),
            _code(one["images"]),
            f"{one['rows_in']:,}",
            f"{one['rows_out']:,}",
            _counts(one["dropped"]),
        )
        for one in pools
    ]
    notes = [f"- {_plain(one['pool'])}: {_plain(note, longest=400)}" for one in pools for note in one["notes"]]
    return [*_table(("pool", "source", "rows", "in the set", "dropped"), rows), *([""] if notes else []), *notes]


def _steps(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            _code(one["step"]), _plain(one["pool"]), f"{one['rows_in']:,}", f"{one['rows_out']:,}", _counts(one["dropped"]),
            f"{one['queries']:,}" if "queries" in one else "",
        )
        for one in steps
    ]  # fmt: skip
    facts = [
        f"- {_code(one['step'])}: {_code(json.dumps(one['facts'], ensure_ascii=False), longest=1_000)}"
        for one in steps
        if one.get("facts")
    ]
    return [*_table(("step", "pool", "in", "stay", "dropped", "queries left"), rows), "", *facts]


def _dropped(examples: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
    rows = [
        (_plain(reason), _plain(one["pool"]), _code(one["source_id"]), _plain(one["detail"]))
        for reason, some in sorted(examples.items())
        for one in some
    ]
    return _table(("reason", "pool", "picture", "detail"), rows)


def _summary(counts: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{name} {count:,} queries" for name, count in counts["splits"].items())
    return (
        f"{counts['queries']:,} queries, {counts['relevant']:,} pictures that answer them, {counts['images']:,} pictures in all. "
        f"{counts['judgments']:,} judgments, {counts['clusters']:,} clusters of queries. Parts: {parts}."
    )


def _given(given: Mapping[str, Any]) -> list[str]:
    if not given["dropped"]:
        return []
    lost = ", ".join(f"{reason} {count:,}" for reason, count in given["dropped"].items())
    return [
        f"Given were {given['queries']:,} queries and {given['judgments']:,} judgments; not in the set: {_plain(lost, 400)}.",
        "",
    ]


def _expected(expected: Mapping[str, Any]) -> list[str]:
    if not expected:
        return []
    told = ", ".join(f"{name} {expected['found'][name]:,} of {count:,}" for name, count in expected["wanted"].items())
    return [f"**{'As expected' if expected['is_met'] else 'Not as expected'}**: {told}.", ""]


def _counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{_plain(reason)} {count:,}" for reason, count in dropped.items())


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells are Markdown already."""
    return ["| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *rows)]


def _plain(text: str, longest: int = _LONGEST) -> str:
    """Text on one line in which nothing is Markdown: names and details are written by strangers."""
    return re.sub(r"([\\`*\[\]<>|!#])", r"\\\1", _cut(text, longest))


def _code(text: str, longest: int = _LONGEST) -> str:
    """Text on one line as code, which ends nowhere but at its end."""
    return "`" + _cut(text, longest).replace("`", "'").replace("|", "\\|") + "`"


def _cut(text: str, longest: int) -> str:
    flat = " ".join(str(text).split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "\u2026"
