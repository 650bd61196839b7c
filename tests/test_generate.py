"""Retrieved pictures become answers: the right pictures to the right queries, once, and every value by hand."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import generate_doubles as doubles
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from generate_doubles import CALLS, LOADS, SAYS, by_query, digest, generate, look, quoted, tables, unit

from raybench.cli import main
from raybench.encoders import ENCODERS
from raybench.errors import DataError, RequestError, WorkError
from raybench.experiments import answer_quality, rag_times
from raybench.experiments.evaluation import Intervals
from raybench.generation import GENERATORS
from raybench.generation.base import Answer
from raybench.generation.prompts import PROMPTS
from raybench.generation.tables import LATENCIES
from raybench.metrics.bleu import sentence_bleu
from raybench.metrics.cider import cider
from raybench.metrics.paired import paired_differences
from raybench.metrics.uncertainty import bootstrap_interval, number_clusters
from raybench.search.effort import split_queries
from raybench.sources.scenes.attributes import accuracy, accuracy_untold
from raybench.sources.scenes.collection import scenes_by_id
from raybench.sources.scenes.sentence import sentence

FIRST, SECOND = "tiny(dim=24)", "tiny(dim=16, seed=3)"
ONE = ("generate.prompts=[describe]", "generate.contexts=[retrieved]")


@pytest.fixture(scope="module", autouse=True)
def double():
    """The registry knows the double for the time of this file."""
    GENERATORS._members["double"] = "generate_doubles:Double"
    yield
    del GENERATORS._members["double"]


@pytest.fixture(scope="module")
def done(double, tmp_path_factory):
    """A finished run of two prompts in all contexts: its folder, itself, its tables, and its world."""
    out = tmp_path_factory.mktemp("done")
    run = generate(out)
    return out, run, tables(out, run), look(out)


@pytest.fixture
def embedded(done, tmp_path):
    """A folder with the vectors of the finished run, and nothing generated."""
    for name in ("datasets", "vectors", "queries"):
        shutil.copytree(done[0] / name, tmp_path / "out" / name)
    CALLS.clear()
    LOADS.clear()
    return tmp_path / "out"


def _gold(world, query):
    """The image of the cluster, else the best graded one, the first in the collection."""
    there = {one: grade for one, grade in world.grades[query["query_id"]].items() if one in world.image_ids}
    if query["cluster_id"] in there:
        return query["cluster_id"]
    return min(there, key=lambda one: (-there[one], world.image_ids.index(one)), default=None)


def _best(world, vector_D, count, encoder=FIRST):
    scores_N = world.images[encoder].load().matrix_ND.astype(np.float64) @ vector_D.astype(np.float64)
    rows = sorted(range(len(scores_N)), key=lambda row: (-scores_N[row], row))[:count]
    return [world.image_ids[row] for row in rows], scores_N[rows]


def test_every_context_shows_its_pictures(done):
    """Retrieved: the brute-force best; gold: the picture of the caption; random: others; none: nothing. All as pixels, in order."""
    _, _, found, world = done
    vectors_QD = world.texts[FIRST].load().matrix_ND
    queries = {query["query_id"]: (place, query) for place, query in enumerate(world.queries)}
    ids = found["describe", "retrieved"]["query_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 18
    assert ids == sorted(ids, key=lambda one: queries[one][0])
    for (prompt, context), table in found.items():
        assert table["query_id"].to_pylist() == ids
        for row in table.to_pylist():
            place, query = queries[row["query_id"]]
            relevant = world.grades[row["query_id"]]
            shown, scores = row["image_ids"], row["scores"]
            if context == "retrieved":
                best, expected = _best(world, vectors_QD[place], 3)
                assert shown == best
                np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)
            else:
                assert scores is None
            assert len(shown) == {"retrieved": 3, "none": 0, "gold": 1, "random": 3}[context]
            if context == "gold":
                assert shown == [_gold(world, query)]
            if context == "random":
                assert not set(shown) & set(relevant)
                assert len(set(shown)) == 3
            assert row["grades"] == [relevant.get(one, 0) for one in shown]
            assert (row["cluster_id"], row["query"], row["context"]) == (query["cluster_id"], query["text"], context)
            assert (row["question"] is None) == (prompt == "describe")
            assert row["prompt"] == PROMPTS[prompt].version
            template = PROMPTS[prompt].shown if shown else PROMPTS[prompt].unseen
            words = template.replace("{query}", query["text"]).replace("{question}", row["question"] or "")
            assert row["answer"] == " ".join([*(world.pictures[one] for one in shown), "#", words])


def _written(out):
    """When each file was written, but for samples, which cost nothing."""
    names = ("generations", "pictures", "results/answers", "results/latencies")
    return {path: path.stat().st_mtime_ns for name in names for path in (out / name).rglob("*") if path.is_file()}


def test_partitions_and_reruns_change_no_byte(done, embedded):
    """Two partitions give the same tables under the same keys; pictures are copied once; a rerun does not start the generator."""
    out, run, _, _ = done
    settings = ("generate.prompts=[describe]", "generate.contexts=[retrieved, random]")
    keys = [
        one["key"]
        for one in run.generations
        if one["prompt"] == "describe" and one["context"] in ("retrieved", "random")
    ]
    again = generate(embedded, *settings, "shards=2")
    assert [one["key"] for one in again.generations] == keys
    for key in keys:
        name = f"generations/{key}/answers.parquet"
        assert (embedded / name).read_bytes() == (out / name).read_bytes()
    assert LOADS == ["echo"]
    assert len(CALLS) == 2 * 18
    before = _written(embedded)
    generate(embedded, *settings, "shards=2")
    assert LOADS == ["echo"]
    assert _written(embedded) == before
    assert doubles.keys(embedded, *settings) == keys


def test_another_seed_draws_others(embedded, done):
    """Other queries and other pictures by lot; as many."""
    run = generate(embedded, *ONE, "seed=6")
    [table] = tables(embedded, run).values()
    assert len(table) == 18
    assert set(table["query_id"].to_pylist()) != set(done[2]["describe", "none"]["query_id"].to_pylist())


def _judged(folder, rows, qrels):
    """Tables of queries and judgments as settings."""
    pq.write_table(
        pa.table(dict(zip(("query_id", "text", "cluster_id"), zip(*rows, strict=True), strict=True))),
        folder / "q.parquet",
    )
    pq.write_table(
        pa.table(dict(zip(("query_id", "image_id", "relevance"), zip(*qrels, strict=True), strict=True))),
        folder / "j.parquet",
    )
    return (f"queries=parquet('{folder / 'q.parquet'}')", f"qrels=parquet('{folder / 'j.parquet'}')")


def test_what_a_query_is_about(done, tmp_path):
    """Its cluster's picture where that is relevant and can be read, else the best graded one, else it is not drawn and counted."""
    ids = done[3].image_ids
    kinds = pq.read_table(next(done[0].glob("datasets/*/images.parquet"))).to_pylist()
    broken = next(row["image_id"] for row in kinds if row["kind"] == "broken")
    queries = [
        ("own", "a red star", ids[5]),
        ("best", "a blue star", "elsewhere"),
        ("first", "a dot", broken),
        ("lost", "a ring", broken),
    ]
    qrels = [("own", ids[5], 1), ("own", ids[2], 3), ("best", ids[9], 2), ("best", ids[1], 1), ("best", broken, 3),
             ("first", ids[8], 2), ("first", ids[4], 2), ("first", broken, 2), ("lost", broken, 1)]  # fmt: skip
    settings = (*_judged(tmp_path, queries, qrels), "generate.contexts=[gold]", "generate.prompts=[describe]")
    run = generate(tmp_path / "out", *settings)
    [table] = tables(tmp_path / "out", run).values()
    shown = {row["query_id"]: (row["image_ids"], row["grades"]) for row in table.to_pylist()}
    assert shown == {"own": ([ids[5]], [1]), "best": ([ids[9]], [2]), "first": ([ids[4]], [2])}
    assert any("1 queries have no relevant picture that can be read" in one for one in run.warnings)
    # Other judgments of the same pictures are not the old table with its old grades.
    qrels[0] = ("own", ids[5], 2)
    again = generate(tmp_path / "out", *_judged(tmp_path, queries, qrels), *settings[2:])
    [table] = tables(tmp_path / "out", again).values()
    assert by_query(table)["own"]["grades"] == [2]


