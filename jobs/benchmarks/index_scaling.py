"""Throughput and recall of our indexes as rows and partitions grow, beside bare faiss on the same partitions in the same run.

    python jobs/benchmarks/index_scaling.py

Bare faiss is the loop over the indexes of faiss inside ours, with the same parameters, which neither merges nor puts ties in
order. Both answer the same batch in turns; prints medians of rounds and the ratio of throughputs, with its least and greatest
round. In this process: partitions are searched one after the other. Rows found are scored again in float64 for the overlap,
and one that scores as much as the exact k-th counts as found: a quarter of the rows are copies of others.

Axes: Q queries, D dimensions.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import faiss
import numpy as np
import torch
from peer_rounds import alone

from raybench.arrays import FloatMatrix, Neighbors, Vectors
from raybench.environment import available_cores
from raybench.errors import IndexRequestError
from raybench.formats import open_vectors
from raybench.formats.base import read_rows
from raybench.indexes import INDEXES
from raybench.indexes.exact import Exact, score_rows
from raybench.indexes.joined import Joined, split_rows
from raybench.metrics import evaluate_overlap, parse_measure
from raybench.search.topk import best
from raybench.spec import Spec

_INDEXES = ("flat()", "hnsw(m=16, build_effort=100)@64", "ivf_flat(lists=256)@16")
_COLUMNS = "{:<32} {:>9} {:>6} {:>10} {:>11} {:>11}  {:<22} {:>8}"


@click.command()
@click.option(
    "--rows", "sizes", multiple=True, default=(10_000, 20_000, 50_000, 100_000), help="Vectors, in one partition."
)
@click.option("--shards", multiple=True, default=(1, 2, 4, 8), help="Partitions of --shard-rows.")
@click.option("--shard-rows", default=50_000, show_default=True, help="Vectors that are cut into partitions.")
@click.option("--dim", default=256, show_default=True, help="Dimensions.")
@click.option("--queries", default=1_000, show_default=True, help="Queries of a batch, which are captions.")
@click.option("--k", default=10, show_default=True, help="Neighbours.")
@click.option("--threads", default=0, show_default=True, help="Of faiss; 0 is one for each core.")
@click.option("--rounds", default=7, show_default=True, help="Timed rounds; one more before them is not timed.")
@click.option("--index", "texts", multiple=True, default=_INDEXES, help="Indexes, each with its effort.")
def main(
    sizes: tuple[int, ...], shards: tuple[int, ...], shard_rows: int, dim: int, queries: int, k: int, threads: int,
    rounds: int, texts: tuple[str, ...],
) -> None:  # fmt: skip
    """Measure every index at every size, and in every number of partitions."""
    threads = threads or available_cores()
    faiss.omp_set_num_threads(threads)
    torch.set_num_threads(threads)
    click.echo(
        f"{dim} dimensions, {queries:,} queries, k={k}, faiss {faiss.__version__} on {threads} threads, medians of {rounds} rounds"
    )
    click.echo(
        _COLUMNS.format("index", "rows", "shards", f"overlap@{k}", "ours q/s", "faiss q/s", "ours/faiss", "build s")
    )
    for rows, counts in [(size, (1,)) for size in sizes] + [(shard_rows, shards)]:
        spec = (
            f"laion_like(rows={rows}, dim={dim})",
            f"laion_like(rows={rows}, dim={dim}, part='queries', queries={queries})",
        )
        corpus, queries_QD = (np.ascontiguousarray(read_rows(open_vectors(text)), np.float32) for text in spec)
        gold = Exact().build(Vectors(corpus)).search(queries_QD, k)
        for text in texts:
            for count in counts:
                try:
                    _measure(text, Vectors(corpus), count, queries_QD, gold, rounds)
                except IndexRequestError as error:  # too few rows to learn from
                    click.echo(f"{text} over {rows:,} rows in {count}: {error}")


def _measure(text: str, corpus: Vectors, count: int, queries_QD: FloatMatrix, gold: Neighbors, rounds: int) -> None:
    effort, recipe, k = Spec.parse(text).at, INDEXES.make(text), gold.k
    started = time.perf_counter()
    parts: list[Any] = [recipe.build(corpus.rows(start, stop)) for start, stop in split_rows(len(corpus), count)]
    build_s = time.perf_counter() - started
    index: Any = Joined(tuple(parts)) if count > 1 else parts[0]
    inside = [alone(part) for part in parts]
    parameters = [part.parameters(effort, k) for part in inside]

    def bare() -> None:
        for part, chosen in zip(inside, parameters, strict=True):
            part.index.search(queries_QD, k, params=chosen)

    ours, theirs = _in_turns(lambda: index.search(queries_QD, k, effort), bare, rounds)
    ids_QK = index.search(queries_QD, k, effort).ids_QK
    found = best(ids_QK, score_rows(queries_QD, corpus, ids_QK), k)
    overlap = evaluate_overlap(parse_measure(f"overlap@{k}"), found, gold, exact_scores=True).best
    ratios = [their_s / our_s for our_s, their_s in zip(ours, theirs, strict=True)]
    per_s = [f"{len(queries_QD) / statistics.median(taken):,.0f}" for taken in (ours, theirs)]
    spread = f"{statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
    click.echo(_COLUMNS.format(text, f"{len(corpus):,}", count, f"{overlap:.4f}", *per_s, spread, f"{build_s:.1f}"))


def _in_turns(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each in every round, measured in turns after one round that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for one, taken in zip((ours, theirs), times, strict=True):
            started = time.perf_counter()
            one()
            if number:
                taken.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
