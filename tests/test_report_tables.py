"""Numbers, tables, plots and galleries as values: each agrees with a slow way of getting the same."""

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import report_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from report_reader import Page, flat
from rich.console import Console

from raybench import results
from raybench.report import figures, gallery, plots, tables
from raybench.report.words import duration, facts, moment
from raybench.results import Record


def record(**changes: Any) -> Record:
    base = Record("scenes", "k1", "text_to_image", "a()", "float16()", "exact()", "ndcg@10", 0.5, 0.45, 0.55, 0.5, 0.5, 0.01,
                  100, 20, 50, "share", "bootstrap", 7, "{}")  # fmt: skip
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> report_folder.Made:
    return report_folder.make(tmp_path_factory.mktemp("run"), images=24, gallery=1)


INTERVALS = st.lists(st.tuples(*[st.floats(0, 1)] * 3).map(sorted), min_size=1, max_size=5)


@settings(deadline=None)  # the first draw imports and compiles
@given(INTERVALS)
def test_bold_needs_an_interval_above_all_others(intervals: list[list[float]]) -> None:
    """A best row is one whose low end is above every other high end, by trying all pairs; else there is none."""
    records = [
        record(encoder=f"e{i}()", experiment=str(i), low=low, value=mid, high=high)
        for i, (low, mid, high) in enumerate(intervals)
    ]
    (block,) = tables.blocks(records)
    ahead = [
        one
        for one in records
        if len(records) > 1 and all(one.low > other.high for other in records if other is not one)
    ]
    best = block.best("ndcg@10")
    assert [best.records["ndcg@10"]] == ahead if best else ahead == []


def test_milliseconds_are_never_called_best() -> None:
    """Where more is not better, nothing is bold."""
    records = [
        record(encoder=f"e{i}()", experiment=str(i), low=i, value=i + 0.1, high=i + 0.2, unit="ms") for i in range(3)
    ]
    assert tables.blocks(records)[0].best("ndcg@10") is None


@settings(deadline=None)  # the first draw imports and compiles
@given(st.floats(0, 1))
def test_a_share_is_printed_within_half_of_its_last_place(value: float) -> None:
    """Three places, or two digits below 0.001: reading the text back gives the value as near as that allows."""
    text = tables.number(value)
    assert abs(float(text) - value) <= (0.0005 if value >= 0.001 else 0.05 * value) + 1e-15


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.5114, "share", "0.511"), (0.0, "", "0.000"), (0.00042, "", "0.00042"), (None, "", "none"), (float("nan"), "", "none"),
     (12.3456, "ms", "12.35 ms"), (128.0, "rank", "128"), (0.25, "score", "0.250"), (1234567.0, "bytes", "1,234,567 bytes")],
)  # fmt: skip
def test_one_way_of_printing_a_number(value: float | None, unit: str, text: str) -> None:
    """Shares, other units and absent values as documented."""
    assert tables.number(value, unit) == text


def test_tie_bounds_are_shown_where_they_print_differently() -> None:
    """Bounds that print like the value are silent; others are given as an interval."""
    assert tables.ties(record(worst_tie=0.4999, best_tie=0.5001)) == ""
    assert tables.ties(record(worst_tie=None, best_tie=None)) == ""
    assert tables.ties(record(worst_tie=0.48, best_tie=0.5)) == "[0.480, 0.500]"


def test_chance_lies_below_shares_and_above_ranks() -> None:
    """A share is at chance where its interval reaches down to it, a rank where its interval reaches up to it."""
    assert not tables.at_chance(record(chance=None))
    assert [tables.at_chance(record(chance=chance)) for chance in (0.44, 0.45, 0.9)] == [False, True, True]
    ranks = [
        record(measure="median_rank", unit="rank", value=10, low=8, high=12, chance=chance) for chance in (5, 12, 13)
    ]
    assert [tables.at_chance(one) for one in ranks] == [True, True, False]
    assert tables.at_chance(record(low=None, high=None, chance=0.5))
    assert not tables.at_chance(record(measure="of_another_version@10", chance=0.9))


