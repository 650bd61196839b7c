"""Hard sets: every row is accounted for, every step is what a slow loop says, and the set is the same bytes however it was made."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raybench import storage
from raybench.arrays import Neighbors
from raybench.cli import main
from raybench.curation.base import Asking, Draft
from raybench.curation.choose import Sample
from raybench.curation.classifiers import HuggingFaceClassifier, TimmClassifier, labels_of
from raybench.curation.negatives import in_turns
from raybench.curation.pictures import Pictures, stored_picture
from raybench.curation.scan import image_id_of
from raybench.curation.tables import check_split, splits_of
from raybench.curation.zero_shot import probabilities
from raybench.distributed.backend import RayBackend
from raybench.encoders import ENCODERS
from raybench.errors import DataError, RaybenchError, RequestError, SpecError, WorkError
from raybench.experiments import curate as curation
from raybench.experiments import recipe as recipes
from raybench.experiments.backend import LocalBackend
from raybench.experiments.reporting import Silent
from raybench.sources import SOURCES

ENCODER_A, ENCODER_B = "tiny(dim=24, seed=1)", "tiny(dim=24, seed=2)"


def _picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Blocks of colour: pictures of different seeds are unlike, and survive a JPEG."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def _save(picture: Image.Image, path: Path, quality: int = 95) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=quality)
    return path.read_bytes()


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve captioned pictures, one of them twice and one nearly twice; sixty distractors, some of them broken or copies."""
    folder = tmp_path_factory.mktemp("pools")
    lines = ["file_name,caption"]
    for number in range(12):
        _save(_picture(number), folder / "asked" / f"a{number}.jpg")
        lines += [f'a{number}.jpg,"picture {number} of words w{number}"', f"a{number}.jpg,more of w{number}"]
    (folder / "asked" / "c_copy.jpg").write_bytes(
        (folder / "asked" / "a3.jpg").read_bytes()
    )  # with a caption of its own
    lines.append("c_copy.jpg,a copy of w3")
    _save(_picture(5), folder / "asked" / "b_near.jpg", quality=92)
    lines.append("b_near.jpg,nearly w5")
    (folder / "asked" / "captions.csv").write_text("\n".join(lines))
    for number in range(60):
        size = (400, 300) if number % 2 else (90, 160)
        _save(_picture(1000 + number, size), folder / "others" / f"deep {number % 3}" / f"d.{number}.jpg")
    (folder / "others" / "broken.jpg").write_bytes(b"no picture")
    (folder / "others" / "empty.png").write_bytes(b"")
    (folder / "others" / "zz copy.jpg").write_bytes((folder / "asked" / "a7.jpg").read_bytes())
    return folder


def _recipe(pools: Path, *steps: str, others: tuple[str, ...] = (), more: str = "") -> str:
    listed = "".join(f"  - {step}\n" for step in steps)
    own = "".join(f"      - {step}\n" for step in others)
    return (
        f"name: made\nencoders: ['{ENCODER_A}', '{ENCODER_B}']\n"
        f'targets:\n  name: asked\n  images: \'folder("{pools}/asked", captions="captions.csv")\'\n'
        f"distractors:\n  - name: others\n    images: 'folder(\"{pools}/others\")'\n    prefix: d_\n"
        + (f"    steps:\n{own}" if own else "")
        + (f"steps:\n{listed}" if listed else "")
        + "embed: {max_bad: 0.2}\nseed: 3\n"
        + more
    )


def _make(text: str, out: Path) -> tuple[dict, Path]:
    plan = curation.plan_curation(recipes.parse(text, "recipe.yaml"), str(out))
    manifest = curation.curate(plan, LocalBackend(), Silent())
    return manifest, Path(manifest["uri"])


def _rows(folder: Path, name: str) -> list[dict]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


