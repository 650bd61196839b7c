"""The report is read back as a reader would: parsed HTML, printed tables, a real browser where there is one."""

import base64
import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import report_folder
from chromium import Browser
from report_reader import Page, flat

from raybench import results, storage
from raybench.errors import DataError, RequestError
from raybench.metrics import MEASURES
from raybench.report import tables
from raybench.report.page import write_report

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> \"'&{{7*7}}"
SYSTEMS = {
    "scenes_model()": 0.6,
    'openclip("ViT-B-32", pretrained="a_long_name_without_a_place_to_break_it_anywhere")': 0.25,
}


def read(made: report_folder.Made) -> Page:
    return Page(storage.read_bytes(write_report(made.uri)).decode())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> report_folder.Made:
    return report_folder.make(tmp_path_factory.mktemp("run"), SYSTEMS, images=24, gallery=3)


@pytest.fixture(scope="module")
def text(made: report_folder.Made) -> str:
    return storage.read_bytes(write_report(made.uri)).decode()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_number_stands_in_its_row_and_column(made: report_folder.Made, page: Page) -> None:
    """Value and interval of every record are in the cell of its system, measure and direction."""
    cells: dict[tuple[str, str, str], str] = {}
    for table in page.all("table", "numbers"):
        caption = flat(page.all("caption", within=table)[0])
        for row in page.all("tr", within=table):
            for cell in page.all("td", within=row):
                system = flat(page.all("th", within=row)[0])
                cells[caption.partition(", ")[2], system, cell["attrs"]["data-label"]] = flat(cell)
    assert len(cells) == len(made.records)
    for one in made.records:
        direction = one.direction.replace("_", " ")
        found = [
            text
            for (where, system, label), text in cells.items()
            if where == direction and one.encoder in system and label == tables.label(one.measure)
        ]
        assert len(found) == 1
        assert found[0].startswith(f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]")


def test_headline_measures_come_first(page: Page) -> None:
    """Columns are NDCG, MAP, R, P and MRR at 10 in that order; the other measures are in a table of their own."""
    heads = [
        [flat(cell) for cell in page.all("th", within=page.all("thead", within=table)[0])]
        for table in page.all("table", "numbers")
    ]
    assert heads[0] == ["system", "NDCG@10", "MAP@10", "R@10 recall@10", "P@10 precision@10", "MRR@10"]
    assert heads[1] == ["system", "hit@1", "hit@3", "hit@10"]


def test_what_was_run_is_told(made: report_folder.Made, page: Page) -> None:
    """Command, evaluation text, seed, environment and experiment keys are on the page."""
    for words in (
        made.run["command"],
        "images: scenes(count=60)",
        "seed 7",
        "Example CPU 3.1 GHz",
        "24.0 GiB",
        "SkylakeX",
        *made.experiments,
    ):
        assert words in page.words
    assert flat(page.all("h1")[0]) == "scenes"


def test_every_measure_is_explained(tmp_path: Path) -> None:
    """Each measure of the table that a run used has an entry, and no other measure has one."""
    made = report_folder.make(tmp_path, {"a()": 0.5}, images=4, gallery=1)
    for names in (list(MEASURES), ["mrr"]):
        written = [
            dataclasses.replace(made.records[0], measure=name if MEASURES[name].cut == "none" else f"{name}@10")
            for name in names
        ]
        queries = results.read_queries(f"{made.uri}/results", made.experiments[0])
        results.write(f"{made.uri}/results", made.experiments[0], written, queries)
        storage.write_json(f"{made.uri}/run.json", made.run | {"experiments": made.run["experiments"][:1]})
        page = read(made)
        terms = [flat(term).lower() for term in page.all("dt", within=page.all("dl", "meanings")[0])]
        assert [term.partition("@")[0] for term in terms[:-4]] == names
        assert terms[-4:] == ["intervals", "bold", "ties", "chance"]


def test_accounting_is_shown_as_arithmetic(made: report_folder.Made, page: Page) -> None:
    """Every artifact shows rows in = rows out + dropped, the reasons that add up to it, and its examples."""
    shown = [flat(account) for account in page.all("article", "account")]
    assert len(shown) == len(made.run["artifacts"])
    for artifact, text in zip(made.run["artifacts"], shown, strict=True):
        assert f"{artifact['rows_in']} in = {artifact['rows_out']} out + 5 dropped ✓" in text
        assert "5 dropped = 2 too_many_pixels + 3 truncated" in text
        assert "JPEG ends after 812 bytes" in text
        assert "scenes-00001.tar" in text


