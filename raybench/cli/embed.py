"""`raybench embed EVALUATION.yaml --out URI`."""

import json

import click

from raybench.cli import evaluate


@click.command("embed")
@click.argument("evaluation", metavar="EVALUATION.yaml")
@click.option("--out", required=True, metavar="URI", help="Folder for the vectors; local or s3://.")
@evaluate.options
def command(evaluation: str, out: str, settings: tuple[str, ...], local: bool, dry_run: bool, as_json: bool) -> None:
    """Turn the images of an evaluation file into vectors, and stop there.

    The vectors are in clip-retrieval's layout below OUT/vectors; a later `raybench run` with the same OUT uses them.
    """
    from raybench import storage
    from raybench.cli.progress import TerminalReporter
    from raybench.experiments import evaluation_file as files
    from raybench.experiments.evaluation import Evaluation
    from raybench.preflight import check_writable

    loaded = files.load(evaluation, settings)
    if not isinstance(loaded, Evaluation):
        raise click.UsageError(f"{evaluation} is an evaluation of vectors: there is nothing to embed; use raybench run")
    out = storage.absolute(out)
    if dry_run:
        evaluate.print_plan(loaded, out, "embed", as_json=as_json)
        return
    check_writable(out)
    from raybench.experiments.embedded import embed_images
    from raybench.experiments.prepared import prepare

    prepared = prepare(loaded, out)
    with evaluate.backend(local=local) as worker:
        made = embed_images(prepared, worker, TerminalReporter())
    for artifact in made.artifacts:
        click.echo(f"{artifact['encoder']}: {artifact['rows_out']} vectors in {storage.join(out, artifact['uri'])}")
    if as_json:
        click.echo(json.dumps({"ok": True, "out": out, "artifacts": made.artifacts}, ensure_ascii=False))
