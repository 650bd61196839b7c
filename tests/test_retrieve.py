"""Retrieval of collections: against a slow oracle, every row of every answer counted once, and the same bytes however it is cut."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybench.cli import main
from raybench.errors import DataError, RequestError
from raybench.experiments import asking, choosing
from raybench.experiments import retrieve as verb
from raybench.experiments.backend import LocalBackend
from raybench.experiments.reporting import Silent
from raybench.experiments.retrieve import retrieve
from raybench.experiments.retrieve_plan import RetrieveRequest, plan_retrieve
from raybench.experiments.workers import LocalWorkers
from raybench.retrieval.chosen import REASONS
from raybench.retrieval.metadata import open_metadata
from raybench.retrieval.output import Columns
from raybench.retrieval.where import Where
from raybench.search import strategies

ROWS, DIM, SEEDS = 900, 16, 6
NEAR = 0.95


def _unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def _drawn() -> tuple[np.ndarray, np.ndarray]:
    """Unit rows in clusters with near and equal copies, and seeds, some of which are rows."""
    random = np.random.default_rng(11)
    rows = random.standard_normal((6, DIM))[random.integers(6, size=ROWS)] + 0.8 * random.standard_normal((ROWS, DIM))
    for row in range(300, 550):
        rows[row] = rows[random.integers(row)] + 0.12 * random.standard_normal(DIM)
    rows[550:600] = rows[random.integers(300, size=50)]
    rows = _unit(rows).astype(np.float16)
    seeds = np.concatenate([rows[[3, 410]], _unit(rows[[20, 30, 40, 50]] + 0.2 * random.standard_normal((4, DIM)))])
    return rows, seeds.astype(np.float16)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A folder as clip-retrieval writes it, of three parts, the first of which is numbered 9; seeds; and what they hold."""
    folder = tmp_path_factory.mktemp("retrieve")
    rows, seeds = _drawn()
    random = np.random.default_rng(5)
    table = pa.table(
        {
            "image_path": [f"picture {row}" for row in range(ROWS)],
            "caption": pa.array(
                [None if row % 50 == 7 else f"caption {row} of a {'cat' if row % 3 else 'dog'}" for row in range(ROWS)]
            ),
            "url": pa.array([_url(row) for row in range(ROWS)], pa.string()),
            "width": pa.array(
                [None if row % 40 == 1 else int(random.integers(64, 1024)) for row in range(ROWS)], pa.int64()
            ),
            "lang": pa.array([("en", "fr", None)[row % 3] for row in range(ROWS)]).dictionary_encode(),
            "is_safe": [bool(row % 5) for row in range(ROWS)],
        }
    )
    for name in ("img_emb", "metadata"):
        (folder / "corpus" / name).mkdir(parents=True)
    for number, (start, stop) in {9: (0, 300), 10: (300, 610), 11: (610, ROWS)}.items():
        np.save(folder / "corpus" / "img_emb" / f"img_emb_{number}.npy", rows[start:stop])
        part = table.slice(start, stop - start)
        pq.write_table(part, folder / "corpus" / "metadata" / f"metadata_{number}.parquet", row_group_size=70)
    np.save(folder / "seeds.npy", seeds)
    return SimpleNamespace(
        folder=folder,
        corpus=str(folder / "corpus"),
        seeds=str(folder / "seeds.npy"),
        rows=rows,
        given=seeds,
        table=table,
    )


def _url(row: int) -> str | None:
    return {0: None, 1: "", 2: f"file:///etc/passwd?{row}", 3: f"HTTPS://host/{row}.jpg"}.get(
        row % 20, f"http://host/{row}.jpg"
    )


def _local() -> nullcontext:
    return nullcontext(LocalBackend())


def _asked(place: SimpleNamespace, **changes: object) -> RetrieveRequest:
    return RetrieveRequest(place.corpus, **{"seeds": place.seeds} | changes)


def _made(place: SimpleNamespace, out: Path, **changes: object) -> dict:
    return retrieve(_asked(place, **changes), str(out), _local, LocalWorkers(), Silent())


def _tables(manifest: dict) -> tuple[list[dict], list[dict]]:
    read = [pq.read_table(Path(manifest["uri"]) / name).to_pylist() for name in ("results.parquet", "queries.parquet")]
    return read[0], read[1]