def test_what_decides_a_table_decides_its_key(done, embedded):
    """Each change makes other answers, and none is taken for another."""
    keys = doubles.keys(embedded, *ONE)
    assert keys == [
        one["key"] for one in done[1].generations if (one["prompt"], one["context"]) == ("describe", "retrieved")
    ]
    for settings in (
        ("generate.decoding={max_tokens: 9}",), ("generate.pictures=2",), ("generate.generator=double('echo', version=1)",), ("seed=6",),
        ("generate.generator=double('echo', batch=3)",), ("generate.strategy=centroid",), ("generate.transform=int8()",),
        ("generate.index=flat()",), (f"generate.encoder={SECOND}",), ("generate.prompts=[caption]",), ("generate.contexts=[gold]",),
        ("generate.shots=1",), ("generate.queries=17",),
    ):  # fmt: skip
        keys += doubles.keys(embedded, *ONE, *settings)
    assert max(Counter(keys).values()) == 1
    assert len(keys) == 14


def test_references_and_examples(done, embedded):
    """References are the other captions of the picture; an example's cluster is that of no answered query."""
    _, _, _, world = done
    run = generate(embedded, *ONE, "generate.shots=2", "generate.samples=18", "generate.queries=9")
    [entry] = run.generations
    captions: dict[str, list[str]] = {}
    for query in world.queries:
        captions.setdefault(query["cluster_id"], []).append(query["text"])
    samples = pq.read_table(embedded / "results" / "samples" / f"{entry['values']}.parquet").to_pylist()
    assert len(samples) == 9
    clusters = {query["query_id"]: query["cluster_id"] for query in world.queries}
    alone = 0
    for row in samples:
        others = [one for one in captions[clusters[row["query_id"]]] if one != row["query"]]
        assert row["references"] == (others or [row["query"]])
        alone += not others
        assert len(row["thumbnails"]) == 3
    assert any(f"{alone} of 9 queries are the only caption" in one for one in run.warnings) == bool(alone)
    answered = {clusters[row["query_id"]] for row in samples}
    by_digest = {shown: image_id for image_id, shown in world.pictures.items()}
    heads = {row["answer"].rpartition(" ; ")[0] for row in samples}
    assert len(heads) == 1
    shots = heads.pop().split(" ; ")
    assert len(shots) == 2
    for shot in shots:
        shown, words, said = shot.removeprefix("shot ").split(" | ")
        texts = captions[by_digest[shown]]
        assert by_digest[shown] not in answered
        assert quoted(words) in texts
        assert said == max((one for one in texts if one != quoted(words)), key=len)
    with pytest.raises(RequestError, match="ask for fewer, or answer fewer queries"):
        generate(embedded, *ONE, "generate.shots=30", "generate.queries=90")


