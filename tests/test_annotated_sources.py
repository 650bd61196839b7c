"""Data sets that come with annotations (Flickr30k, COCO, ImageNet), as small copies of every layout that people have."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from raybench import storage
from raybench.errors import DataError, SpecError
from raybench.sources import SOURCES, annotated, imagenet_parquet, parquet, published, steady, zips
from raybench.sources.base import Source
from raybench.sources.imagenet_classes import class_list, imagenet_classes

SPLITS = ["train", "test", "train", "val", "test", "restval"]
NAMES = [f"{number:03d}.jpg" for number in range(6)]
CAPTIONS = [
    [f'A "red" car, {number}', "Zwei Männer\u2028 auf\x85einem Boot \N{SNOWMAN}", "| bars, and\ttabs #1"]
    for number in range(6)
]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "WAITS_S", (0.0, 0.0, 0.0))


def picture(number: int) -> bytes:
    """A small JPEG that no other number has."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (40 * number, 255 - number, 7)).save(stream, "JPEG")
    return stream.getvalue()


def opened(spec: str) -> Source:
    """The source of a spec."""
    return SOURCES.make(spec).open("unused")


def read(source: Source) -> list[dict[str, Any]]:
    """All rows, shard by shard."""
    return [row for shard in source.plan() for table in source.read(shard) for row in table.to_pylist()]


def by_id(spec: str) -> dict[str, tuple[list[str], bytes | None]]:
    """Captions and picture of each image."""
    return {row["image_id"]: (row["captions"], row["image"]) for row in read(opened(spec))}


# ---- Flickr30k: forms of annotations


def hub_csv(end: str) -> str:
    """`flickr_annotations_30k.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(["raw", "sentids", "split", "filename", "img_id"])
    for number, name in enumerate(NAMES):
        writer.writerow([json.dumps(CAPTIONS[number]), "[0, 1, 2]", SPLITS[number], name, number])
    return text.getvalue()


def karpathy(folder: str = "") -> str:
    """`dataset_flickr30k.json`, or with a folder `dataset_coco.json`."""
    images = [
        {
            "filename": name, "split": SPLITS[number], "sentids": [0, 1, 2], "imgid": number,
            "sentences": [{"raw": text, "tokens": text.split(), "imgid": number} for text in CAPTIONS[number]],
        } | ({"filepath": folder, "cocoid": number} if folder else {})
        for number, name in enumerate(NAMES)
    ]  # fmt: skip
    return json.dumps({"images": images, "dataset": "coco" if folder else "flickr30k"})


def clip_benchmark(end: str, split: str = "test") -> str:
    """`flickr30k_test_karpathy.txt`, as pandas writes it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(["image", "caption"])
    writer.writerows((name, t) for n, name in enumerate(NAMES) if SPLITS[n] == split for t in CAPTIONS[n])
    return text.getvalue()


def token(end: str) -> str:
    """`results_20130124.token`."""
    return "".join(f"{name}#{at}\t{text}{end}" for n, name in enumerate(NAMES) for at, text in enumerate(CAPTIONS[n]))


def bars(end: str) -> str:
    """`results.csv`, with one line that lacks its second bar, as the published file has."""
    lines = [f"{name}| {at}| {text}" for n, name in enumerate(NAMES) for at, text in enumerate(CAPTIONS[n])]
    lines[3] = lines[3].replace("| 0| ", "| 0   ")
    return end.join(["image_name| comment_number| comment", *lines, ""])


FORMS: dict[str, Callable[[str], str]] = {
    "flickr_annotations_30k.csv": hub_csv,
    "karpathy/dataset_flickr30k.json": lambda _: karpathy(),
    "flickr30k_test_karpathy.txt": clip_benchmark,
    "results_20130124.token": token,
    "results.csv": bars,
}