@pytest.fixture(scope="module")
def made(pools: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """A set with every kind of step that needs no classifier."""
    text = _recipe(
        pools, "equal()", "near_duplicates(threshold=0.995)", others=("hard_negatives(images=20)",),
        more="split: {dev: 0.5, test: 0.5}\npictures: {shortest: 64}\nexpect: {queries: 26, relevant: 12, images: 32}\n",
    )  # fmt: skip
    return _make(text, tmp_path_factory.mktemp("made"))


class TestASet:
    """What a finished set holds."""

    def test_rows_in_are_rows_in_the_set_and_rows_dropped(self, made):
        """The identity holds for every pool, and by the row in dropped.parquet."""
        manifest, folder = made
        dropped, images = _rows(folder, "dropped"), _rows(folder, "images")
        for pool in manifest["pools"]:
            gone = [row for row in dropped if row["pool"] == pool["pool"]]
            stay = [row for row in images if row["pool"] == pool["pool"]]
            assert pool["rows_in"] == len(gone) + len(stay)
            assert pool["dropped"] == Counter(row["reason"] for row in gone)
            assert not {row["source_id"] for row in gone} & {row["source_id"] for row in stay}
        assert [pool["rows_in"] for pool in manifest["pools"]] == [14, 63]
        assert manifest["rows_in"] == 77 == manifest["rows_out"] + sum(manifest["dropped"].values())

    def test_every_reason_is_the_planted_one(self, made):
        """Broken files, copies and pictures that are far from every query, each under its own name."""
        reasons = {row["source_id"]: row["reason"] for row in _rows(made[1], "dropped")}

        assert reasons["broken.jpg"] == "not_an_image"
        assert reasons["empty.png"] == "zero_bytes"
        assert reasons["c_copy.jpg"] == "equal_file"
        assert reasons["b_near.jpg"] == "near_duplicate"
        assert Counter(reasons.values())["not_near"] == 61 - 20

    def test_queries_of_a_copy_are_answered_by_what_stands_for_it(self, made):
        """No caption is lost with a copy, and captions of equal pictures are one cluster."""
        queries = {row["query_id"]: row for row in _rows(made[1], "queries")}
        answers = {row["query_id"]: row["image_id"] for row in _rows(made[1], "qrels")}

        assert len(queries) == len(answers) == 26
        assert answers["c_copy_caption_00"] == "a3" == queries["c_copy_caption_00"]["cluster_id"]
        assert answers["b_near_caption_00"] == "a5" == queries["b_near_caption_00"]["cluster_id"]
        assert queries["a3_caption_00"]["text"] == "picture 3 of words w3"

    def test_counts_are_compared_with_what_was_expected(self, made):
        """The manifest and the card say it."""
        manifest, folder = made

        assert manifest["expected"] == {
            "wanted": {"queries": 26, "relevant": 12, "images": 32},
            "found": {"queries": 26, "relevant": 12, "images": 32},
            "is_met": True,
        }
        assert "**As expected**" in (folder / "README.md").read_text()

    def test_tars_are_samples_in_the_order_of_hashes(self, made):
        """Every picture is there once, small, RGB and never enlarged; captions only with answers; any tar tool reads it."""
        images = {row["image_id"]: row for row in _rows(made[1], "images")}
        with tarfile.open(made[1] / "000000.tar") as archive:
            names = archive.getnames()
            for member in archive.getmembers():
                image_id, _, kind = member.name.rpartition(".")
                data = archive.extractfile(member).read()
                row = images[image_id]
                if kind == "jpg":
                    picture = Image.open(io.BytesIO(data))
                    assert picture.size == (row["width"], row["height"])
                    assert picture.mode == "RGB"
                    assert min(picture.size) == min(64, row["source_width"], row["source_height"])
                    assert hashlib.sha256(data).hexdigest() == row["sha256"]
                elif kind == "json":
                    assert json.loads(data)["source_id"] == row["source_id"]
                    assert json.loads(data)["answers"] == row["answers"]
        order = [name.rpartition(".")[0] for name in names if name.endswith(".jpg")]
        assert order == [row["image_id"] for row in _rows(made[1], "images")]
        assert sorted(order) == sorted(images)
        assert order != sorted(order)
        assert {name.rpartition(".")[0] for name in names if name.endswith(".txt")} == {f"a{n}" for n in range(12)}

    def test_it_is_a_source_with_queries_and_judgments(self, made):
        """`curated(...)` gives the same set back, whole or a part; a damaged one is refused."""
        source = SOURCES.make(f'curated("{made[1]}")').open("")
        rows = [row for shard in source.plan() for table in source.read(shard) for row in table.to_pylist()]
        assert [row["image_id"] for row in rows] == [row["image_id"] for row in _rows(made[1], "images")]
        assert all(row["problem"] is None for row in rows)

        parts = [SOURCES.make(f'curated("{made[1]}", split="{name}")').open("") for name in ("dev", "test")]
        asked = [set(part.queries()["query_id"].to_pylist()) for part in parts]
        assert not asked[0] & asked[1]
        assert len(asked[0] | asked[1]) == 26
        assert all(asked)
        assert set(parts[0].judgments()["query_id"].to_pylist()) == asked[0]
        with pytest.raises(DataError, match=r"no part 'deev'.*dev"):
            SOURCES.make(f'curated("{made[1]}", split="deev")').open("")

    def test_a_tar_that_is_not_of_the_set_is_not_read(self, made, tmp_path):
        """What an interrupted run or a copy left in the folder."""
        import shutil

        folder = shutil.copytree(made[1], tmp_path / "set")
        shutil.copy(folder / "000000.tar", folder / "000001.tar")
        source = SOURCES.make(f'curated("{folder}")').open("")

        assert sum(len(table) for shard in source.plan() for table in source.read(shard)) == made[0]["rows_out"]

    def test_beir_files_hold_the_same_judgments(self, made):
        """Header, tabs, and one file for each part."""
        judged = {(row["query_id"], row["image_id"], str(row["relevance"])) for row in _rows(made[1], "qrels")}
        read = set()
        for part in ("dev", "test"):
            lines = (made[1] / "beir" / "qrels" / f"{part}.tsv").read_text().splitlines()
            assert lines[0] == "query-id\tcorpus-id\tscore"
            read |= {tuple(line.split("\t")) for line in lines[1:]}
        corpus = [json.loads(line)["_id"] for line in (made[1] / "beir" / "corpus.jsonl").read_text().splitlines()]

        assert read == judged
        assert len(corpus) == 32

    def test_checksums_are_of_what_is_there(self, made):
        """Every file but the manifest and the card is listed."""
        for name, facts in made[0]["files"].items():
            if name != "README.md":
                assert storage.digest((made[1] / name).read_bytes()) == facts["sha256"]
        assert not (made[1] / "pieces").exists()


class TestNames:
    """Of pools, files and cells."""

    def test_pools_of_one_shape_are_told_apart(self, tmp_path):
        """Two folders with files of the same names and sizes: each is embedded as itself."""
        for pool, colour in (("a", 20), ("b", 230)):
            for number in range(4):
                (tmp_path / pool).mkdir(exist_ok=True)
                Image.new("RGB", (32, 32), (colour, 9 * number, 90)).save(tmp_path / pool / f"{number}.bmp")
        (tmp_path / "a" / "c.csv").write_text("file_name,caption\n" + "".join(f"{n}.bmp,words {n}\n" for n in range(4)))
        text = (
            f"name: p\nencoders: ['{ENCODER_A}']\ntargets: {{images: 'folder(\"{tmp_path}/a\", captions=\"c.csv\")', prefix: a_}}\n"
            f"distractors: [{{images: 'folder(\"{tmp_path}/b\")', prefix: b_}}]\nsteps: [near_duplicates(threshold=0.99)]\n"
        )
        made, folder = _make(text, tmp_path / "out")

        kept = {row["image_id"][0] for row in _rows(folder, "images")}
        assert kept == {"a", "b"}
        assert all("of a_" in row["detail"] for row in _rows(folder, "dropped") if row["image_id"].startswith("a_"))
        assert made["steps"][-1]["facts"]["complete"] is True

    def test_names_of_pools_are_different(self):
        """However they are called."""
        text = "name: n\ntargets: {images: scenes(), name: a}\ndistractors: [{images: scenes(), name: a}, {images: scenes(), name: a-0}]\n"

        assert len(set(curation.names_of(recipes.parse(text, "r")))) == 3

    def test_a_card_shows_hostile_names_as_text(self):
        """No picture is fetched and no cell is left by a file name."""
        from raybench.curation.card import _code, _plain

        assert _plain("![x](http://t/p.png) | <b> `c`") == "\\!\\[x\\](http://t/p.png) \\| \\<b\\> \\`c\\`"
        assert _code("a` ![x](y) |") == "`a' ![x](y) \\|`"

    def test_what_was_given_and_is_not_in_the_set_is_counted(self, pools, tmp_path, capsys):
        """Judgments of pictures that are not there, of unknown queries, of no relevance; and a query that is left with none."""
        rows = [
            ("q1", "a1.jpg", 1),
            ("q1", "gone.jpg", 1),
            ("q2", "gone.jpg", 1),
            ("q3", "a2.jpg", 0),
            ("q9", "a3.jpg", 1),
        ]
        (tmp_path / "q.jsonl").write_text("".join(f'{{"query_id": "q{n}", "text": "words {n}"}}\n' for n in (1, 2, 3)))
        (tmp_path / "r.jsonl").write_text(
            "".join(f'{{"query_id": "{q}", "image_id": "{i}", "relevance": {g}}}\n' for q, i, g in rows)
        )
        file = tmp_path / "r.yaml"
        tables = f"queries: 'jsonl(\"{tmp_path}/q.jsonl\")'\nqrels: 'jsonl(\"{tmp_path}/r.jsonl\")'\n"
        file.write_text(_recipe(pools, more=tables + "split: {dev: 0.5, test: 0.5}\n"))
        with pytest.raises(SystemExit):
            main(["curate", str(file), "--out", str(tmp_path / "out"), "--local", "--json"])
        told = capsys.readouterr().out
        made = json.loads(told.splitlines()[-1])

        assert made["given"] == {
            "queries": 3, "judgments": 5,
            "dropped": {
                "judgment_of_missing_picture": 2, "judgment_of_no_relevance": 1, "judgment_of_unknown_query": 1,
                "query_without_answer": 2,
            },
        }  # fmt: skip
        assert made["counts"]["queries"] == 1 == sum(made["counts"]["splits"].values())
        assert "of 3 queries and 5 judgments that were given, not in the set" in told
        assert "no query fell to" in told
        assert set(made["counts"]["splits"]) == {"dev", "test"}
        for part in ("dev", "test"):
            assert (Path(made["uri"]) / "beir" / "qrels" / f"{part}.tsv").read_text().startswith("query-id\tcorpus-id")

    def test_ids_of_queries_fit_into_tables(self, pools, tmp_path):
        """A tab in an id would break a line of judgments in two."""
        (tmp_path / "q.jsonl").write_text('{"query_id": "a\\tb", "text": "words"}')
        (tmp_path / "r.jsonl").write_text('{"query_id": "a\\tb", "image_id": "a1.jpg"}')
        more = f"queries: 'jsonl(\"{tmp_path}/q.jsonl\")'\nqrels: 'jsonl(\"{tmp_path}/r.jsonl\")'\n"
        with pytest.raises(DataError, match="has a tab or a line break"):
            _make(_recipe(pools, more=more), tmp_path)


class TestTheSameSet:
    """However it is made."""

    @pytest.fixture(scope="class")
    def text(self, pools):
        """A recipe with searches and duplicates."""
        return _recipe(
            pools, "equal()", "near_duplicates(threshold=0.995)", others=('hard_negatives(images=15, by="image")',)
        )

    @pytest.fixture(scope="class")
    def undisturbed(self, text, tmp_path_factory):
        """Made in one go in this process."""
        return _make(text, tmp_path_factory.mktemp("undisturbed"))

    def test_on_ray(self, text, undisturbed, tmp_path, ray_cluster):
        """Tasks and actors of Ray give the same bytes, over more shards too."""
        from contextlib import ExitStack

        recipe = recipes.parse(text, "r", ("shards=2",))
        with ExitStack() as lifetime:
            made = curation.curate(curation.plan_curation(recipe, str(tmp_path)), RayBackend(lifetime), Silent())

        assert made["files"] == undisturbed[0]["files"] | {"README.md": made["files"]["README.md"]}

    @pytest.mark.parametrize("place", ["write_piece", "write_tar_of", "write_manifest"])
    def test_after_a_kill(self, text, undisturbed, tmp_path, monkeypatch, place):
        """What was interrupted goes on, and ends the same."""

        class Killed(BaseException):
            pass

        def killed(*_args):
            raise Killed

        from raybench.experiments import curated_set

        with monkeypatch.context() as patched:
            patched.setattr(storage if place == "write_manifest" else curated_set, place, killed)
            with pytest.raises(Killed):
                _make(text, tmp_path)
        made, _ = _make(text, tmp_path)

        assert made["files"] == undisturbed[0]["files"] | {"README.md": made["files"]["README.md"]}

    def test_a_second_time_nothing_is_read(self, text, undisturbed, monkeypatch):
        """What is there is told again."""
        monkeypatch.setattr(curation, "_scanned", lambda *_: pytest.fail("it was read again"))
        out = undisturbed[1].parents[1]

        assert _make(text, out)[0]["counts"] == undisturbed[0]["counts"]

    def test_a_file_that_was_lost_is_made_again(self, text, undisturbed, tmp_path):
        """A manifest alone is no set."""
        made, folder = _make(text, tmp_path)
        (folder / "qrels.parquet").unlink()
        (folder / "000000.tar").write_bytes(b"cut short")
        again, _ = _make(text, tmp_path)

        assert again["files"] == made["files"]
        assert storage.digest((folder / "000000.tar").read_bytes()) == undisturbed[0]["files"]["000000.tar"]["sha256"]
        assert (folder / "qrels.parquet").exists()

    def test_on_s3(self, pools, s3):
        """Pools stay where they are, the set goes to a bucket and is read from there."""
        text = _recipe(pools, "equal()", others=("sample(images=5)",))
        plan = curation.plan_curation(recipes.parse(text, "r"), f"{s3}/curated")
        made = curation.curate(plan, LocalBackend(), Silent())
        source = SOURCES.make(f'curated("{made["uri"]}")').open("")

        assert sum(len(table) for shard in source.plan() for table in source.read(shard)) == made["rows_out"] == 13 + 5


class TestSteps:
    """Each against what a slow loop says."""

    def _draft(self, count: int, judged: dict[int, int]) -> Draft:
        """So many candidates; query q is answered by candidate judged[q]."""
        candidates = pa.table({"image_id": [f"i{row}" for row in range(count)]})
        numbers = np.array(list(judged), np.int64)
        rows = np.array(list(judged.values()), np.int64)
        names = tuple(f"q{number}" for number in judged)
        clusters = tuple(f"i{row}" for row in rows)
        return Draft(candidates, Asking(names, names, clusters, numbers, rows, np.ones(len(rows), np.int64)))

    def test_hard_negatives_are_the_nearest_by_both_encoders_in_turns(self, pools, tmp_path):
        """The pictures that stay are those of a plain loop over ranks, encoders and queries."""
        made, folder = _make(_recipe(pools, others=("hard_negatives(images=12)",)), tmp_path)
        texts = [row["text"] for row in _rows(folder, "queries")]
        names = sorted(str(path.relative_to(pools / "others")) for path in (pools / "others").rglob("*.jpg"))
        names.remove("broken.jpg")
        lists = []
        for spec in (ENCODER_A, ENCODER_B):
            recipe = ENCODERS.make(spec)
            encoder, prepare = recipe.load("cpu", 1), recipe.preprocess()
            pixels = [prepare.apply(Image.open(pools / "others" / name).convert("RGB")) for name in names]
            images = encoder.images(np.stack(pixels)).astype(np.float16).astype(np.float64)
            asked = encoder.texts(texts).astype(np.float16).astype(np.float64)
            lists.append([sorted(range(len(names)), key=lambda row: (-(images[row] @ query), row)) for query in asked])
        wanted: set[int] = set()
        complete: set[int] = set()
        for rank in range(len(names)):
            for nearest in lists:
                turn = {order[rank] for order in nearest}
                if len(wanted) < 12:
                    complete, wanted = set(wanted), wanted | turn
        stay = {row["source_id"] for row in _rows(folder, "images") if row["pool"] == "others"}

        assert len(stay) == 12
        assert {names[row] for row in complete} <= stay <= {names[row] for row in wanted}
        assert made["steps"][2]["facts"]["asked"] == 12

    def test_turns_end_when_there_are_enough(self):
        """Two lists of two queries: rank by rank, and never more than asked for."""
        lists = [
            Neighbors(np.array([[4, 5], [6, 7]]), np.zeros((2, 2))),
            Neighbors(np.array([[5, 4], [8, -1]]), np.zeros((2, 2))),
        ]
        draft = self._draft(10, {0: 0, 1: 1})

        assert in_turns(lists, 2, draft, 0)[0].tolist() == [4, 6]
        assert in_turns(lists, 4, draft, 0)[0].tolist() == [4, 5, 6, 8]
        assert in_turns(lists, 4, draft, 0)[1] == 1
        assert in_turns(lists, 100, draft, 0)[0].tolist() == [4, 5, 6, 7, 8]
        assert len(in_turns(lists, 3, draft, 0)[0]) == 3

    def test_suspects_need_every_encoder_and_are_listed(self, pools, tmp_path):
        """A picture is set aside exactly where a loop finds it before the answer by both encoders; answers stay."""
        made, folder = _make(_recipe(pools, "suspects(queries=2)"), tmp_path)
        queries, answers = (
            _rows(folder, "queries"),
            {row["query_id"]: row["image_id"] for row in _rows(folder, "qrels")},
        )
        ids = [row["image_id"] for row in _rows(folder, "images")]
        ids += [row["image_id"] for row in _rows(folder, "dropped") if row["step"].startswith("suspects")]
        sources = {
            row["image_id"]: (row["pool"], row["source_id"])
            for row in _rows(folder, "images") + _rows(folder, "dropped")
        }
        seen = []
        for spec in (ENCODER_A, ENCODER_B):
            recipe = ENCODERS.make(spec)
            encoder, prepare = recipe.load("cpu", 1), recipe.preprocess()
            pixels = [prepare.apply(Image.open(pools / Path(*sources[one])).convert("RGB")) for one in ids]
            images = dict(zip(ids, encoder.images(np.stack(pixels)).astype(np.float16).astype(np.float64), strict=True))
            asked = encoder.texts([row["text"] for row in queries]).astype(np.float16).astype(np.float64)
            seen.append(
                {
                    (row["query_id"], one)
                    for row, query in zip(queries, asked, strict=True)
                    for one in ids
                    if one != answers[row["query_id"]]
                    and images[one] @ query >= images[answers[row["query_id"]]] @ query
                }
            )
        agreed = seen[0] & seen[1]
        cluster = {row["query_id"]: row["cluster_id"] for row in queries}
        times = Counter((one, cluster[query]) for query, one in agreed)
        wanted = {one for (one, _), count in times.items() if count >= 2 and sources[one][0] == "others"}
        gone = {row["image_id"] for row in _rows(folder, "dropped") if row["reason"] == "suspected_false_negative"}
        review = _rows(folder, "review")

        assert gone == wanted
        assert gone
        assert {(row["query_id"], row["image_id"]) for row in review} == agreed
        assert all(row["cosine"] >= row["cosine_of_answer"] for row in review)
        assert {row["image_id"] for row in review if row["removed"]} == gone
        assert made["counts"]["relevant"] == 14

    def test_a_sample_does_not_depend_on_company(self):
        """Candidates that are added elsewhere change nobody's lot but for the last places."""
        few, many = self._draft(50, {0: 0}), self._draft(60, {0: 0})

        class Work:
            seed = 5

        stay_few = set(range(50)) - set(Sample(20).judge(few, np.arange(50), Work()).rows.tolist())
        stay_many = set(range(60)) - set(Sample(20).judge(many, np.arange(60), Work()).rows.tolist())

        assert len(stay_few) == len(stay_many) == 20
        assert {row for row in stay_many if row < 50} <= stay_few

    def test_clusters_near_a_text_stay(self, tmp_path):
        """Of pictures in four colours, the cluster whose captions say red stays, and those without captions go."""
        lines, words = ["file_name,caption"], ("red", "green", "blue", "grey")
        for number in range(80):
            colour = [(220, 20, 20), (20, 220, 20), (20, 20, 220), (128, 128, 128)][number % 4]
            _save(Image.new("RGB", (32, 32), colour), tmp_path / "pool" / f"p{number:02d}.png")
            lines += [f"p{number:02d}.png,{words[number % 4]}"] if number < 72 else []
        (tmp_path / "pool" / "captions.csv").write_text("\n".join(lines))
        text = (
            f"name: c\nencoders: ['{ENCODER_A}']\ntargets:\n  images: 'folder(\"{tmp_path}/pool\", captions=\"captions.csv\")'\n"
            '  steps: [\'cluster(clusters=4, keep=1, by="text", near="red")\']\n'
        )
        made, folder = _make(text, tmp_path / "out")

        assert {row["source_id"] for row in _rows(folder, "images")} == {f"p{n:02d}.png" for n in range(0, 72, 4)}
        assert made["pools"][0]["dropped"] == {"no_caption": 8, "other_cluster": 54}

    def test_a_tight_cluster_is_no_handful(self, pools, tmp_path):
        """Two pictures that are alike are the tightest of clusters, and no subject."""
        for number in range(60):
            _save(_picture(7 + number % 3, (40 + number, 40)), tmp_path / "pool" / f"p{number:02d}.png")
        for number in range(2):
            _save(Image.new("RGB", (64, 64), (250, 250, 0)), tmp_path / "pool" / f"two{number}.png")
        lines = ["file_name,caption", *(f"{path.name},words {path.stem}" for path in (tmp_path / "pool").glob("*.png"))]
        (tmp_path / "pool" / "captions.csv").write_text("\n".join(lines))
        text = (
            f"name: c\nencoders: ['{ENCODER_A}']\ntargets:\n  images: 'folder(\"{tmp_path}/pool\", captions=\"captions.csv\")'\n"
            "  steps: ['cluster(clusters=4, keep=1)']\n"
        )
        made, folder = _make(text, tmp_path / "out")

        assert made["rows_out"] >= 10
        assert not {row["source_id"] for row in _rows(folder, "images")} & {"two0.png", "two1.png"}

    def test_parts_of_a_split(self):
        """A cluster is in one part, shares are met, and nothing else matters."""
        clusters = [f"c{number // 5}" for number in range(20_000)]
        parts = splits_of(clusters, {"train": 0.8, "dev": 0.1, "test": 0.1}, 0)

        assert parts == [part for first in range(0, 20_000, 5) for part in [parts[first]] * 5]
        shares = Counter(parts)
        assert abs(shares["train"] / 20_000 - 0.8) < 0.03
        assert abs(shares["dev"] / 20_000 - 0.1) < 0.02
        assert splits_of(clusters[10:15], {"train": 0.8, "dev": 0.1, "test": 0.1}, 0) == parts[10:15]
        assert splits_of(clusters, {"test": 0.1, "train": 0.8, "dev": 0.1}, 0) == parts
        for wrong in ({"a": 0.5, "b": 0.4}, {"a/b": 1.0}, {"a": 0.0, "b": 1.0}):
            with pytest.raises(RequestError):
                check_split(wrong)

    @pytest.mark.parametrize(("size", "shortest", "wanted"), [
        ((500, 333), 160, (240, 160)), ((100, 80), 160, (100, 80)), ((160, 4000), 160, (160, 4000)), ((3, 999), 2, (2, 666)),
    ])  # fmt: skip
    def test_pictures_get_smaller_and_never_larger(self, size, shortest, wanted):
        """The shorter side; a picture in CMYK or with an alpha channel becomes an RGB JPEG."""
        for mode, form in (("CMYK", "TIFF"), ("RGBA", "PNG"), ("L", "BMP")):
            buffer = io.BytesIO()
            Image.new(mode, size).save(buffer, form)
            data, extension, width, height = stored_picture(buffer.getvalue(), Pictures(shortest))
            opened = Image.open(io.BytesIO(data))
            assert (extension, opened.format, opened.mode) == ("jpg", "JPEG", "RGB")
            assert opened.size == (width, height) == wanted
        assert stored_picture(buffer.getvalue(), Pictures(0)) == (buffer.getvalue(), "bmp", *size)

    def test_a_photograph_with_several_pictures_is_a_jpeg(self):
        """Cameras write such files; kept as they are, they are JPEG to every reader."""
        buffer = io.BytesIO()
        _picture(1).save(buffer, "MPO", save_all=True, append_images=[_picture(2)])

        assert stored_picture(buffer.getvalue(), Pictures(0))[:2] == (buffer.getvalue(), "jpg")

    def test_ids_are_names_of_files(self):
        """Whatever a pool calls a picture."""
        assert image_id_of("train/n01440764/n01440764_10026.JPEG", "in_") == "in_train_n01440764_n01440764_10026"
        assert (
            image_id_of("../../\u00fc\n.png", "") == "__________"[:8] or image_id_of("../../\u00fc\n.png", "").isascii()
        )
        long = [image_id_of(f"{'x' * 300}{end}", "p_") for end in "ab"]
        assert len(set(long)) == 2
        assert max(map(len, long)) == 80


class TestClassifiers:
    """Real model classes with random weights, against the libraries' own way."""

    @pytest.fixture(scope="class")
    def vit(self, tmp_path_factory):
        """A small ViT classifier of transformers with named classes."""
        import torch
        from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

        folder = tmp_path_factory.mktemp("vit")
        torch.manual_seed(0)
        names = {0: "tench, Tinca tinca", 1: "ambulance", 2: "cab, hack, taxi", 3: "crane", 4: "crane"}
        config = ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8,
            id2label=names, label2id={name: label for label, name in names.items()}, initializer_range=0.4,
        )  # fmt: skip
        ViTForImageClassification(config).save_pretrained(folder)
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
        return folder

    def test_huggingface(self, vit, pools, tmp_path):
        """The pictures that stay are those whose probabilities, by transformers alone, add up to more than the threshold."""
        import torch
        from transformers import AutoModelForImageClassification

        model = AutoModelForImageClassification.from_pretrained(vit).eval()
        names = sorted((pools / "asked").glob("*.jpg"))
        pixels = [
            np.asarray(Image.open(name).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)) for name in names
        ]
        scaled = torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255 * 2 - 1
        with torch.no_grad():
            share = torch.softmax(model(scaled).logits, 1)[:, [1, 2]].sum(1).numpy()
        threshold = float(np.sort(share)[6:8].mean())
        text = _recipe(pools).replace(
            "distractors", f"  steps:\n    - 'huggingface_classes(\"{vit}\", classes=[\"Ambulance\", 2], threshold={threshold})'\ndistractors"
        )  # fmt: skip
        _, folder = _make(text, tmp_path)
        stay = {row["source_id"] for row in _rows(folder, "images") if row["pool"] == "asked"}

        assert stay == {name.name for name, one in zip(names, share, strict=True) if one > threshold}
        assert len(stay) == 7
        details = {
            row["source_id"]: row["detail"] for row in _rows(folder, "dropped") if row["reason"] == "not_of_the_classes"
        }
        for name, one in zip(names, share, strict=True):
            if name.name in details:
                assert float(details[name.name].split()[1]) == pytest.approx(one, abs=2e-4)

    def test_timm(self, pools, tmp_path):
        """A folder that timm saved: preprocessing and probabilities are those of timm's own transform and model."""
        import timm
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(1)
        model = timm.create_model("test_vit", num_classes=5, img_size=160).eval()
        for parameter in model.head.parameters():
            parameter.data.normal_(0, 0.5)
        (tmp_path / "m").mkdir()
        save_file(model.state_dict(), tmp_path / "m" / "model.safetensors")
        pretrained = dict(timm.data.resolve_model_data_config(model).items()) | {"num_classes": 5}
        config = {
            "architecture": "test_vit",
            "num_classes": 5,
            "pretrained_cfg": pretrained,
            "model_args": {"img_size": 160},
        }
        (tmp_path / "m" / "config.json").write_text(json.dumps(config))
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        pictures = [Image.open(pools / "others" / f"deep {n % 3}" / f"d.{n}.jpg").convert("RGB") for n in range(6)]
        with torch.no_grad():
            wanted = torch.softmax(model(torch.stack([transform(one) for one in pictures])).double(), 1).numpy()

        recipe = TimmClassifier(str(tmp_path / "m"), classes=(0, "3"))
        loaded = recipe.load("cpu", 1)
        given = loaded.images(np.stack([recipe.preprocess().apply(one) for one in pictures]))

        np.testing.assert_allclose(given[:, 0], wanted[:, [0, 3]].sum(1), atol=1e-5)
        assert given[:, 1].tolist() == wanted.argmax(1).tolist()
        assert wanted[:, [0, 3]].sum(1).std() > 1e-3

    def test_zero_shot_with_the_scenes_model(self, tmp_path):
        """Of drawn scenes, those that stay for "red" show red things far more often than those that go."""
        text = (
            "name: z\nencoders: ['openclip(\"raybench:scenes-clip-small\")']\n"
            "targets:\n  images: scenes(images=240, seed=5)\n  steps:\n"
            '    - \'zero_shot(classes=["red circle", "red square"], others=["blue circle", "green square", "yellow star"], '
            'prompts=["a {}", "a picture with a {}"], threshold=0.3)\'\n'
        )
        _, folder = _make(text, tmp_path)
        queries = _rows(folder, "queries")
        source = SOURCES.make("scenes(images=240, seed=5)").open(str(tmp_path / "datasets"))
        every = source.queries()["text"].to_pylist()
        share = np.mean(["red" in row["text"] for row in queries])

        assert len(queries) >= 10
        assert share > 1.5 * np.mean(["red" in one for one in every])

    def test_probabilities_are_a_softmax_of_scaled_cosines(self):
        """By the formula."""
        images, classes = np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
        wanted = np.exp([0.6 * 10, 0.8 * 10])

        np.testing.assert_allclose(probabilities(images, classes, 10.0)[0], wanted / wanted.sum(), rtol=1e-12)

    def test_classes_are_found_by_name_and_number(self):
        """A name, one of several names, a number; the first of two classes with one name; and what is unknown."""
        names = {0: "tench, Tinca tinca", 1: "cab, hack, taxi", 2: "crane", 3: "crane"}

        assert labels_of(("taxi", "TENCH", 2), names, "m") == (1, 0, 2)
        with pytest.raises(RequestError, match=r"several classes 'crane': 2 .crane. and 3 .crane.; give the number"):
            labels_of(("crane",), names, "m")
        with pytest.raises(RequestError, match=r"no class 'taxy'.*taxi|cab"):
            labels_of(("taxy",), names, "m")
        with pytest.raises(RequestError, match="1,000, and m has 4"):
            labels_of("vehicles", names, "m")

    def test_two_steps_of_one_model_are_two_classifications(self, vit, pools, tmp_path):
        """What stays for one class and then for another is what stays for each alone."""
        names = sorted((pools / "asked").glob("*.jpg"))
        steps = []
        for label in (1, 2):
            recipe = HuggingFaceClassifier(str(vit), classes=(label,))
            pixels = np.stack([recipe.preprocess().apply(Image.open(name).convert("RGB")) for name in names])
            threshold = float(np.quantile(recipe.load("cpu", 1).images(pixels)[:, 0], 0.3)) + 1e-6
            steps.append(f"'huggingface_classes(\"{vit}\", classes=[{label}], threshold={threshold})'")

        def stay(*chosen: str) -> set[str]:
            text = _recipe(pools).replace(
                "distractors", "  steps:\n" + "".join(f"    - {one}\n" for one in chosen) + "distractors"
            )
            _, folder = _make(text, tmp_path)
            return {row["source_id"] for row in _rows(folder, "images") if row["pool"] == "asked"}

        both = stay(steps[0]) & stay(steps[1])
        assert both == stay(*steps)
        assert both not in (stay(steps[0]), stay(steps[1]))

    def test_a_list_of_classes_is_its_content(self, vit, tmp_path):
        """A file that changes under its name is another classifier."""
        path = tmp_path / "classes.csv"
        path.write_text("label\n1\n")
        first = HuggingFaceClassifier(str(vit), classes=str(path)).fingerprint()
        path.write_text("label\n2\n")

        assert HuggingFaceClassifier(str(vit), classes=str(path)).fingerprint() != first

    def test_a_model_without_a_head_is_refused(self, tmp_path):
        """Transformers would fill the head with random numbers."""
        from transformers import ViTConfig, ViTImageProcessor, ViTModel

        config = ViTConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=48,
            image_size=32,
            patch_size=8,
        )
        ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
        with pytest.raises(RequestError, match="no trained image classifier"):
            HuggingFaceClassifier(str(tmp_path), classes=(0,)).load("cpu", 1)


