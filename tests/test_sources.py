"""What every source of images promises, for each entry of the table of sources; then what is special to each format."""

import io
import json
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raybench import storage
from raybench.embedding.decode import decode
from raybench.errors import DataError, SpecError, StorageError
from raybench.sources import SOURCES, embedded, folder, parquet, rows, steady
from raybench.sources.base import IMAGE_ROWS, JUDGMENT_ROWS, TEXT_ROWS, Source

HOSTILE = "=cmd|' /C calc'!A0 <script>\u202e \N{SNOWMAN}"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "WAITS_S", (0.0, 0.0, 0.0))


def picture(number: int) -> bytes:
    """A small PNG that no other number has."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 255 - number, 7)).save(stream, "PNG")
    return stream.getvalue()


def webdataset_example(place: Path) -> str:
    """Two tars, the second cut, empty in one place and with a failure in its table; of seven rows four are images."""
    for shard in range(2):
        with tarfile.open(place / f"{shard:05d}.tar", "w") as archive:
            for number in range(3):
                key = f"{shard:05d}{number:04d}"
                data = b"" if (shard, number) == (1, 1) else picture(10 * shard + number)
                for name, content in ((f"{key}.png", data), (f"{key}.txt", f"{HOSTILE}\n{key}".encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    with (place / "00001.tar").open("r+b") as file:
        file.truncate(512 * 10)
    failed = {"key": ["000019999"], "status": ["failed_to_download"], "error_message": [HOSTILE], "caption": [None]}
    pq.write_table(pa.table(failed), place / "00001.parquet")
    return f'webdataset("{place}")'


def parquet_example(place: Path) -> str:
    """Two files; of six rows four are images."""
    for shard in range(2):
        images = [{"bytes": picture(10 * shard + number), "path": HOSTILE} for number in range(3)]
        images[1] = [{"bytes": b"", "path": None}, {"bytes": None, "path": "x.jpg"}][shard]
        captions = [[HOSTILE, "two"], [], ["one"]]
        pq.write_table(pa.table({"image": images, "caption": captions}), place / f"part-{shard}.parquet")
    return f'parquet("{place}")'


def folder_example(place: Path) -> str:
    """Two folders of files; of six rows four are images."""
    for number in range(5):
        path = place / f"{number % 2}" / f"picture {number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"" if number == 3 else picture(number))
    lines = [f'"{number % 2}/picture {number}.png","{HOSTILE}"' for number in range(6)]
    (place / "captions.csv").write_text("file_name,caption\n" + "\n".join(lines))
    return f'folder("{place}", captions="captions.csv")'


def flickr30k_example(place: Path) -> str:
    """Six images of which four have a picture: one is missing, one is empty."""
    (place / "flickr30k-images").mkdir()
    for number in range(5):
        (place / "flickr30k-images" / f"{number}.jpg").write_bytes(b"" if number == 3 else picture(number))
    sentences = [{"raw": HOSTILE}, {"raw": "two"}]
    images = [{"filename": f"{number}.jpg", "split": "test", "sentences": sentences} for number in range(6)]
    (place / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    return f'flickr30k("{place}", whole=False)'


def coco_example(place: Path) -> str:
    """Six images of which four are in the zip, one of them empty, and one more is a file."""
    with zipfile.ZipFile(place / "val2014.zip", "w") as archive:
        for number in range(4):
            archive.writestr(f"val2014/{number}.jpg", b"" if number == 3 else picture(number))
    (place / "4.jpg").write_bytes(picture(4))
    pairs = [{"image": f"val2014/{number}.jpg", "caption": [HOSTILE]} for number in range(6)]
    (place / "coco_karpathy_test.json").write_text(json.dumps(pairs))
    return f'coco("{place}", whole=False)'


def imagenet_example(place: Path) -> str:
    """Six rows of two classes in two files, one of another class; of the five that are asked for, four have an image."""
    for shard in range(2):
        images = [{"bytes": picture(10 * shard + number), "path": HOSTILE} for number in range(3)]
        images[1] = [{"bytes": b"", "path": None}, images[1]][shard]
        labels = [817, 468, [817, 0][shard]]
        name = f"validation-{shard:05d}-of-00002.parquet"
        pq.write_table(pa.table({"image": images, "label": labels}), place / name)
    return f'imagenet("{place}", classes="vehicles", whole=False)'


def curated_example(place: Path) -> str:
    """A set of the four readable pictures of the folder example."""
    from raybench.experiments import curate, recipe
    from raybench.experiments.backend import LocalBackend
    from raybench.experiments.reporting import Silent

    text = f"name: c\ntargets: {{images: {folder_example(place)!r}}}\nembed: {{max_bad: 0.5}}\n"
    plan = curate.plan_curation(recipe.parse(text, "c.yaml"), str(place / "out"))
    return f'curated("{curate.curate(plan, LocalBackend(), Silent())["uri"]}")'


EXAMPLES: dict[str, tuple[Callable[[Path], str], int, int]] = {
    "webdataset": (webdataset_example, 7, 4),
    "parquet": (parquet_example, 6, 4),
    "folder": (folder_example, 6, 4),
    "flickr30k": (flickr30k_example, 6, 4),
    "coco": (coco_example, 6, 4),
    "imagenet": (imagenet_example, 5, 4),
    "curated": (curated_example, 4, 4),
    "scenes": (lambda _: "scenes(images=60, seed=3)", 60, 60),
}
"""For each source: what writes an example and returns its address, its rows, and how many have an image."""


def opened(name: str, place: Path) -> Source:
    """A source with its example data."""
    (place / "data").mkdir()
    spec = EXAMPLES[name][0](place / "data")
    return SOURCES.make(spec).open(str(place / "datasets"))


def read(source: Source) -> list[dict[str, Any]]:
    """All rows, shard by shard."""
    return [row for shard in source.plan() for table in source.read(shard) for row in table.to_pylist()]


def test_every_source_has_an_example() -> None:
    """A source that joins the table joins the contract."""
    assert set(EXAMPLES) == set(SOURCES.names)


@pytest.mark.parametrize("name", EXAMPLES)
def test_tables_have_the_schema_and_positions_count_up(name: str, tmp_path: Path) -> None:
    """Each table has exactly the columns of IMAGE_ROWS; positions are 0, 1, 2, ... within a shard."""
    source = opened(name, tmp_path)
    for number, shard in enumerate(source.plan()):
        tables = list(source.read(shard))
        assert shard.number == number
        assert all(table.schema.equals(IMAGE_ROWS) for table in tables)
        positions = [position for table in tables for position in table["position"].to_pylist()]
        assert positions == list(range(len(positions)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_rows_in_are_rows_out_plus_rows_with_a_problem(name: str, tmp_path: Path) -> None:
    """Every row is there once, and has either bytes or a short fixed word with a detail."""
    found = read(opened(name, tmp_path))
    _, num_rows, num_images = EXAMPLES[name]
    assert len(found) == num_rows
    assert sum(row["image"] is not None for row in found) == pytest.approx(num_images, abs=2 if name == "scenes" else 0)
    for row in found:
        assert (row["image"] is None) == (row["problem"] is not None)
        if row["problem"] is not None:
            assert re.fullmatch("[a-z_]{4,30}", row["problem"])
            assert 0 < len(row["detail"]) <= 200
        else:
            assert row["image"]
        assert row["image_id"]
        assert isinstance(row["captions"], list)
        assert row["metadata"] is None or isinstance(json.loads(row["metadata"]), dict)
    ids = [row["image_id"] for row in found]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", EXAMPLES)
def test_reading_again_and_elsewhere_gives_the_same(name: str, tmp_path: Path) -> None:
    """Plans and rows do not depend on who reads, how often, and what was read before."""
    source = opened(name, tmp_path)
    plan = source.plan()
    assert plan == source.plan()
    copy: Source = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes, as a worker gets them
    assert len(pickle.dumps(source)) < 2_000
    backwards = {shard.number: [table.to_pylist() for table in copy.read(shard)] for shard in reversed(plan)}
    for shard in plan:
        assert [table.to_pylist() for table in source.read(shard)] == backwards[shard.number]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_copy_in_another_place_has_the_same_names(name: str, tmp_path: Path) -> None:
    """Shard names do not hold the place, so moved data keeps its identity."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = opened(name, tmp_path / "a").plan(), opened(name, tmp_path / "b").plan()
    assert [shard.name for shard in one] == [shard.name for shard in other]
    assert all("/" + "tmp" not in shard.name for shard in one)


