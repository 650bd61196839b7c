"""A million results for one centroid from millions of vectors in memory-mapped shards, deduplicated: seconds by stage, and memory.

    python jobs/benchmarks/retrieval.py /data/retrieval
    python jobs/benchmarks/retrieval.py /data/retrieval --rows 400000 --results 100000 --dim 768 --index "ivf_flat(lists=256)@64"

The corpus is made once below the folder, in clip-retrieval's layout: stand-ins for LAION's vectors (a quarter are copies of
earlier rows, a twentieth near copies), each part with a table of urls, captions and numbers. The seeds are 1,000 other
images. The retrieval runs in this process, as `raybench retrieve --local` does; the memory is what the system
counts for the process, and pages of mapped shards that the system could take back count too.
"""

import json
import time
from contextlib import nullcontext
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raybench.experiments.backend import LocalBackend
from raybench.experiments.reporting import Silent
from raybench.experiments.retrieve import retrieve
from raybench.experiments.retrieve_plan import RetrieveRequest
from raybench.experiments.workers import LocalWorkers
from raybench.formats import open_vectors
from raybench.formats.base import read_rows

_PART_ROWS = 500_000
_BLOCK = 50_000


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--rows", default=4_000_000, show_default=True, help="Of the corpus.")
@click.option("--dim", default=256, show_default=True, help="Dimensions.")
@click.option("--results", default=1_000_000, show_default=True, help="Asked of the centroid.")
@click.option("--shards", default=8, show_default=True, help="Partitions of the index.")
@click.option("--index", default="exact()", show_default=True, help="Any index.")
@click.option("--where", default=None, help="A filter, such as 'width >= 512'.")
@click.option("--refill", is_flag=True, help="Ask for more until so many are kept.")
@click.option("--only-build", is_flag=True, help="Make the corpus and stop.")
def main(
    folder: Path, rows: int, dim: int, results: int, shards: int, index: str, where: str | None, refill: bool,
    only_build: bool,
) -> None:  # fmt: skip
    """Make the corpus unless it is there, retrieve, and print what it took."""
    corpus = folder / f"corpus-{rows}-{dim}"
    started = time.perf_counter()
    if not (corpus / "done").exists():
        _build(corpus, rows, dim)
        click.echo(f"{rows:,} x {dim} float16 made in {time.perf_counter() - started:.0f} s")
    if only_build:
        return
    seeds = f"laion_like(part='queries', asking='image', queries=1_000, dim={dim}, rows={rows}, dtype='float16')"
    request = RetrieveRequest(
        str(corpus), seeds=seeds, centroid=results, index=index, shards=shards, where=where, refill=refill
    )
    started = time.perf_counter()
    manifest = retrieve(request, str(folder / "out"), lambda: nullcontext(LocalBackend()), LocalWorkers(), Silent())
    click.echo(f"all: {time.perf_counter() - started:.1f} s, index {index}, {shards} shards")
    for stage, seconds in manifest["seconds"].items():
        click.echo(f"  {stage}: {seconds:.1f} s")
    for one in manifest["near_duplicates"]["rounds"]:
        click.echo(f"  near duplicates of {one['rows']:,} rows: {json.dumps(one)}")
    click.echo(json.dumps(manifest["account"]))
    for stage, size in manifest["resident_bytes"].items():
        click.echo(f"  highest resident size, {stage}: {size / 2**30:.2f} GiB")


def _build(corpus: Path, rows: int, dim: int) -> None:
    file = open_vectors(f"laion_like(rows={rows}, dim={dim})")
    random = np.random.default_rng(5)
    for folder in ("img_emb", "metadata"):
        (corpus / folder).mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, rows, _PART_ROWS)):
        count = min(_PART_ROWS, rows - first)
        part_ND = np.lib.format.open_memmap(
            corpus / "img_emb" / f"img_emb_{number:04d}.npy", "w+", np.float16, (count, dim)
        )
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            part_ND[start:stop] = read_rows(file, first + start, first + stop)
        part_ND.flush()
        text = pc.cast(pa.array(np.arange(first, first + count)), pa.string())
        hosts = pc.cast(pa.array(random.integers(0, 50_000, count)), pa.string())
        table = {
            "image_path": text,
            "caption": pc.binary_join_element_wise("a picture of number", text, "as sellers like to describe it", " "),
            "url": pc.binary_join_element_wise("https://host", hosts, ".example.org/images/", text, ".jpg", ""),
            "width": random.integers(64, 2_048, count),
            "similarity": random.uniform(0.2, 0.5, count).astype(np.float32),
        }
        pq.write_table(pa.table(table), corpus / "metadata" / f"metadata_{number:04d}.parquet", row_group_size=100_000)
    (corpus / "done").write_text("")


if __name__ == "__main__":
    main()
