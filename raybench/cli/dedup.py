"""`raybench dedup VECTORS --out URI`."""

import json
from typing import Any

import click

from raybench.cli.evaluate import choose_blas, workers


@click.command("dedup")
@click.argument("vectors", metavar="VECTORS")
@click.option("--out", required=True, metavar="URI", help="Folder for the artifact; local or s3://.")
@click.option("--threshold", type=float, default=0.95, show_default=True, help="The least cosine of near duplicates.")
@click.option("--groups", default="stars", show_default=True, help="stars around a first row, or components (chains).")
@click.option("--exact", is_flag=True, help="Compare every pair; time grows with the square of the rows.")
@click.option("--cells", type=int, default=16, show_default=True, help="In how many cells a row may be, at most.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the rows that cells are learnt from.")
@click.option("--local", is_flag=True, help="Work in this process, without Ray; the result is the same.")
@click.option("--dry-run", is_flag=True, help="Print the plan and start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(
    vectors: str, out: str, threshold: float, groups: str, exact: bool, cells: int, seed: int, local: bool, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Find equal and near-equal rows of a set of vectors, and say which to keep.

    VECTORS is a path (.h5, .fbin, .npy, .parquet, a folder of embeddings) or a spec such as npy("base.npy").
    """
    choose_blas()
    from raybench import storage
    from raybench.cli.progress import TerminalReporter
    from raybench.experiments import dedup
    from raybench.preflight import check_writable

    request = dedup.DedupRequest(vectors, threshold, groups, exact, cells, seed)
    out = storage.absolute(out)
    plan = dedup.plan_dedup(request, out)  # what is wrong is said before Ray starts
    if dry_run:
        for line in plan.lines:
            click.echo(f"  {line}")
        if as_json:
            click.echo(json.dumps({"ok": True, "plan": plan.lines, "rows": plan.rows, "uri": plan.uri}))
        return
    check_writable(out)
    with workers(local=local or plan.is_done) as pieces:
        manifest = dedup.deduplicate(request, out, pieces, TerminalReporter())
    _print_done(manifest)
    if as_json:
        click.echo(json.dumps({"ok": True, **manifest}, ensure_ascii=False))


def _print_done(manifest: dict[str, Any]) -> None:
    dropped, recipe = manifest["dropped"], manifest["recipe"]
    click.echo(
        f"{manifest['rows_in']:,} rows: {manifest['rows_out']:,} stay, {dropped['equal']:,} are equal to an earlier one, "
        f"{dropped['near']:,} are near (cosine of {recipe['threshold']:g} or more)"
    )
    click.echo(
        f"{manifest['groups']:,} groups of several ({recipe['groups']}), the largest of {manifest['largest_group']:,} rows; "
        f"{manifest['seconds']['all']:.1f} s"
    )
    if manifest["without_length"]:
        click.echo(f"{manifest['without_length']:,} rows are all zero, have no direction, and stay")
    if not manifest["complete"]:
        rows, checked = manifest["rows_in_too_many_cells"], manifest["checked"]
        click.echo(
            f"{rows:,} rows lie between more cells than {recipe['most_cells']}: pairs with such a row may have been missed, and no "
            f"others; raise --cells, or compare all pairs with --exact. {checked['drawn_rows']:,} of them, held against all rows, have "
            f"{checked['pairs']:,} close rows and miss {checked['missed_pairs']:,}: {checked['share_of_rows_that_miss']:.2%} "
            f"[{checked['low']:.2%}, {checked['high']:.2%}] of such rows miss one"
        )
    click.echo(f"dedup: {manifest['uri']}")