@pytest.mark.parametrize("name", EXAMPLES)
def test_queries_and_judgments_fit_their_schemas(name: str, tmp_path: Path) -> None:
    """What comes with the images has the agreed columns, or there is nothing."""
    source = opened(name, tmp_path)
    queries, judgments = source.queries(), source.judgments()
    assert (queries is None) == (judgments is None)
    if queries is not None and judgments is not None:
        assert queries.schema.equals(TEXT_ROWS.remove(0))
        assert judgments.schema.equals(JUDGMENT_ROWS)
        assert set(judgments["query_id"].to_pylist()) <= set(queries["query_id"].to_pylist())
        assert set(judgments["image_id"].to_pylist()) <= {row["image_id"] for row in read(source)}


def test_tables_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table ends once it holds enough bytes or rows, and no row is lost between two tables."""
    monkeypatch.setattr(rows, "_TABLE_BYTES", 1_000)
    monkeypatch.setattr(rows, "_TABLE_ROWS", 5)
    made = list(rows.tables(rows.Row(str(n), b"x" * (400 if n % 3 else 10)) for n in range(23)))
    assert [position for table in made for position in table["position"].to_pylist()] == list(range(23))
    assert max(len(table) for table in made) <= 5
    assert max(table["image"].nbytes for table in made) < 2_000


def test_hostile_text_is_storable() -> None:
    """Lone surrogates, control characters and endless details do not stop a table from being written."""
    [table] = rows.tables([rows.Row("a\ud800b\0", None, ("\udfff",), None, "no_image", "d\ud800" * 500)])
    [row] = table.to_pylist()
    assert (row["image_id"], row["captions"], len(row["detail"])) == ("a?b\0", ["?"], 200)
    deep: Any = 1
    for _ in range(500):
        deep = {"d": [deep]}
    metadata = {"x": float("inf"), "y": deep, "z": b"bytes", "\ud800": "\ud800", "t": 3 + 4j, "n": 10**30}
    made = json.loads(rows.as_json(metadata) or "")
    assert (made["x"], made["t"], made["n"], "z" in made) == (None, "(3+4j)", 10**30, False)


# ---- Parquet


def rows_of(spec: str) -> list[dict[str, Any]]:
    """All rows at an address."""
    return read(SOURCES.make(spec).open("unused"))


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])]
)
def test_parquet_images_may_be_bytes_or_structs(kind: pa.DataType, tmp_path: Path) -> None:
    """Plain binary columns and Hugging Face's structs give the same bytes."""
    images = [picture(1), picture(2)]
    cells = [{"bytes": image, "path": "p"} for image in images] if pa.types.is_struct(kind) else images
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), tmp_path / "a.parquet")
    found = rows_of(f'parquet("{tmp_path}/a.parquet")')
    assert [row["image"] for row in found] == images
    assert [row["image_id"] for row in found] == ["a-0", "a-1"]


