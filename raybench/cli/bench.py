"""`raybench bench EVALUATION.yaml --out URI`."""

import click

from raybench.cli import evaluate


@click.command("bench")
@click.argument("evaluation", metavar="EVALUATION.yaml")
@click.option("--out", required=True, metavar="URI", help="Folder for vectors, indexes, results and the report.")
@evaluate.options
def command(evaluation: str, out: str, settings: tuple[str, ...], local: bool, dry_run: bool, as_json: bool) -> None:
    """Run an evaluation file, of images or of vectors, and measure what each index of its grid costs.

    The same as `raybench run` of a file with a section `cost`: latency of single queries, throughput in batches, bytes, build
    time, and which systems no other beats. The name `demo` stands for the embedded evaluation file.
    """
    evaluate.choose_blas()
    from raybench.experiments.evaluation import Cost

    loaded = evaluate.load(evaluation, settings)
    if loaded.cost is None:
        # Read again with the section, so that it is checked like one that the file has.
        loaded = evaluate.load(evaluation, (*settings, f"cost.k={Cost().k}"))
    evaluate.evaluate(loaded, out, local=local, dry_run=dry_run, as_json=as_json)
