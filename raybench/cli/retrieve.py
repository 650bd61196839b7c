"""`raybench retrieve CORPUS --seeds VECTORS --nb-images-knn N --out URI`."""

import functools
import json
from typing import Any

import click

from raybench.cli.evaluate import backend, choose_blas, workers


@click.command("retrieve")
@click.argument("corpus", metavar="CORPUS")
@click.option(
    "--out", required=True, metavar="URI", help="Folder for the artifact and for filled indexes; local or s3://."
)
@click.option("--seeds", metavar="VECTORS", help="Vectors to start from: anything that `raybench gold` reads.")
@click.option(
    "--texts", metavar="TABLE", help="Texts to start from: a .txt with one a line, or a table with query_id, text."
)
@click.option("--images", metavar="SOURCE", help="Images to start from, such as 'folder(\"seeds\")'.")
@click.option("--encoder", metavar="SPEC", help="Turns texts and images into vectors; that of the corpus.")
@click.option("--nb-images-knn", "knn", type=int, default=0, metavar="N", help="Rows for each seed.")
@click.option(
    "--nb-images-centroid", "centroid", type=int, default=0, metavar="N", help="Rows for the average of all seeds."
)
@click.option(
    "--nb-images-kmeans",
    "kmeans",
    type=int,
    default=0,
    metavar="N",
    help="Rows for each average of a cluster of seeds.",
)
@click.option("--centroids", type=int, default=0, metavar="C", help="How many such averages there are (k-means).")
@click.option("--index", default="exact()", show_default=True, help="Any index, with its effort: hnsw(m=32)@128.")
@click.option("--shards", type=int, default=1, show_default=True, help="Partitions of the index.")
@click.option("--metric", default="ip", show_default=True, help="ip, or cosine for rows that are not of length one.")
@click.option("--min-score", type=float, help="Rows that score less are left out.")
@click.option(
    "--keep-seeds/--exclude-seeds", default=False, help="Rows that equal a seed, bit by bit.  [default: exclude]"
)
@click.option("--where", metavar="FILTER", help="On metadata: 'width >= 512 and \"cat\" in caption'.")
@click.option(
    "--metadata", metavar="PLACE", help="Parquet with a row for each vector, in order; clip-retrieval's is found."
)
@click.option("--columns", multiple=True, metavar="NAME", help="Also copy a column of the metadata (repeatable).")
@click.option("--dedup", "threshold", type=float, help="The least cosine of near duplicates.  [default: 0.95]")
@click.option(
    "--cells", type=int, default=4, show_default=True, help="Where near duplicates meet: cells of a row, at most."
)
@click.option("--no-dedup", is_flag=True, help="Keep near duplicates.")
@click.option(
    "--refill", is_flag=True, help="Ask deeper until as many are kept as were requested, or there are no more."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of k-means and of what is sampled.")
@click.option("--local", is_flag=True, help="Work in this process, without Ray; the result is the same.")
@click.option("--dry-run", is_flag=True, help="Print the plan and start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(
    corpus: str, out: str, threshold: float | None, no_dedup: bool, columns: tuple[str, ...], local: bool, dry_run: bool,
    as_json: bool, **asked: Any,
) -> None:  # fmt: skip
    """Make a collection: what an index finds for seeds, filtered, without near duplicates, with its urls and captions.

    CORPUS is a path (.h5, .fbin, .npy, .parquet, a folder of embeddings) or a spec such as laion_like(rows=50_000).
    """
    choose_blas()
    from raybench import storage
    from raybench.cli.progress import TerminalReporter
    from raybench.experiments.retrieve import retrieve
    from raybench.experiments.retrieve_plan import RetrieveRequest, plan_retrieve
    from raybench.preflight import check_writable

    if no_dedup and threshold is not None:
        raise click.UsageError(f"--dedup {threshold:g} and --no-dedup contradict each other; leave one of them out")
    dedup = None if no_dedup else 0.95 if threshold is None else threshold
    request = RetrieveRequest(corpus, columns=columns, dedup=dedup, **asked)
    out = storage.absolute(out)
    plan = plan_retrieve(request, out)  # what is wrong is said before Ray starts
    if dry_run:
        for line in plan.lines:
            click.echo(f"  {line}")
        if as_json:
            click.echo(json.dumps({"ok": True, "plan": plan.lines, "rows": plan.file.rows, "uri": plan.uri}))
        return
    check_writable(out)
    is_local = local or plan.is_done
    with workers(local=is_local) as pieces:
        manifest = retrieve(request, out, functools.partial(backend, local=is_local), pieces, TerminalReporter())
    _print_done(manifest)
    if as_json:
        click.echo(json.dumps({"ok": True, **manifest}, ensure_ascii=False))


def _print_done(manifest: dict[str, Any]) -> None:
    for strategy, told in manifest["by_strategy"].items():
        left = ", ".join(
            f"{told[name]:,} {words}" for name, words in (
                ("padded", "padded"), ("under_score", "under the score"), ("filtered", "filtered"), ("seeds", "seeds"),
                ("taken_by_another_query", "taken by another query"), ("duplicates", "near duplicates"),
                ("surplus", "surplus"),
            ) if told[name]
        )  # fmt: skip
        queries = f"{told['queries']:,} quer{'y' if told['queries'] == 1 else 'ies'}"
        click.echo(
            f"{strategy}, {queries}: {told['requested']:,} requested, {told['asked']:,} asked of the index: {told['kept']:,} kept"
            + (f"; {left}" if left else "")
        )
    lost = {kind: facts["dropped"] for kind, facts in manifest["seeds"].items() if facts["dropped"]}
    for kind, reasons in lost.items():
        click.echo(f"seeds lost, {kind}: " + ", ".join(f"{reason} {count}" for reason, count in reasons.items()))
    ended = ", ".join(f"{one}: {count:,}" for one, count in manifest["ended"].items())
    click.echo(f"{ended}; {manifest['seconds']['all']:.1f} s")
    if not manifest["account"]["kept"]:
        click.echo("warning: nothing was kept; the account above says at which rule rows were left out")
    without = manifest["without_url"] + manifest["url_not_http"]
    click.echo(
        f"{manifest['img2dataset_rows']:,} rows for img2dataset"
        + (f"; {without:,} have no http address" if without else "")
    )
    for one in manifest["near_duplicates"]["rounds"]:
        if one["checked"] is not None:
            click.echo(
                f"near duplicates of {one['rows']:,} rows: {one['rows_in_too_many_cells']:,} lie between more than "
                f"{manifest['recipe']['cells']} cells; held against all rows, {one['checked']['share_of_rows_that_miss']:.2%} "
                f"[{one['checked']['low']:.2%}, {one['checked']['high']:.2%}] of such rows miss one; raise --cells for fewer"
            )
    click.echo(f"retrieved: {manifest['uri']}")