def write(folder: Path, name: str, text: str) -> None:
    """A file of text, with its line ends as they are."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8", newline="")


def put_pictures(folder: Path, below: str = "flickr30k-images") -> None:
    """All pictures as files."""
    (folder / below).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / below / name).write_bytes(picture(number))


def put_zip(path: Path, below: str, names: list[str] = NAMES) -> None:
    """All pictures in a zip, among members with names that would leave a folder, and what macOS leaves behind."""
    with zipfile.ZipFile(path, "w") as archive:
        for hostile in ("../../evil.jpg", "/etc/passwd.jpg", "a\\..\\evil2.jpg", f"__MACOSX/{below}._{names[1]}"):
            archive.writestr(hostile, b"evil")
        for number, name in enumerate(names):
            compression = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            archive.writestr(below + name, picture(number), compression)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_form_gives_the_same_captions(tmp_path: Path, name: str, end: str):
    """Quotes, commas, tabs, bars, what Unicode calls line ends, Windows line ends: each caption is what was written."""
    put_pictures(tmp_path)
    write(tmp_path, name, FORMS[name](end))
    has_splits, is_one = "results" not in name, "_test_" in name
    expected = {n: (CAPTIONS[at], picture(at)) for at, n in enumerate(NAMES) if not is_one or SPLITS[at] == "test"}

    if not is_one:
        assert by_id(f'flickr30k("{tmp_path}", split="all", whole=False)') == expected
    if has_splits:
        tests = {n: expected[n] for at, n in enumerate(NAMES) if SPLITS[at] == "test"}
        assert by_id(f'flickr30k("{tmp_path}", whole=False)') == tests
    else:
        with pytest.raises(DataError, match=r"lists 6 images of no split, and not 'test' of Flickr30k; get flickr_"):
            opened(f'flickr30k("{tmp_path}", whole=False)').plan()


@pytest.mark.parametrize("split", ["train", "val", "test", "all"])
def test_the_split_is_the_column(tmp_path: Path, split: str):
    """Each split has its own images, in the file's order, and says so in the metadata."""
    put_pictures(tmp_path, "x/y")
    write(tmp_path, "flickr_annotations_30k.csv", hub_csv("\n"))

    source = opened(f'flickr30k("{tmp_path}", split="{split}", whole=False)')
    rows = read(source)

    wanted = [n for at, n in enumerate(NAMES) if split in ("all", SPLITS[at])]
    assert [row["image_id"] for row in rows] == wanted
    assert all(json.loads(row["metadata"]) == {"split": SPLITS[NAMES.index(row["image_id"])]} for row in rows)
    assert source.notes() == [
        f"Flickr30k {split}: {len(wanted)} images and {3 * len(wanted)} captions by flickr_annotations_30k.csv"
    ]


def test_the_order_of_annotation_files_is_fixed_and_can_be_overruled(tmp_path: Path):
    """Hugging Face's file goes before Karpathy's; `annotations` names another, also inside a zip."""
    put_pictures(tmp_path)
    write(tmp_path, "flickr_annotations_30k.csv", hub_csv("\n").replace("red", "blue"))
    write(tmp_path, "results.csv", bars("\n").replace("red", "green"))
    with zipfile.ZipFile(tmp_path / "caption_datasets.zip", "w") as archive:
        archive.writestr("dataset_flickr30k.json", karpathy())
    color = {
        "": "blue", ', annotations="results.csv"': "green",
        ', annotations="caption_datasets.zip!dataset_flickr30k.json"': "red",
        f', annotations="{tmp_path}/flickr_annotations_30k.csv"': "blue",
    }  # fmt: skip
    for given, word in color.items():
        first = by_id(f'flickr30k("{tmp_path}", split="all", whole=False{given})')["000.jpg"][0][0]
        assert first == f'A "{word}" car, 0'
    (tmp_path / "flickr_annotations_30k.csv").unlink()
    assert by_id(f'flickr30k("{tmp_path}", whole=False)')["001.jpg"][0] == CAPTIONS[1]


# ---- pictures


@pytest.mark.parametrize("below", ["flickr30k-images/", ""])
def test_a_zip_is_read_in_place(tmp_path: Path, below: str):
    """Members with any folder, stored or deflated; hostile names are never a path and never a picture of the set."""
    put_zip(tmp_path / "flickr30k-images.zip", below)
    write(tmp_path, "flickr_annotations_30k.csv", hub_csv("\n"))
    before = sorted(tmp_path.rglob("*"))

    found = by_id(f'flickr30k("{tmp_path}", split="all", whole=False)')

    assert found == {name: (CAPTIONS[at], picture(at)) for at, name in enumerate(NAMES)}
    assert sorted(tmp_path.rglob("*")) == before


def test_names_in_annotations_never_leave_the_folder(tmp_path: Path):
    """A name with a path is its last part, looked up among what was listed."""
    (tmp_path / "outside.jpg").write_bytes(picture(1))
    put_pictures(tmp_path / "in")
    write(tmp_path / "in", "dataset_flickr30k.json", karpathy().replace("001.jpg", "../outside.jpg"))

    rows = {row["image_id"]: row for row in read(opened(f'flickr30k("{tmp_path}/in", whole=False)'))}

    assert rows["outside.jpg"]["problem"] == "missing_file"
    assert rows["004.jpg"]["image"] == picture(4)


def test_hostile_names_and_captions_are_storable(tmp_path: Path):
    """Lone surrogates, which JSON can hold, control characters and markup stop nothing."""
    put_pictures(tmp_path)
    pairs = [{"image": "000.jpg", "caption": ["\ud800 <script>", "\x00"]}, {"image": "\udfff\x00.jpg", "caption": "x"}]
    write(tmp_path, "coco_karpathy_test.json", json.dumps(pairs))

    rows = read(opened(f'coco("{tmp_path}", whole=False)'))

    assert [row["captions"] for row in rows] == [["? <script>", "\x00"], ["x"]]
    assert [(row["image_id"], row["problem"]) for row in rows] == [("000.jpg", None), ("?\x00.jpg", "missing_file")]