def test_rows_that_do_not_add_up_are_exposed(tmp_path: Path) -> None:
    """A lost row turns the equation into an inequality and is told at the top."""
    made = report_folder.make(tmp_path, images=8, gallery=1)
    made.run["artifacts"][0]["rows_out"] -= 1
    storage.write_json(storage.join(made.uri, "run.json"), made.run)
    page = read(made)
    assert "13 in ≠ 7 out + 5 dropped ✗ does not add up: 12" in flat(page.all("article", "account")[0])
    assert "do not add up" in flat(page.all("section", "notes")[0])
    summary = storage.read_json(storage.join(made.uri, "report", "summary.json"))
    assert [account["balanced"] for account in summary["accounting"]].count(False) == 1


def test_gallery_marks_what_is_right(made: report_folder.Made, page: Page) -> None:
    """Each shown row has a mark, a class, its rank and its score, and its own picture; only relevant rows are right."""
    expected: Counter[tuple[bool, bool, str, bytes | None]] = Counter()
    for key in made.experiments:
        rows = results.read_gallery(f"{made.uri}/results", key).to_pylist()
        seen = {row["query_id"] for row in rows if row["rank"] >= 1 and row["grade"]}
        for row in rows:
            is_answer = row["rank"] == 0
            if row["rank"] >= 1 or (is_answer and row["query_id"] not in seen):
                rank = row["found_rank"] if is_answer else row["rank"]
                line = " ".join(filter(None, [str(rank) if rank else "", f"{row['score']:.3f}"]))
                expected[row["grade"] > 0, is_answer, line, row["thumbnail"]] += 1
    found: Counter[tuple[bool, bool, str, bytes | None]] = Counter()
    for hit in page.all("li", "hit"):
        classes = hit["attrs"]["class"].split()
        pictures = page.all("img", within=hit)
        jpeg = (
            base64.b64decode(pictures[0]["attrs"]["src"].removeprefix("data:image/jpeg;base64,")) if pictures else None
        )
        score = flat(page.all("p", "score", within=hit)[0])
        mark, words, line = re.fullmatch(
            r"([✓✗])\s?(relevant|not relevant) (.*?)(?: the answer| not retrieved)?", score
        ).groups()
        assert (mark == "✓") == ("right" in classes) == ("wrong" not in classes) == (words == "relevant")
        found["right" in classes, "answer" in classes, line, jpeg] += 1
    assert found == expected
    assert any(is_answer for _, is_answer, _, _ in found)