def _f1(answer, references):
    def of(reference):
        said, told = (Counter(re.findall(r"\w+", one.lower())) for one in (answer, reference))
        shared = sum((said & told).values())
        return 2 * shared / (said.total() + told.total()) if shared else 0.0

    return max(map(of, references))


def _share(found):
    """Facts that are right, of all; NaN where there is none."""
    return np.nan if found.overall is None else found.overall


def test_values_are_those_of_the_answers(done, embedded):
    """Every value again from the table: words by hand, vectors by numpy; means, intervals and differences; no answer is an empty one."""
    world = done[3]

    def says(ask):
        if "red" in quoted(ask.words):
            return Answer("", problem="http_500", detail="by design")
        return Answer(
            f"a {len(ask.pictures)} {quoted(ask.words).split()[-1]} circle and star", ended="end", answer_tokens=4
        )

    SAYS["some"] = says
    run = generate(
        embedded,
        "generate.generator=double('some')",
        "generate.prompts=[describe]",
        "generate.max_bad=1",
        "generate.queries=40",
    )
    found = tables(embedded, run)
    captions: dict[str, list[str]] = {}
    for query in world.queries:
        captions.setdefault(query["cluster_id"], []).append(query["text"])
    gold = {query["query_id"]: _gold(world, query) for query in world.queries}
    row_of = {image_id: row for row, image_id in enumerate(world.image_ids)}
    matrix_ND = unit(world.images[SECOND].load().matrix_ND)
    encoder = ENCODERS.make(SECOND).load("cpu", 1)
    scenes = scenes_by_id(80, 0)

    def vector(text):
        return unit(encoder.texts(["A photo depicts " + text]))[0]

    kept = {}
    for entry in run.generations:
        assert entry["scorer"] == SECOND
        table = found["describe", entry["context"]]
        rows = table.to_pylist()
        failed = ["red" in row["query"] for row in rows]
        assert 0 < sum(failed) < 40
        assert entry["problems"] == {"http_500": sum(failed)}
        assert entry["answered"] == 40 - sum(failed)
        assert [row["problem"] for row in rows] == ["http_500" if bad else None for bad in failed]
        said = [row["answer"] or "" for row in rows]
        references = [
            [one for one in captions[row["cluster_id"]] if one != row["query"]] or [row["query"]] for row in rows
        ]
        expected = {
            "token_f1": [_f1(*pair) for pair in zip(said, references, strict=True)],
            "bleu@4": sentence_bleu(said, references), "cider": cider(said, references),
            "accuracy": [_share(accuracy(text, scenes[gold[row["query_id"]]])) for text, row in zip(said, rows, strict=True)],
            "accuracy_untold": [
                _share(accuracy_untold(text, row["query"], scenes[gold[row["query_id"]]])) for text, row in zip(said, rows, strict=True)
            ],
        }  # fmt: skip
        clip, ref = [], []
        for text, row, some in zip(said, rows, references, strict=True):
            one = 2.5 * max(0.0, vector(text) @ matrix_ND[row_of[gold[row["query_id"]]]]) if text else 0.0
            best = max([0.0, *(vector(text) @ vector(other) for other in some)]) if text else 0.0
            clip.append(one)
            ref.append(2 * one * best / (one + best) if one + best else 0.0)
        expected |= {"clip_score": clip, "ref_clip_score": ref}
        measured = {one["measure"]: one for one in entry["measures"]}
        clusters_Q = number_clusters([row["cluster_id"] for row in rows])
        values = kept[entry["context"]] = {}
        stored = [pq.read_table(path) for path in (embedded / "results" / "answers").iterdir()]
        stored = next(one for one in stored if one["experiment"][0].as_py() == entry["key"]).to_pylist()
        place = {row["query_id"]: number for number, row in enumerate(rows)}
        for one in stored:
            values.setdefault(one["measure"], np.full(40, np.nan))[place[one["query_id"]]] = one["value"]
        for measure, some in expected.items():
            np.testing.assert_allclose(values[measure], some, rtol=0, atol=1e-6, err_msg=measure)
        for measure, values_Q in values.items():
            there_Q = np.isfinite(values_Q)
            interval = bootstrap_interval(values_Q[there_Q], clusters_Q[there_Q], resamples=200, level=0.95, seed=5)
            told = measured[measure]
            assert told["value"] == pytest.approx(values_Q[there_Q].mean())
            assert (told["low"], told["high"]) == (interval.low, interval.high)
            assert told["queries"] == there_Q.sum()
        for measure in set(values) - {"groundedness"}:
            assert np.nan_to_num(values[measure][np.array(failed)]).max() == 0, measure
    [sheet] = [one for one in run.sheets if one.title == "What retrieval adds"]
    for row in sheet.rows:
        for (a, b), told in zip(
            (("retrieved", "none"), ("gold", "retrieved"), ("retrieved", "random")), row[2:], strict=True
        ):
            a_Q, b_Q = kept[a][row[1]], kept[b][row[1]]
            there_Q = np.isfinite(a_Q)
            [one] = paired_differences(
                [a_Q[there_Q]], [b_Q[there_Q]], clusters_Q[there_Q], ["mean"], resamples=200, level=0.95, seed=5
            )
            assert told == f"{(a_Q - b_Q)[there_Q].mean():+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def test_a_reference_without_words_is_embedded_too():
    """An answer without words is the vector 0; a blank caption of a source still has its vector."""
    held = answer_quality.Held(None, (), (("a", " "),), (), None)
    assert answer_quality._read([["", "b"], [" "]], held, "p ") == {"p b", "p a", "p  "}


