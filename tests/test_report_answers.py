"""Answers in the report are read back as a reader would: cards, figures, and what is told of both in the summary."""

import base64
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import answers_folder
import pyarrow as pa
import pytest
import report_folder
from chromium import Browser
from report_reader import Page, flat

from raybench import storage
from raybench.errors import DataError
from raybench.generation.tables import SAMPLES
from raybench.report import answer_figures, answers, plots
from raybench.report.page import write_report

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> \"'&{{7*7}} $x_1$ ]]>-->"
SHOWN_AS = ["retrieved", "gold", "none", "random"]


def read(made: report_folder.Made) -> Page:
    return Page(storage.read_bytes(write_report(made.uri)).decode())


def odd(prompt: str, context: str, query: int) -> dict[str, Any]:
    """Query 1 has no answer as it was retrieved for, query 2 one that was cut off, query 3 an empty one."""
    if context == "retrieved" and query == 1:
        return answers_folder.row(
            prompt, context, query, answer=None, ended=None, problem="out_of_memory", measures="{}"
        )
    if context == "retrieved" and query == 2:
        return answers_folder.row(prompt, context, query, ended="length")
    if context == "gold" and query == 3:
        return answers_folder.row(
            prompt, context, query, answer="", thumbnails=[b"<svg onload='alert(1)'/>"], grades=[2]
        )
    return answers_folder.row(prompt, context, query)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> report_folder.Made:
    return report_folder.make(tmp_path_factory.mktemp("run"), {"scenes_model()": 0.6}, images=4, gallery=1)


@pytest.fixture(scope="module")
def rows(made: report_folder.Made) -> list[dict[str, Any]]:
    return answers_folder.add(made, odd)


@pytest.fixture(scope="module")
def page(made: report_folder.Made, rows: list[dict[str, Any]]) -> Page:
    return read(made)


