"""A whole evaluation, checked against a slow computation from nothing but the stored vectors and the judgments."""

import io
import json
import math
from pathlib import Path

import numpy as np
import oracles
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raybench import results, storage
from raybench.collection import open_collection
from raybench.errors import DataError, RequestError
from raybench.experiments import evaluation_file as files
from raybench.experiments import judgments, runner
from raybench.experiments.backend import LocalBackend
from raybench.experiments.evaluation import Grid
from raybench.experiments.grid_axes import multiplied
from raybench.experiments.prepared import prepare
from raybench.experiments.reporting import Silent

PICTURES = 40


def _write_pictures(folder: Path) -> None:
    """Forty pictures; number 7 is broken, 20 and 21 are the same file, and 30 to 39 have no caption."""
    folder.mkdir()
    for number in range(PICTURES):
        seed = 20 if number == 21 else number
        pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (folder / f"{number:02d}.png").write_bytes(b"broken" if number == 7 else buffer.getvalue())
    lines = [f"{number:02d}.png,picture {number} of {word}" for number in range(30) for word in ("moon", "sun")]
    (folder / "captions.csv").write_text("\n".join(["file_name,caption", *lines]))


def _run(tmp_path: Path, out: str | None = None, backend: object = None, **changes: object) -> runner.Run:
    folder = tmp_path / "pictures"
    if not folder.exists():
        _write_pictures(folder)
    content = {
        "name": "small", "images": f'folder("{folder}", captions="{folder}/captions.csv")', "encoders": ["tiny(dim=24)"],
        "directions": ["text_to_image", "image_to_text"], "embed": {"max_bad": 0.2, "chunk": 7}, "gallery": 4, "shards": 3,
        "measures": ["ndcg@5", "map@5", "recall@5", "precision@5", "mrr@5", "hit@1", "mrr", "median_rank", "overlap@3"],
    } | changes  # fmt: skip
    evaluation = files.parse(json.dumps(content), "test")
    prepared = prepare(evaluation, out or str(tmp_path / "out"))
    return runner.run(prepared, backend or LocalBackend(), Silent(), "test")


def _vectors(run: runner.Run, modality: str) -> tuple[list[str], np.ndarray]:
    uri = next(artifact["uri"] for artifact in run.artifacts if artifact["modality"] == modality)
    collection = open_collection(storage.join(run.out, uri))
    column = "image_id" if modality == "image" else "query_id"
    ids = [value for table in collection.metadata([column]) for value in table[column].to_pylist()]
    return ids, np.asarray(collection.load().matrix_ND)


def _slow_measures(ranking: list[str], grades: dict[str, int]) -> dict[str, float]:
    """The definitions, one by one, on one ranked list of all ids."""
    ranks = [rank for rank, one in enumerate(ranking, 1) if one in grades]
    top = [rank for rank in ranks if rank <= 5]
    gain = sum(grades[ranking[rank - 1]] / math.log2(rank + 1) for rank in top)
    ideal = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(sorted(grades.values(), reverse=True)[:5], 1))
    return {
        "ndcg@5": gain / ideal,
        "map@5": sum(number / rank for number, rank in enumerate(top, 1)) / len(grades),
        "recall@5": len(top) / len(grades),
        "precision@5": len(top) / 5,
        "mrr@5": 1 / top[0] if top else 0.0,
        "hit@1": float(ranks[:1] == [1]),
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "median_rank": float(ranks[0]) if ranks else len(ranking) + 1.0,
    }


def _check(run: runner.Run, direction: str, judged: dict[str, dict[str, int]]) -> None:
    """Every record and every query's value against the slow computation."""
    sides = [_vectors(run, "text"), _vectors(run, "image")]
    (query_ids, queries_QD), (corpus_ids, corpus_ND) = sides if direction == "text_to_image" else sides[::-1]
    expected: dict[str, dict[str, float]] = {}
    for query_id, grades in judged.items():
        scores = oracles.scores(queries_QD[[query_ids.index(query_id)]], corpus_ND)
        ranking = [corpus_ids[row] for row in oracles.top_rows(scores, len(corpus_ids))[0]]
        expected[query_id] = _slow_measures(ranking, grades)
    records = [record for record in run.records if record.direction == direction]
    stored = results.read_queries(storage.join(run.out, "results"), records[0].experiment).to_pylist()
    for record in records:
        values = {row["query_id"]: row["value"] for row in stored if row["measure"] == record.measure}
        assert values.keys() == expected.keys()
        if record.measure == "overlap@3":
            assert record.value == 1.0
            continue
        for query_id, measures in expected.items():
            assert values[query_id] == pytest.approx(measures[record.measure], abs=1e-12), (record.measure, query_id)
        middle = np.median if record.measure == "median_rank" else np.mean
        assert record.value == pytest.approx(middle(list(values.values())), abs=1e-12)