def test_parquet_captions_are_strings_lists_or_json(tmp_path: Path) -> None:
    """A string is one caption, also one that looks a bit like JSON; lists and JSON lists of strings are several."""
    cells = {
        "caption": (pa.string(), ["plain", '["a", "b"]', "[1] not a list of captions", None, "  "]),
        "captions": (pa.list_(pa.string()), [["x", None, " y "], [], None, ["z"], ["w"]]),
    }
    expected = {
        "caption": [["plain"], ["a", "b"], ["[1] not a list of captions"], [], []],
        "captions": [["x", "y"], [], [], ["z"], ["w"]],
    }
    for name, (kind, values) in cells.items():
        pq.write_table(pa.table({"image": [b"i"] * 5, name: pa.array(values, kind)}), tmp_path / "a.parquet")
        assert [row["captions"] for row in rows_of(f'parquet("{tmp_path}/a.parquet")')] == expected[name]


def test_parquet_ids_and_metadata(tmp_path: Path) -> None:
    """The usual id columns are found, numbers become strings, an empty id is a problem; other columns are metadata."""
    table = {
        "jpg": [b"i"] * 3,
        "img_id": [7, None, 9],
        "say": ["a", "b", "c"],
        "width": [1, 2, 3],
        "raw_bytes": [b"x"] * 3,
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    found = rows_of(f'parquet("{tmp_path}/a.parquet", image="jpg", caption="say")')
    assert [(row["image_id"], row["problem"]) for row in found] == [("7", None), ("a-1", "no_id"), ("9", None)]
    assert json.loads(found[2]["metadata"]) == {"img_id": 9, "width": 3}
    assert found[2]["captions"] == ["c"]
    chosen = rows_of(f'parquet("{tmp_path}/a.parquet", image="jpg", id="say")')
    assert [row["image_id"] for row in chosen] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(', image="imgae"', "did you mean 'image'"), (', caption="cap"', "'cap'"), (', id="score"', "does not hold ids"),
     (', image="score"', "images are bytes")],
)  # fmt: skip
def test_parquet_refuses_columns_that_cannot_be(options: str, sentence: str, tmp_path: Path) -> None:
    """A wrong column is found when the source plans, before any work starts."""
    pq.write_table(pa.table({"image": [b"i"], "score": [0.5], "caption": ["c"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=re.escape(sentence)):
        SOURCES.make(f'parquet("{tmp_path}"{options})').open("unused").plan()


def test_big_parquet_files_are_split_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of one file cover its row groups once; ids count rows of the file, whatever the shard."""
    table = pa.table({"image": [bytes([n]) * 1_000 for n in range(50)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7, compression="none", use_dictionary=False)
    whole = rows_of(f'parquet("{tmp_path}")')
    monkeypatch.setattr(parquet, "_SHARD_BYTES", 20_000)
    plan = SOURCES.make(f'parquet("{tmp_path}")').open("unused").plan()
    assert [(shard.first, shard.count) for shard in plan] == [(0, 3), (3, 3), (6, 2)]
    split = rows_of(f'parquet("{tmp_path}")')
    assert [row["image_id"] for row in split] == [f"a-{n}" for n in range(50)]
    assert [row["image"] for row in split] == [row["image"] for row in whole]


def test_damage_in_a_parquet_file_costs_exactly_its_rows(tmp_path: Path) -> None:
    """A row group that cannot be read is as many problem rows as it has rows; the others are whole."""
    table = pa.table({"image": [bytes([n]) * 1_000 for n in range(30)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10, compression="zstd", use_dictionary=False)
    place = pq.read_metadata(tmp_path / "a.parquet").row_group(1).column(0).data_page_offset
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[place : place + 40] = b"\xff" * 40
    (tmp_path / "a.parquet").write_bytes(data)
    found = rows_of(f'parquet("{tmp_path}")')
    assert [row["problem"] for row in found] == [None] * 10 + ["unreadable_row"] * 10 + [None] * 10
    assert [row["image_id"] for row in found] == [f"a-{n}" for n in range(30)]


def test_a_parquet_file_without_a_footer_is_one_row(tmp_path: Path) -> None:
    """A cut file among good ones is counted as an unreadable shard; so is one that lacks the column."""
    pq.write_table(pa.table({"image": [b"i"]}), tmp_path / "0.parquet")
    (tmp_path / "1.parquet").write_bytes((tmp_path / "0.parquet").read_bytes()[:-20])
    pq.write_table(pa.table({"other": [b"i"]}), tmp_path / "2.parquet")
    found = rows_of(f'parquet("{tmp_path}")')
    assert [(row["image_id"], row["problem"]) for row in found] == [
        ("0-0", None), ("1.parquet", "unreadable_shard"), ("2.parquet", "unreadable_shard"),
    ]  # fmt: skip


def test_strings_that_are_not_utf8_stop_nothing(tmp_path: Path) -> None:
    """Parquet does not check its strings; wrong bytes in captions, ids and paths become replacement characters."""
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([b"ok", b"\xff!"]).buffers()[1], pa.py_buffer(b"ok\xff!")]
    )
    structs = pa.StructArray.from_arrays([pa.array([b"1", b"2"]), bad], ["bytes", "path"])
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), bad)
    table = pa.table({"image": structs, "caption": lists, "id": bad, "kind": bad.dictionary_encode(), "n": [1, 2]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = rows_of(f'parquet("{tmp_path}")')
    assert [row["image_id"] for row in found] == ["ok", "\ufffd!"]
    assert [row["captions"] for row in found] == [["ok"], ["\ufffd!"]]
    assert [row["image"] for row in found] == [b"1", b"2"]
    assert json.loads(found[1]["metadata"]) == {"id": "\ufffd!", "kind": "\ufffd!", "n": 2}


def test_a_broken_connection_does_not_change_a_parquet_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error between two batches is made good by opening the file again; lasting errors are problem rows."""
    images = [bytes([n]) * 50_000 for n in range(60)]
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet", row_group_size=30)
    monkeypatch.setattr(parquet, "_MOST_ROWS", 4)
    expected = rows_of(f'parquet("{tmp_path}")')
    real = pq.ParquetFile.iter_batches
    breaks = [2, 5, 0, 0, 7]

    def flaky(self: Any, **options: Any) -> Any:
        stop = breaks.pop(0) if breaks else None
        for number, batch in enumerate(real(self, **options)):
            if number == stop:
                raise OSError("curlCode: 56")
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", flaky)
    assert rows_of(f'parquet("{tmp_path}")') == expected
    breaks[:] = [3] * 100
    problems = [row["problem"] for row in rows_of(f'parquet("{tmp_path}")')]
    assert problems == ([None] * 12 + ["unreadable_row"] * 18) * 2


# ---- Folder


def test_a_folder_is_read_in_the_order_of_paths_with_a_run_of_files_per_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files at any depth, sorted, in shards of fixed size; hidden files and other kinds of file are none."""
    monkeypatch.setattr(folder, "_FILES_PER_SHARD", 3)
    names = ["b.JPG", "a/z.png", "a/b/c.webp", "c.gif", "d.tiff", "e.bmp", "f.jpeg"]
    for name in [*names, ".hidden.jpg", "a/.trash/x.png", "notes.txt", "g.jpg.part"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    source = SOURCES.make(f'folder("{tmp_path}")').open("unused")
    assert [(shard.first, shard.count) for shard in source.plan()] == [(0, 3), (3, 3), (6, 1)]
    found = read(source)
    assert [row["image_id"] for row in found] == sorted(names)
    assert [row["image"] for row in found] == [name.encode() for name in sorted(names)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", 'image,caption\nx.jpg,"one, two"\ny.jpg,three\nx.jpg,four\ngone.jpg,five\n'),
        ("c.csv", "image,caption\nx.jpg,one, two\ny.jpg,three\nx.jpg,four\ngone.jpg,five\n"),
        ("c.txt", "\ufeffimage_name| comment_number| comment\nx.jpg| 0| one, two\ny.jpg| 0| three\nx.jpg| 1| four\ngone.jpg|1|five"),
        ("c.tsv", 'filename\traw\nx.jpg\t["one, two", "four"]\ny.jpg\tthree\ngone.jpg\tfive\n'),
        ("c.jsonl", '{"image": "x.jpg", "raw": ["one, two", "four"]}\n\n{"image": "y", "raw": "three"}\n{"image": "gone.jpg", "raw": "five"}'),
    ],
)  # fmt: skip
def test_captions_tables_of_all_forms_say_the_same(name: str, text: str, tmp_path: Path) -> None:
    """Several rows per image, lists, unquoted commas, names without folder or extension; missing files are counted."""
    for path in ("deep/x.jpg", "y.jpg", "distractor.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"image")
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = rows_of(f'folder("{tmp_path}", captions="{name}")')
    assert [(row["image_id"], row["captions"], row["problem"]) for row in found] == [
        ("deep/x.jpg", ["one, two", "four"], None), ("distractor.jpg", [], None),
        ("gone.jpg", ["five"], "missing_file"), ("y.jpg", ["three"], None),
    ]  # fmt: skip


def test_a_captions_table_opens_no_other_file(tmp_path: Path) -> None:
    """Names that lead out of the folder, or fit two files, are missing files."""
    (tmp_path / "in").mkdir()
    for path in ("secret.jpg", "in/a.jpg", "in/a.png"):
        (tmp_path / path).write_bytes(b"image")
    (tmp_path / "in/c.csv").write_text("image,caption\n../secret.jpg,x\n/etc/passwd,y\na,z\n")
    found = rows_of(f'folder("{tmp_path}/in", captions="c.csv")')
    assert {row["image_id"]: row["problem"] for row in found} == {
        "../secret.jpg": "missing_file", "/etc/passwd": "missing_file", "a": "missing_file", "a.jpg": None, "a.png": None,
    }  # fmt: skip


def test_files_that_cannot_be_read_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that vanishes or fails after planning, or is too large, is counted with its reason."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"image")
    (tmp_path / "c.jpg").write_bytes(b"x" * 101)
    monkeypatch.setattr(folder, "LARGEST_IMAGE_BYTES", 100)
    source = SOURCES.make(f'folder("{tmp_path}")').open("unused")
    [shard] = source.plan()
    (tmp_path / "a.jpg").unlink()
    [table] = source.read(shard)
    assert table["problem"].to_pylist() == ["unreadable_file", None, "too_large"]


def test_a_folder_that_changed_is_not_read_by_an_old_plan(tmp_path: Path) -> None:
    """A worker that lists other files than were planned refuses, instead of shifting rows between shards."""
    (tmp_path / "b.jpg").write_bytes(b"image")
    source = SOURCES.make(f'folder("{tmp_path}")').open("unused")
    [shard] = source.plan()
    (tmp_path / "a.jpg").write_bytes(b"image")
    folder._forget()  # as in another process
    with pytest.raises(DataError, match="changed"):
        list(source.read(shard))
    assert len(source.plan()) == 1
    assert [row["image_id"] for row in read(source)] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [("c.csv", "a,b\n1,2\n", "has none of the columns"), ("c.csv", "image,caption,x\nonly,two\n", "2 cells"),
     ("c.jsonl", "{]", "not JSON"), ("c.jsonl", "[1]", "not a JSON object"), ("c.xls", "x", "not a table"),
     ("c.csv", "image,caption\n,x\n", "names no image"), ("gone.csv", None, "does not exist"),
     ("c.csv", "image,caption\na.jpg,\udcff\n", "not UTF-8")],
)  # fmt: skip
def test_a_wrong_captions_table_is_refused(name: str, text: str | None, sentence: str, tmp_path: Path) -> None:
    """A table that cannot be understood stops the plan with the place and the next step."""
    (tmp_path / "a.jpg").write_bytes(b"image")
    if text is not None:
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises((DataError, StorageError), match=sentence):
        SOURCES.make(f'folder("{tmp_path}", captions="{name}")').open("unused").plan()


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    """An empty or missing folder is a wrong address and not an empty data set."""
    with pytest.raises(DataError, match="no images"):
        SOURCES.make(f'folder("{tmp_path}/gone")').open("unused").plan()


# ---- Scenes


def test_scenes_are_made_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second opening writes nothing; an interrupted one is made again; a damaged one is refused."""
    recipe = SOURCES.make("scenes(images=50, seed=1)")
    place = recipe.open(str(tmp_path)).plan()[0].uri.rpartition("/")[0]
    manifest = storage.read_manifest(place)
    assert manifest is not None
    assert manifest["images"] == 50
    assert {file.name for file in storage.list_files(place)} == {*manifest["files"], "manifest.json"}
    with monkeypatch.context() as patched:
        patched.setattr(embedded.storage, "write_bytes", None)
        recipe.open(str(tmp_path))
    Path(place, "manifest.json").unlink()
    Path(place, "00000.tar").unlink()
    recipe.open(str(tmp_path))
    assert storage.read_manifest(place) == manifest
    Path(place, "00000.tar").write_bytes(b"short")
    with pytest.raises(StorageError, match="delete"):
        recipe.open(str(tmp_path))


def test_scenes_can_be_decoded_but_for_the_broken_ones(tmp_path: Path) -> None:
    """Every image that is not meant to be broken decodes; each broken one has a reason; none is unaccounted for."""
    source = SOURCES.make("scenes(images=120)").open(str(tmp_path))
    place = source.plan()[0].uri.rpartition("/")[0]
    kinds = {row["image_id"]: row["kind"] for row in storage.read_table(place + "/images.parquet").to_pylist()}
    found = read(source)
    assert {row["image_id"] for row in found} == set(kinds)
    for row in found:
        problem = row["problem"] or decode(row["image"]).problem
        assert (problem is not None) == (kinds[row["image_id"]] == "broken"), row["image_id"]


def test_wrong_specs_are_refused_with_the_nearest_right_one(tmp_path: Path) -> None:
    """Unknown names, parameters and values are one sentence."""
    for spec in ("webdatset('x')", "webdataset('x', ids='keys')", "webdataset()", "folder('x', caption='y')"):
        with pytest.raises(SpecError):
            SOURCES.make(spec)
    with pytest.raises(DataError, match="at least"):
        SOURCES.make("scenes(images=3)").open(str(tmp_path))