def test_one_query_stands_once_with_all_its_systems(made: report_folder.Made, page: Page) -> None:
    """A query card has one strip per system and the caption; an image that asks shows its picture."""
    cards = page.all("article", "query")
    captions = {row["text"] for row in results.read_gallery(f"{made.uri}/results", made.experiments[0]).to_pylist()}
    assert captions <= {flat(page.all("h4", within=card)[0]) for card in cards}
    assert all(len(page.all("div", "strip", within=card)) == 2 for card in cards)
    own = [page.all("img", within=page.all("header", within=card)[0]) for card in cards]
    assert [len(pictures) for pictures in own] == [0, 0, 0, 1, 1, 1]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Markup in captions, names, warnings, file names and errors is shown as it is and makes no element."""
    made = report_folder.make(tmp_path, {HOSTILE: 0.5, "b()": 0.2}, images=8, gallery=2, name=HOSTILE, caption=HOSTILE)
    run = json.loads(json.dumps(made.run).replace("JPEG ends after 812 bytes", "DETAIL").replace("truncated", "REASON"))
    run |= {
        "command": HOSTILE,
        "evaluation": HOSTILE,
        "warnings": [HOSTILE],
        "environment": {HOSTILE: {HOSTILE: HOSTILE}},
        "seconds": {HOSTILE: 1.0},
    }
    run["artifacts"][0] |= {
        "dropped": {HOSTILE: 5},
        "uri": HOSTILE,
        "examples": {HOSTILE: [{"shard": HOSTILE, "position": 1, "image_id": HOSTILE, "detail": HOSTILE}]},
    }
    storage.write_json(storage.join(made.uri, "run.json"), run)
    page = read(made)
    assert not page.all("script")
    assert not [name for element in page.elements for name in element["attrs"] if name.startswith("on")]
    assert all(picture["attrs"]["src"].startswith("data:image/jpeg;base64,") for picture in page.all("img"))
    assert page.words.count("<script>alert('x')</script>") > 10
    assert "{{7*7}}" in page.words
    assert flat(page.all("h1")[0]) == HOSTILE


def test_page_is_complete_in_itself(text: str, page: Page) -> None:
    """No script, no address outside the page, and a policy that forbids fetching; ids are unique, links find them."""
    for element in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            address = element["attrs"].get(name)
            assert address is None or address.startswith(("#", "data:image/jpeg;base64,")), address
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {element["tag"] for element in page.elements}
    assert "@import" not in text
    assert set(re.findall(r"url\(.", text)) == {"url(#"}
    assert re.findall(r"https?://", text) == []
    policies = [meta["attrs"]["content"] for meta in page.all("meta") if "http-equiv" in meta["attrs"]]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    ids = [element["attrs"]["id"] for element in page.elements if "id" in element["attrs"]]
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]*)\)", text) + [
        e["attrs"]["href"][1:] for e in page.elements if "href" in e["attrs"]
    ]
    assert set(used) <= set(ids)


@pytest.mark.usefixtures("page")
def test_same_folder_gives_the_same_bytes(made: report_folder.Made) -> None:
    """Another process with another hash seed, time zone and matplotlib settings writes the same files."""
    folder = Path(made.uri) / "report"
    first = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    settings = Path(made.uri) / "matplotlibrc"
    settings.write_text("axes.linewidth: 9\nsvg.fonttype: path\nfont.size: 30\nxtick.major.pad: 20\n")
    environment = os.environ | {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "MATPLOTLIBRC": str(settings)}
    script = f"from raybench.report.page import write_report; write_report({made.uri!r})"
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)
    again = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {str(name) for name in first} == {"index.html", "summary.json", "tables/records.csv"}
    assert again == first


@pytest.mark.usefixtures("page")
def test_summary_and_csv_hold_the_records(made: report_folder.Made) -> None:
    """`summary.json` is strict JSON with all records and the accounting; the CSV holds the same numbers."""

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    summary = json.loads(storage.read_bytes(f"{made.uri}/report/summary.json"), parse_constant=refuse)
    assert summary["records"] == [dataclasses.asdict(one) for one in made.records]
    assert [account["rows_in"] for account in summary["accounting"]] == [a["rows_in"] for a in made.run["artifacts"]]
    assert all(account["balanced"] for account in summary["accounting"])
    rows = list(csv.DictReader(io.StringIO(storage.read_bytes(f"{made.uri}/report/tables/records.csv").decode())))
    assert [(row["measure"], float(row["value"])) for row in rows] == [(one.measure, one.value) for one in made.records]


def test_a_folder_without_results_is_answered_with_a_sentence(tmp_path: Path) -> None:
    """The message names the folder and the command that makes results."""
    with pytest.raises(RequestError, match=r"results holds no results; .*raybench run") as caught:
        write_report(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_missing_pieces_are_left_out_and_told(tmp_path: Path) -> None:
    """Without run.json, neighbors and gallery the numbers are still reported, with a note."""
    made = report_folder.make(tmp_path, images=8, gallery=1)
    storage.delete(f"{made.uri}/run.json")
    storage.delete_folder(f"{made.uri}/results/neighbors")
    storage.delete_folder(f"{made.uri}/results/gallery")
    page = read(made)
    assert "run.json is missing" in flat(page.all("section", "notes")[0])
    assert len(page.all("table", "numbers")) == 4
    assert not page.all("article", "query")
    assert "Where the first right answer is" not in page.words
    assert "Accounting" not in page.words


def test_rows_a_second_are_of_what_was_timed(tmp_path: Path) -> None:
    """A run's own rows by its seconds, and the encoder's seconds where others shared the pipeline; older runs by all rows."""
    made = report_folder.make(tmp_path, images=8, gallery=1)
    made.run["artifacts"][0] |= {
        "rows_in": 1_000,
        "rows_out": 995,
        "seconds": 2.0,
        "seconds_of": "encoder",
        "rows_timed": 600,
    }
    made.run["artifacts"][1] |= {"rows_in": 1_000, "rows_out": 995, "seconds": 2.0}
    storage.write_json(f"{made.uri}/run.json", made.run)
    first, second = (flat(card) for card in read(made).all("article", "account")[:2])
    assert "of encoders' work, 300 rows a second of it" in first
    assert "500 rows a second" in second
    assert "encoders' work" not in second


def test_only_the_experiments_of_the_run_are_shown(tmp_path: Path) -> None:
    """Results of other runs in the folder are left out and counted; experiments without results are counted."""
    made = report_folder.make(tmp_path, images=8, gallery=1)
    made.run["experiments"] = [*made.run["experiments"][::-1][:3], {"experiment": "absent"}]
    storage.write_json(f"{made.uri}/run.json", made.run)
    page = read(made)
    notes = flat(page.all("section", "notes")[0])
    assert "1 of 4 experiments have no results" in notes
    assert "Results of 1 other experiments" in notes
    heads = [flat(cell) for cell in page.all("th", within=page.all("table", "numbers")[-1]) if "()" in cell["text"]]
    assert [head.split()[1] for head in heads] == ["pixels(dim=64)", "scenes_model()"], (
        "rows follow the order of the run"
    )


@pytest.mark.parametrize(
    "change", [{"artifacts": {}}, {"seed": "7"}, {"environment": []}, {"artifacts": [{"rows_in": "1"}]}]
)
def test_a_run_file_of_another_shape_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """A wrong kind of value in run.json is a DataError that names the file."""
    made = report_folder.make(tmp_path, images=4, gallery=1)
    storage.write_json(f"{made.uri}/run.json", made.run | change)
    with pytest.raises(DataError, match=r"run\.json"):
        write_report(made.uri)


def test_results_with_other_columns_are_refused(tmp_path: Path) -> None:
    """A Parquet file without the schema's columns, or with others, is a RequestError of one line that names it."""
    made = report_folder.make(tmp_path, images=4, gallery=1)
    storage.write_table(
        results.neighbors_uri(f"{made.uri}/results", made.experiments[0]), pa.table({"query_id": ["q"]})
    )
    with pytest.raises(RequestError, match=made.experiments[0]) as caught:
        write_report(made.uri)
    assert "\n" not in str(caught.value)
    storage.write_table(results.records_uri(f"{made.uri}/results", made.experiments[0]), pa.table({"query_id": ["q"]}))
    with pytest.raises(DataError, match=made.experiments[0]):
        write_report(made.uri)