def _asked_vectors(place: SimpleNamespace, request: RetrieveRequest) -> list[tuple[str, str, int, np.ndarray]]:
    """Name, strategy, requested and vector of knn and centroid queries, by the definition."""
    unit = _unit(place.given.astype(np.float64)).astype(np.float32)
    queries = [(f"vector:{row}", "knn", request.knn, unit[row]) for row in range(SEEDS)] if request.knn else []
    if request.centroid:
        mean = unit.astype(np.float64).mean(axis=0)
        queries.append(("centroid", "centroid", request.centroid, (mean / np.linalg.norm(mean)).astype(np.float32)))
    return queries


def _ranked(place: SimpleNamespace, vector: np.ndarray, metric: str) -> tuple[list[int], np.ndarray]:
    rows = place.rows.astype(np.float64)
    rows = _unit(rows).astype(np.float32).astype(np.float64) if metric == "cosine" else rows
    scores = (rows * vector.astype(np.float64)).sum(axis=1)
    return sorted(range(ROWS), key=lambda row: (-scores[row], row)), scores


def _cosines(place: SimpleNamespace) -> np.ndarray:
    unit = _unit(place.rows.astype(np.float64))
    return unit @ unit.T


def _oracle(
    place: SimpleNamespace, request: RetrieveRequest, passes: set[int]
) -> tuple[list[tuple], dict[str, dict[str, int]]]:
    """Kept (query, rank, row) and counts by query of a retrieval that asks once, by loops over everything that was found."""
    queries, cosine = _asked_vectors(place, request), _cosines(place)
    found = {name: _ranked(place, vector, request.metric) for name, _, _, vector in queries}
    seeds = {row for row in range(ROWS) if any(place.rows[row].tobytes() == seed.tobytes() for seed in place.given)}
    least = -np.inf if request.min_score is None else request.min_score
    owner: dict[int, str] = {}
    dropped: set[int] = set()
    for rank in range(max(wanted for _, _, wanted, _ in queries)):
        for name, _, wanted, _ in queries:
            order, scores = found[name]
            row = order[rank] if rank < min(wanted, ROWS) else None
            is_out = row is None or scores[row] < least or row not in passes or row in owner or row in dropped
            if is_out or (row in seeds and not request.keep_seeds):
                continue
            near = request.dedup is not None and any(
                cosine[row, kept] >= request.dedup or place.rows[row].tobytes() == place.rows[kept].tobytes()
                for kept in owner
            )
            dropped |= {row} if near else set()
            owner |= {} if near else {row: name}
    kept, counts = [], {}
    for name, _, wanted, _ in queries:
        order, scores = found[name]
        told = dict.fromkeys(REASONS, 0)
        for rank, row in enumerate(order[:wanted]):
            reason = (
                "under_score" if scores[row] < least
                else "filtered" if row not in passes
                else "seeds" if row in seeds and not request.keep_seeds
                else "kept" if owner.get(row) == name
                else "taken_by_another_query" if row in owner
                else "duplicates"
            )  # fmt: skip
            told[reason] += 1
            kept += [(name, rank + 1, row, scores[row])] if reason == "kept" else []
        counts[name] = told
    return kept, counts


CASES = {
    "knn and centroid": {"knn": 40, "centroid": 200},
    "no dedup": {"knn": 60, "dedup": None},
    "seeds stay": {"centroid": 300, "keep_seeds": True},
    "a score": {"knn": 120, "centroid": 150, "min_score": 0.55},
    "more than there are": {"centroid": ROWS + 50, "knn": 5},
    "cosine": {"knn": 50, "centroid": 90, "metric": "cosine"},
    "a filter": {
        "knn": 80,
        "centroid": 100,
        "where": 'width >= 300 and ("cat" in caption or lang in ["en"]) and is_safe',
    },
}


