"""`raybench demo`."""

import click

from raybench.cli import evaluate


@click.command("demo")
@click.option(
    "--out", default="runs/demo", show_default=True, metavar="URI", help="Folder for everything that is made."
)
@evaluate.options
def command(out: str, settings: tuple[str, ...], local: bool, dry_run: bool, as_json: bool) -> None:
    """Evaluate the embedded models on the embedded data set, offline; ends with the path of a report."""
    from raybench.experiments import evaluation_file as files

    loaded = files.parse(evaluate.demo_file(), "the embedded evaluation", settings)
    evaluate.evaluate(loaded, out, local=local, dry_run=dry_run, as_json=as_json)
