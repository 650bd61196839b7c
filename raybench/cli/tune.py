"""`raybench tune EVALUATION.yaml --out URI`."""

import functools
import json

import click

from raybench.cli import evaluate


@click.command("tune")
@click.argument("evaluation", metavar="EVALUATION.yaml")
@click.option(
    "--out", required=True, metavar="URI", help="Folder for vectors, indexes and what is found; local or s3://."
)
@click.option("--measure", metavar="MEASURE", help="What must reach the target, such as overlap@3 or hit@10.")
@click.option("--target", type=float, help="The share to reach, such as 0.9.")
@click.option("--most", type=int, help="The largest effort that is tried.")
@evaluate.options
def command(
    evaluation: str, out: str, measure: str | None, target: float | None, most: int | None, settings: tuple[str, ...],
    local: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Find the smallest effort of indexes whose quality reaches a target.

    Half of the queries decide, by the lower end of an interval; the others confirm. The indexes are those that the
    evaluation file lists under tune.indexes, or those of its grid that have an effort. `raybench run` does the same where
    the file has a section `tune`, and puts it into the report. The name `demo` stands for the embedded evaluation file.
    """
    evaluate.choose_blas()
    from raybench import storage
    from raybench.cli.progress import TerminalReporter
    from raybench.experiments.evaluation import Evaluation, Tune
    from raybench.preflight import check_writable

    given = {"measure": measure, "target": target, "most": most}
    # A setting makes the section where the file has none, so that it is checked like one that the file has.
    settings = (*settings, *(f"tune.{name}={value}" for name, value in given.items() if value is not None))
    loaded = evaluate.load(evaluation, settings)
    if loaded.tune is None:
        loaded = evaluate.load(evaluation, (*settings, f"tune.target={Tune().target}"))
    out = storage.absolute(out)
    if dry_run:
        evaluate.print_plan(loaded, out, "tune", as_json=as_json)
        return
    check_writable(out)
    if isinstance(loaded, Evaluation):
        from raybench.experiments import runner
        from raybench.experiments.prepared import prepare

        prepared = prepare(loaded, out)
        with evaluate.backend(local=local) as worker:
            found = runner.tune(prepared, worker, TerminalReporter())
    else:
        from raybench.experiments import vector_runner

        with evaluate.vectors_searched(loaded, out, local=local) as searchers:
            indexes = functools.partial(evaluate.backend, local=local)
            found = vector_runner.tune(loaded, out, searchers, TerminalReporter(), indexes)
    evaluate.print_tables(found)
    if as_json:
        click.echo(
            json.dumps({"ok": evaluate.has_results(found), "out": out, "tuned": found.tuned}, ensure_ascii=False)
        )
    evaluate.check_results(found)