@pytest.mark.parametrize("case", CASES)
def test_results_and_accounts_are_those_of_a_loop_over_everything(case, place, tmp_path):
    """Rows, ranks, scores, owners and every count, by the definition; rows of metadata stand beside their own vectors."""
    changes = CASES[case]
    request = _asked(place, shards=3, **changes)
    passes = set(range(ROWS)) if "where" not in changes else {
        row for row, one in enumerate(place.table.to_pylist())
        if one["width"] is not None and one["width"] >= 300 and one["is_safe"]
        and ("cat" in (one["caption"] or "") or one["lang"] == "en")
    }  # fmt: skip
    kept, counts = _oracle(place, request, passes)
    assert len(kept) > 20
    assert len(passes) > 150
    manifest = retrieve(request, str(tmp_path), _local, LocalWorkers(), Silent())
    results, queries = _tables(manifest)
    assert [(one["seed"], one["rank"], one["row"]) for one in results] == [one[:3] for one in kept]
    # float64 sums of float32 queries round, and in another order here than there.
    assert [one["score"] for one in results] == pytest.approx([one[3] for one in kept], abs=1e-14)
    for one in queries:
        assert {name: one[name] for name in REASONS} == counts[one["query"]]
        assert one["padded"] == max(0, one["requested"] - ROWS)
    for one in results:
        source = place.table.slice(one["row"], 1).to_pylist()[0]
        assert (one["url"], one["caption"]) == (source["url"], source["caption"])
    _check_identity(manifest)


def _check_identity(manifest: dict) -> None:
    results, queries = _tables(manifest)
    for one in queries:
        assert one["asked"] == one["padded"] + one["found"]
        assert one["found"] == sum(one[name] for name in REASONS)
        assert one["kept"] == sum(two["seed"] == one["query"] for two in results)
        assert one["kept"] <= one["requested"]
    account = manifest["account"]
    for name in ("requested", "asked", "found", "padded", *REASONS):
        assert account[name] == sum(one[name] for one in queries)
    assert account["kept"] == manifest["results"] == len(results) == len({one["row"] for one in results})


def test_filled_up_until_met_or_exhausted(place, tmp_path):
    """One query: what is kept is the first that a greedy walk over the whole order keeps, and it is asked no deeper than needed."""
    cosine = _cosines(place)
    [(_, _, _, vector)] = _asked_vectors(place, _asked(place, centroid=1))
    order, _ = _ranked(place, vector, "ip")
    seeds = {row for row in range(ROWS) if any(place.rows[row].tobytes() == seed.tobytes() for seed in place.given)}
    walked: list[int] = []
    ranks: list[int] = []
    for rank, row in enumerate(order, 1):
        if row not in seeds and not any(cosine[row, one] >= NEAR for one in walked):
            walked.append(row)
            ranks.append(rank)
    for wanted in (100, 250, ROWS):
        manifest = _made(place, tmp_path / str(wanted), centroid=wanted, refill=True)
        results, [told] = _tables(manifest)
        assert [one["row"] for one in results] == walked[:wanted]
        assert [one["rank"] for one in results] == ranks[:wanted]
        is_met = len(walked) >= wanted
        assert told["ended"] == ("met" if is_met else "every row was asked for")
        asked = wanted
        while asked < ranks[min(wanted, len(walked)) - 1]:
            asked = min(2 * asked, ROWS)
        assert told["asked"] == asked
        _check_identity(manifest)
    assert not is_met


@pytest.mark.parametrize(("times", "is_met"), [(1, True), (4, False)])
def test_many_queries_are_filled_up_and_every_duplicate_is_near_a_kept_row(times, is_met, place, tmp_path):
    """Queries that compete for rows: no two kept rows are near, what is missing is near a kept one, and nobody takes too many."""
    wanted = {"knn": 15 * times, "centroid": 30 * times, "kmeans": 20 * times, "centroids": 3}
    manifest = _made(place, tmp_path, **wanted, refill=True, shards=2)
    results, queries = _tables(manifest)
    _check_identity(manifest)
    assert {one["ended"] for one in queries} <= {"met", "every row was asked for"}
    assert all(one["ended"] == "met" for one in queries) == is_met
    assert any(one["asked"] > one["requested"] for one in queries)
    cosine, rows = _cosines(place), [one["row"] for one in results]
    assert (np.triu(cosine[np.ix_(rows, rows)], 1) < NEAR).all()
    seeds = [row for row in range(ROWS) if any(place.rows[row].tobytes() == seed.tobytes() for seed in place.given)]
    left = np.setdiff1d(np.arange(ROWS), [*rows, *seeds])
    are_near = cosine[np.ix_(left, rows)].max(axis=1) >= NEAR
    assert are_near.all() != is_met  # where some got less than they asked for, there is nothing more
    assert any(one["surplus"] for one in queries) == is_met
    assert all(one["duplicates"] <= are_near.sum() for one in queries)