def test_groundedness_is_above_chance_for_what_was_retrieved(done, embedded):
    """By hand: the mean cosine with the three retrieved pictures less that with pictures that are not relevant."""
    world = done[3]
    run = generate(embedded, *ONE)
    [table] = tables(embedded, run).values()
    matrix_ND = unit(world.images[SECOND].load().matrix_ND)
    encoder = ENCODERS.make(SECOND).load("cpu", 1)
    row_of = {image_id: row for row, image_id in enumerate(world.image_ids)}
    [path] = (embedded / "results" / "answers").iterdir()
    values = {
        row["query_id"]: row["value"] for row in pq.read_table(path).to_pylist() if row["measure"] == "groundedness"
    }
    assert len(values) == 18
    for row in table.to_pylist():
        cosines_N = matrix_ND @ unit(encoder.texts(["A photo depicts " + row["answer"]]))[0]
        others = np.sort(
            [cosines_N[place] for one, place in row_of.items() if one not in world.grades[row["query_id"]]]
        )
        at = cosines_N[[row_of[one] for one in row["image_ids"]]].mean()
        # Eight others by lot: between the eight least and the eight most alike.
        assert at - others[-8:].mean() - 1e-6 <= values[row["query_id"]] <= at - others[:8].mean() + 1e-6


