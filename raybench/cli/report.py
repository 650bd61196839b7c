"""`raybench report OUT`."""

import json

import click


@click.command("report")
@click.argument("out", metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(out: str, as_json: bool) -> None:
    """Write the HTML report of OUT, a folder that `raybench run` or `raybench demo` filled."""
    from raybench import storage
    from raybench.preflight import check_readable
    from raybench.report.page import write_report

    check_readable(storage.absolute(out))
    report = write_report(storage.absolute(out))
    click.echo(f"report: {report}")
    if as_json:
        click.echo(json.dumps({"ok": True, "report": report}))