class TestWrongRequests:
    """One sentence that names the thing, the value and the next step."""

    @pytest.mark.parametrize(("find", "instead", "says"), [
        ("name: made", "nam: made", "unknown key 'nam'"),
        ("steps:\n", "stepz:\n", "unknown key 'distractors.stepz'"),
        ("hard_negatives(images=5)", "hard_negativs(images=5)", "hard_negatives"),
        ("hard_negatives(images=5)", "hard_negatives(images=0)", "images=0"),
        ("seed: 3", "steps: [\"suspects(encoders=['tiny()'])\"]", "one witness is none"),
        ("hard_negatives(images=5)", "suspects()", "put it under steps of the recipe"),
        ("hard_negatives(images=5)", "near_duplicates(threshold=95.0)", "threshold=95"),
        ("hard_negatives(images=5)", "zero_shot(classes=['a'], others=['a'])", "'a' is on both sides"),
        ("hard_negatives(images=5)", "cluster(clusters=4, keep=4)", "chooses nothing"),
        ("hard_negatives(images=5)", "timm_classes('vit_base_patch16_225', classes='vehicles')", "vit_base_patch16_22"),
        ("hard_negatives(images=5)", "timm_classes('vit_base_patch16_224', classes='vehicels')", "vehicles"),
        ("hard_negatives(images=5)", "huggingface_classes('nowhere/at/all', classes='vehicles')", "nowhere/at/all"),
        ("prefix: d_", "prefix: d/", "prefix='d/'"),
        ("seed: 3", "seed: -3", "seed=-3"),
        ("seed: 3", "pictures: {quality: 0}", "quality=0"),
        ("seed: 3", "split: {a: 0.5}", "add up to 0.5"),
        ("seed: 3", "queries: 'csv(\"q.csv\")'", "queries and qrels go together"),
        ("tiny(dim=24, seed=1)", "tinny(dim=24)", "tiny"),
    ])  # fmt: skip
    def test_in_a_recipe(self, pools, tmp_path, capsys, find, instead, says):
        """Nothing is read before it is said."""
        text = _recipe(pools, others=("hard_negatives(images=5)",))
        assert find in text
        file = tmp_path / "r.yaml"
        file.write_text(text.replace(find, instead, 1))
        with pytest.raises(SystemExit) as ended:
            main(["curate", str(file), "--out", str(tmp_path / "out"), "--local"])
        told = capsys.readouterr().err

        assert ended.value.code == 2
        assert says in told
        assert "Traceback" not in told
        assert not (tmp_path / "out" / "scans").exists()

    def test_what_reading_shows(self, pools, tmp_path):
        """Two pictures with one id, too many unreadable ones, nothing to ask, and all of it dropped."""
        (tmp_path / "c" / "x").mkdir(parents=True)
        data = (pools / "asked" / "a1.jpg").read_bytes()
        for name in ("a.b.jpg", "a_b.jpg"):
            (tmp_path / "c" / name).write_bytes(data)
        one = f"name: c\ntargets: {{images: 'folder(\"{tmp_path}/c\")'}}\n"
        with pytest.raises(DataError, match=r"'a.b.jpg' of folder and 'a_b.jpg' of folder would both be 'a_b'"):
            _make(one, tmp_path / "o1")
        (tmp_path / "c" / "a.b.jpg").write_bytes(b"")
        with pytest.raises(WorkError, match=r"1 of 2 pictures of folder could not be read .zero_bytes 1.*max_bad=0.05"):
            _make(one, tmp_path / "o2")
        with pytest.raises(DataError, match="gives no query"):
            _make(one + "embed: {max_bad: 0.9}\n", tmp_path / "o3")
        everything = _recipe(pools, 'huggingface_classes("x", classes="vehicles")')
        with pytest.raises(RaybenchError):
            recipes.parse(everything.replace('classes="vehicles"', "classes=[]"), "r")
        with pytest.raises(SpecError, match="no bound of a probability"):
            recipes.parse(_recipe(pools, 'zero_shot(classes=["a"], others=["b"], threshold=1.5)'), "r")

    def test_unexpected_counts_fail_only_when_asked_to(self, pools, tmp_path, capsys):
        """Exit code 1 with --expect; a sentence without. A set that is there is compared anew."""
        file = tmp_path / "r.yaml"
        file.write_text(_recipe(pools, "equal()") + "expect: {queries: 26, images: 70}\n")
        main_args = ["curate", str(file), "--out", str(tmp_path / "out"), "--local", "--json"]
        with pytest.raises(SystemExit) as ended:
            main(main_args)
        assert ended.value.code in (0, None)
        told = capsys.readouterr().out
        assert "not as expected: queries 26 of 26, images 73 of 70" in told
        assert json.loads(told.splitlines()[-1])["expected"]["is_met"] is False
        with pytest.raises(SystemExit) as ended:
            main([*main_args, "--expect"])
        assert ended.value.code == 1
        file.write_text(file.read_text().replace("images: 70", "images: 73"))
        with pytest.raises(SystemExit) as ended:
            main([*main_args, "--expect"])
        assert ended.value.code in (0, None)

    def test_the_plan(self, pools, tmp_path, capsys):
        """`--dry-run` reads the recipe and lists the pools, and writes nothing."""
        file = tmp_path / "r.yaml"
        file.write_text(_recipe(pools, "equal()", others=("sample(images=9)",)))
        with pytest.raises(SystemExit):
            main(["curate", str(file), "--out", str(tmp_path / "out"), "--dry-run"])
        told = capsys.readouterr().out

        assert "others: 1 shards" in told
        assert "others: sample(images=9)" in told
        assert "all: equal()" in told
        assert not (tmp_path / "out").exists()


class TestHardSection:
    """The section of an evaluation."""

    def _evaluation(self, tmp_path: Path, hard: str) -> str:
        return f"name: e\nimages: scenes()\nencoders: ['{ENCODER_A}']\nhard: {hard}\n"

    @pytest.mark.parametrize(("hard", "says"), [
        ("{recipes: [nowhere.yaml]}", "no recipe nowhere.yaml"),
        ('{recipes: ["raybench:scenes-hart"]}', "scenes-hard"),
        ('{recipes: ["raybench:scenes-hard", "raybench:scenes-hard"]}', "have the name 'scenes-hard'"),
        ('{recipes: ["raybench:scenes-hard"], measure: hits@1}', "hits@1|'hits'"),
        ('{recipes: ["raybench:scenes-hard"], encoders: ["tiny(dim=9)"]}', "not among the encoders"),
    ])  # fmt: skip
    def test_wrong_requests(self, tmp_path, hard, says):
        """Said when the file is read."""
        from raybench.experiments import evaluation_file

        with pytest.raises(RaybenchError, match=says):
            evaluation_file.parse(self._evaluation(tmp_path, hard), "e.yaml")