def test_truth_scores_one_and_a_parrot_what_its_query_tells(done, embedded):
    """A generator that says all that is true of the picture has accuracy 1; one that repeats its query has what that tells."""
    world, scenes = done[3], scenes_by_id(80, 0)
    by_digest = {shown: image_id for image_id, shown in world.pictures.items()}
    SAYS["truth"] = lambda ask: Answer(sentence(scenes[by_digest[digest(ask.pictures[0])]]), ended="end")
    SAYS["parrot"] = lambda ask: Answer(quoted(ask.words), ended="end")
    settings = ("generate.prompts=[describe]", "generate.contexts=[gold]")
    [entry] = generate(embedded, *settings, "generate.generator=double('truth')").generations
    told = {one["measure"]: one["value"] for one in entry["measures"]}
    assert told["accuracy"] == told["accuracy_untold"] == 1
    run = generate(embedded, *settings, "generate.generator=double('parrot')")
    [table] = tables(embedded, run).values()
    told = {one["measure"]: one["value"] for one in run.generations[0]["measures"]}
    parts = [accuracy(row["query"], scenes[row["image_ids"][0]]).all for row in table.to_pylist()]
    assert told["accuracy"] == pytest.approx(np.mean([one.right / one.of for one in parts]))
    assert 0 < told["accuracy"] < 1
    untold = [
        _share(accuracy_untold(row["query"], row["query"], scenes[row["image_ids"][0]])) for row in table.to_pylist()
    ]
    assert told["accuracy_untold"] == pytest.approx(np.nanmean(untold))
    assert told["accuracy_untold"] < told["accuracy"] / 2


def test_questions_of_scenes_are_answered_rightly_by_their_answers(done, embedded):
    """What the source asks has one right answer, which is right; another is not."""
    out, _, found, _ = done
    [entry] = [one for one in done[1].generations if (one["prompt"], one["context"]) == ("answer", "gold")]
    kept = {
        row["query_id"]: row
        for row in pq.read_table(out / "results" / "samples" / f"{entry['values']}.parquet").to_pylist()
    }
    assert len(kept) == 3
    for row in kept.values():
        assert (
            found["answer", "gold"]["question"][
                found["answer", "gold"]["query_id"].to_pylist().index(row["query_id"])
            ].as_py()
            in row["words"]
        )
    answers = {row["words"]: row["references"][0] for row in kept.values()}
    SAYS["knows"] = lambda ask: Answer(answers.get(ask.words, "nothing of that"), ended="end")
    run = generate(
        embedded, "generate.prompts=[answer]", "generate.contexts=[gold]", "generate.generator=double('knows')"
    )
    told = {one["measure"]: one["value"] for one in run.generations[0]["measures"]}
    assert told["right"] == pytest.approx(3 / 18)
    assert set(told) == {"right", "token_f1"}


def test_questions_of_a_table(done, embedded, tmp_path):
    """Asked as they are, numbers too; a missing column, a second question and a query without one are named."""
    ids = done[2]["answer", "none"]["query_id"].to_pylist()

    def ask(rows, *settings):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "questions.parquet")
        table = f"generate.questions=parquet('{tmp_path / 'questions.parquet'}')"
        return generate(embedded, "generate.prompts=[answer]", "generate.contexts=[none]", table, *settings)

    rows = [
        {"query_id": one, "question": f"how many in {one}?", "answer": number % 2} for number, one in enumerate(ids)
    ]
    SAYS["zero"] = lambda _: Answer("0", ended="end")
    run = ask([*rows, {"query_id": "not drawn", "question": "?", "answer": 7}], "generate.generator=double('zero')")
    [table] = tables(embedded, run).values()
    assert table["question"].to_pylist() == [row["question"] for row in rows]
    assert {one["measure"]: one["value"] for one in run.generations[0]["measures"]}["token_f1"] == 0.5
    with pytest.raises(DataError, match="row 0 has no answer"):
        ask([{"query_id": ids[0], "question": "?"}])
    with pytest.raises(DataError, match="has two questions"):
        ask([*rows, rows[3]])
    with pytest.raises(RequestError, match="needs a question for every query, and 1 of 18 have none"):
        ask(rows[1:])


def test_the_average_of_a_cluster_is_searched(done, embedded):
    """Strategy centroid: the mean of the cluster's vectors at length one, as it is stored."""
    world = done[3]
    run = generate(embedded, *ONE, "generate.strategy=centroid")
    [table] = tables(embedded, run).values()
    vectors_QD = world.texts[FIRST].load().matrix_ND
    clusters = [query["cluster_id"] for query in world.queries]
    several = 0
    for row in table.to_pylist():
        own = [place for place, cluster in enumerate(clusters) if cluster == row["cluster_id"]]
        several += len(own) > 1
        average_D = unit(vectors_QD[own].astype(np.float64).mean(axis=0)[None])[0].astype(np.float16)
        assert row["image_ids"] == _best(world, average_D, 3)[0]
    assert several > 5


