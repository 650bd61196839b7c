"""`raybench generate`: answers from retrieved pictures, timed and scored, for any evaluation file of images."""

import json
from dataclasses import asdict

import click

from raybench.cli import evaluate


@click.command("generate")
@click.argument("evaluation")
@click.option(
    "--out", required=True, metavar="URI", help="Folder that all artifacts go into: a path or s3://bucket/key."
)
@click.option(
    "--generator",
    metavar="SPEC",
    help="What answers, such as 'qwen_vl(\"Qwen/Qwen2.5-VL-7B-Instruct\")'; overrides the file.",
)
@click.option("--queries", type=int, help="How many queries are answered; overrides the file.")
@evaluate.options
def command(
    evaluation: str, out: str, generator: str | None, queries: int | None, settings: tuple[str, ...], *, local: bool, dry_run: bool, as_json: bool
) -> None:  # fmt: skip
    """Answer queries from the pictures that a search finds for them, and from none, and from the right ones.

    EVALUATION is a YAML file of images with a section `generate`, or without one and with --generator. `raybench run` does the
    same where the file has the section, beside all else that it asks for. The name `demo` stands for the embedded evaluation file.
    """
    evaluate.choose_blas()
    from raybench import storage
    from raybench.cli.progress import TerminalReporter
    from raybench.errors import RequestError
    from raybench.experiments import runner
    from raybench.experiments.evaluation import Evaluation
    from raybench.experiments.prepared import prepare
    from raybench.preflight import check_writable

    given = {"generator": generator, "queries": queries}
    settings = (*settings, *(f"generate.{name}={value}" for name, value in given.items() if value is not None))
    loaded = evaluate.load(evaluation, settings)
    if not isinstance(loaded, Evaluation):
        raise RequestError(
            f"{evaluation} is an evaluation of vectors, which show nothing; generate needs one of images"
        )
    if loaded.generate is None:
        raise RequestError(f"{evaluation} has no section generate; add one, or give --generator")
    out = storage.absolute(out)
    if dry_run:
        evaluate.print_plan(loaded, out, "generate", as_json=as_json)
        return
    check_writable(out)
    prepared = prepare(loaded, out)
    with evaluate.backend(local=local) as worker:
        found = runner.generate(prepared, worker, TerminalReporter(), evaluate.command_line())
    from raybench.report.page import write_report

    report = write_report(out)
    evaluate.print_tables(found)
    click.echo(f"report: {report}")
    if as_json:
        sheets = [asdict(sheet) for sheet in found.sheets]
        done = {
            "ok": bool(found.generations), "out": out, "report": report, "generations": found.generations,
            "rag_times": found.rag_times, "sheets": sheets, "failed": found.failed, "warnings": found.warnings,
        }  # fmt: skip
        click.echo(json.dumps(done, ensure_ascii=False))
    if not found.generations and found.failed:
        raise RequestError(found.failed[0]["reason"])
    evaluate.check_results(found)