def test_each_picture_that_cannot_be_read_is_a_row_with_its_reason(tmp_path: Path):
    """Missing, empty and ambiguous files, and damaged members: all rows are there, each with its captions."""
    put_pictures(tmp_path)
    (tmp_path / "flickr30k-images/000.jpg").unlink()
    (tmp_path / "flickr30k-images/001.jpg").write_bytes(b"")
    for name in ("other/002.jpg", "another/002.jpg"):  # the expected folder decides
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"thumb")
    for name in ("003.jpg", "004.jpg", "005.jpg"):
        (tmp_path / "flickr30k-images" / name).unlink()
    for name in ("other/003.jpg", "another/003.jpg"):  # none is expected
        (tmp_path / name).write_bytes(b"either")
    put_zip(tmp_path / "flickr30k-images.zip", "", NAMES[4:])
    data = bytearray((tmp_path / "flickr30k-images.zip").read_bytes())
    place = data.index(picture(0))  # 004.jpg, which is stored
    data[place + 30] ^= 1
    (tmp_path / "flickr30k-images.zip").write_bytes(data)
    write(tmp_path, "flickr_annotations_30k.csv", hub_csv("\n"))
    source = opened(f'flickr30k("{tmp_path}", split="all", whole=False)')

    rows = read(source)

    problems = ["missing_file", "zero_bytes", None, "missing_file", "unreadable_file", None]
    assert [row["problem"] for row in rows] == problems
    assert [row["image"] for row in rows] == [None, None, picture(2), None, None, picture(1)]
    assert [row["captions"] for row in rows] == CAPTIONS
    assert "Bad CRC-32" in rows[4]["detail"]
    assert source.notes()[0].endswith("2 pictures are missing")


def test_a_member_that_lies_about_its_size_is_no_picture(tmp_path: Path):
    """A member that unpacks to more than it says is cut there and fails its checksum; one too large is not read."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", b"0" * 5_000_000)
    data = path.read_bytes().replace((5_000_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little"))
    path.write_bytes(data)

    with pytest.raises(DataError, match="Bad CRC-32"):
        zips.read_member(str(path), "t", "a.jpg", 10_000)
    with pytest.raises(DataError, match="has 1000 bytes; at most 10"):
        zips.read_member(str(path), "t", "a.jpg", 10)
    with pytest.raises(DataError, match=r"no member 'b\.jpg'"):
        zips.read_member(str(path), "t", "b.jpg", 10)


def test_a_change_between_plan_and_read_is_seen(tmp_path: Path):
    """Another process that reads sees what was planned, or refuses; each caption and picture counts."""
    put_pictures(tmp_path)
    write(tmp_path, "flickr_annotations_30k.csv", hub_csv("\n"))
    source = opened(f'flickr30k("{tmp_path}", split="all", whole=False)')
    [shard] = source.plan()
    write(tmp_path, "flickr_annotations_30k.csv", hub_csv("\n").replace("red", "bad"))
    annotated._forget()

    with pytest.raises(DataError, match="changed after it was listed"):
        list(source.read(shard))
    assert source.plan()[0].fingerprint != shard.fingerprint


def test_a_storage_that_breaks_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A zip whose connection breaks twice is opened afresh, and the bytes are those of the member."""
    put_zip(tmp_path / "flickr30k-images.zip", "")
    write(tmp_path, "flickr_annotations_30k.csv", hub_csv("\n"))
    source = opened(f'flickr30k("{tmp_path}", split="all", whole=False)')
    [shard] = source.plan()
    true_open, left = zipfile.ZipFile.open, [2]

    def breaks(archive: zipfile.ZipFile, name: str) -> Any:
        if left[0] and name == "002.jpg":
            left[0] -= 1
            raise ConnectionResetError("peer")
        return true_open(archive, name)

    monkeypatch.setattr(zipfile.ZipFile, "open", breaks)
    rows = [row for table in source.read(shard) for row in table.to_pylist()]

    assert left == [0]
    assert [row["image"] for row in rows] == [picture(number) for number in range(6)]


# ---- wrong splits


def test_the_published_sizes_are_known():
    """Karpathy's splits add up to the whole, and the parts of COCO 2014 to each other."""
    flickr, coco = (published.PUBLISHED[name].sizes for name in ("flickr30k", "coco"))
    images = {name: sizes[0][0] for name, sizes in coco.items()}

    assert flickr["test"] == ((1_000, 5_000),)
    assert flickr["all"] == ((31_014, None), (31_783, None))
    assert (coco["test"], coco["val2014"], coco["all"]) == (((5_000, 25_010),), ((40_504, None),), ((123_287, None),))
    assert sum(flickr[split][0][0] for split in ("train", "val", "test")) == flickr["all"][0][0]
    assert images["val2014"] == images["restval"] + images["val"] + images["test"]
    assert images["train2014"] == images["train"]
    assert images["all"] == images["train2014"] + images["val2014"] == images["train2017"] + images["val2017"]
    assert images["train+restval"] == images["train"] + images["restval"]


