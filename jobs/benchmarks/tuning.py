"""How often a tuned effort holds: repetitions of `raybench tune` on a stand-in for LAION, each on other queries.

    python jobs/benchmarks/tuning.py

One graph is built over 50,000 made vectors. Each repetition draws 500 tuning and 500 held-out queries from a pool, tunes the
effort on the first, and looks at the mean on the second. Prints how many of the repetitions reach the target there, and the
efforts that were found; for queries that are images and for captions, which need very different efforts.
"""

import time

import click
import numpy as np

from raybench.arrays import FloatMatrix, Neighbors, Rows, Vectors
from raybench.formats import open_vectors
from raybench.formats.base import read_rows
from raybench.indexes import INDEXES
from raybench.indexes.base import Index
from raybench.indexes.exact import Exact
from raybench.metrics import evaluate_overlap, parse_measure
from raybench.metrics.measure import Values
from raybench.search.effort import ValuesAt, smallest_effort


@click.command()
@click.option("--rows", default=50_000, show_default=True, help="Vectors in the graph.")
@click.option("--dim", default=256, show_default=True, help="Dimensions.")
@click.option("--pool", default=4_000, show_default=True, help="Queries from which repetitions draw.")
@click.option("--repetitions", default=600, show_default=True, help="Draws of 500 and 500 queries.")
@click.option("--target", default=0.9, show_default=True, help="Share to be reached.")
@click.option("--measure", default="overlap@3", show_default=True, help="An overlap.")
@click.option("--index", "text", default="hnsw(m=16, build_effort=100)", show_default=True, help="Without effort.")
def main(rows: int, dim: int, pool: int, repetitions: int, target: float, measure: str, text: str) -> None:
    """Tune again and again, and count what holds."""
    corpus = Vectors(read_rows(open_vectors(f"laion_like(rows={rows}, dim={dim})")))
    started = time.perf_counter()
    index, exact = INDEXES.make(text).build(corpus), Exact().build(corpus)
    click.echo(f"{text} over {rows:,} x {dim}: built in {time.perf_counter() - started:.1f} s")
    for asking in ("image", "text"):
        spec = f"laion_like(rows={rows}, dim={dim}, part='queries', queries={pool}, asking='{asking}')"
        values = _Cached(index, exact, read_rows(open_vectors(spec)), measure)
        confirmed, efforts = 0, []
        for seed in range(repetitions):
            drawn = np.random.default_rng([seed, 0xB]).permutation(pool)[:1_000]
            tuned = smallest_effort(values.side(drawn[:500]), values.side(drawn[500:]), target, (3, 2_048))
            confirmed += tuned.is_confirmed(target)
            efforts.append(tuned.effort or 0)
        low, middle, high = np.quantile(efforts, (0.025, 0.5, 0.975))
        click.echo(
            f"{asking} queries, {measure} >= {target:g}: {confirmed} of {repetitions} reach it on held-out queries; effort "
            f"{middle:.0f} ({low:.0f} to {high:.0f} in 95 of 100; 0 is not reached); {len(values.known)} efforts were measured"
        )


class _Cached:
    """The overlap of every query of the pool at an effort, searched once."""

    def __init__(self, index: Index, exact: Index, queries_QD: FloatMatrix, measure: str) -> None:
        self._index, self._queries_QD, self._measure = index, queries_QD, parse_measure(measure)
        self._gold: Neighbors = exact.search(queries_QD, self._measure.k or 1)
        self.known: dict[int, Values] = {}

    def at(self, effort: int) -> Values:
        """Every query's value."""
        if effort not in self.known:
            found = self._index.search(self._queries_QD, self._measure.k or 1, effort)
            self.known[effort] = evaluate_overlap(self._measure, found, self._gold, exact_scores=False).values_Q
        return self.known[effort]

    def side(self, drawn: Rows) -> tuple[ValuesAt, Rows]:
        """Some queries, as tuning takes them."""
        return (lambda effort: self.at(effort)[drawn]), np.arange(len(drawn))


if __name__ == "__main__":
    main()