def test_measures_are_in_natural_order() -> None:
    """The headline first, cut-offs by number and not by text, each once."""
    asked = ["hit@10", "mrr", "hit@2", "recall@10", "hit@10", "ndcg@10", "overlap@3", "latency"]
    assert tables.measure_order(asked) == ["ndcg@10", "recall@10", "mrr", "hit@2", "hit@10", "latency", "overlap@3"]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_terminal_table_fits_and_shows_the_numbers(made: report_folder.Made, width: int) -> None:
    """No line is wider than the terminal; every shown value and both ends of its interval are in the text."""
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    tables.print_records(made.records, console)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    words = text.replace("[", " ").replace("]", " ").replace(",", " ").split()
    for one in made.records:
        for number in (one.value, one.low, one.high):
            assert f"{number:.3f}" in {word.rstrip("†‡") for word in words}
    assert re.search(r"NDCG@10\s+MAP@10\s+R@10\s+P@10\s+MRR@10\s+hit@1\s", text)
    assert "72 queries in 24 clusters over 24 rows" in text
    assert "bootstrap" in text


def test_terminal_table_names_what_it_leaves_out() -> None:
    """Measures that do not fit are named below the table, never dropped in silence."""
    records = [record(measure=f"hit@{k}") for k in range(1, 20)]
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(tables.terminal_table(records, 80))
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert all(f"hit@{k}" in text for k in range(1, 20))


def test_names_cannot_steer_a_terminal() -> None:
    """Escape sequences in a name do not reach the terminal."""
    records = [record(encoder="x\x1b[2J\r\n")]
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    tables.print_records(records, console)
    assert "\x1b[2J" not in console.file.getvalue()


RANKINGS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), min_size=1, max_size=8)


@settings(deadline=None)  # the first draw imports and compiles
@given(RANKINGS)
def test_ranks_of_first_right_rows(rankings: list[list[int]]) -> None:
    """Counts per bucket agree with looking through every ranking."""
    rows = [
        {"query_id": str(query), "rank": rank, "grade": grade}
        for query, grades in enumerate(rankings)
        for rank, grade in enumerate(grades, 1)
    ]
    ends = [1, 3, 10]
    expected = [0, 0, 0]
    for grades in rankings:
        first = next((rank for rank, grade in enumerate(grades, 1) if grade > 0), None)
        for bucket, (start, end) in enumerate([(1, 1), (2, 3), (4, 10)]):
            expected[bucket] += first is not None and start <= first <= end
    schema = pa.schema([results.NEIGHBORS.field(name) for name in ("query_id", "rank", "grade")])
    assert figures.count_ranks(pa.Table.from_pylist(rows, schema=schema), ends) == expected


def test_plots_hold_what_they_are_given() -> None:
    """Letters and axis are text; a longer interval is a longer line; names are escaped; colours are the page's."""
    dots = [plots.Dot("A", 0, 0.5, 0.4, 0.6, 0.01), plots.Dot("B", 1, 0.5, 0.49, 0.51, None)]
    svg = plots.dots(dots, 'a "<b>" & $x$', is_share=True)
    page = Page(svg)
    assert page.elements[0]["attrs"]["aria-label"] == 'a "<b>" & $x$'
    texts = [flat(element) for element in page.all("text")]
    assert {"A", "B"} <= set(texts)
    whiskers = {}
    for path in page.all("path"):
        found = re.search(r"stroke: var\(--series-(\d)\)", path["attrs"].get("style") or "")
        if found and "stroke-width: 2.4" in path["attrs"]["style"]:
            xs = [float(x) for x in re.findall(r"[ML] ([\d.]+)", path["attrs"]["d"])]
            whiskers[found[1]] = max(xs) - min(xs)
    assert whiskers["0"] == pytest.approx(10 * whiskers["1"], rel=1e-3)
    assert not re.search(r"#0000[a-d]", svg)
    assert "<script" not in svg


def test_plots_stand_many_systems_and_missing_intervals() -> None:
    """Thirty systems, no intervals, equal values and other units draw without an error."""
    dots = [plots.Dot(str(i), i, 3.0, None, None, None) for i in range(30)]
    assert plots.dots(dots, "n", is_share=False).count("<use") == 30
    lines = [plots.Curve(str(i), i, (1, 10), (dots[i], dots[i])) for i in range(30)]
    assert plots.curves(lines, "c", label="k").count(">29<") == 1


def test_letters_go_on_after_z() -> None:
    """Systems are lettered as spreadsheets name columns, the same system alike in both directions."""
    records = [
        record(encoder=f"e{i}()", experiment=f"{d}{i}", direction=d) for d in tables.DIRECTIONS for i in range(28)
    ]
    names = figures.letters(tables.blocks(records))
    assert [key for key, _ in names.values()][24:] == ["Y", "Z", "AA", "AB"]


