"""`raybench fetch --list`: what is known by name."""

import json
from typing import Any

import click


def print_list(*, as_json: bool) -> None:
    """A table of image sets and of groups of vectors, each with its files, size and terms."""
    from rich.console import Console
    from rich.table import Table

    rows = _rows()
    table = Table(box=None, pad_edge=False)
    for title in ("name", "files", "size", "what it is", "terms"):
        table.add_column(title, no_wrap=title in ("name", "size"), justify="right" if title == "files" else "left")
    for row in rows:
        table.add_row(row["name"], str(row["files"]), row["size"], row["what"], row["terms"] + row["login"])
    Console(width=None if Console().is_terminal else 160, highlight=False, markup=False).print(table)
    if as_json:
        click.echo(json.dumps({"ok": True, "sets": rows}, ensure_ascii=False))


def _rows() -> list[dict[str, Any]]:
    from raybench.fetch import datasets, published

    rows: list[dict[str, Any]] = []
    for name, one in datasets.IMAGE_SETS.items():
        login = f"; needs HF_TOKEN, terms are accepted at {one.login}" if one.login else ""
        facts = {"name": name, "files": len(datasets.items(name)), "size": one.about, "what": one.what}
        rows.append(facts | {"terms": one.terms, "login": login, "reads": one.reads})
    for name, files in published.groups().items():
        sizes = sum(item.size.high for item in published.items(name) if item.size)
        facts = {
            "name": name,
            "files": len(files),
            "size": f"{sizes / 1e9:,.1f} GB",
            "what": "vectors of LAION2B, for SISAP",
        }
        rows.append(facts | {"terms": "no login", "login": "", "reads": ""})
    return rows
