"""`raybench curate RECIPE.yaml --out URI`."""

import json
from typing import TYPE_CHECKING, Any

import click

from raybench.cli.evaluate import backend, choose_blas
from raybench.errors import WorkError

if TYPE_CHECKING:
    from raybench.experiments.recipe import Recipe


@click.command("curate")
@click.argument("recipe", metavar="RECIPE.yaml")
@click.option(
    "--out", required=True, metavar="URI", help="Folder for the set and what it is made from; local or s3://."
)
@click.option("--expect", is_flag=True, help="Fail unless the counts are those that the recipe expects.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="Override a key of the recipe, such as --set pictures.shortest=224 (repeatable).",
)  # fmt: skip
@click.option("--local", is_flag=True, help="Work in this process, without Ray; the set is the same.")
@click.option("--dry-run", is_flag=True, help="Print the plan and start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(
    recipe: str, out: str, expect: bool, settings: tuple[str, ...], local: bool, dry_run: bool, as_json: bool
) -> None:
    """Build a hard evaluation set: choose pictures of some pools, mix, remove duplicates, and write tars and tables."""
    choose_blas()
    from raybench import storage
    from raybench.cli.progress import TerminalReporter
    from raybench.experiments import curate
    from raybench.experiments import recipe as recipes
    from raybench.preflight import check_writable

    loaded, out = recipes.load(recipe, settings), storage.absolute(out)
    if expect and loaded.expect is None:
        raise click.UsageError(f"{recipe} expects no counts; add expect: {{queries: ..., relevant: ..., images: ...}}")
    if dry_run:
        _print_plan(loaded, out, as_json=as_json)
        return
    check_writable(out)
    plan = curate.plan_curation(loaded, out)
    with backend(local=local or plan.is_done) as worker:
        manifest = curate.curate(plan, worker, TerminalReporter())
    # What is expected is no part of the set, so it is compared anew with a set that was there already.
    manifest |= {"expected": curate.expected(loaded, manifest["counts"])}
    print_done(manifest)
    if expect and not manifest["expected"].get("is_met", True):
        wanted, found = manifest["expected"]["wanted"], manifest["expected"]["found"]
        raise WorkError(
            f"the set has {found}, and {recipe} expects {wanted}; dropped.parquet in {manifest['uri']} says what became of each row"
        )
    if as_json:
        click.echo(json.dumps({"ok": True, **manifest}, ensure_ascii=False))


def print_done(manifest: dict[str, Any]) -> None:
    """Counts, and every step with what it dropped."""
    import sys

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("pool", "step", "in", "stay", "dropped", "queries", title=manifest["name"], title_justify="left")
    for one in manifest["steps"]:
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in one["dropped"].items())
        queries = f"{one['queries']:,}" if "queries" in one else ""
        table.add_row(
            escape(one["pool"]), escape(one["step"]), f"{one['rows_in']:,}", f"{one['rows_out']:,}", dropped, queries
        )
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)
    counts, expected = manifest["counts"], manifest["expected"]
    click.echo(
        f"{manifest['rows_in']:,} rows: {manifest['rows_out']:,} in the set, {sum(manifest['dropped'].values()):,} dropped; "
        f"{counts['queries']:,} queries, {counts['relevant']:,} pictures that answer them; {manifest['seconds']['all']:.1f} s"
    )
    given = manifest["given"]
    if given["dropped"]:
        lost = ", ".join(f"{reason} {count:,}" for reason, count in given["dropped"].items())
        click.echo(
            f"of {given['queries']:,} queries and {given['judgments']:,} judgments that were given, not in the set: {lost}"
        )
    if counts["to_review"]:
        click.echo(
            f"{counts['suspects_removed']:,} suspected false negatives were set aside; review.parquet lists them and "
            f"{counts['to_review'] - counts['suspects_removed']:,} pictures that too few queries suspect"
        )
    empty = [name for name, count in counts["splits"].items() if not count]
    if empty:
        click.echo(f"no query fell to {', '.join(empty)}: {counts['clusters']:,} clusters are few for so many parts")
    if expected:
        told = ", ".join(
            f"{name} {expected['found'][name]:,} of {count:,}" for name, count in expected["wanted"].items()
        )
        click.echo(f"{'as expected' if expected['is_met'] else 'not as expected'}: {told}")
    click.echo(f"set: {manifest['uri']}")


def _print_plan(recipe: "Recipe", out: str, *, as_json: bool) -> None:
    from raybench.experiments import curate

    lines = curate.plan_lines(recipe, out)
    for line in lines:
        click.echo(f"  {line}")
    if as_json:
        click.echo(json.dumps({"ok": True, "plan": lines}))
