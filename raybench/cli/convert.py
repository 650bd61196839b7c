"""`raybench convert SOURCE TARGET`."""

import json
from pathlib import Path

import click

_DTYPES = ("float16", "float32", "float64", "int8", "uint8")


@click.command("convert")
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--neighbors", is_flag=True, help="Convert neighbours (ids and distances) instead of vectors.")
@click.option("--dtype", help="Change the type of vectors: float16, float32, float64, int8 or uint8.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(source: str, target: str, neighbors: bool, dtype: str | None, dry_run: bool, as_json: bool) -> None:
    """Copy vectors or neighbours into another format.

    SOURCE and TARGET are paths, whose suffix says the format (.h5 .hdf5 .npy .fbin .u8bin .i8bin .fvecs .bvecs .ivecs
    .ibin .bin .parquet), or specs: sisap("x.h5", dataset="itest/queries"), ann_benchmarks("x.hdf5", split="test"),
    clip_retrieval("folder", modality="text"), vectordbbench("folder"), parquet("x.parquet", column="vector"), gold("folder").
    Nothing is changed on the way but what --dtype says; what the target cannot hold is refused. Neighbours go without
    distances into formats that have no place for them, which is said.
    """
    if dtype is not None and dtype not in _DTYPES:
        raise click.UsageError(f"--dtype {dtype!r} is not known; use {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}")
    if neighbors and dtype is not None:
        raise click.UsageError("--dtype is for vectors; leave it out with --neighbors")
    if Path(source).exists() and Path(target).exists() and Path(source).samefile(target):
        raise click.UsageError(f"{target} is the source itself; give another target")
    convert = _neighbors if neighbors else _vectors
    shown, facts = convert(source, target, dtype, dry_run=dry_run)
    click.echo(f"{'would write' if dry_run else 'written'}: {target}, {shown}")
    if as_json:
        click.echo(json.dumps({"ok": True, "target": target, **facts}, ensure_ascii=False))


def _vectors(source: str, target: str, dtype: str | None, *, dry_run: bool) -> tuple[str, dict[str, object]]:
    import numpy as np

    from raybench.cli.progress import TerminalReporter
    from raybench.formats import check_vectors, open_vectors, write_vectors
    from raybench.formats.base import width
    from raybench.formats.watched import Watched

    file = open_vectors(source)
    facts = {"rows": file.rows, "dim": file.dim, "dtype": dtype or str(file.dtype), "bits": file.is_bits}
    if dry_run:
        check_vectors(target, file, dtype)
    else:
        with TerminalReporter().stage(f"converting {source}", file.rows) as advance:
            write_vectors(target, Watched(file, lambda rows: advance(rows, rows / max(file.rows, 1))), dtype)
    kind = "bits" if file.is_bits else "dimensions"
    size = file.rows * width(file) * np.dtype(str(facts["dtype"])).itemsize
    facts |= {"vector_bytes": size}
    return f"{file.rows:,} rows of {file.dim} {kind}, {facts['dtype']}, {size:,} bytes of vectors", facts


def _neighbors(source: str, target: str, _dtype: str | None, *, dry_run: bool) -> tuple[str, dict[str, object]]:
    from raybench.formats import open_neighbors, recipe_of, write_neighbors

    recipe_of(target, is_target=True)
    stored = open_neighbors(source)
    facts: dict[str, object] = {"queries": len(stored.ids_QK), "k": stored.ids_QK.shape[1]}
    facts["stored"] = stored.meaning or "ids alone"
    shown = f"{facts['queries']:,} queries, {facts['k']} neighbours each ({facts['stored']})"
    if dry_run:
        return shown, facts
    has_place = write_neighbors(target, stored)
    if stored.scores_QK is not None and not has_place:
        shown, facts["stored"] = f"{shown}, written as ids alone: the format has no place for distances", "ids alone"
    return shown, facts