def flickr_table(place: Path, splits: list[str], captions: int = 5) -> None:
    """A hub table with so many images; one of them has a picture."""
    lines = ["raw,split,filename"]
    texts = json.dumps([f"t{number}" for number in range(captions)]).replace('"', '""')
    lines += [f'"{texts}",{split},{number:05d}.jpg' for number, split in enumerate(splits)]
    write(place, "flickr_annotations_30k.csv", "\n".join(lines))
    write(place, "flickr30k-images/00000.jpg", "x")


def test_all_of_flickr30k_is_not_its_test_set(tmp_path: Path):
    """31,014 images called test are refused; the 1,000 that the column calls so are taken, by default."""
    flickr_table(tmp_path, ["test"] * 31_014)
    with pytest.raises(
        DataError, match=r"has 31,014 images and 155,070 captions as 'test' of Flickr30k, which has 1,000"
    ):
        opened(f'flickr30k("{tmp_path}")').plan()
    flickr_table(tmp_path, ["test"] * 1_000 + ["train"] * 29_000 + ["val"] * 1_014)
    assert [shard.count for shard in opened(f'flickr30k("{tmp_path}")').plan()] == [1_000]
    flickr_table(tmp_path, ["test"] * 1_000, captions=4)
    with pytest.raises(
        DataError, match="4,000 captions as 'test' of Flickr30k, which has 1,000 images and 5,000 captions"
    ):
        opened(f'flickr30k("{tmp_path}")').plan()


def official(number: int, name: str = "COCO_val2014_{:012d}.jpg", captions: int = 5) -> str:
    """A `captions_*.json` of COCO's."""
    images = [{"id": at, "file_name": name.format(at), "license": 1} for at in range(number)]
    texts = [{"id": at, "image_id": at % number, "caption": f"c {at}"} for at in range(captions * number)]
    return json.dumps({"info": {}, "images": images, "annotations": texts})


def test_val2014_is_not_the_karpathy_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """COCO's own files are refused for a split of Karpathy's, with what to get; their own split is their file's."""
    sizes = published.PUBLISHED["coco"].sizes  # a hundredth of them, for the time that it takes
    monkeypatch.setitem(cast("dict[str, Any]", sizes), "test", ((50, 251),))
    monkeypatch.setitem(cast("dict[str, Any]", sizes), "val2014", ((405, None),))
    write(tmp_path, "val2014/COCO_val2014_000000000000.jpg", "x")
    write(tmp_path, "annotations/captions_val2014.json", official(405))
    for whole in ("True", "False"):
        with pytest.raises(
            DataError, match=r"holds val2014 \(405 images\), and not 'test' of COCO; .*dataset_coco\.json"
        ):
            opened(f'coco("{tmp_path}", whole={whole})').plan()
    source = opened(f'coco("{tmp_path}", split="val2014")')
    assert sum(shard.count or 0 for shard in source.plan()) == 405

    write(tmp_path, "coco_test_karpathy.json", official(405))
    with pytest.raises(DataError, match=r"405 images and 2,025 captions as 'test' of COCO, which has 50 images"):
        opened(f'coco("{tmp_path}")').plan()
    write(tmp_path, "coco_test_karpathy.json", official(50, "{:012d}.jpg"))  # as many images as val2017 has
    with pytest.raises(DataError, match="250 captions as 'test' of COCO, which has 50 images and 251"):
        opened(f'coco("{tmp_path}")').plan()


# ---- COCO


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("split", ["train", "restval", "train+restval", "val", "test", "all"])
def test_karpathys_splits_of_coco(tmp_path: Path, split: str, as_zip: bool):
    """Pictures in val2014 as files or in its zip; train+restval is both."""
    write(tmp_path, "dataset_coco.json", karpathy("val2014"))
    if as_zip:
        put_zip(tmp_path / "val2014.zip", "val2014/")
    else:
        put_pictures(tmp_path, "images/val2014")

    found = by_id(f'coco("{tmp_path}", split="{split}", whole=False)')

    parts = split.split("+")
    assert found == {
        name: (CAPTIONS[at], picture(at)) for at, name in enumerate(NAMES) if split == "all" or SPLITS[at] in parts
    }