def strips(page: Page) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Strips by prompt, words of the query and context."""
    found = {}
    for group in page.all("details", "answers"):
        prompt = flat(page.all("summary", within=group)[0]).partition(":")[0]
        for card in page.all("article", "query", within=group):
            for strip in page.all("div", "answered", within=card):
                where = prompt, flat(page.all("h4", within=card)[0]), flat(page.all("span", "chip", within=strip)[0])
                assert where not in found
                found[where] = strip
    return found


def test_each_answer_stands_with_its_pictures(page: Page, rows: list[dict[str, Any]]) -> None:
    """Words, answer, pictures, marks and scores of every sampled row are in the strip of its query and context, alone."""
    found = strips(page)
    assert len(found) == len(rows)
    for row in rows:
        strip = found[row["prompt"], row["query"], row["context"]]
        assert [q["text"] for q in page.all("blockquote", within=strip)] == ([row["answer"]] if row["answer"] else [])
        assert [w["text"] for w in page.all("p", "words", within=strip)] == [row["words"]]
        hits = page.all("li", "hit", within=strip)
        scores = row["scores"] or [None] * len(row["image_ids"])
        for hit, image_id, grade, score, jpeg in zip(
            hits, row["image_ids"], row["grades"], scores, row["thumbnails"], strict=True
        ):
            assert ("right" in hit["attrs"]["class"].split()) == (grade > 0) == ("✓" in hit["text"])
            assert (f"{score:.3f}" in hit["text"]) if score is not None else not re.search(r"\d\.\d", hit["text"])
            pictures = page.all("img", within=hit)
            if jpeg.startswith(b"\xff\xd8\xff"):
                source = pictures[0]["attrs"]["src"].removeprefix("data:image/jpeg;base64,")
                assert base64.b64decode(source) == jpeg
                assert pictures[0]["attrs"]["alt"] == image_id
            else:
                assert pictures == []
                assert image_id in hit["text"]
        assert ("no picture was shown" in strip["text"]) == (row["image_ids"] == [])


def test_what_is_no_plain_answer_is_marked(page: Page, rows: list[dict[str, Any]]) -> None:
    """A problem, a cut and an empty answer are told in their strips and nowhere else."""
    for (prompt, query, context), strip in strips(page).items():
        row = next(one for one in rows if (one["prompt"], one["query"], one["context"]) == (prompt, query, context))
        assert ("no answer: out_of_memory" in flat(strip)) == (row["problem"] is not None)
        assert ("cut off" in flat(strip)) == (row["ended"] == "length")
        assert ("the answer is empty" in flat(strip)) == (row["answer"] == "")
    assert sum("cut off" in strip["text"] for strip in strips(page).values()) == 2


def test_values_are_beside_their_answer(page: Page, rows: list[dict[str, Any]]) -> None:
    """Every value that is defined stands once, three of them unfolded; one that is not defined stands nowhere."""
    found = strips(page)
    for row in rows:
        strip = found[row["prompt"], row["query"], row["context"]]
        told = Counter(flat(one) for one in page.all("span", "one", within=strip))
        values = {name: value for name, value in json.loads(row["measures"]).items() if value is not None}
        assert told == Counter(f"{name} {value:.3f}" for name, value in values.items())
        open_ones = [
            flat(one) for one in page.all("span", "one", within=strip) if not any(e["tag"] == "details" and e in page.all("details", within=strip) for e in one["path"])
        ]  # fmt: skip
        assert [text.split()[0] for text in open_ones] == [name for name in answers.FIRST if name in values][:3]


def test_one_card_for_a_query_and_prompt(page: Page, rows: list[dict[str, Any]]) -> None:
    """Cards are in the order of the files, each with its strips in one order and its references once."""
    groups = page.all("details", "answers")
    assert [flat(page.all("summary", within=group)[0]).partition(":")[0] for group in groups] == ["describe", "answer"]
    for group in groups:
        cards = page.all("article", "query", within=group)
        assert [flat(page.all("h4", within=card)[0]) for card in cards] == [
            f"a shape with number {n}" for n in range(4)
        ]
        for number, card in enumerate(cards):
            found = page.all("div", "answered", within=card)
            assert [flat(page.all("span", "chip", within=strip)[0]) for strip in found] == SHOWN_AS
            assert [flat(one) for one in page.all("q", within=card)] == [f"reference {number}", "another reference"]


def test_queries_add_up_or_are_exposed(made: report_folder.Made, page: Page, tmp_path: Path) -> None:
    """Asked = answered + problems is told of each context; where it does not hold, at the top too."""
    counts = [flat(one) for one in page.all("li", within=page.all("ul", "counts")[0])]
    assert counts[0] == "retrieved 60 asked = 59 answered + 1 out_of_memory"
    assert counts[1] == "none 60 asked = 60 answered"
    other = report_folder.make(tmp_path, {"a()": 0.6}, images=4, gallery=1)
    other.run["generations"] = [answers_folder.generation("describe", "gold", answered=58, problems={"timeout": 1})]
    storage.write_json(f"{other.uri}/run.json", other.run)
    lost = read(other)
    assert (
        flat(lost.all("li", within=lost.all("ul", "counts")[0])[0])
        == "gold 60 asked ≠ 58 answered + 1 timeout ✗ does not add up"
    )
    assert "describe with context gold do not add up" in flat(lost.all("section", "notes")[0])
    assert not lost.all("details", "answers"), "there are no samples"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Markup in answers, words, ids, names and problems is shown as it is and makes no element."""

    def hostile(prompt: str, context: str, query: int) -> dict[str, Any]:
        row = answers_folder.row(prompt, context, query)
        texts = dict.fromkeys(("query", "words", "answer", "problem", "query_id"), HOSTILE) | {"references": [HOSTILE]}
        return row | texts | {"image_ids": [HOSTILE] * len(row["image_ids"]), "measures": json.dumps({HOSTILE: 0.5})}

    made = report_folder.make(tmp_path, {"a()": 0.6}, images=4, gallery=1)
    answers_folder.add(made, hostile, prompts=("describe",), queries=1)
    for one in made.run["generations"]:
        one |= {"prompt": HOSTILE, "generator": HOSTILE, "prompt_version": HOSTILE, "encoder": HOSTILE}
        one |= {"problems": {HOSTILE: 0}, "measures": [one["measures"][0] | {"measure": HOSTILE, "says": HOSTILE}]}
    made.run["generations"][1]["context"] = HOSTILE
    made.run["rag_times"][0] |= {"prompt": HOSTILE, "context": HOSTILE}
    storage.write_json(f"{made.uri}/run.json", made.run)
    page = read(made)
    assert not page.all("script")
    assert not [name for element in page.elements for name in element["attrs"] if name.startswith("on")]
    assert all(picture["attrs"]["src"].startswith("data:image/jpeg;base64,") for picture in page.all("img"))
    section = next(one for one in page.all("section") if "From none to retrieved" in one["text"])
    assert section["text"].count(HOSTILE) > 20
    plot = next(one for one in page.all("svg", within=section) if HOSTILE in one["text"])
    assert [flat(one) for one in page.all("text", within=plot)][-4:] == ["random", "retrieved", "gold", HOSTILE]


