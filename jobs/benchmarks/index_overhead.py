"""What our search costs beside bare faiss: the same index, the same threads, taken in turns in one run.

    python jobs/benchmarks/index_overhead.py

In this process: batches of 1,000, and single queries. On Ray: two actors with a partition each, against bare faiss that
searches the same two partitions and merges nothing, with as many threads in all: both partitions at a time, a thread each, as
actors do; and one partition after the other, all threads on each, which is quicker where a partition fits into the cache and two
do not (`--rows`). Prints medians of rounds, whose order alternates, and their ratio.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import faiss
import numpy as np
import pyarrow as pa
from peer_rounds import alone

from raybench import storage
from raybench.arrays import FloatMatrix, Vectors
from raybench.collection import Collection, open_collection
from raybench.distributed.partition_actors import partition_actors
from raybench.distributed.runtime import cluster_facts, connected
from raybench.distributed.shards import sharded_index
from raybench.formats import open_vectors
from raybench.formats.base import read_rows
from raybench.indexes import INDEXES
from raybench.indexes.joined import split_rows
from raybench.spec import Spec
from raybench.transforms import Float16

_ROUNDS = 20
_THREADS = faiss.omp_get_max_threads()


@click.command()
@click.option("--rows", default=50_000, show_default=True, help="Vectors.")
@click.option("--dim", default=256, show_default=True, help="Dimensions.")
@click.option("--k", default=10, show_default=True, help="Neighbours.")
@click.option(
    "--index", "texts", multiple=True, default=("flat()", "hnsw(m=16, build_effort=100)@64", "ivf_flat(lists=256)@16")
)
def main(rows: int, dim: int, k: int, texts: tuple[str, ...]) -> None:
    """Measure every index."""
    corpus = Vectors(read_rows(open_vectors(f"laion_like(rows={rows}, dim={dim})")))
    spec = f"laion_like(rows={rows}, dim={dim}, part='queries', queries=1000, asking='image')"
    queries_QD = np.ascontiguousarray(read_rows(open_vectors(spec)), np.float32)
    for text in texts:
        _in_process(text, corpus, queries_QD, k)
    with tempfile.TemporaryDirectory() as folder, connected():
        collection = _collection(folder, corpus)
        for text in texts:
            _on_ray(text, collection, corpus, queries_QD, k, folder)


def _in_process(text: str, corpus: Vectors, queries_QD: FloatMatrix, k: int) -> None:
    parsed = Spec.parse(text)
    index: Any = INDEXES.make(text).build(corpus)
    inside = alone(index)
    bare, parameters = inside.index, inside.parameters(parsed.at, k)
    ours, theirs = _in_turns(
        lambda: index.search(queries_QD, k, parsed.at), lambda: bare.search(queries_QD, k, params=parameters)
    )
    _say(f"{text}, batch of {len(queries_QD):,}", ours, theirs)
    singles = [queries_QD[number : number + 1] for number in range(200)]

    def all_of(search: Callable[[FloatMatrix], object]) -> Callable[[], object]:
        return lambda: [search(one) for one in singles]

    ours, theirs = _in_turns(
        all_of(lambda one: index.search(one, k, parsed.at)), all_of(lambda one: bare.search(one, k, params=parameters))
    )
    _say(f"{text}, single queries", ours / len(singles), theirs / len(singles))


def _on_ray(text: str, collection: Collection, corpus: Vectors, queries_QD: FloatMatrix, k: int, folder: str) -> None:
    parsed, recipe = Spec.parse(text), INDEXES.make(text)
    parts: list[Any] = [
        alone(recipe.build(Vectors(corpus.matrix_ND[start:stop]))) for start, stop in split_rows(len(corpus), 2)
    ]
    parameters = parts[0].parameters(parsed.at, k)
    with partition_actors(2, cluster_facts()) as actors:
        sharded = sharded_index(actors, collection, Float16(), recipe, folder)

        def alone_on(threads: int, part: Any) -> None:
            faiss.omp_set_num_threads(threads)
            part.index.search(queries_QD, k, params=parameters)

        def together() -> None:
            with ThreadPoolExecutor(len(parts)) as pool:
                list(pool.map(lambda part: alone_on(1, part), parts))

        def in_a_row() -> None:
            for part in parts:
                alone_on(_THREADS, part)

        stored_QD = queries_QD.astype(np.float16)  # as runs read them
        ours, *theirs = _in_turns(lambda: sharded.search(stored_QD, k, parsed.at), together, in_a_row)
        for how, their_s in zip(("a thread each", "one after the other"), theirs, strict=True):
            _say(f"{text}, 2 actors, batch of {len(queries_QD):,}, partitions {how}", ours, their_s)
        faiss.omp_set_num_threads(_THREADS)


def _collection(folder: str, corpus: Vectors) -> Collection:
    """The corpus as a finished folder of vectors in one part, which actors read."""
    part, table = "img_emb/img_emb_0000.npy", "metadata/metadata_0000.parquet"
    (Path(folder) / "img_emb").mkdir()
    np.save(storage.join(folder, part), corpus.matrix_ND)
    rows = pa.array([str(row) for row in range(len(corpus))])
    storage.write_table(storage.join(folder, table), pa.table({"image_id": rows}))
    files = {}
    for name in (part, table):
        data = storage.read_bytes(storage.join(folder, name))
        files[name] = {"rows": len(corpus), "size_bytes": len(data), "sha256": storage.digest(data)}
    manifest = {"kind": "vectors", "recipe": {"modality": "image"}, "files": files, "checksum": files[part]["sha256"]}
    storage.write_manifest(folder, manifest)
    return open_collection(folder)


def _in_turns(*contestants: Callable[[], object]) -> list[float]:
    """Median seconds of each, measured in turns after one that does not count; every other turn goes backwards."""
    times: dict[int, list[float]] = {number: [] for number in range(len(contestants))}
    for turn in range(_ROUNDS + 1):
        for number in sorted(times, reverse=bool(turn % 2)):
            started = time.perf_counter()
            contestants[number]()
            if turn:
                times[number].append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times.values()]


def _say(what: str, ours_s: float, theirs_s: float) -> None:
    click.echo(
        f"{what}: ours {1e3 * ours_s:.3f} ms, faiss {1e3 * theirs_s:.3f} ms on {_THREADS} threads: "
        f"{100 * (ours_s / theirs_s - 1):+.1f} %, ratio of throughput {theirs_s / ours_s:.3f}, {1e6 * (ours_s - theirs_s):+.0f} microseconds"
    )


if __name__ == "__main__":
    main()