def test_other_forms_of_coco(tmp_path: Path):
    """COCO's form and BLIP's list, whose file names say the split; captions of one image are joined in order."""
    put_pictures(tmp_path, "val2014")
    write(tmp_path, "coco_test_karpathy.json", official(3, "{:03d}.jpg", 2))
    found = by_id(f'coco("{tmp_path}", whole=False)')
    assert found == {f"{n:03d}.jpg": ([f"c {n}", f"c {n + 3}"], picture(n)) for n in range(3)}
    (tmp_path / "coco_test_karpathy.json").unlink()
    pairs = [{"image": "val2014/001.jpg", "caption": "a"}, {"image": "val2014/001.jpg", "caption": ["b", "c"]}]
    write(tmp_path, "annotations/coco_karpathy_test.json", json.dumps(pairs))
    assert by_id(f'coco("{tmp_path}", whole=False)') == {"001.jpg": (["a", "b", "c"], picture(1))}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"), ("[1]", "is not of a form"), ('{"images": [{}]}', "it lacks 'filename'"), ("7", "not of a form"),
        ('{"images": [{"filename": "a", "split": "test", "sentences": [{"text": "x"}]}]}', "a sentence has no text"),
        ('{"images": [{"filename": "a", "split": "test", "sentences": [{"raw": 5}]}]}', "a sentence has no text"),
        ('{"raw": "x"}', "is not of a form"), (b"\xff", "is not UTF-8 at byte 0"),
        ('{"images": [{"filename": 5, "split": "test", "sentences": []}]}', "is not of a form"),
        ('{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}', "caption for image 1, which it does not list"),
        ('[{"image": "", "caption": "x"}]', "names no image"), ('[{"image": "a/", "caption": "x"}]', "names no image"), ("[" * 100_000, "is not JSON"),
    ],
)  # fmt: skip
def test_annotations_that_are_none_are_refused(tmp_path: Path, text: str | bytes, reason: str):
    """A file of another form is one sentence, whatever is in it."""
    put_pictures(tmp_path)
    (tmp_path / "dataset_coco.json").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError, match=re.escape(reason)):
        opened(f'coco("{tmp_path}")').plan()


def test_wrong_requests_are_one_sentence(tmp_path: Path):
    """An unknown split, a folder without annotations, one without pictures, an image in two splits."""
    with pytest.raises(SpecError, match="'test' or 'val' or 'train' or 'all'"):
        opened(f'flickr30k("{tmp_path}", split="testing")')
    with pytest.raises(DataError, match=r"no annotations of Flickr30k .*raybench fetch flickr30k --out"):
        opened(f'flickr30k("{tmp_path}")').plan()
    write(tmp_path, "flickr_annotations_30k.csv", hub_csv("\n"))
    with pytest.raises(
        DataError, match=r"none of the 2 pictures of Flickr30k test; put them there as files or as flickr30k-"
    ):
        opened(f'flickr30k("{tmp_path}", whole=False)').plan()
    write(tmp_path, "flickr30k-images.zip", "no zip")
    with pytest.raises(DataError, match="is no readable zip"):
        opened(f'flickr30k("{tmp_path}", whole=False)').plan()
    write(tmp_path, "x.csv", "filename,raw,split\na.jpg,t,test\na.jpg,t,val\n")
    with pytest.raises(DataError, match=r"'a\.jpg' in two splits, 'test' and 'val'"):
        opened(f'flickr30k("{tmp_path}", annotations="x.csv", whole=False)').plan()


# ---- ImageNet

CAR, CAB, TENCH = 817, 468, 0


def synset(label: int) -> str:
    """The WordNet id of a label."""
    return imagenet_classes()[label].synset