def test_measures_are_drawn_by_context(made: report_folder.Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each share has a panel with value and interval of none, random, retrieved, gold; scores and what is undefined have none."""
    drawn: dict[str, list[plots.Dot]] = {}

    def note(rows: list[plots.Dot], name: str, **_: Any) -> str:
        drawn[name.partition(" ")[0]] = rows
        return name

    monkeypatch.setattr(plots, "dots", note)
    generations = [answers_folder.generation("answer", context) for context in answers_folder.CONTEXTS]
    generations[0]["measures"][1] |= {"value": math.nan}  # rouge_l of retrieved
    panels = answer_figures.panels("answer", generations)
    shares = ["token_f1", "groundedness", "accuracy", "accuracy[size]", "rouge_l"]
    assert sorted(drawn) == sorted(shares)
    assert sorted(figure.title for figure in (*panels.first, *panels.more)) == sorted(shares)
    expected = {
        (told["measure"], one["context"]): (told["value"], told["low"], told["high"])
        for one in generations
        for told in one["measures"]
    }
    for measure, dots in drawn.items():
        contexts = [c for c in ("none", "random", "retrieved", "gold") if (measure, c) != ("rouge_l", "retrieved")]
        assert [dot.key for dot in dots] == contexts
        assert [(dot.value, dot.low, dot.high) for dot in dots] == [expected[measure, c] for c in contexts]


def test_many_measures_are_folded() -> None:
    """Panels past the first ones are kept and folded, in order."""
    told = answers_folder.generation("answer", "gold")
    told["measures"] = [told["measures"][0] | {"measure": f"m{number}"} for number in range(9)]
    panels = answer_figures.panels("answer", [told])
    assert [figure.title for figure in panels.first] == [f"m{number}" for number in range(6)]
    assert [figure.title for figure in panels.more] == ["m6", "m7", "m8"]


def test_times_are_split(page: Page) -> None:
    """A bar is cut in proportion to the means, what is between the stages included; bars of one prompt have one axis."""
    figures = [one for one in page.all("figure", "split") if "describe" in page.all("svg", within=one)[0]["attrs"]["aria-label"]]  # fmt: skip
    means = [*answers_folder.STAGES.values(), answers_folder.BETWEEN_S]
    ends = []
    for figure, slowness in zip(figures, (1.0, 0.6), strict=True):
        bars = [
            [float(x) for x in re.findall(r"[ML] ([\d.]+) ", one["attrs"]["d"])]
            for one in page.all("path", within=figure)
            if "fill: var(--series-" in one["attrs"].get("style", "")
        ]
        widths = [max(xs) - min(xs) for xs in bars]
        assert widths == pytest.approx([mean * sum(widths) / sum(means) for mean in means], rel=1e-3)
        assert [min(xs) for xs in bars[1:]] == pytest.approx([max(xs) for xs in bars[:-1]])
        ends.append(sum(widths))
        legend = [flat(one) for one in page.all("li", within=figure)]
        assert [line.partition(" ")[0] for line in legend] == ["query", "search", "picture", "preprocessing", "first", "decode", "between"]  # fmt: skip
        total_s = sum(means) * slowness
        assert f"20 warm queries, each answered alone: {total_s:.2f} s" in figure["text"]
        shares = [float(re.search(r"([\d.]+) %", line)[1]) for line in legend]
        assert sum(shares) == pytest.approx(100, abs=0.4)
        assert shares == pytest.approx([100 * mean / sum(means) for mean in means], abs=0.051)
    assert ends[1] / ends[0] == pytest.approx(0.6, rel=1e-3)
    assert "search 4.10 ms, 0.2 % (shard 3.00 ms, transport 0.700 ms, merge 0.400 ms)" in flat(figures[0])
    assert "decode 1.30 s, 56.5 %" in flat(figures[0])


@pytest.mark.parametrize(
    ("value_s", "text"),
    [(0.0, "0.00 ms"), (0.0123, "12.3 ms"), (0.64, "640 ms"), (0.9996, "1.00 s"), (2.3, "2.30 s"), (64.25, "64.2 s"), (600.0, "10 min 0 s")],
)  # fmt: skip
def test_one_way_of_printing_seconds(value_s: float, text: str) -> None:
    """Three digits, and a unit that fits."""
    assert answer_figures.seconds(value_s) == text


def test_stages_that_are_missing_are_left_out() -> None:
    """Without a total the bar is the stages; a stage whose mean is no number has no part; no stages, no bar."""
    told = answers_folder.times("describe", "none")
    told["stages"] = [one for one in told["stages"] if one["stage"] in {"first token", "decode"}]
    for one in told["stages"]:
        one["share"] = None
    told["stages"].append({"stage": "search", "mean_s": None})
    (split,) = answer_figures.splits("describe", [told])
    assert [(part.name, part.mean_s) for part in split.parts] == [("first token", 0.64), ("decode", 1.3)]
    assert [part.share for part in split.parts] == pytest.approx([0.64 / 1.94, 1.3 / 1.94])
    assert answer_figures.splits("describe", [told | {"stages": []}]) == ()


def test_cards_are_capped_and_counted(tmp_path: Path) -> None:
    """No more than 24 queries of a prompt are shown; how many there are is kept."""
    made = report_folder.make(tmp_path, {"a()": 0.6}, images=4, gallery=1)
    answers_folder.add(made, prompts=("describe",), queries=26)
    (prompt,) = answers.prompts(made.run["generations"], [], f"{made.uri}/results")
    assert [card.query_id for card in prompt.cards] == [f"query-{number:03d}" for number in range(24)]
    assert prompt.num_cards == 26
    page = read(made)
    assert flat(page.all("summary", within=page.all("details", "answers")[0])[0]).startswith(
        "describe: 24 of 26 queries"
    )


def test_summary_tells_of_generations(made: report_folder.Made, tmp_path: Path) -> None:
    """Entries are in `summary.json` as the run tells them; a number that is not finite is null."""
    other = report_folder.make(tmp_path, {"a()": 0.6}, images=4, gallery=1)
    other.run["generations"] = [answers_folder.generation("describe", "gold")]
    other.run["rag_times"] = [answers_folder.times("describe", "gold")]
    expected = json.loads(json.dumps([other.run["generations"], other.run["rag_times"]]))
    other.run["generations"][0]["measures"][0]["value"] = math.nan
    other.run["rag_times"][0]["stages"][0]["p99_s"] = math.inf
    expected[0][0]["measures"][0]["value"] = expected[1][0]["stages"][0]["p99_s"] = None
    storage.write_json(f"{other.uri}/run.json", other.run)
    write_report(other.uri)

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    summary = json.loads(storage.read_bytes(f"{other.uri}/report/summary.json"), parse_constant=refuse)
    assert [summary["generations"], summary["rag_times"]] == expected


def test_nothing_is_said_of_answers_where_there_are_none(page: Page, tmp_path: Path) -> None:
    """The section and its link are there only with generations; ids of the page are unique, and links find them."""
    plain = read(report_folder.make(tmp_path, {"a()": 0.6}, images=4, gallery=1))
    assert [one for one in plain.elements if one["attrs"].get("id") == "answers"] == []
    assert "#answers" not in [one["attrs"].get("href") for one in plain.all("a")]
    ids = [element["attrs"]["id"] for element in page.elements if "id" in element["attrs"]]
    assert len(ids) == len(set(ids))
    assert "#answers" in [one["attrs"].get("href") for one in page.all("a", within=page.all("nav")[0])]
    assert "answers" in ids


@pytest.mark.parametrize(
    "change",
    [
        {"generations": {}},
        {"generations": [{"prompt": "p", "context": "gold"}]},
        {"generations": [answers_folder.generation("p", "gold", measures=[{"measure": "m", "value": "0.5"}])]},
        {"generations": [answers_folder.generation("p", "gold", problems={"x": "1"})]},
        {"rag_times": [{"prompt": "p", "context": "gold", "stages": [{"mean_s": 1.0}]}]},
        {"rag_times": [{"prompt": "p", "context": "gold", "stages": [{"stage": "search", "mean_s": "1"}]}]},
    ],
)
def test_a_run_file_of_another_shape_is_refused(made: report_folder.Made, tmp_path: Path, change: dict[str, Any]) -> None:  # fmt: skip
    """A wrong kind of value is a DataError that names the file."""
    storage.write_json(f"{tmp_path}/run.json", made.run | change)
    with pytest.raises(DataError, match=r"run\.json"):
        write_report(str(tmp_path))


@pytest.mark.parametrize("measures", ["[1]", "{", '{"a": "x"}', "3"])
def test_samples_of_another_shape_are_refused(tmp_path: Path, measures: str) -> None:
    """Other columns, or measures that are no numbers, are a DataError that names the file."""
    told = answers_folder.generation("describe", "gold")
    uri = f"{tmp_path}/samples/{told['key']}.parquet"
    sample = answers_folder.row("describe", "gold", 0, measures=measures)
    storage.write_table(uri, pa.Table.from_pylist([sample], schema=SAMPLES))
    with pytest.raises(DataError, match=told["key"]):
        answers.prompts([told], [], str(tmp_path))
    storage.write_table(uri, pa.table({"query_id": ["q"]}))
    with pytest.raises(DataError, match="has columns query_id"):
        answers.prompts([told], [], str(tmp_path))


@pytest.mark.browser
@pytest.mark.usefixtures("page")
def test_answers_in_a_browser(made: report_folder.Made, browser: Browser) -> None:
    """With all folds open nothing is wider than the window, wide or narrow, and every picture is one."""
    for domain in ("Page", "Runtime", "Log"):
        browser.do(f"{domain}.enable")
    browser.do("Page.navigate", url=(Path(made.uri) / "report" / "index.html").as_uri())
    browser.wait("Page.loadEventFired")
    browser.value("document.querySelectorAll('details').forEach(details => details.open = true)")
    for width in (1280, 420):
        browser.do("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert browser.value("innerWidth") == width
        assert browser.value("document.documentElement.scrollWidth") <= width
        script = "[...document.querySelectorAll('.answered *, .split *, .counts *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.unseen')).map(e => e.outerHTML.slice(0, 80))"
        assert browser.value(script) == []
        tops = "[...document.querySelector('.answered').children].map(e => Math.round(e.getBoundingClientRect().top))"
        assert (len(set(browser.value(tops))) == 1) == (width == 1280), "beside each other, or below where it is narrow"
    widths = "Promise.all([...document.querySelectorAll('.answered img')].map(i => { i.loading = 'eager'; return i.decode().then(() => i.naturalWidth) }))"
    assert set(browser.value(widths)) == {96}
    assert [e for e in browser.events if e.get("params", {}).get("entry", {}).get("level") == "error"] == []
