"""One contract for every index: ids in order, an effort that does what it says, the exact answer at full effort."""

import faiss
import numpy as np
import pytest

from raybench.arrays import Neighbors, Vectors
from raybench.errors import DataError, RequestError
from raybench.indexes import INDEXES
from raybench.indexes.base import check_effort
from raybench.indexes.exact import Exact
from raybench.indexes.joined import Joined, split_rows
from raybench.indexes.stored import RowsKey, key_of, open_index
from raybench.metrics.ranks import check_order
from raybench.spec import Spec

ROWS, QUERIES, DIM, K = 2_600, 120, 32, 10

# spec; an effort at which it finds nearly all; one at which it finds all (None: it never must); least overlap at the former
MEMBERS = [
    ("exact()", None, None, 1.0),
    ("flat()", None, None, 0.99),
    ("hnsw(m=16, build_effort=80)", 128, ROWS, 0.97),
    ('torch_flat(device="cpu")', None, None, 0.99),
    ('torch_flat(device="cpu", dtype="bfloat16")', None, None, 0.9),
    ('hnsw(m=16, build_effort=80, store="fp16")', 128, ROWS, 0.97),
    ('hnsw(m=16, build_effort=80, store="sq8")', 128, None, 0.9),
    ('hnsw(m=16, build_effort=80, store="sq4")', 128, None, 0.5),
    ('hnsw(m=16, build_effort=80, store="pq", codes=8, bits=6)', 128, None, 0.4),
    ("compact(m=16, build_effort=80)", 128, ROWS, 0.97),
    ('compact(m=16, build_effort=80, store="pq", codes=8, bits=4)', 128, None, 0.7),
    ('compact(m=16, build_effort=80, store="sq8")', 128, None, 0.97),
    ("ivf_flat(lists=64)", 24, 64, 0.97),
    ("ivf_pq(lists=64, codes=8, bits=6)", 24, None, 0.5),
    ("ivf_pq(lists=64, codes=8, bits=4, opq=True)", 24, None, 0.3),
    ("fp16()", 20, ROWS, 1.0),
    ("sq8()", 20, ROWS, 0.99),
    ("sq4()", 60, ROWS, 0.97),
    ("pq(codes=8, bits=6)", 100, ROWS, 0.97),
    ("rabitq(bits=1)", 300, ROWS, 0.9),
    ("rabitq(bits=4)", 60, ROWS, 0.97),
    ("binary()", 1_000, ROWS, 0.8),
    ('rerank("exact()", candidates=10)', None, None, 1.0),
    ('rerank("hnsw(m=16, build_effort=80)", candidates=20)', 128, ROWS, 0.97),
    ('rerank("ivf_pq(lists=64, codes=8, bits=6)", candidates=100)', 24, None, 0.9),
    ('rerank("hnsw(m=16, build_effort=80, store=\\"pq\\", codes=8, bits=6)")', 128, None, 0.9),
]
SPECS = [member[0] for member in MEMBERS]
APPROXIMATE = [member for member in MEMBERS if member[1] is not None]
CODES = [spec for spec in SPECS if Spec.parse(spec).name in ("fp16", "sq8", "sq4", "pq", "rabitq", "binary")]


