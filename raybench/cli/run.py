"""`raybench run EVALUATION.yaml --out URI`."""

import click

from raybench.cli import evaluate


@click.command("run")
@click.argument("evaluation", metavar="EVALUATION.yaml")
@click.option("--out", required=True, metavar="URI", help="Folder for vectors, results and the report; local or s3://.")
@evaluate.options
def command(evaluation: str, out: str, settings: tuple[str, ...], local: bool, dry_run: bool, as_json: bool) -> None:
    """Run an evaluation file end to end; a rerun does only what is missing.

    The name `demo` stands for the embedded evaluation file.
    """
    evaluate.choose_blas()
    loaded = evaluate.load(evaluation, settings)
    evaluate.evaluate(loaded, out, local=local, dry_run=dry_run, as_json=as_json)