def test_captions_are_the_queries(tmp_path):
    """Each caption of a readable image asks for it, and back; values equal the slow computation; accounts are whole."""
    run = _run(tmp_path)
    captions = {
        f"{number:02d}.png_caption_{n:02d}": f"{number:02d}.png" for number in range(30) if number != 7 for n in (0, 1)
    }

    _check(run, "text_to_image", {query: {image: 1} for query, image in captions.items()})
    _check(run, "image_to_text", {
        image: {query: 1 for query, of in captions.items() if of == image} for image in captions.values()
    })  # fmt: skip
    pictures = next(artifact for artifact in run.artifacts if artifact["modality"] == "image")
    assert (pictures["rows_in"], pictures["rows_out"], pictures["dropped"]) == (40, 39, {"not_an_image": 1})
    assert {record.clusters for record in run.records} == {29}


def test_overlap_does_not_depend_on_deeper_cut_offs(tmp_path):
    """overlap@1 is of the first row that was found, and not of the best of ten that were looked at for overlap@10."""
    grid = {"transforms": ["truncate(dim=3)"]}
    alone = _run(tmp_path, str(tmp_path / "alone"), grid=grid, measures=["overlap@1"], directions=["text_to_image"])
    both = _run(
        tmp_path, str(tmp_path / "both"), grid=grid, measures=["overlap@1", "overlap@10"], directions=["text_to_image"]
    )
    assert alone.records[0].value == both.records[0].value < 1
    assert alone.records[0].best_tie == both.records[0].best_tie


GRID = {"indexes": ["exact()", "flat()", "hnsw(m=4)@6", "sq8()@7", "binary()", "ivf_flat(lists=5)@1"]}
RANKED = ["ndcg@5", "map@5", "recall@5", "precision@5", "mrr@5", "hit@1", "overlap@3"]


def _by_index(run: runner.Run) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for record in run.records:
        found.setdefault(record.index, {})[record.measure] = record.value
    return found


def test_a_grid_of_indexes(tmp_path):
    """Lists give the same measures as exact ranks where they find all; what cannot be built is a warning with its reason.

    A rerun builds nothing.
    """
    content = {
        "grid": GRID,
        "measures": RANKED,
        "directions": ["text_to_image"],
        "shards": 1,
        "embed": {"max_bad": 0.2},
    }
    run = _run(tmp_path, **content)
    found = _by_index(run)
    assert list(found) == GRID["indexes"][:-1]
    assert found["flat()"] == pytest.approx(found["exact()"], abs=1e-12)
    assert found["sq8()@7"]["overlap@3"] > 0.9
    assert found["binary()"]["overlap@3"] < found["sq8()@7"]["overlap@3"]
    assert 0 < found["hnsw(m=4)@6"]["overlap@3"] <= 1
    [failed] = run.failed
    assert failed["system"].endswith("float16(), ivf_flat(lists=5)@1")
    assert "ivf_flat(lists=5) needs 195 rows or more" in failed["reason"]
    assert run.sheets[-1].rows == (("searching", failed["reason"], 1, failed["system"]),)
    indexes = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "indexes").rglob("*") if path.is_file()}
    assert len(indexes) == 8
    again = _run(tmp_path, **content | {"measures": [*RANKED, "hit@3"]})
    assert indexes == {path: path.stat().st_mtime_ns for path in indexes}
    assert {name: one["ndcg@5"] for name, one in _by_index(again).items()} == {
        name: one["ndcg@5"] for name, one in found.items()
    }


def test_axes_are_multiplied_out():
    """Precisions follow transforms, efforts go to indexes that need one and have none, candidates stand around all."""
    grid = Grid(
        ("float16()", "truncate( dim=8)"), ("exact()", "hnsw(m=4)", "ivf_flat(lists=2)@2", "sq8()"), ("float16()", "int8()"),
        (8, 16), (30,),
    )  # fmt: skip
    made = multiplied(grid)
    assert made.transforms == (
        "float16()", "int8()", "truncate(dim=8)", 'chain("truncate(dim=8)", "int8()")',
    )  # fmt: skip
    direct = ("exact()", "hnsw(m=4)@8", "hnsw(m=4)@16", "ivf_flat(lists=2)@2", "sq8()")
    assert made.indexes[:5] == direct
    assert made.indexes[5:] == (
        'rerank("exact()", candidates=30)', 'rerank("hnsw(m=4)", candidates=30)@8', 'rerank("hnsw(m=4)", candidates=30)@16',
        'rerank("ivf_flat(lists=2)", candidates=30)@2', 'rerank("sq8()", candidates=30)',
    )  # fmt: skip
    assert multiplied(made) == made


