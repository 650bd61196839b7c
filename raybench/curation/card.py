"""The card of a set: what it is made of, what was left out, and how to use it; Markdown, from the manifest alone."""

from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 80  # characters of a cell


def card(manifest: Mapping[str, Any], examples: Mapping[str, Sequence[Mapping[str, str]]], uri: str) -> str:
    """The text of README.md in the folder of a set."""
    counts = manifest["counts"]
    lines = [
        f"# {_plain(manifest['name'])}", "",
        _summary(counts), "",
        *_expected(manifest["expected"]),
        "## What it is made of", "",
        *_table(
            ("pool", "source", "rows", "in the set", "dropped"),
            [
                (one["pool"], f"`{one['images']}`", f"{one['rows_in']:,}", f"{one['rows_out']:,}", _counts(one["dropped"]))
                for one in manifest["pools"]
            ],
        ), "",
        *(f"- {_plain(one['pool'])}: {' '.join(note.split())}" for one in manifest["pools"] for note in one["notes"]), "",
        "Rows = pictures in the set + rows dropped, for every pool. Pictures belong to those whom the sources name.", "",
        "## Steps", "",
        *_table(
            ("step", "pool", "in", "stay", "dropped", "queries left"),
            [
                (
                    f"`{one['step']}`", one["pool"], f"{one['rows_in']:,}", f"{one['rows_out']:,}", _counts(one["dropped"]),
                    f"{one['queries']:,}" if "queries" in one else "",
                )
                for one in manifest["steps"]
            ],
        ), "",
        "## Examples of what was dropped", "",
        *_table(
            ("reason", "pool", "picture", "detail"),
            [
                (reason, one["pool"], f"`{one['source_id']}`", one["detail"])
                for reason, some in sorted(examples.items())
                for one in some
            ],
        ), "",
        "All of them are in `dropped.parquet`; suspected false negatives, with their queries, in `review.parquet`.", "",
        "## Use", "", "```yaml", f"images: curated({uri!r})", "```", "",
        "in an evaluation file of raybench. `beir/` holds queries and judgments as BEIR reads them; the tars are WebDataset.", "",
        "## Checksums (SHA-256)", "",
        *_table(("file", "sha256"), [(name, f"`{facts['sha256']}`") for name, facts in manifest["files"].items()]), "",
        "## Recipe", "", "```yaml", manifest["recipe"].rstrip(), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _summary(counts: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{name} {count:,} queries" for name, count in counts["splits"].items())
    return (
        f"{counts['queries']:,} queries, {counts['relevant']:,} pictures that answer them, {counts['images']:,} pictures in all. "
        f"{counts['judgments']:,} judgments, {counts['clusters']:,} clusters of queries. Parts: {parts}."
    )


def _expected(expected: Mapping[str, Any]) -> list[str]:
    if not expected:
        return []
    told = ", ".join(f"{name} {expected['found'][name]:,} of {count:,}" for name, count in expected["wanted"].items())
    return [f"**{'As expected' if expected['is_met'] else 'Not as expected'}**: {told}.", ""]


def _counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines]


def _plain(text: str) -> str:
    """One line of a table: file names and details are written by strangers."""
    flat = " ".join(str(text).split())
    short = flat if len(flat) <= _LONGEST or flat.startswith("`") else flat[: _LONGEST - 1] + "\u2026"
    return short.replace("|", "\\|").replace("<", "&lt;")