def test_a_tuned_effort_is_used_on_queries_that_did_not_tune(done, embedded):
    """The effort that was found is in the cell, and drawn queries are of the other half; one that is not found is a cell without a result."""
    world = done[3]
    run = generate(
        embedded,
        *ONE,
        "generate.index=hnsw(m=8)",
        "tune={measure: overlap@3, target: 0.5, indexes: [hnsw(m=8)]}",
        "generate.queries=90",
    )
    [path] = (embedded / "results" / "tuned").iterdir()
    assert run.generations[0]["index"] == f"hnsw(m=8)@{json.loads(path.read_text())['effort']}"
    [table] = tables(embedded, run).values()
    held_out = split_queries(number_clusters([query["cluster_id"] for query in world.queries]), 5)[1]
    assert table["query_id"].to_pylist() == [
        query["query_id"] for query, is_out in zip(world.queries, held_out, strict=True) if is_out
    ]
    failed = generate(
        embedded,
        *ONE,
        "generate.index=hnsw(m=4)",
        "tune={measure: overlap@3, target: 0.99, most: 3, indexes: [hnsw(m=4)]}",
    )
    assert failed.generations == []
    assert "no effort of hnsw(m=4) reaches overlap@3 of 0.99" in failed.failed[0]["reason"]


class _StoppedError(Exception):
    """As if the process had been killed."""


def test_a_broken_run_goes_on_where_it_stopped(done, embedded):
    """At every batch once: the next run asks only for what is missing, and ends with the bytes of an undisturbed one."""
    settings = (
        "generate.prompts=[describe]",
        "generate.contexts=[retrieved, gold]",
        "generate.generator=double('stops')",
    )
    left = [5]

    def stops(ask):
        left[0] -= 1
        if left[0] < 0:
            raise WorkError("the power is gone")
        return doubles.echoed(ask)

    SAYS["stops"] = stops
    runs, answered = 0, 0
    while True:
        try:
            run = generate(embedded, *settings)
            break
        except WorkError:
            runs, left[0] = runs + 1, 5
            assert not list(embedded.glob("generations/*/manifest.json"))
            parts = len(list(embedded.glob("generations/*/parts/*.parquet")))
            assert parts == answered + 1
            answered = parts
    assert runs == 9  # one batch of four a run, and the last of two with another
    for one in run.generations:
        kept = next(
            other
            for other in done[1].generations
            if (other["prompt"], other["context"]) == (one["prompt"], one["context"])
        )
        mine = pq.read_table(embedded / "generations" / one["key"] / "answers.parquet")
        assert mine.equals(pq.read_table(done[0] / "generations" / kept["key"] / "answers.parquet"))
    assert not list(embedded.glob("generations/*/parts"))


@pytest.mark.parametrize("lost", ["answers.parquet", "timings.parquet", "manifest.json"])
def test_a_lost_file_is_made_again(lost, done, embedded):
    """With the bytes that it had."""
    [entry] = generate(embedded, *ONE).generations
    folder = embedded / "generations" / entry["key"]
    before = (folder / "answers.parquet").read_bytes()
    CALLS.clear()
    (folder / lost).unlink()
    generate(embedded, *ONE)
    assert len(CALLS) == 18
    assert (folder / "answers.parquet").read_bytes() == before
    assert (folder / lost).exists()


def test_too_many_problems_fail_and_only_they_are_asked_again(done, embedded):
    """One sentence with the reason; whole batches without a problem are kept."""
    ids = done[2]["describe", "none"]
    bad = {ids["query"][place].as_py() for place in (5, 6)}
    SAYS["server"] = lambda ask: (
        Answer("", problem="http_500", detail="overloaded") if quoted(ask.words) in bad else doubles.echoed(ask)
    )
    settings = ("generate.prompts=[describe]", "generate.contexts=[none, gold]", "generate.generator=double('server')")
    with pytest.raises(
        WorkError, match=r"have no answer \(http_500 \d; one: overloaded\), more than generate.max_bad=0.05"
    ) as caught:
        generate(embedded, *settings)
    assert "\n" not in str(caught.value)
    texts = ids["query"].to_pylist()
    batches = [texts[start : start + 4] for start in range(0, 18, 4)]
    again = [one for batch in batches if bad & set(batch) for one in batch]
    CALLS.clear()
    bad.clear()
    generate(embedded, *settings)  # one rerun is enough for both contexts
    assert [quoted(words) for words in CALLS] == again * 2
    assert len(again) < 18


def test_a_picture_that_is_gone_is_a_problem_of_its_queries(done, embedded):
    """A copy that cannot be read is an answer that is missing, with its reason; the others are answered."""
    generate(embedded, *ONE, "generate.queries=18")
    shown = Counter(one for row in done[2]["describe", "retrieved"].to_pylist() for one in row["image_ids"])
    positions = {
        row["image_id"]: f"{0:05d}-{row['position']:07d}"
        for table in done[3].images[FIRST].metadata(["image_id", "position"])
        for row in table.to_pylist()
    }
    gone = shown.most_common(1)[0][0]
    [path] = embedded.glob(f"pictures/*/{positions[gone]}-*")
    path.write_bytes(b"no picture")
    run = generate(
        embedded, *ONE, "generate.generator=double('echo', version=2)", "generate.max_bad=1", "generate.samples=0"
    )
    [table] = tables(embedded, run).values()
    for row in table.to_pylist():
        assert (row["problem"] == "picture_unreadable") == (gone in row["image_ids"])
        assert (row["answer"] == "") == (gone in row["image_ids"])