def test_the_bytes_do_not_depend_on_the_partitions(place, tmp_path, monkeypatch):
    """1, 2 and 5 shards, and one query at a time, give the same files."""
    changes = {"knn": 70, "centroid": 150, "refill": True, "where": "width > 100"}
    told = [_made(place, tmp_path / str(shards), shards=shards, **changes)["files"] for shards in (1, 2, 5)]
    monkeypatch.setattr(asking, "_RESULTS", 100)
    told.append(_made(place, tmp_path / "single", shards=2, **changes)["files"])
    assert told[0] == told[1] == told[2] == told[3]
    assert len({facts["sha256"] for facts in told[0].values()}) == 3


@pytest.mark.parametrize("where", ["search", "filter", "rows", "dedup", "tables", "manifest"])
def test_a_run_that_was_killed_goes_on(where, place, tmp_path, monkeypatch):
    """Killed at any stage: the next run gives the same bytes, searches no batch again, and leaves nothing behind."""
    changes = {"knn": 30, "centroid": 80, "refill": True, "where": "is_safe"}
    undisturbed = _made(place, tmp_path / "whole", **changes)
    searched: list[str] = []
    ask = asking.Asking._ask

    def asked(self, index, some_Q, k):
        if where == "search" and len(searched) == 1:
            raise KeyboardInterrupt
        ask(self, index, some_Q, k)
        searched.append(self._uri(some_Q, k))

    def killed(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking.Asking, "_ask", asked)
    target = {
        "filter": (choosing.Choosing, "_learn"), "rows": (choosing, "write_rows"), "dedup": (choosing, "deduplicate"),
        "tables": (verb.output, "write_queries"), "manifest": (verb.storage, "write_manifest"),
    }.get(where)  # fmt: skip
    with monkeypatch.context() as patch:
        if target is not None:
            patch.setattr(*target, killed)
        if where == "manifest":  # of the retrieval, not of what it builds on
            patch.undo()
            patch.setattr(
                verb.storage, "write_manifest",
                lambda uri, told: killed() if told["kind"] == "retrieved" else _write(uri, told),
            )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            _made(place, tmp_path / "killed", **changes)
    where_before = list(searched)
    searched.append("")  # lets the search go on
    again = _made(place, tmp_path / "killed", **changes)
    assert again["files"] == undisturbed["files"]
    assert not set(where_before) & set(searched[len(where_before) + 1 :])
    left = [path.name for path in Path(again["uri"]).rglob("*") if path.is_file()]
    assert sorted(left) == ["img2dataset.parquet", "manifest.json", "queries.parquet", "results.parquet"]
    count = len(searched)
    assert _made(place, tmp_path / "killed", **changes)["files"] == undisturbed["files"]
    assert len(searched) == count


_write = verb.storage.write_manifest


def test_what_goes_to_img2dataset(place, tmp_path):
    """Results with an http address, in their order, under the names of its options; what is left out is counted."""
    manifest = _made(place, tmp_path, centroid=ROWS, dedup=None, columns=("width", "lang"))
    results, _ = _tables(manifest)
    read = pq.read_table(Path(manifest["uri"]) / "img2dataset.parquet", columns=["url", "caption"])
    wanted = [one for one in results if (one["url"] or "").lower().startswith("http")]
    assert read.to_pylist() == [{"url": one["url"], "caption": one["caption"] or ""} for one in wanted]
    assert manifest["without_url"] == sum(not one["url"] for one in results) > 20
    assert manifest["url_not_http"] == sum((one["url"] or "").startswith("file:") for one in results) > 20
    assert manifest["img2dataset_rows"] == len(wanted)
    for one in results[:50]:
        source = place.table.slice(one["row"], 1).to_pylist()[0]
        assert (one["width"], one["lang"]) == (source["width"], source["lang"])