def test_chance_is_flagged(tmp_path: Path) -> None:
    """A system that ranks at random is flagged in its cells and at the top; a good one is not."""
    made = report_folder.make(tmp_path, {"good()": 0.7, "random()": 0.0}, images=40, gallery=1)
    page = read(made)
    flagged = [one for one in made.records if one.chance is not None and one.low <= one.chance]
    assert {one.encoder for one in flagged} == {"random()"}
    assert len(page.all("span", "chance")) == len(flagged)
    notes = flat(page.all("section", "notes")[0])
    assert f"{len(flagged)} of {len(made.records)} numbers are no better than a random ranking" in notes
    assert "random() text to image, random() image to text" in notes
    assert "good()" not in notes


def test_bold_in_the_page_is_the_best_row(made: report_folder.Made, page: Page) -> None:
    """Bold cells are exactly those of the blocks' best rows."""
    expected = [
        f"{row.records[measure].value:.3f}"
        for block in tables.blocks(made.records)
        for measure in block.measures
        if (row := block.best(measure))
    ]
    assert sorted(flat(cell) for cell in page.all("strong", "value")) == sorted(expected)
    assert expected


def test_bars_of_ranks_add_up_and_follow_the_neighbors(made: report_folder.Made, page: Page) -> None:
    """The plot prints the share of queries right at rank 1, which is the record's hit@1."""
    plot = next(figure for figure in page.all("figure") if "Where the first right answer is" in figure["text"])
    shares = [one.value for one in made.records if one.measure == "hit@1" and one.direction == "text_to_image"]
    assert shares[0] >= 0.075
    assert f"{shares[0]:.0%}" in plot["text"]
    assert "not in the first 20" in plot["text"]


@pytest.mark.browser
@pytest.mark.usefixtures("page")
def test_page_in_a_browser(made: report_folder.Made, browser: Browser) -> None:
    """The page loads without an error and without fetching, fits both widths, shows its pictures, and filters."""
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.do(f"{domain}.enable")
    browser.do("Page.navigate", url=(Path(made.uri) / "report" / "index.html").as_uri())
    browser.wait("Page.loadEventFired")
    browser.value("document.querySelectorAll('details').forEach(details => details.open = true)")
    for width in (1280, 420):
        browser.do("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert browser.value("innerWidth") == width
        assert browser.value("document.documentElement.scrollWidth") <= width
        script = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.unseen')).map(e => e.outerHTML.slice(0, 80))"
        assert browser.value(script) == []
    widths = "Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode().then(() => i.naturalWidth) }))"
    assert set(browser.value(widths)) == {96}
    visible = "[...document.querySelectorAll('details.gallery')].map(g => [...g.querySelectorAll('.query')].filter(q => q.offsetParent).map(q => q.className))"
    before = browser.value(visible)
    browser.value("document.querySelector('input[value=missed]').click()")
    after = browser.value(visible)
    assert after[0] == [name for name in before[0] if "missed" in name]
    assert after[1] == before[1], "the filter of one direction leaves the other alone"
    assert browser.value("[...document.querySelectorAll('input:checked')].map(i => i.value)") == ["missed", "all"]
    errors = [
        e
        for e in browser.events
        if e["method"] == "Runtime.exceptionThrown" or e.get("params", {}).get("entry", {}).get("level") == "error"
    ]
    assert errors == []
    addresses = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert addresses
    assert all(address.startswith(("file:", "data:")) for address in addresses)
