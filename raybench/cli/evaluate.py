"""What `demo`, `run` and `embed` share: options, checks that come before any work, and what is printed at the end."""

import functools
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from raybench.errors import WorkError

if TYPE_CHECKING:
    from raybench.experiments.backend import Backend
    from raybench.experiments.evaluation import Evaluation
    from raybench.experiments.gold import GoldBackend
    from raybench.experiments.plan import PlannedCommand
    from raybench.experiments.run_file import Run
    from raybench.experiments.vector_evaluation import VectorEvaluation
    from raybench.experiments.workers import Workers

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


def choose_blas() -> None:
    """Let numpy's BLAS pick its kernel, and say so where the environment had forced another; before numpy is imported."""
    from raybench.environment import let_blas_choose

    kernel = let_blas_choose()
    if kernel:
        click.echo(f"OPENBLAS_CORETYPE={kernel} was set and is left out: the library knows this processor", err=True)


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


@contextmanager
def workers(*, local: bool) -> "Iterator[Workers]":
    """Who does pieces of work: tasks on Ray, or this process."""
    if local:
        from raybench.experiments.workers import LocalWorkers

        yield LocalWorkers()
        return
    from raybench.distributed.tasks import ray_workers

    with ray_workers() as made:
        yield made


@contextmanager
def gold_backend(*, local: bool, workers: int | None) -> "Iterator[GoldBackend]":
    """Who searches exactly: `workers` actors on Ray (one per node where it is None or 0), or this process."""
    if local:
        from raybench.experiments.gold import LocalGold

        yield LocalGold()
        return
    from raybench.distributed.gold import ray_gold

    with ray_gold(workers or None) as searchers:
        yield searchers


def evaluate(
    evaluation: "Evaluation | VectorEvaluation", out: str, *, local: bool, dry_run: bool, as_json: bool
) -> None:
    """Run an evaluation, write its report, and print the table; or print the plan."""
    from raybench import storage
    from raybench.preflight import check_writable

    out = storage.absolute(out)
    if dry_run:
        print_plan(evaluation, out, as_json=as_json)
        return
    check_writable(out)
    made = _run(evaluation, out, command_line(), local=local)
    from raybench.report.page import write_report

    for place in made.sets:
        write_report(place)
    report = write_report(out)
    print_tables(made)
    click.echo(f"report: {report}")
    if as_json:
        keys = ("experiment", "measure", "value", "low", "high", "queries", "unit", "direction", "encoder", "transform")
        more = ("index", "worst_tie", "best_tie", "chance")
        records = [{key: getattr(record, key) for key in (*keys, *more)} for record in made.records]
        sheets = [asdict(sheet) for sheet in made.sheets]
        done = {
            "ok": has_results(made) and not made.faults,
            "report": report,
            "out": out,
            "records": records,
            "sheets": sheets,
            "costs": made.costs,
            "tuned": made.tuned,
            "generations": made.generations,
            "rag_times": made.rag_times,
            "failed": made.failed,
            "warnings": made.warnings,
        }
        click.echo(json.dumps(done, ensure_ascii=False))
    check_results(made)


def command_line() -> str:
    """The command that is running, for the record."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def has_results(made: "Run") -> bool:
    """Whether anything of what was asked for could be made."""
    return bool(made.records or made.costs or made.tuned or made.generations or not made.failed)


def check_results(made: "Run") -> None:
    """WorkError where every cell failed, or a whole stage."""
    if made.faults:
        raise WorkError(made.faults[0])
    if not has_results(made):
        raise WorkError(f"none of the {len(made.failed)} cells has a result; the table of cells says why")


def _run(evaluation: "Evaluation | VectorEvaluation", out: str, command: str, *, local: bool) -> "Run":
    """The runner of the evaluation's kind; inputs are looked at before Ray starts."""
    from raybench.cli.progress import TerminalReporter
    from raybench.experiments.evaluation import Evaluation

    if isinstance(evaluation, Evaluation):
        from raybench.experiments import runner
        from raybench.experiments.prepared import prepare

        prepared = prepare(evaluation, out)
        with backend(local=local) as worker:
            return runner.run(prepared, worker, TerminalReporter(), command)
    from raybench.experiments import vector_runner

    with vectors_searched(evaluation, out, local=local) as searchers:
        indexes = functools.partial(backend, local=local)
        return vector_runner.run(evaluation, out, searchers, TerminalReporter(), command, indexes)


@contextmanager
def vectors_searched(evaluation: "VectorEvaluation", out: str, *, local: bool) -> "Iterator[GoldBackend]":
    """Who searches the vectors of an evaluation, after its inputs were looked at."""
    from raybench.experiments import vector_runner

    if local and evaluation.workers > 1:
        raise click.UsageError(f"workers={evaluation.workers}, but --local is one process; leave one of them out")
    vector_runner.check_inputs(evaluation, out)
    with gold_backend(local=local, workers=evaluation.workers) as searchers:
        yield searchers


def print_tables(made: "Run") -> None:
    """The records, the tables beside them, and warnings."""
    from rich.console import Console

    from raybench.report.sheets import print_sheet
    from raybench.report.tables import print_records

    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    if made.records:
        print_records(made.records, console)
    for sheet in made.sheets:
        print_sheet(sheet, console)
    for warning in made.warnings:
        click.echo(f"warning: {warning}")


def print_plan(
    evaluation: "Evaluation | VectorEvaluation", out: str, command: "PlannedCommand" = "run", *, as_json: bool
) -> None:
    """What a command would read, make and use; nothing is started or written."""
    from raybench import storage
    from raybench.experiments.plan import plan

    content = plan(evaluation, out, command)
    click.echo(f"{evaluation.name} into {out}")
    for line in content["lines"]:
        click.echo(f"  {line}")
    if as_json:
        click.echo(json.dumps({"ok": True, "plan": content, "out": storage.absolute(out)}, ensure_ascii=False))


def load(evaluation: str, settings: tuple[str, ...]) -> "Evaluation | VectorEvaluation":
    """An evaluation file, or the embedded one by the name `demo`."""
    from raybench.experiments import evaluation_file as files

    if evaluation == "demo":
        return files.parse(demo_file(), "the embedded evaluation", settings)
    return files.load(evaluation, settings)


def demo_file() -> str:
    """The text of the embedded evaluation file."""
    return (Path(__file__).parents[1] / "assets" / "demo.yaml").read_text(encoding="utf-8")
