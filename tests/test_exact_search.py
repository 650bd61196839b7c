"""The exact index gives the float64 neighbours and ranks, whatever the data, block size and number of shards."""

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.arrays import Neighbors, Qrels, Vectors
from raybench.errors import DataError
from raybench.indexes.exact import Exact
from raybench.indexes.joined import Joined, split_rows
from raybench.metrics.counts import Counts, Pairs
from raybench.search.topk import best, merge


def _unit(rng, rows, dim):
    matrix = rng.standard_normal((rows, dim))
    return (matrix / np.linalg.norm(matrix, axis=1)[:, None]).astype(np.float16)


def _data(kind, rng):
    rows_ND = _unit(rng, 400, 24)
    queries_QD = _unit(rng, 20, 24)
    if kind == "duplicates":
        rows_ND[50:350] = rows_ND[7]
        queries_QD[:5] = rows_ND[7]
    elif kind == "near ties":
        # Rows that differ in their last bit only: float32 sums cannot order them, float64 can.
        rows_ND[:] = rows_ND[0]
        rows_ND.view(np.uint16)[np.arange(400), rng.integers(0, 24, 400)] ^= 1
    elif kind == "norms":
        rows_ND = (rows_ND.astype(np.float32) * (10.0 ** rng.uniform(-3, 3, (400, 1)))).astype(np.float16)
    elif kind == "zeros":
        rows_ND[::3] = 0
        queries_QD[0] = 0
    elif kind == "denormal":
        rows_ND = (rows_ND.astype(np.float32) * 1e-6).astype(np.float16)
    elif kind == "float32":
        rows_ND, queries_QD = rows_ND.astype(np.float32) / 3, queries_QD.astype(np.float32) / 3
    return queries_QD, rows_ND


KINDS = ["plain", "duplicates", "near ties", "norms", "zeros", "denormal", "float32"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("block_rows", "shards"), [(16_384, 1), (64, 1), (1, 1), (64, 2), (33, 8)])
def test_search_equals_a_full_float64_scan(kind, block_rows, shards):
    """Ids and scores are those of the oracle, ties by row, for every block size and number of shards."""
    queries_QD, rows_ND = _data(kind, np.random.default_rng(3))
    expected_QN = oracles.scores(queries_QD, rows_ND)
    parts = [Exact(block_rows).build(Vectors(rows_ND[a:b].copy(), a)) for a, b in split_rows(len(rows_ND), shards)]
    for k in (1, 10, 100, 450):
        found = Joined(tuple(parts)).search(queries_QD, k)
        wanted = oracles.top_rows(expected_QN, k)

        assert found.ids_QK[:, : min(k, 400)].tolist() == wanted
        np.testing.assert_array_equal(
            found.scores_QK[:, : min(k, 400)], np.take_along_axis(expected_QN, np.array(wanted), 1)
        )
        assert (found.ids_QK[:, 400:] == -1).all()
        assert np.isneginf(found.scores_QK[:, 400:]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("block_rows", "shards"), [(16_384, 1), (64, 3)])
def test_counts_equal_the_ranks_of_a_full_float64_scan(kind, block_rows, shards):
    """For any judged pair: rows that score higher, the same, and the same with a smaller row, to the row."""
    rng = np.random.default_rng(5)
    queries_QD, rows_ND = _data(kind, rng)
    expected_QN = oracles.scores(queries_QD, rows_ND)
    relevant = tuple(np.sort(rng.choice(400, 3, replace=False)) for _ in queries_QD)
    names = tuple(str(number) for number in range(len(queries_QD)))
    pairs = Pairs.of(Qrels(names, relevant, tuple(np.ones(3, np.int64) for _ in names), names))
    parts = [Exact(block_rows).build(Vectors(rows_ND[a:b].copy(), a)) for a, b in split_rows(len(rows_ND), shards)]
    index = Joined(tuple(parts))
    counts: Counts = index.count(queries_QD, pairs, index.score(queries_QD, pairs))

    for pair, (query, row) in enumerate(zip(pairs.query_P, pairs.row_P, strict=True)):
        line = expected_QN[query]
        assert counts.higher_P[pair] == (line > line[row]).sum()
        assert counts.tied_P[pair] == (line == line[row]).sum()
        assert counts.before_P[pair] == (line[:row] == line[row]).sum()
        assert counts.seen_P[pair] == 1
    assert counts.rows == 400


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.data())
def test_merging_does_not_depend_on_how_rows_are_split(shards, k, data):
    """Candidates dealt to any shards and cut there give the same top k as all of them together."""
    scores = data.draw(st.lists(st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0]), min_size=1, max_size=30))
    shard_of = data.draw(st.lists(st.integers(0, shards - 1), min_size=len(scores), max_size=len(scores)))
    ids = np.arange(len(scores))[None, :]
    whole = best(ids, np.array([scores]), k)
    parts = []
    for shard in range(shards):
        mine = [row for row in range(len(scores)) if shard_of[row] == shard]
        parts.append(
            best(np.array([mine], np.int64).reshape(1, -1), np.array([[scores[row] for row in mine]]).reshape(1, -1), k)
        )

    assert merge(parts, k).ids_QK.tolist() == whole.ids_QK.tolist()
    assert whole.ids_QK[0, : len(scores)].tolist() == oracles.top_rows(np.array([scores]), k)[0][: len(scores)]