def test_an_index_that_gives_fewer_pads_and_says_so(place, tmp_path):
    """ivf_flat with one list probed: padding is counted, and asking deeper ends where there is nothing more."""
    manifest = _made(place, tmp_path, knn=200, index="ivf_flat(lists=12)@1", refill=True, dedup=None)
    _, queries = _tables(manifest)
    _check_identity(manifest)
    assert manifest["account"]["padded"] > 0
    assert {one["ended"] for one in queries} == {"the index gives no more"}


def test_an_effort_that_allows_no_more_ends_the_asking(place, tmp_path):
    """A graph gives at most as many rows as it keeps in view."""
    manifest = _made(place, tmp_path, centroid=120, index="hnsw(m=8)@130", refill=True)
    _, [told] = _tables(manifest)
    assert (told["asked"], told["ended"]) == (130, "the index's effort allows no more")
    assert told["kept"] < 120
    _check_identity(manifest)


def test_captions_of_any_kind_come_out(place, tmp_path):
    """Text that is not UTF-8 gets replacement characters; line ends, NUL and quotes stay; a filter looks at them unharmed."""
    captions = [
        b"ok",
        b"bad \xff\xfe",
        b"line\nend\x00",
        b'"; DROP TABLE',
        "naïve 🐈".encode(),
        b"=HYPERLINK(1)",
        None,
        b"",
    ] * 4
    text = pa.array(captions, pa.binary()).view(pa.string())
    table = pa.table({"TEXT": text, "URL": [f"https://host/{row}" for row in range(32)]})
    pq.write_table(table, tmp_path / "meta.parquet")
    np.save(tmp_path / "base.npy", place.rows[:32])
    request = RetrieveRequest(
        str(tmp_path / "base.npy"), seeds=place.seeds, centroid=32, dedup=None, metadata=str(tmp_path / "meta.parquet"),
        where='"zzz" not in TEXT or TEXT is None', keep_seeds=True, columns=("TEXT",),
    )  # fmt: skip
    manifest = retrieve(request, str(tmp_path / "out"), _local, LocalWorkers(), Silent())
    results, _ = _tables(manifest)
    assert len(results) == 32
    for one in results:
        given = captions[one["row"]]
        assert one["caption"] == one["TEXT"] == (None if given is None else given.decode("utf-8", "replace"))
        assert one["url"] == f"https://host/{one['row']}"


def test_what_is_not_a_number_is_no_value():
    """A row without a value passes no comparison, whichever way it is written, and is none."""
    table = pa.table({"x": pa.array([0.2, float("nan"), None, 0.7])})
    for text, wanted in (
        ("x < 0.5", [True, False, False, False]), ("not x < 0.5", [False, False, False, True]),
        ("x != 0.2", [False, False, False, True]), ("x is None", [False, True, True, False]),
    ):  # fmt: skip
        assert Where.parse(text).mask(table).tolist() == wanted, text


def test_ids_of_the_metadata_are_the_ids_of_results():
    """Whether they are called image_id or id."""
    for names, wanted in ((["id", "url"], "id"), (["image_id", "id"], "image_id"), (["url"], None)):
        assert Columns.of(pa.schema([(name, pa.string()) for name in names]), ()).id == wanted


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("width >= 512", lambda one: one["width"] is not None and one["width"] >= 512),
        ("not width >= 512", lambda one: one["width"] is not None and not one["width"] >= 512),
        ("100 < width <= 500 or is_safe", lambda one: one["is_safe"] or (one["width"] is not None and 100 < one["width"] <= 500)),
        ('lang == "en"', lambda one: one["lang"] == "en"),
        ('lang not in ["en", "de"]', lambda one: one["lang"] == "fr"),
        ("lang is None and not is_safe", lambda one: one["lang"] is None and not one["is_safe"]),
        ('"cat" in caption and caption != "caption 1 of a cat"',
         lambda one: one["caption"] is not None and "cat" in one["caption"] and one["caption"] != "caption 1 of a cat"),
        ("column('width') < -1 or is_safe == False", lambda one: not one["is_safe"]),
        ("width in (100, 200, 300, 64, 65, 66, 67)", lambda one: one["width"] in (100, 200, 300, 64, 65, 66, 67)),
    ],
)  # fmt: skip
def test_filters_are_what_they_say(where, wanted, place):
    """Row by row, as Python would decide, with missing values neither true nor false."""
    read = Where.parse(where)
    read.check(place.table.schema)
    listed = place.table.to_pylist()
    mask = read.mask(place.table.select(read.columns))
    assert mask.tolist() == [bool(wanted(one)) for one in listed]