def put_parquet(place: Path, split: str, labels: list[int | str | None], files: int = 2, **columns: list[Any]) -> None:
    """Files as the hub names them, three rows in a row group; row n's image is `image n`."""
    place.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": b"image %d" % n, "path": f"x_{n}.JPEG"} for n in range(len(labels))]
    table = pa.table({"image": images, "label": labels} | columns)
    size = -(-len(labels) // files)
    for number in range(files):
        part = table.slice(number * size, size)
        pq.write_table(part, place / f"{split}-{number:05d}-of-{files:05d}.parquet", row_group_size=3)


def put_class_folders(folder: Path, images: dict[int, int]) -> None:
    """`<folder>/<synset>/<synset>_<n>.JPEG`."""
    for label, number in images.items():
        (folder / synset(label)).mkdir(parents=True)
        for n in range(number):
            (folder / synset(label) / f"{synset(label)}_{n}.JPEG").write_bytes(b"%d %d" % (label, n))


@pytest.mark.parametrize("below", ["data", ""])
def test_imagenet_parquet_gives_rows_of_the_classes(tmp_path: Path, below: str):
    """Ids count all rows of the split over its files; metadata has label, synset and name; other rows are not there."""
    labels = [TENCH, CAR, TENCH, TENCH, TENCH, TENCH, CAB, TENCH, CAR, CAR, None, CAB, 1_000]
    put_parquet(tmp_path / below, "train", labels)
    put_parquet(tmp_path / below, "validation", [CAR, TENCH], 1)
    source = opened(f'imagenet("{tmp_path}", split="all", classes="vehicles", whole=False)')

    rows = read(source)

    wanted = [n for n, label in enumerate(labels) if label in (CAR, CAB, None, 1_000)]
    assert [row["image_id"] for row in rows] == [
        *(f"imagenet_train_{n:08d}" for n in wanted), "imagenet_validation_00000000"
    ]  # fmt: skip
    assert [row["problem"] for row in rows] == [
        "no_label" if labels[n] in (None, 1_000) else None for n in wanted
    ] + [None]  # fmt: skip
    assert [row["image"] for row in rows if row["image"]][:3] == [b"image 1", b"image 6", b"image 8"]
    car = {"split": "train", "label": 817, "synset": "n04285008", "class": "sports car"}
    assert json.loads(rows[0]["metadata"]) == car
    assert all(row["captions"] == [] for row in rows)
    assert source.notes() == [
        "ImageNet-1k train: 5 of 13 images are of the 49 classes; the others are not read",
        "ImageNet-1k validation: 1 of 2 images are of the 49 classes; the others are not read",
    ]
    everything = read(opened(f'imagenet("{tmp_path}", split="train", whole=False)'))
    assert len(everything) == len(labels)


def test_images_of_other_classes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Row groups without a wanted class give their labels alone."""
    put_parquet(tmp_path / "data", "train", [TENCH] * 6 + [CAR] * 3 + [TENCH] * 3, 1)
    asked: list[tuple[int, str]] = []
    true = imagenet_parquet.batches

    def batches(uri: str, footer: Any, group: int, columns: list[str]) -> Any:
        asked.extend((group, column) for column in columns)
        return true(uri, footer, group, columns)

    monkeypatch.setattr(imagenet_parquet, "batches", batches)

    rows = read(opened(f'imagenet("{tmp_path}", split="train", classes=[{CAR}], whole=False)'))

    assert len(rows) == 3
    assert [group for group, column in asked if column == "image"] == [2]
    assert [group for group, column in asked if column == "label"] == [0, 1, 2, 3]


def test_runs_of_row_groups_keep_the_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file cut into several shards gives the same rows under the same ids, shards read in any order."""
    labels = [CAR if n % 4 else TENCH for n in range(40)]
    put_parquet(tmp_path, "train", labels, 3)
    spec = f'imagenet("{tmp_path}", split="train", classes=["{synset(CAR)}"], whole=False)'
    whole = [(row["image_id"], row["image"]) for row in read(opened(spec))]
    monkeypatch.setattr(parquet, "_SHARD_BYTES", 150)
    source = opened(spec)
    plan = source.plan()

    parts = {
        shard.number: [(row["image_id"], row["image"]) for table in source.read(shard) for row in table.to_pylist()]
        for shard in reversed(plan)
    }

    assert len(plan) > 3
    assert whole == [(f"imagenet_train_{n:08d}", b"image %d" % n) for n in range(40) if n % 4]
    assert [row for shard in plan for row in parts[shard.number]] == whole


def test_labels_may_be_synsets_and_must_agree_with_the_files(tmp_path: Path):
    """Another column of synsets serves too; a label that the file's name contradicts is a problem, not a wrong class."""
    put_parquet(tmp_path, "val", [None, None], 1, wnid=[synset(CAR), synset(TENCH)])
    found = read(opened(f'imagenet("{tmp_path}", label="wnid", classes=[{CAR}], whole=False)'))
    assert [row["image"] for row in found] == [b"image 0"]

    images = [{"bytes": b"i", "path": f"n04285008_5_{synset(label)}.JPEG"} for label in (CAR, CAB)]
    pq.write_table(pa.table({"image": images, "label": [CAR, CAR]}), tmp_path / "train-0.parquet")
    found = read(opened(f'imagenet("{tmp_path}", split="train", classes=[{CAR}], whole=False)'))
    assert [row["problem"] for row in found] == [None, "other_label"]


def test_a_damaged_row_group_costs_its_rows(tmp_path: Path):
    """Where images are damaged the wanted rows are lost; where labels are, every row, since any may be wanted."""
    images = [{"bytes": bytes([n]) * 500, "path": None} for n in range(9)]
    labels = [CAR, TENCH, CAR] * 3
    path = tmp_path / "train-00000-of-00001.parquet"
    table = pa.table({"image": images, "label": labels})
    pq.write_table(table, path, row_group_size=3, compression="none", use_dictionary=False)
    data, footer = bytearray(path.read_bytes()), pq.read_metadata(path)
    for group, column in ((0, 0), (2, 2)):
        place = footer.row_group(group).column(column).data_page_offset
        data[place : place + 20] = b"\xff" * 20
    path.write_bytes(data)

    rows = read(opened(f'imagenet("{tmp_path}", split="train", classes=[{CAR}], whole=False)'))

    assert [(row["image_id"][-1], row["problem"]) for row in rows] == [
        ("0", "unreadable_row"), ("2", "unreadable_row"), ("3", None), ("5", None),
        ("6", "unreadable_row"), ("7", "unreadable_row"), ("8", "unreadable_row"),
    ]  # fmt: skip


@pytest.mark.parametrize("base", ["", "ILSVRC/Data/CLS-LOC"])
def test_class_folders(tmp_path: Path, base: str):
    """Folders of synsets give the same rows wherever they lie; shards are runs of classes."""
    put_class_folders(tmp_path / base / "train", {CAR: 3, CAB: 2, TENCH: 4})
    put_class_folders(tmp_path / base / "val", {CAR: 1})
    source = opened(f'imagenet("{tmp_path}", split="all", classes=[{CAR}, "{synset(CAB)}"], whole=False)')

    rows = read(source)

    assert [row["image_id"] for row in rows] == [
        *(f"train/{synset(CAB)}/{synset(CAB)}_{n}.JPEG" for n in range(2)),
        *(f"train/{synset(CAR)}/{synset(CAR)}_{n}.JPEG" for n in range(3)),
        f"validation/{synset(CAR)}/{synset(CAR)}_0.JPEG",
    ]
    assert rows[4]["image"] == b"817 2"
    assert json.loads(rows[0]["metadata"])["class"] == "cab"
    assert source.notes()[0] == "ImageNet-1k train: 5 images of the 2 classes"
    [shard, _] = source.plan()
    (tmp_path / base / "train" / synset(CAR) / "new.JPEG").write_bytes(b"x")
    with pytest.raises(DataError, match="changed after it was listed"):
        list(source.read(shard))


def put_flat(folder: Path, kind: str, labels: list[int]) -> None:
    """`val/ILSVRC2012_val_<n>.JPEG` from 1 on, and a file of labels."""
    (folder / "val").mkdir(parents=True)
    for number, label in enumerate(labels, start=1):
        (folder / f"val/ILSVRC2012_val_{number:08d}.JPEG").write_bytes(b"%d" % label)
    if kind == "kaggle":
        lines = [f"ILSVRC2012_val_{n:08d},{synset(label)} 1 2 3 4 " for n, label in enumerate(labels, start=1)]
        write(folder, "LOC_val_solution.csv", "\r\n".join(["ImageId,PredictionString", *reversed(lines)]))
    elif kind == "list":
        write(folder, "imagenet_2012_validation_synset_labels.txt", "\n".join(map(synset, labels)))
    else:  # the kit numbers classes otherwise: here backwards, and inner nodes of the tree from 1,001 on
        numbers = [1_000 - label for label in labels]
        write(folder, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", "\n".join(map(str, numbers)))
        kit = np.zeros(1_001, dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)])
        for at in range(1_000):
            kit[at] = (at + 1, synset(999 - at), "words")
        kit[1_000] = (1_001, "n00001740", "entity")
        savemat(folder / "ILSVRC2012_devkit_t12/data/meta.mat", {"synsets": kit})


