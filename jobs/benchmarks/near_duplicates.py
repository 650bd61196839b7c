"""Near duplicates with planted ones: what share is found, in which time, and how time grows with rows.

    python jobs/benchmarks/near_duplicates.py
    python jobs/benchmarks/near_duplicates.py --rows 10000 --rows 100000 --peer 100000 --exact 100000

Rows are float16, of a mixture with a falling spectrum; a tenth of them are near copies of an earlier row, at cosines from a little
over the threshold up to 0.999. Ours runs in this process and through files, as `raybench dedup --local` does. The peer is what
services that remove near duplicates from results do: a flat index of all rows, every row asked for all within the threshold,
and connected components of the answers; it is given float32 rows in memory, and a compiled library for the components.
"""

import tempfile
import time
from pathlib import Path

import click
import faiss
import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from raybench.arrays import Rows
from raybench.environment import blas_kernel
from raybench.experiments.dedup import DedupRequest, deduplicate
from raybench.experiments.reporting import Silent
from raybench.experiments.workers import LocalWorkers

_BLOCK = 50_000
_CLUSTERS = 2_000
_ASKED = 10_000  # rows that the peer asks for at a time


@click.command()
@click.option(
    "--rows", "sizes", multiple=True, default=(100_000, 300_000, 1_000_000), help="Of the corpus; repeatable."
)
@click.option("--dim", default=512, show_default=True, help="Dimensions.")
@click.option("--threshold", default=0.95, show_default=True, help="Cosine of near duplicates.")
@click.option(
    "--exact", default=100_000, show_default=True, help="Largest corpus of which all pairs are compared as well."
)
@click.option("--peer", default=100_000, show_default=True, help="Largest corpus that the peer is given.")
def main(sizes: tuple[int, ...], dim: int, threshold: float, exact: int, peer: int) -> None:
    """Measure every size."""
    click.echo(
        f"{dim} dimensions, cosine of {threshold:g}, {faiss.omp_get_max_threads()} threads; BLAS {blas_kernel()}"
    )
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "base.npy"
            source_N = _plant(path, rows, dim, threshold)
            _ours(path, source_N, threshold, is_exact=False)
            if rows <= exact:
                _ours(path, source_N, threshold, is_exact=True)
            if rows <= peer:
                _peer(path, source_N, threshold)


def _plant(path: Path, rows: int, dim: int, threshold: float) -> Rows:
    """Write the corpus; the row that each row is a near copy of, or -1."""
    random = np.random.default_rng(3)
    spectrum = ((1 + np.arange(dim)) ** -0.35).astype(np.float32)
    centres = random.standard_normal((_CLUSTERS, dim), np.float32) * spectrum
    source_N = np.full(rows, -1, np.int64)
    copies = np.flatnonzero(random.random(rows) < 0.1)
    copies = copies[copies > 0]
    drawn = (random.random(len(copies)) * copies).astype(np.int64)
    is_first = ~np.isin(drawn, copies)
    source_N[copies[is_first]] = drawn[is_first]
    out_ND = np.lib.format.open_memmap(path, "w+", np.float16, (rows, dim))
    for start in range(0, rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        block = (
            centres[random.integers(_CLUSTERS, size=count)]
            + random.standard_normal((count, dim), np.float32) * spectrum
        )
        out_ND[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)
    copies = np.flatnonzero(source_N >= 0)
    for start in range(0, len(copies), _BLOCK):
        some = copies[start : start + _BLOCK]
        near = out_ND[source_N[some]].astype(np.float32)
        off = random.standard_normal(near.shape, np.float32) * spectrum
        off -= (off * near).sum(axis=1, keepdims=True) * near
        off /= np.linalg.norm(off, axis=1, keepdims=True)
        cosine = random.uniform(threshold + 0.003, 0.999, (len(some), 1)).astype(np.float32)
        out_ND[some] = cosine * near + np.sqrt(1 - cosine * cosine) * off
    out_ND.flush()
    return source_N


def _ours(path: Path, source_N: Rows, threshold: float, *, is_exact: bool) -> None:
    started = time.perf_counter()
    request = DedupRequest(str(path), threshold, exact=is_exact)
    told = deduplicate(request, str(path.parent), LocalWorkers(), Silent())
    seconds = time.perf_counter() - started
    table = pq.read_table(Path(told["uri"]) / "groups.parquet")
    leader_N = np.arange(len(source_N))
    leader_N[table["row"].to_numpy()] = table["representative"].to_numpy()
    copies = np.flatnonzero(source_N >= 0)
    # A copy whose source is a representative is its member; one whose source is not may have another representative.
    is_found = (leader_N[copies] == leader_N[source_N[copies]]) | (leader_N[copies] != copies)
    missing = "" if told["complete"] else f", {told['rows_in_too_many_cells']:,} rows between too many cells"
    _say("ours, all pairs" if is_exact else "ours", len(source_N), seconds, int(is_found.sum()), len(copies), missing)


def _peer(path: Path, source_N: Rows, threshold: float) -> None:
    rows_ND = np.load(path).astype(np.float32)
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    started = time.perf_counter()
    index = faiss.IndexFlatIP(rows_ND.shape[1])
    index.add(rows_ND)
    limits, near = [np.zeros(1, np.int64)], []
    for start in range(0, len(rows_ND), _ASKED):
        limit, _, found = index.range_search(rows_ND[start : start + _ASKED], threshold)
        limits.append(limit[1:].astype(np.int64) + limits[-1][-1])
        near.append(found)
    found = np.concatenate(near)
    graph = csr_array(
        (np.ones(len(found), np.bool_), found, np.concatenate(limits)), shape=(len(rows_ND), len(rows_ND))
    )
    _, label_N = connected_components(graph, directed=False)
    seconds = time.perf_counter() - started
    copies = np.flatnonzero(source_N >= 0)
    is_found = label_N[copies] == label_N[source_N[copies]]
    _say("range search and components", len(source_N), seconds, int(is_found.sum()), len(copies), "")


def _say(who: str, rows: int, seconds: float, found: int, planted: int, more: str) -> None:
    click.echo(f"{rows:>9,} rows, {who}: {seconds:.1f} s, {found:,} of {planted:,} planted pairs{more}")


if __name__ == "__main__":
    main()