def test_times_of_one_answer_add_up(done, embedded):
    """Stages lie within the total, search is shard, transport and merge, warming up is not counted, another generator is timed again."""
    settings = (*ONE, "generate.alone={queries: 5, warm_up: 2}")
    run = generate(embedded, *settings)
    [path] = (embedded / "results" / "latencies").iterdir()
    rows = pq.read_table(path).to_pylist()
    assert [row["is_warm"] for row in rows] == [False] * 2 + [True] * 5
    asked = [row["query_id"] for row in rows]
    assert len(set(asked)) == 7
    assert set(asked) <= set(done[2]["describe", "none"]["query_id"].to_pylist())
    assert [row["is_cold"] for row in rows] == [True] + [False] * 6
    parts = ("encode_s", "search_s", "fetch_s", "preprocess_s", "first_token_s", "decode_s")
    for row in rows:
        assert min(row[name] for name in parts) >= 0
        assert sum(row[name] for name in parts) <= row["total_s"]
        assert row["shard_s"] + row["merge_s"] <= row["search_s"]
    [told] = run.rag_times
    stages = {one["stage"]: one for one in told["stages"]}
    assert told["warm"] == 5
    warm = rows[2:]
    assert stages["total"]["mean_s"] == pytest.approx(np.mean([row["total_s"] for row in warm]))
    assert stages["search"]["share"] == pytest.approx(np.mean([row["search_s"] / row["total_s"] for row in warm]))
    within = sum(stages[f"search: {name}"]["mean_s"] for name in ("shard", "transport", "merge"))
    assert within == pytest.approx(stages["search"]["mean_s"])
    assert told["split"]["search"]["share"] + told["split"]["generation"]["share"] == pytest.approx(1)
    generate(embedded, *settings)
    assert len(list((embedded / "results" / "latencies").iterdir())) == 1
    # The same words from a generator with another speed are not the same seconds.
    generate(embedded, *settings, "generate.generator=echo()")
    generate(embedded, *settings, "generate.generator=echo(delay_s=0.001)")
    assert len(list((embedded / "results" / "latencies").iterdir())) == 3