@pytest.mark.parametrize(
    "where",
    [
        "", "1 < 2", "width", "width >", "__import__('os').system('true')", "width + 1 > 2", "caption.lower() == 'x'", "width > None",
        "[x for x in lang]", "width == [1, 2]", "width in 5", "width > 'a'", "widht > 2", "lang is 'en'", "is_safe and width",
        "f'{width}' == '1'", "width if is_safe else lang", "lambda: width", "column(1) > 2", "not", "width > 1" * 3_000,
        "lang in [None]", "width in ['a']", "(width := 3) > 2", "'x' in width",
    ],
)  # fmt: skip
def test_filters_that_are_none_are_refused(where, place):
    """One sentence, before anything is searched; nothing is evaluated."""
    with pytest.raises(RequestError, match=r"^--where"):
        plan_retrieve(_asked(place, knn=5, where=where), "/nowhere")


def test_rows_of_metadata_are_read_where_they_are(place):
    """Any rows, over parts and row groups, in order; and misaligned tables are refused."""
    read = open_metadata(str(Path(place.corpus) / "metadata"), ROWS)
    for rows in ([0], [ROWS - 1], list(range(ROWS)), [69, 70, 299, 300, 609, 610, 611]):
        told = [(part, table) for part, table in read.at(np.array(rows), ["image_path"])]
        assert [rows[place] for part, _ in told for place in range(part.start, part.stop)] == rows
        assert [one for _, table in told for one in table["image_path"].to_pylist()] == [
            f"picture {row}" for row in rows
        ]
    with pytest.raises(DataError, match="has 900 rows and the vectors 899"):
        open_metadata(str(Path(place.corpus) / "metadata"), ROWS - 1)
    with pytest.raises(DataError, match="part 10 has 310 rows of metadata and 309 vectors"):
        open_metadata(str(Path(place.corpus) / "metadata"), ROWS, {9: 300, 10: 309, 11: 291})
    with pytest.raises(DataError, match="part 7 has 0 rows of metadata and 5 vectors"):
        open_metadata(str(Path(place.corpus) / "metadata"), ROWS, {7: 5, 9: 300, 10: 310, 11: 285})


def test_averages_are_those_of_unit_seeds():
    """The mean of directions, not of lengths; cancelling seeds and too many clusters are refused; k-means finds clusters."""
    names = ["a", "b"]
    unit = strategies.unit_seeds(np.array([[3.0, 0], [0, 5.0]]), names)
    assert strategies.centroid(unit, 7).vectors_QD == pytest.approx(np.full((1, 2), 0.5**0.5), abs=1e-7)
    with pytest.raises(RequestError, match="cancel out"):
        strategies.centroid(strategies.unit_seeds(np.array([[2.0, 0], [-1.0, 0]]), names), 7)
    with pytest.raises(DataError, match="seed b is all zeros"):
        strategies.unit_seeds(np.array([[1.0, 0], [0, 0]]), names)
    random = np.random.default_rng(2)
    centres = _unit(random.standard_normal((4, 8)))
    seeds = strategies.unit_seeds(np.repeat(centres, 30, axis=0) + 0.05 * random.standard_normal((120, 8)), [""] * 120)
    means = strategies.kmeans(seeds, 4, 9, seed=3)
    again = strategies.kmeans(seeds, 4, 9, seed=3)
    wanted = _unit(seeds.reshape(4, 30, 8).astype(np.float64).mean(axis=1))
    closest = (means.vectors_QD @ wanted.T).argmax(axis=0)
    assert sorted(closest.tolist()) == [0, 1, 2, 3]
    assert means.vectors_QD[closest] == pytest.approx(wanted, abs=1e-5)
    assert (means.vectors_QD == again.vectors_QD).all()
    with pytest.raises(RequestError, match="2 different seeds"):
        strategies.kmeans(np.repeat(unit, 5, axis=0), 3, 9, seed=0)