def _data(rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clustered unit rows in a cone, with copies, as float16; and float32 queries near to some of them."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((60, DIM)) + 1.2
    rows_ND = centres[random.integers(60, size=rows)] + 0.9 * random.standard_normal((rows, DIM))
    rows_ND[rows // 2 : rows // 2 + 20] = rows_ND[:20]
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    queries_QD = rows_ND[random.integers(rows, size=QUERIES)] + 0.05 * random.standard_normal((QUERIES, DIM))
    return rows_ND.astype(np.float16), queries_QD.astype(np.float32)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Rows and queries."""
    return _data()


@pytest.fixture(scope="module")
def truth(data) -> tuple[np.ndarray, np.ndarray]:
    """The order of all rows for each query, by a full float64 sort, and their scores."""
    rows, queries = (side.astype(np.float64) for side in data)
    scores = np.array([(rows * query).sum(axis=1) for query in queries])
    order = np.argsort(-scores, axis=1, kind="stable")
    return order, np.take_along_axis(scores, order, axis=1)


@pytest.fixture(scope="module")
def built(data):
    """Every member, built when it is first asked for."""
    made = {}

    def build(spec: str):
        if spec not in made:
            made[spec] = INDEXES.make(spec).build(Vectors(data[0], first_row=0))
        return made[spec]

    return build


def _bytes(index) -> int:
    return sum(index.held_bytes.values())


def _overlap(found: Neighbors, truth: np.ndarray, k: int) -> float:
    lists = zip(found.ids_QK[:, :k].tolist(), truth[:, :k].tolist(), strict=True)
    return float(np.mean([len({*one} & {*other}) / k for one, other in lists]))


def test_the_list_is_the_whole_family():
    """Whoever adds an index adds it to the contract."""
    assert {Spec.parse(spec).name for spec in SPECS} == set(INDEXES.names) - {"cagra"}  # which needs a GPU


@pytest.mark.parametrize(("spec", "effort", "full", "least"), MEMBERS)
def test_it_finds_nearly_all(spec, effort, full, least, data, truth, built):
    """At a fair effort the overlap is what is stated; at the full one ids are the exact ones; scores are near the true ones."""
    index = built(spec)
    found = index.search(data[1], K, effort)
    check_order(found, ROWS)
    assert found.ids_QK.shape == (QUERIES, K)
    assert _overlap(found, truth[0], K) >= least
    if full is not None:
        few = built(spec).search(data[1][:15], K, full).ids_QK
        np.testing.assert_array_equal(np.sort(few), np.sort(truth[0][:15, :K]))
    name = Spec.parse(spec).name
    if name in ("exact", "fp16", "sq8", "sq4", "pq", "rabitq", "binary"):  # scored again, in float64
        np.testing.assert_array_equal(found.scores_QK[:, 0], np.take_along_axis(
            np.array([(data[0].astype(np.float64) * query.astype(np.float64)).sum(axis=1) for query in data[1]]),
            found.ids_QK[:, :1], axis=1,
        )[:, 0])  # fmt: skip
    if name in ("flat", "ivf_flat") or spec in (SPECS[2], 'torch_flat(device="cpu")'):
        np.testing.assert_allclose(found.scores_QK[:, 0], truth[1][:, 0], atol=2e-6)


@pytest.mark.parametrize(("spec", "effort", "full", "least"), APPROXIMATE)
def test_more_effort_finds_more(spec, effort, full, least, data, truth, built):
    """Overlap rises with effort, and the least effort finds clearly less than the fair one."""
    least_effort = 1 if "ivf" in spec else 2 * K if "candidates" in spec else K
    overlaps = [
        _overlap(built(spec).search(data[1], K, one), truth[0], K) for one in (least_effort, effort, 2 * effort)
    ]
    assert overlaps[0] <= overlaps[1] + (0.02 if "sq4" in spec or "pq" in spec else 1e-9)  # codes may prefer others
    assert overlaps[1] <= overlaps[2] + 0.01
    if spec not in ("fp16()", "sq8()") and not (spec.startswith("hnsw") and ("sq4" in spec or "pq" in spec)):
        assert overlaps[0] < overlaps[1]


@pytest.mark.parametrize(
    ("spec", "effort", "full", "least"),
    # Codebooks are learnt in one way everywhere, and take longest: `pq` stands for those of graphs and lists.
    [one for one in MEMBERS if 'store="pq"' not in one[0] and one[0] != "ivf_pq(lists=64, codes=8, bits=6)"],
)
def test_it_is_the_same_again(spec, effort, full, least, data, built):
    """Built again, with another number of threads, it gives the same ids and scores; alone or together, so does a query."""
    first = built(spec).search(data[1], K, effort)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        again = INDEXES.make(spec).build(Vectors(data[0].copy(), first_row=0))
        second = again.search(data[1], K, effort)
        alone = again.search(data[1][7:8], K, effort)
    finally:
        faiss.omp_set_num_threads(threads)
    np.testing.assert_array_equal(first.ids_QK, second.ids_QK)
    np.testing.assert_array_equal(first.ids_QK[7:8], alone.ids_QK)
    np.testing.assert_allclose(first.scores_QK, second.scores_QK, rtol=0, atol=1e-6)
    assert again.held_bytes == built(spec).held_bytes


@pytest.mark.parametrize(
    "spec", ["flat()", "hnsw(m=16, build_effort=80)@400", "ivf_flat(lists=20)@20", "sq8()@400", "binary()@3000"]
)
def test_partitions_are_one_index(spec, data, truth):
    """Rows of partitions keep their numbers, and together they give what one index gives."""
    parsed = Spec.parse(spec)
    parts = [
        INDEXES.make(spec).build(Vectors(data[0][start:stop], first_row=start)) for start, stop in split_rows(ROWS, 3)
    ]
    index = Joined(tuple(parts))
    found = index.search(data[1], K, parsed.at)
    check_order(found, ROWS)
    assert _overlap(found, truth[0], K) > 0.97
    assert _bytes(index) == sum(_bytes(part) for part in parts)


def test_bytes_are_those_that_are_held(built):
    """What is counted is within a fiftieth of what faiss writes, and codes are as short as they say."""
    for spec in SPECS[1:]:
        index = built(spec)
        if spec.startswith("torch"):
            assert index.held_bytes == {"rows": ROWS * DIM * (2 if "bfloat16" in spec else 4)}
            continue
        if spec.startswith("rerank"):
            assert index.held_bytes == index.index.held_bytes
            continue
        if 'store="pq"' in spec and spec.startswith("compact"):
            assert index.held_bytes["codes"] == ROWS * 4
            assert index.held_bytes["graph"] == built(SPECS[2]).held_bytes["graph"]
            continue
        if spec.startswith("compact") and "store" not in spec:
            whole = built(SPECS[2])
            assert index.held_bytes == {"graph": whole.held_bytes["graph"]}
            assert whole.held_bytes["rows"] == ROWS * DIM * 4
            continue
        written = len(faiss.serialize_index(index.index.index if spec.startswith("compact") else index.index))
        assert _bytes(index) == pytest.approx(written, rel=0.02), spec
    sizes = {spec: _bytes(built(spec)) / ROWS for spec in CODES}
    assert sizes["fp16()"] == 2 * DIM
    assert sizes["sq8()"] == pytest.approx(DIM, rel=0.01)
    assert sizes["sq4()"] == pytest.approx(DIM / 2, rel=0.02)
    assert sizes["binary()"] == pytest.approx(DIM / 8, rel=0.02)
    assert DIM / 8 < sizes["rabitq(bits=1)"] < sizes["rabitq(bits=4)"] < sizes["fp16()"]


def test_rows_that_are_looked_at_again_are_counted(data, built):
    """Codes and two stages look at rows that they do not hold: as many a query as they have candidates."""
    for spec, effort, each in (
        ("sq8()", 20, 20), ("sq8()", None, 0), ('rerank("exact()", candidates=10)', None, 10),
        ('rerank("ivf_pq(lists=64, codes=8, bits=6)", candidates=100)', 24, 100),
    ):  # fmt: skip
        index = built(spec)
        index.search(data[1], K, effort)
        [told] = index.last_search()
        assert told.fetched == each * (QUERIES if each else 0)
        assert each <= told.different <= ROWS * bool(each)


def test_a_graph_without_rows_walks_as_the_whole_one(data, built):
    """The same rows as faiss finds in the same graph; what was fetched is counted, each row once a query."""
    index = built("compact(m=16, build_effort=80)")
    for effort in (K, 40):
        ours, theirs = index.search(data[1], K, effort), built(SPECS[2]).search(data[1], K, effort)
        assert _overlap(ours, theirs.ids_QK, K) > 0.99
        np.testing.assert_allclose(ours.scores_QK[:, 0], theirs.scores_QK[:, 0], atol=2e-6)
        [activity] = index.last_search()
        assert activity.queries == QUERIES
        assert effort * QUERIES < activity.fetched < ROWS * QUERIES
        assert effort < activity.different <= ROWS
    [more] = index.last_search()
    index.search(data[1][:1], K, 40)
    [alone] = index.last_search()
    assert alone.fetched == alone.different < more.fetched / QUERIES * 5
    assert built("flat()").last_search()[0].fetched == 0
    coded = built('compact(m=16, build_effort=80, store="pq", codes=8, bits=4)')
    found = coded.search(data[1], K, 40)
    [few] = coded.last_search()
    assert few.fetched == 40 * QUERIES  # the nodes in view, and no others
    assert 40 < few.different < ROWS
    exact = (data[0][found.ids_QK[:, 0]].astype(np.float64) * data[1].astype(np.float64)).sum(axis=1)
    np.testing.assert_array_equal(found.scores_QK[:, 0], exact)


@pytest.mark.parametrize(("spec", "effort", "full", "least"), MEMBERS)
def test_few_rows_are_padded(spec, effort, full, least, data):
    """Where there are fewer rows than asked for, the rest is padding; where too few to learn from, it is said."""
    few = Vectors(data[0][:15], first_row=100)
    recipe = INDEXES.make(spec)
    if spec == 'rerank("exact()", candidates=10)':
        with pytest.raises(RequestError, match="scores 10 rows again and is asked for 20 results"):
            recipe.build(few).search(data[1], 20)
        return
    if "pq" in spec or "ivf" in spec:
        with pytest.raises(RequestError, match=r"needs [\d,]+ rows or more .* there are 15"):
            recipe.build(few)
        return
    found = recipe.build(few).search(data[1], 20, None if effort is None else 50)
    check_order(found, 115)
    assert (np.sort(found.ids_QK[:, :15]) == np.arange(100, 115)).all()
    assert (found.ids_QK[:, 15:] == -1).all()


@pytest.mark.parametrize(("spec", "effort", "full", "least"), MEMBERS)
def test_wrong_requests_are_one_sentence(spec, effort, full, least, data, built):
    """An effort that is missing, not taken or out of range, queries of other dimensions, no results: nothing is adjusted."""
    index, name = built(spec), Spec.parse(spec).name
    wrong = [(0, effort)]
    if effort is None:
        wrong.append((K, 64))
    elif name == "ivf_flat":
        wrong += [(K, None), (K, 0), (K, 65)]
    elif name == "rerank" and "candidates=20" in spec:
        wrong += [(K, None), (K, 19), (21, 64)]
    elif name in ("hnsw", "compact"):
        wrong += [(K, None), (K, K - 1)]
    elif name in ("sq8", "binary"):
        wrong.append((K, K - 1))
    for k, one in wrong:
        with pytest.raises(RequestError):
            index.search(data[1], k, one)
    with pytest.raises(DataError, match="dimensions"):
        index.search(data[1][:, :8], K, effort)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("hnsw(m=1)", "m must be 2 to 512"),
        ("hnsw(build_effort=0)", "build_effort=0"),
        ('compact(store="pq", codes=8, bits=3)', "bits=3"),
        ('hnsw(store="pq", codes=5)', "32 dimensions cannot be cut into 5 pieces"),
        ("ivf_flat(lists=0)", "no lists"),
        ("ivf_flat(lists=1000)", "39,000 rows or more"),
        ("pq(codes=8)", "9,984 rows or more"),
        ("ivf_pq(lists=8, codes=7)", "cannot be cut into 7"),
        ("ivf_pq(lists=8, codes=8, bits=3)", "bits=3"),
        ("ivf_pq(lists=8, codes=8, bits=12)", "159,744 rows"),
        ("pq(codes=0)", "cut into 0"),
        ("rabitq(bits=10)", "1 to 9"),
        ('flat(device="gpu")', "no GPU"),
        ("torch_flat()", "found no GPU"),
        ("cagra()", "pip install cuvs"),
        ('rerank("exact()")', "how many candidates"),
        ('rerank("hnsw(m=8)@64", candidates=20)', "index without effort inside"),
        ('rerank("hsnw(m=8)", candidates=20)', "did you mean 'hnsw'"),
    ],
)
def test_wrong_parameters_are_one_sentence(spec, words, data):
    """What cannot be built says why."""
    if ("gpu" in spec or "torch" in spec or "cagra" in spec) and getattr(faiss, "get_num_gpus", int)():
        pytest.skip("there is a GPU")
    with pytest.raises(RequestError, match=words):
        INDEXES.make(spec).build(Vectors(data[0]))


def test_an_effort_is_checked_before_anything_is_built():
    """The sentence names the spec, the number, what it counts and the range."""
    with pytest.raises(
        RequestError, match=r"ivf_flat\(\)@2000: for 10 results its effort \(lists probed\) must be 1 to 1,024"
    ):
        check_effort("ivf_flat()", INDEXES.make("ivf_flat()").dial, 2000, 10)
    with pytest.raises(RequestError, match=r"exact\(\) has no effort"):
        check_effort("exact()", Exact().dial, 3, 10)
    with pytest.raises(RequestError, match=r"hnsw\(\) needs an effort \(nodes in view\)"):
        check_effort("hnsw()", INDEXES.make("hnsw()").dial, None, 10)


def test_values_outside_the_learnt_range_are_clipped(data):
    """A row beyond every learnt range is stored at the range's end: its score is that of the clipped row."""
    rows = np.clip(data[0][:2000], -0.1, 0.1)
    index = INDEXES.make("sq8()").fill(Vectors(rows))
    far = np.zeros((1, DIM), np.float32)
    far[0, 3] = 5.0
    index.add(far)
    decoded = index.reconstruct(2000)
    assert decoded[3] == pytest.approx(0.1, abs=2e-3)


FILLED = [member for member in MEMBERS if Spec.parse(member[0]).name not in ("exact", "torch_flat", "rerank")]


@pytest.mark.parametrize(("spec", "effort", "full", "least"), FILLED)
def test_what_was_filled_is_read_again(spec, effort, full, least, data, built, tmp_path, monkeypatch):
    """Written once; read (memory-mapped) it gives the same ids and scores; a changed file is refused."""
    recipe, vectors = INDEXES.make(spec), Vectors(data[0])
    rows = RowsKey("checksum", "float16()", 0, ROWS)
    held = getattr(built(spec), "index", None) or recipe.fill(vectors)
    held = getattr(held, "index", held) if spec.startswith("compact") else held
    monkeypatch.setattr(type(recipe), "fill", lambda *_: held)
    first = open_index(recipe, vectors, rows, str(tmp_path)).search(data[1], K, effort)
    monkeypatch.setattr(type(recipe), "fill", lambda *_: pytest.fail("it was filled twice"))
    second = open_index(recipe, vectors, rows, str(tmp_path)).search(data[1], K, effort)
    expected = built(spec).search(data[1], K, effort)
    for found in (first, second):
        np.testing.assert_array_equal(found.ids_QK, expected.ids_QK)
        np.testing.assert_array_equal(found.scores_QK, expected.scores_QK)
    [file] = tmp_path.glob("indexes/*/index.faiss")
    assert file.parent.name == key_of(recipe, rows)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="is not what was written"):
        open_index(recipe, vectors, rows, str(tmp_path))
    file.unlink()
    with pytest.raises(DataError, match="is gone"):
        open_index(recipe, vectors, rows, str(tmp_path))


def test_the_key_is_of_all_that_decides():
    """Another seed, row range, transform or collection is another index; a default that is spelt out is the same."""
    rows = RowsKey("a", "float16()", 0, 10)
    made = [
        key_of(INDEXES.make("hnsw(m=8)"), rows), key_of(INDEXES.make("hnsw(m=8, seed=1)"), rows),
        key_of(INDEXES.make("hnsw(m=8)"), RowsKey("b", "float16()", 0, 10)),
        key_of(INDEXES.make("hnsw(m=8)"), RowsKey("a", "truncate(dim=8)", 0, 10)),
        key_of(INDEXES.make("hnsw(m=8)"), RowsKey("a", "float16()", 1, 10)),
        key_of(INDEXES.make("hnsw(m=8)"), RowsKey("a", "float16()", 0, 9)),
    ]  # fmt: skip
    assert len(set(made)) == len(made)
    assert key_of(INDEXES.make("hnsw(m=8, build_effort=200)"), rows) == made[0]


def test_filled_indexes_on_s3(data, s3):
    """Written to and read from an object store."""
    recipe, rows = INDEXES.make("sq8()"), RowsKey("on s3", "float16()", 0, 500)
    few = Vectors(data[0][:500])
    first = open_index(recipe, few, rows, f"{s3}/filled").search(data[1], K, 50)
    second = open_index(recipe, few, rows, f"{s3}/filled").search(data[1], K, 50)
    np.testing.assert_array_equal(first.ids_QK, second.ids_QK)
    np.testing.assert_array_equal(first.ids_QK, Exact().build(few).search(data[1], K).ids_QK)


def _copied(rows: int = 3_000, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which a third are copies, many of a few; and queries near to all kinds."""
    rows_ND, queries_QD = _data(rows, seed)
    random = np.random.default_rng(seed)
    where = random.permutation(rows)[: rows // 3]
    rows_ND[where] = rows_ND[random.choice(12, len(where))]
    return rows_ND, queries_QD


@pytest.mark.parametrize(
    "spec", ["hnsw(m=8, build_effort=40)", 'hnsw(m=8, build_effort=40, store="sq8")', "compact(m=8, build_effort=40)"]
)
def test_copies_are_one_node_and_all_of_them_are_found(spec, tmp_path):
    """A graph over a collection with many copies reaches every row, in row order; a graph that links each copy does not."""
    rows_ND, queries_QD = _copied()
    asked_QD = np.concatenate([queries_QD, rows_ND[:12].astype(np.float32)])
    exact = Exact().build(Vectors(rows_ND, 50)).search(asked_QD, 40)
    recipe, vectors = INDEXES.make(spec), Vectors(rows_ND, 50)
    index = recipe.build(vectors)
    found = index.search(asked_QD, 40, 800)
    check_order(found, 3_050)
    least = 0.9 if "sq8" in spec else 0.99
    assert _overlap(found, exact.ids_QK, 40) > least
    assert _overlap(Neighbors(found.ids_QK[-12:], found.scores_QK[-12:]), exact.ids_QK[-12:], 40) == 1
    plain = faiss.IndexHNSWFlat(DIM, 8, faiss.METRIC_INNER_PRODUCT)
    plain.hnsw.efConstruction = 40
    plain.add(rows_ND.astype(np.float32))
    scores_QK, _ = plain.search(asked_QD, 40, params=faiss.SearchParametersHNSW(efSearch=800))
    # By score, so that it does not matter which copy of several it finds.
    reached = (scores_QK >= exact.scores_QK[:, 39:] - 1e-6).mean()
    assert reached < 0.97
    assert index.held_bytes["graph"] < 3_000 * 8 * 2 * 4
    key = RowsKey("copied", "float16()", 50, 3_050)
    for _ in range(2):  # filled, then read
        again = open_index(recipe, vectors, key, str(tmp_path)).search(asked_QD, 40, 800)
        np.testing.assert_array_equal(again.ids_QK, found.ids_QK)
    alone = index.search(asked_QD[-1:], 40, 800)
    np.testing.assert_array_equal(alone.ids_QK[0], found.ids_QK[-1])