def test_a_missing_candidate_never_beats_a_real_one():
    """Padding comes last even where a real score is minus infinity."""
    found = best(np.array([[-1, 4]]), np.array([[-np.inf, -np.inf]]), 2)

    assert found.ids_QK.tolist() == [[4, -1]]


def test_wrong_requests_are_refused():
    """Another dimension or k under 1 is one sentence, not a broadcast error."""
    index = Exact().build(Vectors(np.eye(4, dtype=np.float16)))

    with pytest.raises(DataError, match="4 dimensions"):
        index.search(np.ones((2, 3), np.float32), 1)
    with pytest.raises(DataError, match="k=0"):
        index.search(np.ones((2, 4), np.float32), 0)


@pytest.mark.ray
@pytest.mark.parametrize("shards", [1, 2, 8])
def test_partition_actors_answer_as_one_process_does(shards, ray_cluster, collection):
    """1, 2 and 8 partition actors give the ids, scores and ranks of one scan in this process."""
    from raybench.distributed.partition_actors import partition_actors
    from raybench.distributed.shards import sharded_index
    from raybench.transforms import Float16

    queries_QD = _unit(np.random.default_rng(1), 2_100, 24)
    whole = Exact().build(collection.load())
    pairs = _pairs(2_100, len(collection))
    with partition_actors(shards, ray_cluster) as actors:
        index = sharded_index(actors, collection, Float16(), Exact())
        found = index.search(queries_QD, 10)
        counts = index.count(queries_QD, pairs, index.score(queries_QD, pairs))
        assert index.held_bytes == whole.held_bytes

    _assert_same(found, whole.search(queries_QD, 10))
    expected = whole.count(queries_QD, pairs, whole.score(queries_QD, pairs))
    np.testing.assert_array_equal(counts.higher_P, expected.higher_P)
    np.testing.assert_array_equal(counts.before_P, expected.before_P)


@pytest.mark.ray
def test_actors_serve_one_index_after_another(ray_cluster, collection):
    """The same actors answer for another transform, and for the first one again, as if they were new."""
    from raybench.distributed.partition_actors import partition_actors
    from raybench.distributed.shards import sharded_index
    from raybench.transforms import Float16, Truncate

    queries_QD = _unit(np.random.default_rng(4), 50, 24)
    short = Truncate(8)
    with partition_actors(2, ray_cluster) as actors:
        whole = sharded_index(actors, collection, Float16(), Exact())
        first = whole.search(queries_QD, 5)
        cut = sharded_index(actors, collection, short, Exact())
        short_QD = short.apply(Vectors(queries_QD)).matrix_ND
        _assert_same(cut.search(short_QD, 5), Exact().build(short.apply(collection.load())).search(short_QD, 5))
        _assert_same(whole.search(queries_QD, 5), first)


@pytest.mark.ray
def test_killing_a_partition_actor_changes_nothing(ray_cluster, collection):
    """An actor that dies while it searches is rebuilt from storage, and the answer is the same."""
    import threading

    import ray

    from raybench.distributed.partition_actors import partition_actors
    from raybench.distributed.shards import sharded_index
    from raybench.transforms import Float16

    queries_QD = _unit(np.random.default_rng(2), 12_000, 24)
    expected = Exact().build(collection.load()).search(queries_QD, 50)
    with partition_actors(2, ray_cluster) as actors:
        index = sharded_index(actors, collection, Float16(), Exact(block_rows=50))
        victim = actors[0]
        before = ray.get(victim.process.remote())
        killer = threading.Timer(0.3, lambda: ray.kill(victim, no_restart=False))
        killer.start()
        found = index.search(queries_QD, 50)
        killer.join()
        after = ray.get(victim.process.remote())

    assert before != after, "the actor was not restarted; the test killed nothing"
    _assert_same(found, expected)


def _assert_same(found: Neighbors, expected: Neighbors) -> None:
    np.testing.assert_array_equal(found.ids_QK, expected.ids_QK)
    np.testing.assert_array_equal(found.scores_QK, expected.scores_QK)


def _pairs(queries: int, rows: int) -> Pairs:
    names = tuple(str(number) for number in range(queries))
    relevant = tuple(np.array([number % rows], np.int64) for number in range(queries))
    return Pairs.of(Qrels(names, relevant, tuple(np.ones(1, np.int64) for _ in names), names))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A small collection in three parts, some rows of which are equal."""
    import pyarrow as pa

    from raybench import storage
    from raybench.collection import open_collection

    uri = str(tmp_path_factory.mktemp("collection"))
    rows_ND = _unit(np.random.default_rng(0), 901, 24)
    rows_ND[300:400] = rows_ND[5]
    files = {}
    for number, (start, stop) in enumerate([(0, 300), (300, 301), (301, 901)]):
        name = f"img_emb/img_emb_{number:04d}.npy"
        (storage.Path(uri) / "img_emb").mkdir(exist_ok=True)
        np.save(storage.join(uri, name), rows_ND[start:stop])
        metadata = f"metadata/metadata_{number:04d}.parquet"
        storage.write_table(
            storage.join(uri, metadata), pa.table({"image_id": [str(row) for row in range(start, stop)]})
        )
        for written in (name, metadata):
            data = storage.read_bytes(storage.join(uri, written))
            files[written] = {"rows": stop - start, "size_bytes": len(data), "sha256": storage.digest(data)}
    storage.write_manifest(uri, {"kind": "vectors", "recipe": {"modality": "image"}, "files": files, "checksum": "x"})
    return open_collection(uri)
