"""With one answer a query, three pairs of measures are one number: checked on the vehicle set's shape, from ranks to records."""

import numpy as np
import pyarrow as pa
import pytest
import vehicle_set

from raybench.results import Record
from raybench.sources.tables import qrels_table, queries_table

# Rows of the published tables, with a comma and quotes inside a caption.
QUERIES = """query_id,query_text
10002456_caption_00,Several men in hard hats are operating a giant pulley system.
1001896054_caption_01,"John Deere tractors cruises down a street, while the driver wears easy to see clothing."
101001624_caption_00,"The ""white out"" conditions of snow on the ground seem to almost obliverate the details."
"""
QRELS = """query_id,document_id,relevance
10002456_caption_00,10002456.jpg,1
1001896054_caption_01,1001896054.jpg,1
101001624_caption_00,101001624.jpg,1
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], pa.Table, np.ndarray]:
    """A made run over generated tables of the same shape."""
    folder = tmp_path_factory.mktemp("vehicles")
    vehicle_set.write_tables(folder)
    return vehicle_set.run(folder, str(folder / "out"))


def _values(table: pa.Table, measure: str) -> np.ndarray:
    rows = [
        row
        for row in zip(*(table[name].to_pylist() for name in ("measure", "value")), strict=True)
        if row[0] == measure
    ]
    return np.array([value for _, value in rows])


def test_the_shape_is_that_of_the_set(made):
    """10,725 queries in 2,145 clusters of five over 68,154 rows."""
    records, table, _ = made

    assert {(one.queries, one.clusters, one.corpus) for one in records} == {(10_725, 2_145, 68_154)}
    assert len(table) == 10_725 * len(vehicle_set.MEASURES)


def test_the_values_follow_from_the_ranks(made):
    """Every measure of every query is the closed form of its answer's rank."""
    _, table, rank_Q = made
    in_ten_Q = (rank_Q > 0) & (rank_Q <= 10)
    closed = {
        "recall@10": in_ten_Q, "hit@10": in_ten_Q, "precision@10": in_ten_Q / 10,
        "map@10": in_ten_Q / np.maximum(rank_Q, 1), "mrr@10": in_ten_Q / np.maximum(rank_Q, 1),
        "ndcg@10": in_ten_Q / np.log2(np.maximum(rank_Q, 1) + 1), "hit@99": (rank_Q > 0) & (rank_Q <= 99),
    }  # fmt: skip

    assert 0.2 < in_ten_Q.mean() < 0.5
    for measure, expected in closed.items():
        np.testing.assert_allclose(_values(table, measure), expected, rtol=1e-15, atol=0)


def test_the_identities_hold_exactly(made):
    """P@10 = R@10 / 10, MAP@10 = MRR@10, R@10 = hit@10: of each query, of the means, of the intervals and of the bounds of ties."""
    records, table, _ = made
    by_measure = {one.measure: one for one in records}

    assert (_values(table, "precision@10") == _values(table, "recall@10") / 10).all()
    assert (_values(table, "map@10") == _values(table, "mrr@10")).all()
    assert (_values(table, "recall@10") == _values(table, "hit@10")).all()
    for name in ("value", "low", "high", "worst_tie", "best_tie"):
        assert getattr(by_measure["map@10"], name) == getattr(by_measure["mrr@10"], name)
        assert getattr(by_measure["recall@10"], name) == getattr(by_measure["hit@10"], name)
        # A tenth is no binary fraction: a mean of tenths is the tenth of the mean but for its last bit, and so for drawn means.
        tenth = getattr(by_measure["recall@10"], name) / 10
        assert getattr(by_measure["precision@10"], name) == pytest.approx(tenth, rel=1e-14, abs=0)


def test_the_published_columns_are_read(tmp_path):
    """query_id, query_text; query_id, document_id, relevance: ids stay strings, captions keep commas and quotes."""
    (tmp_path / "queries.csv").write_text(QUERIES)
    (tmp_path / "qrels.csv").write_text(QRELS)
    queries, qrels = queries_table(f'csv("{tmp_path}/queries.csv")'), qrels_table(f'csv("{tmp_path}/qrels.csv")')

    assert queries["query_id"].to_pylist() == ["10002456_caption_00", "1001896054_caption_01", "101001624_caption_00"]
    assert queries["text"][1].as_py().startswith("John Deere tractors cruises down a street, while")
    assert queries["text"][2].as_py().startswith('The "white out" conditions')
    assert qrels.to_pylist()[0] == {"query_id": "10002456_caption_00", "image_id": "10002456.jpg", "relevance": 1}
