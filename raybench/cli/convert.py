"""`raybench convert SOURCE TARGET`."""

import json

import click


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
    .ibin .parquet), or specs: sisap("x.h5", dataset="itest/queries"), ann_benchmarks("x.hdf5", split="test"),
    clip_retrieval("folder", modality="text"), vectordbbench("folder"), parquet("x.parquet", column="vector"), gold("folder").
    Nothing is changed on the way but what --dtype says; what the target cannot hold is refused.
    """
    from raybench.formats import open_neighbors, open_vectors, recipe_of, write_neighbors, write_vectors

    if dtype is not None and dtype not in ("float16", "float32", "float64", "int8", "uint8"):
        raise click.UsageError(f"--dtype {dtype!r} is not known; use float16, float32, float64, int8 or uint8")
    if neighbors and dtype is not None:
        raise click.UsageError("--dtype is for vectors; leave it out with --neighbors")
    recipe_of(target, is_target=True)
    facts: dict[str, object]
    if neighbors:
        stored = open_neighbors(source)
        facts = {"queries": len(stored.ids_QK), "k": stored.ids_QK.shape[1], "stored": stored.meaning or "ids alone"}
        shown = f"{facts['queries']:,} queries, {facts['k']} neighbours each ({facts['stored']})"
    else:
        file = open_vectors(source)
        kind = "bits" if file.is_bits else "dimensions"
        facts = {"rows": file.rows, "dim": file.dim, "dtype": dtype or str(file.dtype), "bits": file.is_bits}
        shown = f"{file.rows:,} rows of {file.dim} {kind}, {facts['dtype']}"
    if not dry_run:
        if neighbors:
            write_neighbors(target, stored)
        else:
            write_vectors(target, file, dtype)
    click.echo(f"{'would write' if dry_run else 'written'}: {target}, {shown}")
    if as_json:
        click.echo(json.dumps({"ok": True, "target": target, **facts}))