def test_words_for_times_and_facts() -> None:
    """Durations, moments and nested facts as documented."""
    assert [duration(s) for s in (0.4217, 93, 725, 12000)] == ["0.42 s", "93 s", "12 min 5 s", "3 h 20 min"]
    assert moment("2026-03-01T12:34:56+00:00") == "2026-03-01 12:34 UTC"
    assert moment("yesterday") == "yesterday"
    assert facts({"a": {"b_bytes": 2**31, "c": []}, "d": True, "e": [1, 2]}) == [
        ("a.b_bytes", "2.0 GiB"), ("a.c", "none"), ("d", "yes"), ("e", "1, 2")]  # fmt: skip


@pytest.mark.parametrize(
    ("ranks", "outcome"), [((1, 1), "first"), ((1, 4), "lower"), ((1, None), "missed"), ((None,), "missed")]
)
def test_outcome_of_a_query(ranks: tuple[int | None, ...], outcome: str) -> None:
    """A query is missed if any system missed it, and first only if all are right at rank 1."""
    strips = tuple(gallery.Strip("A", 0, rank, (), None) for rank in ranks)
    assert gallery.Query("q", "words", None, strips).outcome == outcome


def test_gallery_is_bounded() -> None:
    """A page shows a bounded number of queries and systems, and says how many there were."""
    row = dict.fromkeys(results.GALLERY.names) | {"text": "t", "rank": 1, "id": "i", "score": 0.1, "grade": 0}
    table = pa.Table.from_pylist([row | {"query_id": f"q{number}"} for number in range(100)], schema=results.GALLERY)
    gathered = gallery.gather([(str(number), number, table) for number in range(9)])
    assert (len(gathered.queries), gathered.num_queries) == (gallery.MOST_QUERIES, 100)
    assert (len(gathered.queries[0].strips), gathered.num_systems) == (gallery.MOST_SYSTEMS, 9)


def test_other_bytes_than_jpeg_are_not_embedded() -> None:
    """Bytes that do not start as a JPEG (SVG can hold scripts) become no picture."""
    assert gallery.picture(b"<svg onload='alert(1)'/>") is None
    assert gallery.picture(None) is None
    assert gallery.picture(report_folder.jpeg(1)).startswith("data:image/jpeg;base64,/9j/")


def test_neighbors_and_gallery_are_read_as_written(tmp_path: Path) -> None:
    """Tables come back equal; asked columns come alone; a table that does not fit the schema is refused."""
    neighbors = pa.table({"query_id": ["q"], "rank": [1], "id": ["i"], "score": [0.5], "grade": [0]})
    results.write_neighbors(str(tmp_path), "k", neighbors)
    assert results.read_neighbors(str(tmp_path), "k").equals(neighbors.cast(results.NEIGHBORS))
    assert results.read_neighbors(str(tmp_path), "k", ["rank"]).to_pydict() == {"rank": [1]}
    row = dict.fromkeys(results.GALLERY.names) | {"query_id": "q", "rank": 1, "thumbnail": b"\xff\xd8\xff"}
    table = pa.Table.from_pylist([row], schema=results.GALLERY)
    results.write_gallery(str(tmp_path), "k", table)
    assert results.read_gallery(str(tmp_path), "k").equals(table)
    with pytest.raises(ValueError, match="schema"):
        results.write_gallery(str(tmp_path), "k", neighbors)


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_table_never_cuts_a_number(width):
    """Long names and long headings: every measure that is shown is shown whole, and the others are named below."""
    systems = ['rerank("hnsw(m=8, build_effort=100)", candidates=100)@16', "exact()"]
    measures = ["overlap@1", "overlap@5", "overlap@10", "hit@1", "hit@5", "mrr@10"]
    records = [record(measure=measure, index=index, experiment=index) for index in systems for measure in measures]
    console = Console(width=width, file=io.StringIO(), highlight=False)
    tables.print_records(records, console)
    lines = console.file.getvalue().splitlines()
    heading = next(line for line in lines if "MRR@10" in line)
    shown = [tables.label(measure) for measure in measures if tables.label(measure) in heading.split()]
    missing = {tables.label(measure) for measure in measures} - set(shown)
    assert len(shown) >= 4
    assert all(any(name in line for line in lines if line.startswith("Too wide")) for name in missing)
    values = next(line for line in lines if line.startswith(("exact()", "rerank")) and "0." in line)
    assert len([part for part in values.split() if part.startswith("0.")]) == len(shown)
    assert all(len(line) <= width for line in lines)
