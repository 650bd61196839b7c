"""Queries and judgments: many spellings of the columns, one meaning, and nothing that would change a measure unseen."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.errors import DataError, SpecError, StorageError
from raybench.sources.base import JUDGMENT_ROWS
from raybench.sources.tables import QUERY_ROWS, TABLES, qrels_table, queries_table

QUERIES = [
    {"query_id": "q1", "text": 'a, red\t"car"', "cluster_id": "i1"},
    {"query_id": "2", "text": "é", "cluster_id": None},
]
QRELS = [{"query_id": "q1", "image_id": "i1", "relevance": 2}, {"query_id": "q1", "image_id": "7", "relevance": 0}]

FORMS = [name for name in TABLES.names if name != "shipped"]  # which is a table of its own, not a form


def written(place: Path, form: str, rows: list[dict[str, Any]]) -> str:
    """A table in one of the forms, and its address."""
    path = place / f"table.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    else:
        mark = "," if form == "csv" else "\t"

        def quoted(value: Any) -> str:
            return "" if value is None else '"' + str(value).replace('"', '""') + '"'

        lines = [mark.join(rows[0]), *(mark.join(quoted(value) for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines), encoding="utf-8")
    return f'{form}("{path}")'


def renamed(rows: list[dict[str, Any]], names: dict[str, str]) -> list[dict[str, Any]]:
    """The rows with other column names."""
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form: str, tmp_path: Path) -> None:
    """Quotes, separators and foreign letters survive; ids are strings; an empty cluster is null."""
    queries = queries_table(written(tmp_path, form, QUERIES))
    assert queries.schema.equals(QUERY_ROWS)
    assert queries.to_pylist() == QUERIES
    qrels = qrels_table(written(tmp_path, form, QRELS))
    assert qrels.schema.equals(JUDGMENT_ROWS)
    assert qrels.to_pylist() == QRELS


@pytest.mark.parametrize("query_id", ["query_id", "query-id", "_id", "id"])
@pytest.mark.parametrize("text", ["text", "query_text", "query", "caption"])
def test_columns_of_queries_have_their_usual_names(query_id: str, text: str, tmp_path: Path) -> None:
    """The names of BEIR, mteb and the hub are read; columns that mean nothing here are ignored."""
    rows = [{query_id: "a", text: "words", "title": "", "split": "test"}]
    expected = [{"query_id": "a", "text": "words", "cluster_id": None}]
    assert queries_table(written(tmp_path, "jsonl", rows)).to_pylist() == expected


@pytest.mark.parametrize("image_id", ["image_id", "document_id", "corpus-id", "corpus_id", "doc_id"])
@pytest.mark.parametrize("relevance", ["relevance", "score"])
def test_columns_of_judgments_have_their_usual_names(image_id: str, relevance: str, tmp_path: Path) -> None:
    """The same for judgments; a grade of 1.0 is 1."""
    rows = [{"query-id": 5, image_id: 6, relevance: 1.0}]
    assert qrels_table(written(tmp_path, "parquet", rows)).to_pylist() == [
        {"query_id": "5", "image_id": "6", "relevance": 1}
    ]


def test_judgments_without_grades_are_relevant(tmp_path: Path) -> None:
    """A table of pairs lists what is relevant."""
    rows = [{"query_id": "a", "image_id": "b"}]
    assert qrels_table(written(tmp_path, "csv", rows))["relevance"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([*QUERIES, QUERIES[0]], "row 3: 'q1' occurs twice"),
        ([{"query_id": "", "text": "x"}], "'' is no id"),
        ([{"query_id": None, "text": "x"}], "None is no id"),
        ([{"query_id": 1.5, "text": "x"}], "1.5 is no id"),
        ([{"query_id": True, "text": "x"}], "True is no id"),
        ([{"query_id": "a", "text": "  "}], "the text of query 'a'"),
        ([{"query_id": "a", "text": None}], "the text of query 'a'"),
        ([{"query_id": "a", "txt": "x"}], "none of the columns text"),
        ([{"name": "a", "text": "x"}], "none of the columns query_id"),
        ([], "holds no queries"),
    ],
)
def test_queries_that_would_mislead_are_refused(rows: list[dict[str, Any]], sentence: str, tmp_path: Path) -> None:
    """Each refusal names the file, the row and the value."""
    with pytest.raises(DataError, match=sentence) as caught:
        queries_table(written(tmp_path, "jsonl", rows))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([*QRELS, QRELS[1]], "row 3: 'q1' with '7' occurs twice"),
        ([QRELS[0] | {"relevance": 0.5}], "0.5 is no grade"),
        ([QRELS[0] | {"relevance": "high"}], "'high' is no grade"),
        ([QRELS[0] | {"relevance": None}], "None is no grade"),
        ([QRELS[0] | {"relevance": "nan"}], "'nan' is no grade"),
        ([QRELS[0] | {"relevance": "inf"}], "'inf' is no grade"),
        ([QRELS[0] | {"image_id": ""}], "image id ''"),
        ([{"query_id": "a", "relevance": 1}], "none of the columns image_id"),
    ],
)
def test_judgments_that_would_mislead_are_refused(rows: list[dict[str, Any]], sentence: str, tmp_path: Path) -> None:
    """Each refusal names the row and the value."""
    with pytest.raises(DataError, match=sentence):
        qrels_table(written(tmp_path, "jsonl", rows))


def test_wrong_places_and_forms_are_refused_at_once(tmp_path: Path) -> None:
    """A missing file is not tried again for seconds, an unknown form is a wrong name, a wrong form is a wrong file."""
    with pytest.raises(StorageError, match="does not exist"):
        queries_table(f'csv("{tmp_path}/gone.csv")')
    with pytest.raises(SpecError, match="did you mean"):
        queries_table('parqet("x")')
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(StorageError, match="not a readable Parquet file"):
        queries_table(f'parquet("{tmp_path}/x.parquet")')


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5, unique_by=lambda pair: pair[0]))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    """Ids and texts of any letters come back as they were from every form."""
    place = tmp_path_factory.mktemp("tables")
    rows = [{"query_id": query_id, "text": text} for query_id, text in pairs]
    for form in FORMS:
        found = queries_table(written(place, form, rows))
        assert list(zip(found["query_id"].to_pylist(), found["text"].to_pylist(), strict=True)) == pairs