def test_dimensions_precisions_and_candidates(tmp_path):
    """The trade-off of few dimensions, few bits and candidates that are scored again, against a slow computation.

    Cells that cannot be asked are rows with their reason; all others have results.
    """
    grid = {
        "transforms": ["float16()", "truncate(dim=4)"], "precisions": ["float16()", "int8()", "int4()", "bfloat16()"],
        "indexes": ["exact()", "hnsw(m=4)"], "efforts": [4, 20], "candidates": [10, 30, 1000],
    }  # fmt: skip
    run = _run(
        tmp_path, grid=grid, measures=["overlap@5", "hit@1"], directions=["text_to_image"], embed={"max_bad": 0.2}, shards=1
    )  # fmt: skip
    found = {(one.transform, one.index): one.value for one in run.records if one.measure == "overlap@5"}
    asked = {(one["transform"], one["index"]) for one in run.experiments}
    assert asked == found.keys()
    reasons = {one["system"].partition("tiny")[2].partition(", ")[2]: one["reason"] for one in run.failed}
    assert len(found) + len(reasons) == 8 * 3 * 4
    assert all(any(part in system for part in ("candidates=1000", "@4", "candidates=30)@20")) for system in reasons)
    assert any("1,000 rows again, and there are 39" in reason for reason in reasons.values())
    assert any("its effort (nodes in view) must be" in reason for reason in reasons.values())
    vectors = [one for one in run.artifacts if one["kind"] == "vectors"]
    images, texts = (
        next(open_collection(f"{run.out}/{one['uri']}").load().matrix_ND for one in vectors if one["modality"] == modality)
        for modality in ("image", "text")
    )  # fmt: skip

    def slow(rows: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
        return np.argsort(-(queries.astype(np.float64) @ rows.astype(np.float64).T), axis=1, kind="stable")[:, :k]

    truth = slow(images, texts, 5)
    cut = [side[:, :4].astype(np.float32) for side in (images, texts)]
    cut = [(side / np.linalg.norm(side.astype(np.float64), axis=1, keepdims=True)).astype(np.float16) for side in cut]
    for transform, rows, queries in (("float16()", images, texts), ('chain("truncate(dim=4)", "int8()")', *cut)):
        if "int8" in transform:
            low, high = rows.astype(np.float64).min(axis=0), rows.astype(np.float64).max(axis=0)
            rows = (low + np.rint((rows - low) / (high - low) * 255) * ((high - low) / 255)).astype(np.float32)  # noqa: PLW2901
        for index, depth in (("exact()", 5), ('rerank("exact()", candidates=10)', 10)):
            near = slow(rows, queries, depth)
            scores = np.take_along_axis(texts.astype(np.float64) @ images.astype(np.float64).T, near, axis=1)
            order = (
                np.argsort(-scores, axis=1, kind="stable")[:, :5]
                if depth > 5
                else np.tile(np.arange(5), (len(near), 1))
            )
            lists = np.take_along_axis(near, order, axis=1)
            expected = np.mean([len({*a} & {*b}) / 5 for a, b in zip(lists.tolist(), truth.tolist(), strict=True)])
            assert found[transform, index] == pytest.approx(expected, abs=0.011), (transform, index)
    few = 'chain("truncate(dim=4)", "int4()")'
    assert found[few, "exact()"] < found[few, 'rerank("exact()", candidates=10)'] < 1
    assert found[few, 'rerank("exact()", candidates=30)'] > found[few, 'rerank("exact()", candidates=10)']
    assert found["int8()", "exact()"] > 0.9
    fitted = list((tmp_path / "out" / "transforms").glob("*/manifest.json"))
    assert len(fitted) == 4  # int8 and int4, of all and of few dimensions


@pytest.mark.ray
def test_a_grid_of_indexes_on_actors(tmp_path, ray_cluster):
    """Partitions on actors fill, keep, search and tune indexes with the same numbers as one process.

    What a partition takes is a part of what the driver waits for, and fetched rows are counted over all partitions.
    """
    from raybench.distributed.backend import ray_backend

    grid = {"indexes": [*GRID["indexes"], "compact(m=4)@6"], "candidates": [9], "precisions": ["float16()", "int4()"]}
    content = {
        "grid": grid, "measures": RANKED, "directions": ["text_to_image"], "shards": 2,
        "tune": {"target": 0.6, "indexes": ["hnsw(m=4)", "binary()"], "transforms": ["float16()"]},
        "cost": {"queries": 20, "warm_up": 3, "k": 5, "indexes": grid["indexes"], "transforms": ["float16()"]},
    }  # fmt: skip
    local = _run(tmp_path, **content)
    with ray_backend() as backend:
        run = _run(tmp_path, str(tmp_path / "there"), backend=backend, **content)
    ours = _by_index(local)
    assert _by_index(run) == ours
    assert run.tuned == local.tuned
    assert [one["index"] for one in run.tuned] == ["hnsw(m=4)", "binary()"]
    for told, here in zip(run.costs, local.costs, strict=True):
        assert 0 < told["on_shard_ms"] < told["latency"]["max_ms"]
        assert here["on_shard_ms"] is None
        assert told["resident_bytes"] == here["resident_bytes"]
        assert told["fetched"] == here["fetched"]
    assert run.costs[-1]["fetched"]["per_query"] >= 12
    assert {one["work"] for one in run.failed} == {"searching", "timing"}
    reasons = {one["reason"] for one in run.failed}
    assert all("needs 195 rows" in reason or "for 9 candidates its effort" in reason for reason in reasons)
    # All but the last word: which partition says first that it has too few rows is chance.
    said = [[one["reason"].rpartition(" ")[0] for one in each.failed] for each in (run, local)]
    assert said[0] == said[1]
    assert len(list((tmp_path / "there" / "indexes").glob("*/index.faiss"))) == 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": {"indexes": ["hnsw(m=8)"]}}, "needs an effort"),
        ({"grid": {"indexes": ["exact()@3"]}}, "has no effort"),
        ({"grid": {"efforts": [0]}}, "grid.efforts=0 is out of range"),
        ({"grid": {"precisions": ["int9()"]}}, "did you mean 'int4'|did you mean 'int8'"),
        ({"grid": {"candidates": [32, 32]}}, "lists 32 twice"),
        ({"grid": {"indexes": ["rerank('sq8()')@9", "rerank('exact()')"]}}, "how many candidates"),
        ({"grid": {"indexes": ["flat()"]}, "measures": ["median_rank"]}, "median_rank needs the rank"),
        ({"grid": {"indexes": ["hnsw(m=8)@64", "hnsw( m = 8 )@64"]}}, "twice"),
        ({"grid": {"transforms": ["pca(dim=8)"]}}, "keeps distances"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_when_it_is_read(tmp_path, changes, words):
    """Before anything is embedded."""
    content = {"name": "x", "images": 'folder("x")', "encoders": ["tiny(dim=24)"], "measures": ["hit@1", "overlap@3"]}
    with pytest.raises(RequestError, match=words):
        files.parse(json.dumps(content | changes), "test")


def test_given_judgments_with_grades_and_a_broken_image(tmp_path):
    """Tables of queries and graded judgments; a judged image that is broken stays in every denominator."""
    _write_pictures(tmp_path / "pictures")
    (tmp_path / "queries.csv").write_text("query_id,text\na,picture 3 of moon\nb,sun sun\nc,nothing\nunjudged,x\n")
    (tmp_path / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\na\t03.png\t3\na\t07.png\t2\na\t20.png\t1\nb\t21.png\t1\nb\t05.png\t0\nc\t07.png\t1\nghost\t01.png\t1\n"
    )
    run = _run(tmp_path, queries=f'csv("{tmp_path}/queries.csv")', qrels=f'tsv("{tmp_path}/qrels.tsv")')

    _check(run, "text_to_image", {"a": {"03.png": 3, "07.png": 2, "20.png": 1}, "b": {"21.png": 1}, "c": {"07.png": 1}})
    _check(run, "image_to_text", {"03.png": {"a": 3}, "20.png": {"a": 1}, "21.png": {"b": 1}})
    assert "query_without_relevant_image 1, judgment_of_unknown_query 1" in run.warnings[0]
    assert run.warnings[1].startswith("1 of 4 judged images were not read")


def test_every_query_stands_in_the_tables(tmp_path):
    """Neighbours hold the ids and grades of each query's results; the gallery its pictures."""
    run = _run(tmp_path)
    experiment = next(entry for entry in run.experiments if entry["direction"] == "text_to_image")
    neighbors = results.read_neighbors(storage.join(run.out, "results"), experiment["experiment"]).to_pandas()
    gallery = results.read_gallery(storage.join(run.out, "results"), experiment["experiment"]).to_pandas()

    assert (neighbors.groupby("query_id").size() == 5).all()
    assert neighbors["query_id"].nunique() == 58
    right = neighbors[neighbors["grade"] > 0]
    assert (right["query_id"].str[:6] == right["id"]).all()
    assert gallery["query_id"].nunique() == 4
    for row in gallery.to_dict("records"):
        with Image.open(io.BytesIO(row["thumbnail"])) as picture:
            assert picture.format == "JPEG"


def test_a_rerun_computes_nothing_and_a_new_measure_embeds_nothing(tmp_path):
    """Artifacts are kept by content: the same file changes nothing, another measure makes new results only."""
    first = _run(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").rglob("*.parquet")}
    again = _run(tmp_path)

    assert again.records == first.records
    assert {path: path.stat().st_mtime_ns for path in records} == records
    other = _run(tmp_path, measures=["hit@3"])
    assert {record.measure for record in other.records} == {"hit@3"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")} == stamps


def test_changed_files_of_a_folder_are_seen(tmp_path):
    """Two files that change places, or get another name, are embedded again although no size or time changes."""
    first = _run(tmp_path)
    folder = tmp_path / "pictures"
    for old, new in (("03.png", "swap"), ("04.png", "03.png"), ("swap", "04.png")):
        (folder / old).rename(folder / new)
    swapped = _run(tmp_path)
    fresh = _run(tmp_path, out=str(tmp_path / "fresh"))

    assert swapped.artifacts[0]["checksum"] != first.artifacts[0]["checksum"]
    assert swapped.artifacts[0]["checksum"] == fresh.artifacts[0]["checksum"]


def test_the_manifest_of_vectors_says_what_made_them(tmp_path):
    """Recipe, preprocessing, encoder, versions and checksums are beside the vectors."""
    run = _run(tmp_path)
    for artifact in run.artifacts:
        manifest = storage.read_manifest(storage.join(run.out, artifact["uri"]))
        assert manifest["recipe"]["encoder"] == "tiny(dim=24)"
        assert manifest["environment"]["libraries"]["numpy"] == np.__version__
        for name, facts in manifest["files"].items():
            assert storage.digest(storage.read_bytes(storage.join(run.out, artifact["uri"], name))) == facts["sha256"]
        if artifact["modality"] == "image":
            assert manifest["recipe"]["preprocess"]["height"] == manifest["recipe"]["preprocess"]["width"]


def test_repeated_ids_are_refused(tmp_path):
    """A query that stands twice is named."""
    import pyarrow as pa

    queries = pa.table({"query_id": ["q", "q"], "text": ["x", "y"], "cluster_id": [None, None]})
    qrels = pa.table({"query_id": ["q"], "image_id": ["i"], "relevance": [1]})

    with pytest.raises(DataError, match="'q' 2 times"):
        judgments.store(str(tmp_path), queries, qrels)


def test_ids_that_do_not_match_are_one_sentence(tmp_path):
    """Judgments that share no query with the queries say where to look."""
    import pyarrow as pa

    queries = pa.table({"query_id": ["1"], "text": ["x"], "cluster_id": pa.array([None], pa.string())})
    qrels = pa.table({"query_id": ["01"], "image_id": ["i"], "relevance": [1]})

    with pytest.raises(DataError, match="spelt alike"):
        judgments.store(str(tmp_path), queries, qrels)


def test_judgments_of_other_images_are_one_sentence(tmp_path):
    """Where no judged image is in the collection, an id of each side is shown instead of a table of zeros."""
    _write_pictures(tmp_path / "pictures")
    (tmp_path / "queries.csv").write_text("query_id,text\na,moon\n")
    (tmp_path / "qrels.tsv").write_text("query_id\timage_id\na\tpicture-3\n")

    with pytest.raises(DataError, match=r"'picture-3'.*'00\.png'"):
        _run(tmp_path, queries=f'csv("{tmp_path}/queries.csv")', qrels=f'tsv("{tmp_path}/qrels.tsv")')


def test_stored_queries_are_plain_parquet(tmp_path):
    """The queries, with their clusters, and the judgments can be read by anything."""
    run = _run(tmp_path)
    [folder] = (Path(run.out) / "queries").iterdir()

    assert pq.read_table(folder / "queries.parquet").column_names == ["query_id", "text", "cluster_id"]
    assert pq.read_table(folder / "qrels.parquet").num_rows == 58