def test_batches_are_counted_without_each_workers_first(done):
    """Answers a second from the timings: warm queries by the seconds of their batches, each once."""
    out, run, found, _ = done
    [sheet] = [one for one in run.sheets if one.title == "Generating in batches"]
    keys = {(one["prompt"], one["context"]): one["key"] for one in run.generations}
    for row in sheet.rows:
        told = dict(zip(sheet.columns, row, strict=True))
        timings = pq.read_table(out / "generations" / keys[row[:2]] / "timings.parquet").to_pylist()
        assert [one["batch"] for one in timings] == [place // 4 for place in range(18)]
        warm = [one for one in timings if not one["is_first"]]
        assert len(warm) == (14 if row[:2] == ("describe", "retrieved") else 18)
        total_s = sum({one["batch"]: one["batch_s"] for one in warm}.values())
        assert told["answers/s"] == pytest.approx(len(warm) / total_s)
        assert (told["queries"], told["answered"], told["cut off"], told["batch"]) == (18, 18, 0, 4)
        assert told["tokens out"] == pytest.approx(
            np.mean([len(text.split()) for text in found[row[:2]]["answer"].to_pylist()])
        )


def test_queries_without_an_answer_and_warm_ones_are_not_counted():
    """One row warms up, one failed, one was tried twice; a stage that was not seen everywhere is left out of stages, not of generation."""
    row = {"encode_s": 0.1, "search_s": 0.4, "shard_s": 0.3, "merge_s": 0.05, "fetch_s": 0.1, "preprocess_s": 0.1, "first_token_s": 0.1,
           "decode_s": 0.1, "total_s": 1.0, "answer_tokens": 3, "tries": 1, "problem": None, "is_warm": True, "is_cold": False}  # fmt: skip
    changes = [
        {"is_warm": False, "total_s": 90.0},
        {},
        {"problem": "http_500", "total_s": 50.0},
        {"total_s": 2.0, "first_token_s": None},
        {"tries": 2, "total_s": 70.0},
    ]
    table = pa.Table.from_pylist([row | {"query_id": str(n)} | change for n, change in enumerate(changes)], LATENCIES)
    assert rag_times.counted(table) == 2
    told = rag_times.split(table, Intervals(resamples=100), 0)
    stages = {one["stage"]: one for one in told["stages"]}
    assert "first token" not in stages
    assert stages["total"]["mean_s"] == 1.5
    assert stages["search: transport"]["mean_s"] == pytest.approx(0.05)
    assert stages["decode"]["share"] == pytest.approx((0.1 + 0.05) / 2)
    assert told["split"]["search"]["mean_s"] == pytest.approx(0.6)
    assert told["split"]["generation"]["mean_s"] == pytest.approx((0.4 + 1.4) / 2)


@pytest.fixture
def call(done, tmp_path, monkeypatch, capsys):
    """The command on a file; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, text=doubles.FILE):
        Path("file.yaml").write_text(text)
        with pytest.raises(SystemExit) as stop:
            main(["generate", "file.yaml", "--out", "out", "--local", *arguments])
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["generate.prompts=[describ]"], "describe"),
        (["generate.contexts=[golden]"], "gold"),
        (["generate.contexts=[gold, gold]"], "gold"),
        (["generate.generator=ecco()"], "echo"),
        (["generate.encoder=tiny(dim=7)"], "not among encoders"),
        (["generate.score=tiny(dim=7)"], "not among encoders"),
        (["generate.decoding={top_p: 0.5}"], "means nothing at temperature 0"),
        (["generate.queries=0"], "generate.queries"),
        (["generate.shots=1"], "answer no question"),
        (["generate.strategy=nearest"], "knn"),
        (["generate=null"], "has no section generate"),
        (["generate.workers=2"], "workers=2"),
        (["generate.pictures=101"], "generate.pictures"),
        (["generate.prompts=[own]"], "there is no generate.own_prompt"),
        (["generate.own_prompt={shown: 'a {query}', unseen: 'b {query}'}"], "add own to generate.prompts"),
        (["generate.prompts=[own]", "generate.own_prompt={shown: 'a', unseen: 'b {query}'}"], "must hold {query}"),
        (["generate.questions=parquet('nowhere.parquet')"], "nowhere.parquet"),
    ],
)
def test_wrong_requests_are_one_sentence(settings, message, call, done):
    """Exit 2, one line that names what is wrong."""
    if "workers" in settings[0]:
        for name in ("datasets", "vectors", "queries"):
            shutil.copytree(done[0] / name, Path("out") / name)
    code, _, told = call(*(part for one in settings for part in ("--set", one)))
    lines = [line for line in told.splitlines() if line.startswith("raybench: ")]
    assert code == 2, told
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in told


def test_vectors_have_nothing_to_show(call):
    """An evaluation of vectors is refused with a reason."""
    text = "name: v\ncorpus: npy('a.npy')\nqueries: npy('b.npy')\n"
    code, _, told = call(text=text)
    assert code == 2
    assert "generate needs one of images" in told or "generate" in told


def test_questions_that_are_missing_are_a_wrong_request(call, done, tmp_path):
    """The prompt that asks questions of pictures whose source knows none."""
    path = next(done[0].glob("datasets/*/00000.tar"))
    code, _, told = call("--set", f"images=webdataset('{path}')", "--set", "generate.prompts=[answer]")
    assert code == 2
    assert "give generate.questions" in told


def test_the_command_plans_answers_and_prints_json(call, embedded, tmp_path):
    """`--dry-run` writes nothing; `--generator` and `--queries` override; the last line is one object."""
    code, printed, _ = call("--dry-run", "--out", "planned")
    assert code == 0
    assert 'generate with double("echo"): at most 18 queries' in printed
    assert not Path("planned").exists()
    code, printed, told = call(
        "--generator",
        "echo(batch=4)",
        "--queries",
        "3",
        "--set",
        "generate.prompts=[describe]",
        "--set",
        "generate.alone.queries=2",
        "--json",
    )
    assert code == 0, told
    last = json.loads(printed.splitlines()[-1])
    assert last["ok"] is True
    assert [one["context"] for one in last["generations"]] == ["retrieved", "none", "gold", "random"]
    assert {one["queries"] for one in last["generations"]} == {3}
    assert last["rag_times"][0]["warm"] == 2
    for prompt in ("Answers: describe", "Search against generation"):
        assert prompt in {one["title"] for one in last["sheets"]}


@pytest.mark.s3
def test_an_object_store_holds_the_same_answers(s3, done):
    """The same keys, the same answers, and a rerun that does nothing."""
    from raybench import storage

    out = storage.join(s3, "generate")
    run = generate(out, *ONE)
    [entry] = run.generations
    kept = storage.read_bytes(storage.join(out, "generations", entry["key"], "answers.parquet"))
    assert kept == (done[0] / "generations" / entry["key"] / "answers.parquet").read_bytes()
    CALLS.clear()
    generate(out, *ONE)
    assert CALLS == []
