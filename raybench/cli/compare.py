"""`raybench compare A B`."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from raybench.experiments.pairing import Stored


@click.command("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--a", "of_a", multiple=True, metavar="FACET=VALUE", help="Choose in A, such as --a encoder=ViT-B-32 (repeatable)."
)
@click.option("--b", "of_b", multiple=True, metavar="FACET=VALUE", help="Choose in B.")
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="MEASURE",
    help="Such as ndcg@10 (repeatable); all unless given. The first ranks the queries.",
)
@click.option(
    "--top", default=10, show_default=True, type=click.IntRange(0, 10_000), help="Queries that changed most to show."
)
@click.option(
    "--resamples",
    default=2_000,
    show_default=True,
    type=click.IntRange(100, 1_000_000),
    help="Draws of each interval and test.",
)
@click.option("--level", default=0.95, show_default=True, help="Of the intervals, between 0 and 1.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Of the draws.")
@click.option("--to", metavar="FILE.parquet", help="Write every query's values and differences there; local or s3://.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(
    a: str, b: str, of_a: tuple[str, ...], of_b: tuple[str, ...], measures: tuple[str, ...], top: int, resamples: int,
    level: float, seed: int, to: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare results in A and B, output folders of runs, query by query; they may be one folder.

    Facets are encoder, direction, transform, index and experiment. What is not chosen must be alike on both sides; every
    pair is compared.
    """
    from raybench.errors import RequestError
    from raybench.experiments.evaluation import Intervals
    from raybench.experiments.paired import compare
    from raybench.experiments.pairing import pair, read_choice

    if not 0 < level < 1:
        raise RequestError(f"--level {level:g} is no share; give one between 0 and 1, such as 0.95")
    if to is not None and not to.endswith(".parquet"):
        raise RequestError(f"--to {to} must name a .parquet file")
    sides = [_stored(out, chosen, side) for out, chosen, side in ((a, of_a, "A"), (b, of_b, "B"))]
    facets = [read_choice(text, "a")[0] for text in (*of_a, *of_b)]
    pairs, alone = pair(sides[0], sides[1], facets)
    compared = [compare(one, other, measures, Intervals(resamples, level), seed, top) for one, other in pairs]
    notes = [
        f"{side} has {count} experiments without a partner, which are left out"
        for side, count in zip("AB", alone, strict=True)
        if count
    ]
    if to is not None:
        _write(to, [one.per_query for one in compared])
    _print(compared, notes, level, to)
    if as_json:
        click.echo(
            json.dumps({"ok": True, "pairs": [_plain(one) for one in compared], "notes": notes}, ensure_ascii=False)
        )


def _stored(out: str, chosen: tuple[str, ...], side: str) -> "list[Stored]":
    from raybench import storage
    from raybench.experiments.pairing import choose, read_choice, stored_experiments
    from raybench.preflight import check_readable

    check_readable(storage.absolute(out))
    by_key = any(read_choice(text, side)[0] == "experiment" for text in chosen)
    return choose(stored_experiments(storage.absolute(out), all_runs=by_key), chosen, side)


def _write(to: str, tables: list[Any]) -> None:
    import pyarrow as pa

    from raybench import storage

    storage.write_table(storage.absolute(to), pa.concat_tables(tables))


def _print(compared: list[Any], notes: list[str], level: float, to: str | None) -> None:
    from rich.console import Console

    from raybench.experiments.paired_sheets import changed_sheet, lines_sheet, multiplicity
    from raybench.report.sheets import print_sheet

    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    for one in compared:
        print_sheet(lines_sheet(one, level), console)
        if one.changed:
            print_sheet(changed_sheet(one), console)
    many = multiplicity(sum(len(one.lines) for one in compared), level)
    for note in [*notes, *([many] if many else [])]:
        click.echo(f"note: {note}")
    if to is not None:
        click.echo(f"differences: {to}")


def _plain(one: Any) -> dict[str, Any]:
    """A comparison as JSON values."""
    from dataclasses import asdict

    from raybench.experiments.pairing import FACETS

    sides = {
        name: {"out": side.out} | {facet: side.facet(facet) for facet in FACETS}
        for name, side in (("a", one.a), ("b", one.b))
    }
    return sides | {
        "queries": one.queries, "clusters": one.clusters, "left_out": dict(one.left_out), "notes": list(one.notes),
        "measures": [asdict(line) for line in one.lines], "changed": [asdict(changed) for changed in one.changed],
    }  # fmt: skip
