"""What `demo`, `run` and `embed` share: options, checks that come before any work, and what is printed at the end."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from raybench.experiments.backend import Backend
    from raybench.experiments.evaluation import Evaluation
    from raybench.experiments.runner import Run

Command = TypeVar("Command", bound=Callable[..., Any])


def options(command: Command) -> Command:
    """The options of every verb that runs an evaluation."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line."),
        click.option("--dry-run", is_flag=True, help="Print the plan and start nothing."),
        click.option("--local", is_flag=True, help="Work in this process, without Ray; the results are the same."),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE",
            help="Override a key of the evaluation file, such as --set embed.chunk=32 (repeatable).",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@contextmanager
def backend(*, local: bool) -> "Iterator[Backend]":
    """Ray (joined or started), or this process."""
    if local:
        from raybench.experiments.backend import LocalBackend

        yield LocalBackend()
        return
    from raybench.distributed.backend import ray_backend

    with ray_backend() as worker:
        yield worker


def evaluate(evaluation: "Evaluation", out: str, *, local: bool, dry_run: bool, as_json: bool) -> None:
    """Run an evaluation, write its report, and print the table; or print the plan."""
    from raybench import storage
    from raybench.cli.progress import TerminalReporter
    from raybench.preflight import check_writable

    out = storage.absolute(out)
    if dry_run:
        print_plan(evaluation, out, as_json=as_json)
        return
    check_writable(out)
    from raybench.experiments import runner
    from raybench.report.page import write_report

    prepared = runner.prepare(evaluation, out)
    with backend(local=local) as worker:
        made = runner.run(prepared, worker, TerminalReporter(), shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    report = write_report(out)
    _print_table(made)
    for warning in made.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"report: {report}")
    if as_json:
        keys = ("experiment", "measure", "value", "low", "high", "queries", "unit", "direction", "encoder", "transform")
        records = [{key: getattr(record, key) for key in (*keys, "index")} for record in made.records]
        click.echo(json.dumps({"ok": True, "report": report, "out": out, "records": records}, ensure_ascii=False))


def _print_table(made: "Run") -> None:
    from rich.console import Console

    from raybench.report.tables import print_records

    print_records(made.records, Console(width=None if sys.stdout.isatty() else 100, highlight=False))


def print_plan(evaluation: "Evaluation", out: str, *, as_json: bool) -> None:
    """What a run would read, make and use; nothing is started or written."""
    from raybench import storage
    from raybench.experiments.plan import plan

    content = plan(evaluation, out)
    click.echo(f"{evaluation.name} into {out}")
    for line in content["lines"]:
        click.echo(f"  {line}")
    if as_json:
        click.echo(json.dumps({"ok": True, "plan": content, "out": storage.absolute(out)}, ensure_ascii=False))


def demo_file() -> str:
    """The text of the embedded evaluation file."""
    return (Path(__file__).parents[1] / "assets" / "demo.yaml").read_text(encoding="utf-8")