@pytest.mark.parametrize("kind", ["kaggle", "list", "kit"])
def test_flat_validation_images_have_the_classes_of_their_file(tmp_path: Path, kind: str):
    """Kaggle's table, a list of synsets, or the kit's numbers with its meta.mat: the same classes."""
    put_flat(tmp_path, kind, [CAR, TENCH, CAB, CAR])
    rows = read(opened(f'imagenet("{tmp_path}", classes=[{CAR}, {CAB}], whole=False)'))

    assert [(row["image_id"], row["image"]) for row in rows] == [
        (f"validation/ILSVRC2012_val_{n:08d}.JPEG", b"%d" % label) for n, label in ((1, CAR), (3, CAB), (4, CAR))
    ]
    assert [json.loads(row["metadata"])["label"] for row in rows] == [CAR, CAB, CAR]


def test_flat_images_without_their_labels_are_refused(tmp_path: Path):
    """No file of labels, the kit's numbers alone, and names that are no synsets; a file beside the list is a problem row."""
    put_flat(tmp_path, "kit", [CAR])
    (tmp_path / "ILSVRC2012_devkit_t12/data/meta.mat").unlink()
    spec = f'imagenet("{tmp_path}", whole=False)'
    with pytest.raises(DataError, match=r"numbers that are no labels; put the development kit's meta\.mat beside it"):
        opened(spec).plan()
    write(tmp_path, "ILSVRC2012_devkit_t12/data/meta.mat", "no mat")
    with pytest.raises(DataError, match="is not the development kit's"):
        opened(spec).plan()
    (tmp_path / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt").unlink()
    with pytest.raises(DataError, match="no file of their labels"):
        opened(spec).plan()
    write(tmp_path, "imagenet_2012_validation_synset_labels.txt", "n00000000")
    with pytest.raises(DataError, match="names 'n00000000', which is no class"):
        opened(spec).plan()
    write(tmp_path, "imagenet_2012_validation_synset_labels.txt", synset(CAR))
    write(tmp_path, "val/other.JPEG", "x")
    assert [row["problem"] for row in read(opened(spec))] == [None, "no_label"]


def test_imagenet_is_held_against_its_published_numbers(tmp_path: Path):
    """A split with rows missing is refused in each layout, unless a part is meant; so are folders that are not ImageNet-1k."""
    put_parquet(tmp_path / "p", "train", [CAR] * 4)
    with pytest.raises(DataError, match=r"has 4 images, and train of ImageNet-1k has 1,281,167; .*whole=False"):
        opened(f'imagenet("{tmp_path}/p", split="train")').plan()
    with pytest.raises(DataError, match="has no validation images of ImageNet-1k"):
        opened(f'imagenet("{tmp_path}/p", split="all", whole=False)').plan()
    with pytest.raises(DataError, match="has no column 'lable'; did you mean 'label'"):
        opened(f'imagenet("{tmp_path}/p", split="train", label="lable", whole=False)').plan()
    put_class_folders(tmp_path / "f/val", {CAR: 50, CAB: 49})
    assert len(read(opened(f'imagenet("{tmp_path}/f", classes=[{CAR}])'))) == 50
    with pytest.raises(DataError, match=rf"has 49 images of {synset(CAB)} \(cab\), and validation .* has 50 of each"):
        opened(f'imagenet("{tmp_path}/f", classes=[{CAR}, {CAB}])').plan()
    put_class_folders(tmp_path / "f/train", {CAR: 731})
    with pytest.raises(DataError, match="has 732 to 1,300 of each class"):
        opened(f'imagenet("{tmp_path}/f", split="train", classes=[{CAR}])').plan()
    (tmp_path / "f/val/n00000000").mkdir()
    with pytest.raises(DataError, match="n00000000, which is no class of ImageNet-1k"):
        opened(f'imagenet("{tmp_path}/f", whole=False)').plan()
    for given, reason in (("[1000]", "is no class"), ("[1, 1]", "listed twice"), ('"vehicels"', "did you mean")):
        with pytest.raises(DataError, match=reason):
            opened(f'imagenet("{tmp_path}/p", split="train", classes={given})').plan()


@pytest.mark.s3
def test_an_object_store_is_a_place_like_any_other(s3: str, tmp_path: Path):
    """Zips, annotations, Parquet files and folders give the same plan and rows on S3 as on a disk."""
    write(tmp_path, "flickr/flickr_annotations_30k.csv", hub_csv("\n"))
    put_zip(tmp_path / "flickr/flickr30k-images.zip", "flickr30k-images/")
    put_parquet(tmp_path / "imagenet/data", "train", [CAR, TENCH, CAR, CAB, TENCH])
    put_class_folders(tmp_path / "imagenet/val", {CAR: 2, CAB: 1})
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            storage.write_bytes(f"{s3}/annotated/{path.relative_to(tmp_path)}", path.read_bytes())
    for spec in (
        'flickr30k("{}/flickr", split="all", whole=False)',
        'imagenet("{}/imagenet", split="all", classes="vehicles", whole=False)',
    ):
        here, there = opened(spec.format(tmp_path)), opened(spec.format(f"{s3}/annotated"))
        assert read(there) == read(here)
        assert [shard.name for shard in there.plan()] == [shard.name for shard in here.plan()]
        assert there.notes() == here.notes()


# ---- classes of ImageNet


def test_the_vehicle_classes_are_49_of_imagenet():
    """Labels, synsets and names of the list, and of all classes, are timm's; the labels add up to those published."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    vehicles = class_list("vehicles")
    by_label = {one.label: one for one in imagenet_classes()}
    assert [(one.synset, one.name) for one in imagenet_classes()] == [
        (info.index_to_label_name(label), info.index_to_description(label)) for label in range(1_000)
    ]

    assert (len(vehicles), sum(one.label for one in vehicles)) == (49, 32_535)
    assert all(one == by_label[one.label] for one in vehicles)
    names = {one.first_name: one.label for one in vehicles}
    assert (names["sports car"], names["crane"], names["Model T"], names["cab"]) == (817, 517, 661, 468)
    assert [one.synset for one in imagenet_classes()] == sorted(one.synset for one in imagenet_classes())


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("label\n1000\n", "no label"), ("label\n1\n1\n", "listed twice"), ("label\nx\n", "no label"),
        ("synset\nn0\n", "is no class"), ("label,synset\n0,n04285008\n", "label 0 is n01440764 and not n04285008"),
        ("label\n", "lists no class"), ("name\nx\n", "without label and synset"),
    ],
)  # fmt: skip
def test_a_list_of_ones_own_is_checked(tmp_path: Path, table: str, reason: str):
    """Labels, synsets or both in any form of table; what ImageNet-1k does not have is refused."""
    path = tmp_path / "own.csv"
    path.write_text("synset,label\r\nn04285008,\r\n,511\r\n", newline="")
    assert [one.label for one in class_list(str(path))] == [511, 817]
    path.write_text(table)
    with pytest.raises(DataError, match=re.escape(reason)):
        class_list(str(path))


def test_an_unknown_list_is_refused():
    """The nearest name is said."""
    with pytest.raises(DataError, match="did you mean 'vehicles'"):
        class_list("vehicle")