WRONG = {
    "nothing is asked for": [],
    "--nb-images-kmeans and --centroids go together": ["--nb-images-kmeans", "5"],
    "is no number of rows": ["--nb-images-knn", "-1"],
    "--metric 'l2' is not known": ["--nb-images-knn", "5", "--metric", "l2"],
    "is no cosine of near duplicates": ["--nb-images-knn", "5", "--dedup", "1.5"],
    "is no number of partitions": ["--nb-images-knn", "5", "--shards", "0"],
    "did you mean 'hnsw'": ["--nb-images-knn", "5", "--index", "hnws(m=8)@20"],
    "its effort (nodes in view) must be 50 or more": ["--nb-images-knn", "50", "--index", "hnsw(m=8)@20"],
    "use more candidates": ["--nb-images-knn", "50", "--index", 'rerank("sq8()", candidates=20)'],
    "--texts and --images need --encoder": ["--nb-images-knn", "5", "--texts", "words.txt"],
    "--encoder embeds --texts and --images": ["--nb-images-knn", "5", "--encoder", "tiny(dim=16)"],
    "did you mean 'width'": ["--nb-images-knn", "5", "--columns", "widht"],
    "is the name of a column that every result has": ["--nb-images-knn", "5", "--columns", "caption"],
    "the metadata has no column 'widht'": ["--nb-images-knn", "5", "--where", "widht > 5"],
    "is not there": ["--nb-images-knn", "5", "--seeds", "nowhere.npy"],
    "holds no Parquet": ["--nb-images-knn", "5", "--metadata", "nowhere"],
    "--dedup 0.9 and --no-dedup contradict each other": ["--nb-images-knn", "5", "--dedup", "0.9", "--no-dedup"],
    "--min-score nan is no score": ["--nb-images-knn", "5", "--min-score", "nan"],
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_requests_are_one_sentence(sentence, place, tmp_path, capsys, monkeypatch):
    """Exit code 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["retrieve", place.corpus, "--seeds", place.seeds, "--out", "out", "--local", *WRONG[sentence]])
    told = capsys.readouterr()
    assert stop.value.code == 2
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_vectors_of_other_kinds_are_refused(place, tmp_path):
    """Other dimensions, no seeds, zeros under cosine, whole numbers with dedup."""
    np.save(tmp_path / "wide.npy", np.ones((2, DIM + 1), np.float16))
    np.save(tmp_path / "zeros.npy", np.concatenate([place.rows[:9], np.zeros((1, DIM), np.float16)]))
    np.save(tmp_path / "whole.npy", np.ones((9, DIM), np.int8))
    with pytest.raises(RequestError, match="17 dimensions and"):
        plan_retrieve(_asked(place, seeds=str(tmp_path / "wide.npy"), knn=3), str(tmp_path))
    with pytest.raises(RequestError, match="there are no seeds"):
        plan_retrieve(RetrieveRequest(place.corpus, knn=3), str(tmp_path))
    with pytest.raises(RequestError, match="give --no-dedup"):
        plan_retrieve(RetrieveRequest(str(tmp_path / "whole.npy"), seeds=place.seeds, knn=3), str(tmp_path))
    request = RetrieveRequest(str(tmp_path / "zeros.npy"), seeds=place.seeds, knn=3, metric="cosine")
    with pytest.raises(DataError, match="row 9 is all zeros"):
        retrieve(request, str(tmp_path / "out"), _local, LocalWorkers(), Silent())
    long = np.concatenate([place.rows[:9], place.rows[:9] * np.float16(3)])
    np.save(tmp_path / "long.npy", long)
    request = RetrieveRequest(str(tmp_path / "long.npy"), seeds=place.seeds, knn=3)
    [warning] = retrieve(request, str(tmp_path / "out"), _local, LocalWorkers(), Silent())["warnings"]
    assert "lengths from 1 to 3" in warning


def test_texts_and_images_are_seeds(tmp_path, capsys):
    """Through the encoder of the corpus, with names and an account; another encoder is refused."""
    corpus = _embedded(tmp_path)
    (tmp_path / "words.txt").write_text("a red circle\n\na blue square\n")
    common = [
        "retrieve",
        corpus,
        "--texts",
        str(tmp_path / "words.txt"),
        "--out",
        str(tmp_path / "out"),
        "--local",
        "--json",
    ]
    options = [
        "--images",
        f"folder({str(tmp_path / 'pictures')!r})",
        "--nb-images-knn",
        "6",
        "--nb-images-centroid",
        "9",
    ]
    with pytest.raises(SystemExit) as stop:
        main([*common, *options, "--encoder", "tiny(dim=24)"])
    manifest = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert stop.value.code == 0
    results, queries = _tables(manifest)
    assert [one["query"] for one in queries] == ["text:1", "text:2", *(f"image:{n}.png" for n in range(4)), "centroid"]
    assert (
        manifest["seeds"]["images"] == {"rows_in": 5, "rows_out": 4, "dropped": {"not_an_image": 1}}
        or manifest["seeds"]["images"]["rows_out"] == 4
    )
    assert manifest["seeds"]["texts"]["rows_out"] == 2
    # The seeds' images are rows of the corpus, too, and are left out.
    assert manifest["account"]["seeds"] >= 4
    assert not {one["id"] for one in results} & {f"{n}.png" for n in range(4)}
    assert {one["url"] for one in results} == {None}
    for encoder in ("tiny(dim=24, seed=1)", "tiny(dim=16)"):
        with pytest.raises(SystemExit) as stop:
            main([*common, *options, "--encoder", encoder])
        assert stop.value.code == 2
        assert "cannot be compared" in capsys.readouterr().err


def _embedded(tmp_path: Path) -> str:
    """Forty pictures of one colour each, embedded by `tiny(dim=24)`, and four of them with a broken one as seeds."""
    from PIL import Image

    from raybench.embedding import local
    from raybench.embedding.job import EmbedJob
    from raybench.encoders import ENCODERS
    from raybench.sources import SOURCES

    for folder, count in (("all", 40), ("pictures", 4)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    recipe, source = ENCODERS.make("tiny(dim=24)"), SOURCES.make(f"folder({str(tmp_path / 'all')!r})").open("")
    job = EmbedJob(
        "image", source, tuple(source.plan()), "tiny(dim=24)", recipe, recipe.fingerprint(), recipe.preprocess(),
        str(tmp_path / "vectors"),
    )  # fmt: skip
    local.embed([job], lambda _rows, _share: None)
    return job.uri


def test_addresses_in_json_of_our_own_folders(tmp_path):
    """`metadata` of a folder that raybench embedded is JSON, and its url is found there, whatever else is."""
    from raybench.retrieval.output import _keys

    given = ['{"url": "http://a/1", "x": 1}', "{}", '{"url": null}', '{"y": {"url": "no"}}']
    assert _keys(given).to_pylist() == ["http://a/1", None, None, None]
    assert _keys([*given, '{"url": 5}', "[]", "no json"]).to_pylist() == [
        "http://a/1",
        None,
        None,
        None,
        None,
        None,
        None,
    ]


def test_the_plan_says_what_would_happen(place, tmp_path, capsys):
    """Sizes, seeds and the place; nothing is written."""
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "retrieve",
                place.corpus,
                "--seeds",
                place.seeds,
                "--nb-images-knn",
                "7",
                "--out",
                str(tmp_path / "o"),
                "--dry-run",
                "--json",
            ]
        )
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert stop.value.code == 0
    assert told["rows"] == ROWS
    assert "6 vectors" in " ".join(told["plan"])
    assert "7 rows for each seed" in " ".join(told["plan"])
    assert not (tmp_path / "o").exists()


def test_on_s3(place, tmp_path, s3):
    """The same bytes in a bucket as on disk."""
    changes = {"knn": 20, "centroid": 50, "where": "is_safe"}
    here = _made(place, tmp_path, **changes)
    there = retrieve(_asked(place, **changes), f"{s3}/retrieve", _local, LocalWorkers(), Silent())
    assert there["files"] == here["files"]
    assert there["uri"].startswith("s3://bench/retrieve/retrieved/")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_on_ray(place, tmp_path):
    """Partition actors and tasks give the bytes of one process."""
    from raybench.distributed.backend import ray_backend
    from raybench.distributed.tasks import RayWorkers

    changes = {"knn": 20, "centroid": 60, "shards": 2}
    here = _made(place, tmp_path / "here", **changes)
    there = retrieve(_asked(place, **changes), str(tmp_path / "there"), ray_backend, RayWorkers(), Silent())
    assert there["files"] == here["files"]
