"""`raybench gold --corpus SPEC --queries SPEC -k N --out URI`."""

import json
from typing import TYPE_CHECKING, Any

import click

from raybench.cli.evaluate import choose_blas, gold_backend

if TYPE_CHECKING:
    from raybench.experiments.gold import GoldRequest
    from raybench.formats.base import StoredNeighbors


@click.command("gold")
@click.option("--corpus", required=True, metavar="SPEC", help="Vectors to search: a file, a folder or a spec.")
@click.option("--queries", required=True, metavar="SPEC", help="Vectors to search for.")
@click.option("-k", "k", type=int, default=100, show_default=True, help="Neighbours of each query.")
@click.option("--metric", default="ip", show_default=True, help="ip, cosine, l2, or hamming for packed bits.")
@click.option("--out", required=True, metavar="URI", help="Folder for the artifact; local or s3://.")
@click.option("--to", "target", metavar="SPEC", help="Also write the neighbours in a format, such as sisap('gold.h5').")
@click.option("--truth", metavar="SPEC", help="Compare with a published gold standard, by id and by score.")
@click.option("--memory", default="4GiB", show_default=True, help="What each process may use.")
@click.option("--workers", type=int, help="Processes that search; one per node unless given.")
@click.option("--precision", default="auto", show_default=True, help="Of the scan; measured and chosen unless given.")
@click.option("--local", is_flag=True, help="Work in this process, without Ray; the result is the same.")
@click.option("--dry-run", is_flag=True, help="Print the plan and start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(
    corpus: str, queries: str, k: int, metric: str, out: str, target: str | None, truth: str | None, memory: str,
    workers: int | None, precision: str, local: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Find the exact nearest neighbours in float64, and prove them.

    SPEC is a path (.h5, .hdf5, .fbin, .npy, .fvecs, .parquet, a folder of embeddings) or a spec such as
    sisap("laion2B-en-clip768v2-n=300K.h5").
    """
    choose_blas()
    from raybench import storage
    from raybench.cli.progress import TerminalReporter
    from raybench.environment import parse_bytes
    from raybench.experiments import gold
    from raybench.preflight import check_writable
    from raybench.search.certified.matrix import SCANS

    if precision not in ("auto", *SCANS):
        raise click.UsageError(f"--precision {precision!r} is not known; use auto or one of {', '.join(SCANS)}")
    if workers is not None and (workers < 1 or local):
        raise click.UsageError(f"--workers {workers} does not fit; give 1 or more, and not with --local")
    request = gold.GoldRequest(corpus, queries, k, metric, parse_bytes(memory, "--memory"), precision)
    out = storage.absolute(out)
    if dry_run:
        _print_plan(request, out, workers, as_json=as_json)
        return
    # What is wrong is said before Ray starts.
    planned = gold.plan_gold(request, out, gold.Workers(workers or 1, 1))
    if target is not None:
        if k > planned.rows:
            raise click.UsageError(
                f"-k {k} is more than the {planned.rows:,} rows, and --to has no place for padding; ask for fewer"
            )
        from raybench.formats import recipe_of

        if not hasattr(recipe_of(target, is_target=True), "write_neighbors"):
            raise click.UsageError(f"--to {target!r} is of a format without neighbours; end it in .h5, .ivecs or .ibin")
    published = None if truth is None else _open_neighbors(truth)
    check_writable(out)
    reporter = TerminalReporter()
    with gold_backend(local=local, workers=workers) as backend:
        manifest = gold.find_gold(request, out, backend, reporter)
    if target is not None:
        from raybench.formats import write_neighbors
        from raybench.formats.artifact import Gold

        write_neighbors(target, Gold(manifest["uri"]).neighbors())
    compared = None
    if published is not None:
        from raybench.experiments.agreement import agreement
        from raybench.formats.artifact import read_gold

        compared = agreement(read_gold(manifest["uri"])[0], published, corpus, queries, metric)
    _print_done(manifest, compared, target)
    if as_json:
        click.echo(json.dumps({"ok": True, **manifest, "compared": compared}, ensure_ascii=False))


def _open_neighbors(text: str) -> "StoredNeighbors":
    from raybench.formats import open_neighbors

    return open_neighbors(text)


def _print_plan(request: "GoldRequest", out: str, workers: int | None, *, as_json: bool) -> None:
    from raybench.environment import available_cores
    from raybench.experiments.gold import Workers, plan_gold

    plan = plan_gold(request, out, Workers(workers or 1, max(1, available_cores() // (workers or 1))))
    for line in plan.lines:
        click.echo(f"  {line}")
    if as_json:
        click.echo(json.dumps({"ok": True, "plan": plan.lines, "rows": plan.rows, "flop": plan.flop, "uri": plan.uri}))


def _print_done(manifest: dict[str, Any], compared: dict[str, Any] | None, target: str | None) -> None:
    certificate, recipe = manifest["certificate"], manifest["recipe"]
    click.echo(
        f"{manifest['queries']:,} queries, {manifest['rows_out']:,} rows, k={recipe['k']}, {recipe['metric']}: "
        f"{manifest['seconds']:.1f} s, {certificate['gflop_per_worker_s']:.0f} GFLOP/s per worker"
    )
    scans = ", ".join(f"{name} for {rows:,} rows" for name, rows in certificate["scan"].items())
    click.echo(f"scan: {scans}; {certificate['candidates_per_query']:,.1f} candidates per query scored in float64")
    click.echo(f"float64 sums are {certificate['float64_sums']}; {certificate['audited_pairs']:,} pairs audited")
    if compared is not None:
        for line in compared["lines"]:
            click.echo(line)
    if target is not None:
        click.echo(f"written: {target}")
    click.echo(f"gold: {manifest['uri']}")
