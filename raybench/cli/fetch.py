"""`raybench fetch NAME... --out FOLDER`."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click


@click.command("fetch")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--out", metavar="FOLDER", help="Local folder for the files.")
@click.option("--list", "as_list", is_flag=True, help="Say what is known by name, its size and terms, and stop.")
@click.option(
    "--mirror", "mirrors", multiple=True, metavar="BASE_URL", help="Tried first, as BASE_URL/FILE; repeatable."
)
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Connections in all.")
@click.option("--dry-run", is_flag=True, help="Say what would come from where, and stop.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")
def command(
    names: tuple[str, ...],
    out: str | None,
    as_list: bool,
    mirrors: tuple[str, ...],
    jobs: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch published files, or those of a list: verified, and resumed where an earlier try stopped.

    NAME is an image set (flickr30k, coco-karpathy, coco-2014, coco-2017, imagenet-1k, imagenet-1k-validation; --list says
    what each is and asks for; one file of it is coco-karpathy/val2014.zip), a group (sisap-300K, sisap-10M, sisap-100M: vectors, public queries, float64 gold; with -projections after it,
    the challenge's projections of them; sisap2023, sisap2024: all files of a list), one published file
    (laion2B-en-clip768v2-n=300K.h5, or sisap2024/laion2B-en-clip768v2-n=1M.h5), or a text file: an address a line, after it as known md5:HEX or sha256:HEX and the size in bytes (aria2's input files and
    CSV with the columns url,checksum,size,name are read too).
    """
    if as_list:
        from raybench.cli.fetch_list import print_list

        print_list(as_json=as_json)
        return
    if not names or out is None:
        missing = "Missing option '--out'." if names else "Missing argument 'NAME...'; --list says what is known."
        raise click.UsageError(missing)
    from pathlib import Path

    from raybench import storage
    from raybench.fetch import command as fetching
    from raybench.fetch import datasets

    items = fetching.resolve(names, mirrors)
    planned = fetching.plan(items, out)
    folder = storage.absolute(out)
    sets = list(dict.fromkeys(one for name in names if (one := datasets.set_of(name))))
    for one in sets:
        click.echo(f"{one}: {datasets.IMAGE_SETS[one].terms}", err=True)
    if dry_run:
        _print_plan(planned, folder, as_json=as_json)
        return
    is_whole = all(one.state == "there" for one in planned)
    tokens = {} if is_whole else datasets.credentials(sets, needed=not mirrors)
    fetching.check_room(planned, Path(folder))
    left_out = [one.item.name for one in planned if one.state == "no_address"]
    for name in left_out:
        click.echo(f"{name}: left out, it has no published address; give --mirror BASE_URL", err=True)
    from raybench.preflight import check_writable

    check_writable(folder)
    sizes = [one.missing_bytes for one in planned]
    with _bar(None if None in sizes else sum(size or 0 for size in sizes)) as (advance, say):
        items = [item for item in items if item.name not in left_out]
        outcomes = fetching.fetch_all(items, Path(folder), jobs, advance, say, tokens=tokens)
    total = sum(outcome.fetched_bytes for outcome in outcomes)
    wrong = sum(outcome.wrong for outcome in outcomes)
    click.echo(
        f"{len(outcomes)} files in {folder}, {_size(total)} fetched" + (f", {wrong} times wrong" if wrong else "")
    )
    for one in sets:
        click.echo(f"{one} is read by {datasets.IMAGE_SETS[one].reads.replace('FOLDER', folder)}")
    if as_json:
        files = [dataclasses.asdict(outcome) for outcome in outcomes]
        facts = {
            "ok": True,
            "out": folder,
            "files": files,
            "fetched_bytes": total,
            "wrong": wrong,
            "left_out": left_out,
        }
        click.echo(json.dumps(facts, ensure_ascii=False))


def _print_plan(planned: list[Any], folder: str, *, as_json: bool) -> None:
    from pathlib import Path

    from raybench.fetch.command import free_bytes

    missing = sum(one.missing_bytes or 0 for one in planned)
    unknown = sum(one.missing_bytes is None for one in planned)
    for one in planned:
        item = one.item
        size = str(item.size) if item.size else "size unknown"
        there = f"{one.state}, {_size(one.there_bytes)} there" if one.there_bytes else one.state
        click.echo(
            f"{item.name}: {size}; {there}; {item.checksum or 'no checksum'}; from {', '.join(item.urls) or 'nowhere'}"
        )
        if item.note:
            click.echo(f"  {item.note}")
    free = free_bytes(Path(folder))
    fits = "" if missing <= free else ", which is too little"
    more = f" and {unknown} of unknown size" if unknown else ""
    click.echo(f"{len(planned)} files, {_size(missing)} to fetch{more}; {_size(free)} free in {folder}{fits}")
    if as_json:
        files = [
            {
                "name": one.item.name,
                "state": one.state,
                "there_bytes": one.there_bytes,
                "missing_bytes": one.missing_bytes,
                "checksum": str(one.item.checksum or ""),
                "urls": one.item.urls,
                "note": one.item.note,
            }
            for one in planned
        ]
        facts = {"ok": True, "out": folder, "files": files, "missing_bytes": missing, "free_bytes": free}
        click.echo(json.dumps(facts, ensure_ascii=False))


@contextmanager
def _bar(total_bytes: int | None) -> Iterator[tuple[Callable[[int], None], Callable[[Any], None]]]:
    """A bar of bytes on a terminal's standard error, one line a file anywhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True, highlight=False)

    def say(outcome: Any) -> None:
        words = {"present": "is there, verified", "present_unchecked": "is there, with no checksum to verify it"}
        what = words.get(outcome.state, f"fetched, {_size(outcome.size_bytes)} from {outcome.source}")
        if outcome.wrong:
            what += f", wrong bytes {outcome.wrong} times before"
        console.print(f"{outcome.name}: {what}", markup=False, soft_wrap=True)

    columns = (SpinnerColumn(), BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total_bytes)
        yield lambda size_bytes: progress.advance(task, size_bytes), say


def _size(size_bytes: int) -> str:
    value = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
