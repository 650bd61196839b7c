"""The certified search gives the float64 answer, whatever the data, the precision of the scan, its blocks and threads."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raybench.errors import DataError, WorkError
from raybench.search.certified import METRICS, Questions, Scanner, matrix, search_part
from raybench.search.certified.calibrate import calibrate
from raybench.search.certified.duplicates import group
from raybench.search.certified.matrix import CPU_SCANS, GPU_SCAN, SCANS
from raybench.search.certified.running import Running

DTYPES = ("float16", "float32", "float64", "int8", "uint8")


def float64_scores(queries, rows, metric):
    """The definition, written plainly: every pair in float64, summed pairwise along the dimensions."""
    if metric == "hamming":
        return -np.unpackbits(queries[:, None] ^ rows[None], axis=2).sum(axis=2).astype(np.float64)
    left, right = queries.astype(np.float64)[:, None], rows.astype(np.float64)[None]
    if metric == "l2":
        return -((right - left) ** 2).sum(axis=2) + 0.0
    scores = (left * right).sum(axis=2) + 0.0
    if metric == "cosine":
        lengths = np.sqrt((left * left).sum(axis=2)) * np.sqrt((right * right).sum(axis=2))
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    return scores


def truth(queries, rows, metric, k):
    """Ids and scores by a full sort; equal scores stay in row order."""
    scores = float64_scores(queries, rows, metric)
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(scores, ids, axis=1)


def search(queries, rows, metric, k, scanner, floor=None):
    questions = Questions.of(queries, metric)
    floor = np.full(len(queries), -np.inf) if floor is None else floor
    return search_part(questions, rows, 0, k, floor, scanner)


def check(queries, rows, metric, k, scanner):
    """Compare with the truth; where a scan refuses lengths that its precision cannot hold, it must say so."""
    terms = scanner.scan(metric, queries.shape[1]).terms
    lengths = [np.linalg.norm(side.astype(np.float64), axis=1).max(initial=0) for side in (queries, rows)]
    if metric != "hamming" and max(lengths) > terms.longest:
        with pytest.raises(DataError, match="longer than 2"):
            search(queries, rows, metric, k, scanner)
        return None
    found, tally = search(queries, rows, metric, k, scanner)
    ids, scores = truth(queries, rows, metric, k)
    neighbors = found.neighbors(k)
    width = ids.shape[1]
    np.testing.assert_array_equal(neighbors.ids_QK[:, :width], ids)
    np.testing.assert_array_equal(neighbors.scores_QK[:, :width], scores)
    assert (neighbors.ids_QK[:, width:] == -1).all()
    return tally


def collection(metric, dtype, num_queries, num_rows, dim, seed=0):
    """Rows of very different lengths, a quarter of them copies, one of them zero."""
    random = np.random.default_rng(seed)
    if metric == "hamming":
        return (random.integers(0, 256, (size, dim // 8), np.uint8) for size in (num_queries, num_rows))
    if np.dtype(dtype).kind in "iu":
        queries, rows = (random.integers(0, 100, (size, dim)).astype(dtype) for size in (num_queries, num_rows))
    else:
        queries = random.standard_normal((num_queries, dim)).astype(dtype)
        lengths = random.choice([1e-3, 1.0, 10.0], (num_rows, 1))
        rows = (random.standard_normal((num_rows, dim)) * lengths).astype(dtype)
    rows[num_rows // 2 : num_rows // 2 + num_rows // 4] = rows[0]
    rows[1] = 0
    return queries, rows


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ids_and_scores_are_those_of_float64(scan, metric, dtype):
    """Every metric, every dtype, every precision: ids and scores are identical to a full float64 sort."""
    if metric == "hamming" and dtype != "uint8":
        pytest.skip("bits are packed into uint8")
    queries, rows = collection(metric, dtype, 40, 1_500, 64)
    for k, block_rows, threads in ((1, 512, 1), (10, 61, 1), (100, 512, 2), (1_600, 700, 2)):
        check(queries, rows, metric, k, Scanner(scan, threads, block_rows))


@pytest.mark.parametrize("scan", SCANS)
def test_scores_closer_than_any_cheap_precision(scan):
    """One large coordinate and many tiny ones: all scores lie within 1e-6, where float32 finds a tenth of the answer."""
    random = np.random.default_rng(3)
    rows = (random.standard_normal((4_000, 256)) * 1e-4).astype(np.float16)
    rows[:, 0] = 1
    queries = rows[:20].copy()
    tally = check(queries, rows, "ip", 100, Scanner(scan, 2, 1_024))

    cheap = np.argsort(-(queries.astype(np.float32) @ rows.astype(np.float32).T), axis=1, kind="stable")[:, :100]
    ids, _ = truth(queries, rows, "ip", 100)
    assert np.mean([len(set(a) & set(b)) / 100 for a, b in zip(cheap, ids, strict=True)]) < 0.95
    assert tally.settled + tally.rescored > 20 * 1_000


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("num_queries", [30, 300])
def test_hundreds_of_copies_and_ties_at_rank_k(scan, num_queries):
    """Copies tie exactly; the smaller rows win, with and without grouping (which starts at a number of queries)."""
    random = np.random.default_rng(4)
    few = random.standard_normal((60, 32)).astype(np.float16)
    rows = few[random.integers(0, 60, 5_000)]
    queries = few[random.integers(0, 60, num_queries)]
    for k in (1, 10, 150):
        check(queries, rows, "ip", k, Scanner(scan, 2, 600))
        check(queries, rows, "cosine", k, Scanner(scan, 1, 600))


@pytest.mark.parametrize("scan", SCANS)
def test_all_rows_equal(scan):
    """One tie of everything: rows 0 to k - 1, though every row is a candidate."""
    rows = np.full((3_000, 16), 0.25, np.float16)
    for metric in ("ip", "l2", "cosine"):
        check(rows[:3], rows, metric, 7, Scanner(scan, 1, 128))


@pytest.mark.parametrize("scan", SCANS)
def test_denormal_zero_and_negative_zero(scan):
    """Subnormal float16 numbers, zero rows and negative zeros score as float64 says, and -0 is 0."""
    random = np.random.default_rng(5)
    rows = (random.integers(-3, 4, (900, 24)) * 2.0**-24).astype(np.float16)
    rows[10] = -0.0
    queries = (random.integers(-3, 4, (9, 24)) * 2.0**-24).astype(np.float16)
    queries[0] = 0
    for metric in ("ip", "l2", "cosine"):
        check(queries, rows, metric, 30, Scanner(scan, 1, 100))
    found, _ = search(queries, rows, "ip", 3, Scanner(scan))
    assert not np.signbit(found.score_F[found.score_F == 0]).any()


def test_very_short_and_very_long_rows():
    """Lengths from 1e-30 to 1e15 (1e7 for l2) in one block: squares in float32 would lose the short and overflow on the long."""
    random = np.random.default_rng(6)
    lengths = 10.0 ** random.uniform(-30, 15, (800, 1))
    queries = random.standard_normal((6, 20)).astype(np.float32)
    for metric in ("ip", "l2", "cosine"):
        rows = random.standard_normal((800, 20)) * np.minimum(lengths, 1e7 if metric == "l2" else 1e15)
        for scan in SCANS:
            check(queries, rows.astype(np.float32), metric, 25, Scanner(scan, 1, 200))


def test_lengths_out_of_range_are_refused():
    """Rows or queries longer than 2^60 would overflow float32 products: one sentence, no wrong answer."""
    rows = np.full((4, 4), 1e20, np.float64)
    with pytest.raises(DataError, match="longer than 2"):
        search(rows / 1e20, rows, "ip", 1, Scanner())
    with pytest.raises(DataError, match="query 0 is longer"):
        search(rows, rows / 1e20, "ip", 1, Scanner())


matrices = st.tuples(st.integers(1, 12), st.integers(1, 60), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(
        *(
            hnp.arrays(
                np.float16,
                (size, shape[2]),
                elements=st.sampled_from([0, -0.0, 1, -1, 0.5, 2, 6e-8, 1e-4, 1.001, 300]),
            )
            for size in shape[:2]
        )
    )
)


@settings(max_examples=100, deadline=None)
@given(
    matrices,
    st.sampled_from(["ip", "cosine", "l2"]),
    st.integers(1, 70),
    st.sampled_from(SCANS),
    st.integers(1, 70),
)
def test_any_small_collection(pair, metric, k, scan, block_rows):
    """Generated rows full of ties, copies and extreme ratios."""
    queries, rows = pair
    check(queries, rows, metric, k, Scanner(scan, 1, block_rows))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 999), max_size=6), st.integers(1, 200), st.randoms())
def test_parts_in_any_order_give_one_answer(cuts, k, shuffler):
    """Parts of any size, searched in any order with the floors so far, add up to the answer for the whole."""
    queries, rows = collection("ip", "float16", 12, 1_000, 16)
    edges = sorted({0, *cuts, 1_000})
    parts = list(itertools.pairwise(edges))
    shuffler.shuffle(parts)
    running, questions = Running(len(queries), k), Questions.of(queries, "ip")
    for start, stop in parts:
        found, _ = search_part(questions, rows[start:stop], start, k, running.floor(), Scanner(block_rows=100))
        running.add(found)
    ids, scores = truth(queries, rows, "ip", k)
    np.testing.assert_array_equal(running.neighbors().ids_QK[:, : ids.shape[1]], ids)
    np.testing.assert_array_equal(running.neighbors().scores_QK[:, : ids.shape[1]], scores)


def test_floors_save_candidates_and_keep_ties():
    """Rows under a floor are left out; a row that ties with it stays, because its number may be smaller."""
    queries, rows = collection("ip", "float16", 5, 2_000, 16)
    _, scores = truth(queries, rows, "ip", 10)
    found, with_floor = search(queries, rows, "ip", 50, Scanner(block_rows=200), scores[:, -1])
    _, without = search(queries, rows, "ip", 50, Scanner(block_rows=200))
    ids, _ = truth(queries, rows, "ip", 10)
    np.testing.assert_array_equal(found.neighbors(10).ids_QK, ids)
    assert (found.count_Q < 50).all()
    assert with_floor.kept < without.kept


def test_exact_sums_are_known():
    """Float16 rows of unit length have exact sums; float32 queries that are no float16 numbers do not."""
    random = np.random.default_rng(8)
    rows = random.standard_normal((200, 64))
    rows = (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float16)
    queries = random.standard_normal((3, 64)).astype(np.float32)
    assert search(rows[:3], rows, "ip", 5, Scanner())[1].inexact_rows == 0
    assert search(rows[:3].astype(np.float32), rows, "ip", 5, Scanner())[1].inexact_rows == 0
    assert search(queries, rows, "ip", 5, Scanner())[1].inexact_rows == 200
    assert search((rows[:3] * 40).astype(np.float16), rows, "ip", 5, Scanner())[1].inexact_rows == 200


def test_a_scan_of_lower_precision_than_it_says_is_caught(monkeypatch):
    """A float32 product that really is bfloat16 (as a TF32 mode would be) fails the audit instead of passing."""

    def sloppy(self, block):
        exact = self._columns_TE.to(torch.bfloat16).float() @ block.columns_BE.to(torch.bfloat16).float().T
        self._scores[: exact.numel()] = exact.numpy().reshape(-1)

    monkeypatch.setattr(matrix._NumpyTile, "_product", sloppy)
    random = np.random.default_rng(9)
    rows = random.standard_normal((2_000, 64)).astype(np.float16)
    with pytest.raises(WorkError, match="lower precision"):
        search(rows[:50], rows, "ip", 10, Scanner(block_rows=200))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: its sums and modes are what is tested")
@pytest.mark.parametrize("metric", METRICS)
def test_tensor_cores_keep_their_bound(metric):
    """On a real GPU, float16 products with float32 sums stay within the bound, and the answer is the float64 one."""
    dtype = "uint8" if metric == "hamming" else "float16"
    queries, rows = collection(metric, dtype, 100, 20_000, 512)
    check(queries, rows, metric, 50, Scanner(GPU_SCAN, 1, 4_096))


def test_more_tiles_than_threads_and_more_threads_than_tiles():
    """Thousands of queries on two threads, and few queries on many threads: the same answers, and nobody waits forever."""
    queries, rows = collection("ip", "float16", 2_100, 700, 16)
    check(queries, rows, "ip", 3, Scanner(threads=2, block_rows=64))
    check(queries[:70], rows, "ip", 3, Scanner(threads=7, block_rows=64))


def test_an_error_in_one_thread_ends_all():
    """A row that cannot be scanned is an error at once, not threads that wait for a block that never comes."""
    rows = np.ones((900, 16))
    rows[450] = 1e20
    with pytest.raises(DataError, match="longer than 2"):
        search(np.ones((200, 16)), rows, "ip", 3, Scanner(threads=4, block_rows=64))


def test_groups_of_equal_rows():
    """Groups hold every row once, the smallest first, and differ only in bytes."""
    random = np.random.default_rng(10)
    few = random.standard_normal((50, 8)).astype(np.float16)
    rows = np.concatenate([few[random.integers(0, 50, 500)], random.standard_normal((100, 8)).astype(np.float16)])
    groups = group(rows)
    assert groups is not None
    assert (np.diff(groups.first_U) > 0).all()
    assert sorted(groups.member_N.tolist()) == list(range(600))
    for place, first in enumerate(groups.first_U):
        same = np.flatnonzero((rows.view(np.uint16) == rows.view(np.uint16)[first]).all(axis=1))
        members = groups.member_N[groups.start_U[place] :][: groups.length_U[place]]
        np.testing.assert_array_equal(members, same)
    assert group(random.standard_normal((100, 8)).astype(np.float16)) is None


def test_a_chosen_precision_is_one_that_was_measured():
    """Calibration looks at every scan, finds no coarser one that leaves fewer candidates, and takes the least estimate."""
    queries, rows = collection("ip", "float16", 64, 3_000, 64)
    made = calibrate(Questions.of(queries, "ip"), rows, 10, 100_000)
    measured = {one.scan: one for one in made.measured}
    assert set(measured) == set(CPU_SCANS)
    assert made.chosen == min(measured, key=lambda name: measured[name].estimate_s)
    coarse, fine = measured["torch-bfloat16"], measured["torch-float32"]
    assert coarse.candidates_per_neighbor > fine.candidates_per_neighbor >= 1


@pytest.mark.parametrize(
    ("queries", "rows", "metric", "k", "sentence"),
    [
        (np.ones((2, 4)), np.ones((2, 5)), "ip", 1, "use one encoder"),
        (np.ones((2, 4)), np.ones((2, 4)), "ip", 0, "asks for nothing"),
        (np.ones((2, 4)), np.ones((2, 4)), "dot", 1, "is not known"),
        (np.full((2, 4), np.nan), np.ones((2, 4)), "ip", 1, "NaN or infinite"),
        (np.ones(4), np.ones((2, 4)), "ip", 1, "two axes"),
    ],
)
def test_wrong_requests(queries, rows, metric, k, sentence):
    """What cannot be searched is one sentence."""
    with pytest.raises(DataError, match=sentence):
        search(queries, rows, metric, k, Scanner())
