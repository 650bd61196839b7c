"""The command line: one small module per verb, imported when the verb is used, so that help answers at once.

Exit codes: 0 success, 1 the work failed, 2 a wrong request. A user's mistake is answered with one sentence; with
`--json` the last line of standard output is one JSON object, also on failure.
"""

import importlib
import json
import sys

import click

from raybench.errors import RaybenchError, RequestError, suggest

VERBS = {
    "demo": "Evaluate the embedded models on the embedded data set, offline; ends with the path of a report.",
    "run": "Run an evaluation file end to end; a rerun does only what is missing.",
    "curate": "Build a hard evaluation set: choose, mix in distractors, remove duplicates, make small.",
    "embed": "Turn the images of an evaluation file into vectors, and stop there.",
    "bench": "Run an evaluation file, and measure what each index of its grid costs.",
    "tune": "Find the smallest effort of indexes whose quality reaches a target.",
    "gold": "Find the exact nearest neighbours in float64, and prove them.",
    "retrieve": "Make a collection: what an index finds for seeds, filtered and without near duplicates.",
    "generate": "Answer queries from retrieved pictures with a vision-language model, timed and scored.",
    "dedup": "Find equal and near-equal rows of a set of vectors, and say which to keep.",
    "fetch": "Fetch published files, verified and resumed: vectors, queries and gold standards of SISAP.",
    "convert": "Copy vectors or neighbours into another format.",
    "compare": "Compare the results of two runs, encoders or transforms, query by query, with significance.",
    "report": "Write the HTML report of a folder of results.",
    "doctor": "Say what this machine and cluster have, what is missing, and what to do.",
}


class _Verbs(click.Group):
    """The verbs by name; a verb's module is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"raybench.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; {suggest(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="raybench")
def cli() -> None:
    """Evaluate image-text retrieval: which model finds our images, with what certainty.

    Every command takes local paths and s3:// addresses alike. Specs such as openclip("ViT-B-32", pretrained="openai")
    need quotes in a shell.
    """


def main(arguments: list[str] | None = None) -> None:
    """The `raybench` program; arguments are those of the process unless given. Always ends by SystemExit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        code = cli.main(arguments, prog_name="raybench", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.Abort:
        _fail("interrupted; run the same command again to go on where it stopped", as_json=as_json)
        code = 130
    except click.ClickException as error:
        _fail(error.format_message(), as_json=as_json)
        code = 2
    except RaybenchError as error:
        _fail(str(error), as_json=as_json)
        code = 2 if isinstance(error, RequestError) else 1
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str, *, as_json: bool) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"raybench: {sentence}\n")
    if as_json:
        sys.stdout.write(json.dumps({"ok": False, "error": sentence}, ensure_ascii=False) + "\n")
