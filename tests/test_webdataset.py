"""Tars of every kind of damage: each sample and each row of a shard's table comes out once, good or with its reason."""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench import storage
from raybench.errors import DataError, RequestError, StorageError
from raybench.sources import SOURCES, steady, tar_reader
from raybench.sources.addresses import expand, in_numeric_order
from raybench.sources.tar_reader import BrokenTarError, members

Members = list[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "WAITS_S", (0.0, 0.0, 0.0))


def tar_bytes(contents: Iterable[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar as Python's own library writes it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in contents:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def samples_of(keys: Iterable[str]) -> Members:
    """Three members a sample, as img2dataset writes them; the image is 700 bytes that name its key."""
    found: Members = []
    for key in keys:
        facts = json.dumps({"key": key, "caption": f"a picture of {key}", "width": 9}).encode()
        found += [(f"{key}.jpg", key.encode().ljust(700, b".")), (f"{key}.txt", f"a picture of {key}".encode())]
        found += [(f"{key}.json", facts)]
    return found


def rows_at(address: str | Path, spec: str = "") -> list[dict[str, Any]]:
    """All rows of a source, shard by shard."""
    source = SOURCES.make(f'webdataset("{address}"{spec})').open("unused")
    return [row for shard in source.plan() for table in source.read(shard) for row in table.to_pylist()]


def write(path: Path, contents: Iterable[tuple[str, bytes]]) -> Path:
    """A tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(contents))
    return path


def test_samples_come_in_order_with_their_bytes_captions_and_metadata(tmp_path: Path) -> None:
    """Bytes are passed on as stored; the text is the caption; the JSON, less its caption, is the metadata."""
    rows = rows_at(write(tmp_path / "00000.tar", samples_of(["000000000", "000000001"])))
    assert [row["image_id"] for row in rows] == ["000000000", "000000001"]
    assert [row["position"] for row in rows] == [0, 1]
    assert rows[1]["image"] == b"000000001".ljust(700, b".")
    assert rows[1]["captions"] == ["a picture of 000000001"]
    assert json.loads(rows[1]["metadata"]) == {"key": "000000001", "width": 9}
    assert [row["problem"] for row in rows] == [None, None]


def test_captions_are_read_from_every_usual_place(tmp_path: Path) -> None:
    """Lines of a text, numbered texts by number, `caption.txt`, or the JSON where there is no text."""
    captions = {"caption": "one", "captions": ["two", " ", "three\n", 4]}
    contents = [
        ("a.jpg", b"x"), ("a.txt", b"\xef\xbb\xbffirst\r\n\n  second  \n"), ("a.json", json.dumps(captions).encode()),
        ("b.jpg", b"x"), ("b.10.txt", b"ten"), ("b.2.txt", b"two"), ("b.caption.txt", b"named"),
        ("c.json", json.dumps(captions).encode()), ("c.jpg", b"x"),
        ("d.jpg", b"x"), ("d.txt", b"caf\xe9"),
        ("e.jpg", b"x"), ("e.json", b'{"caption": "\\ud800!", "nan": NaN, "deep": ' + b"[" * 900 + b"]" * 900 + b"}"),
        ("f.jpg", b"x"), ("f.json", b"[" * 100_000),
        ("g.jpg", b"x"), ("g.txt", b""),
    ]  # fmt: skip
    rows = {row["image_id"]: row for row in rows_at(write(tmp_path / "0.tar", contents))}
    assert rows["a"]["captions"] == ["first", "second"]
    assert rows["b"]["captions"] == ["named", "two", "ten"]
    assert rows["c"]["captions"] == ["one", "two", "three"]
    assert rows["d"]["captions"] == ["caf\N{REPLACEMENT CHARACTER}"]
    assert rows["e"]["captions"] == ["?!"]
    assert json.loads(rows["e"]["metadata"])["nan"] is None
    assert "unreadable_json" in json.loads(rows["f"]["metadata"])
    assert rows["g"]["captions"] == []
    assert all(row["problem"] is None for row in rows.values())
    renamed = rows_at(write(tmp_path / "1.tar", [("a.jpg", b"x"), ("a.cap", b"hello")]), ', caption="cap"')
    assert renamed[0]["captions"] == ["hello"]


def test_keys_follow_the_convention_of_webdataset(tmp_path: Path) -> None:
    """The key ends at the first dot of the file's own name and has the folder; dot files belong to nothing."""
    contents = [
        ("v1.0/a.jpg", b"1"), ("v1.0/._a.jpg", b"mac"), ("v1.0/a.TXT", b"one"), ("__meta__", b"x"),
        ("../../etc/b.JPEG", b"2"), ("/abs/c.seg.png", b"mask"), ("/abs/c.png", b"3"), (".DS_Store", b"x"),
    ]  # fmt: skip
    rows = rows_at(write(tmp_path / "0.tar", contents))
    assert [(row["image_id"], row["image"], row["captions"]) for row in rows] == [
        ("v1.0/a", b"1", ["one"]), ("../../etc/b", b"2", []), ("/abs/c", b"3", []),
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [tmp_path / "0.tar"]
    chosen = rows_at(tmp_path / "0.tar", ', image="seg.png"')
    assert [row["problem"] for row in chosen] == ["no_image", "no_image", None]


def test_every_defect_of_a_sample_is_a_row_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples without a usable image stay in place, and their neighbours are untouched."""
    monkeypatch.setattr("raybench.sources.webdataset.LARGEST_IMAGE_BYTES", 1_000)
    contents = [
        ("a.jpg", b"good"), ("b.txt", b"lonely caption"), ("c.heic", b"x"), ("c.txt", b"odd"), ("d.jpg", b""),
        ("e.jpg", b"x" * 1_001), ("f.jpg", b"1"), ("f.jpg", b"2"), ("README", b"x"), ("g.jpg", b"good"),
        ("a.txt", b"late"), ("h.jpg", b"good"),
    ]  # fmt: skip
    rows = rows_at(write(tmp_path / "0.tar", contents))
    assert [(row["image_id"], row["problem"]) for row in rows] == [
        ("a", None), ("b", "no_image"), ("c", "no_image"), ("d", "zero_bytes"), ("e", "too_large"),
        ("f", "duplicate_member"), ("README", "no_image"), ("g", None), ("a", "split_key"), ("h", None),
    ]  # fmt: skip
    assert "heic" in rows[2]["detail"]
    assert [row["image"] is None for row in rows] == [row["problem"] is not None for row in rows]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A symbolic link named like an image is a sample without an image."""
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    rows = rows_at(tmp_path / "0.tar")
    assert [(row["image_id"], row["problem"], row["detail"]) for row in rows] == [("a", "no_image", "a.jpg is a link")]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read_in_every_tar_format(form: int) -> None:
    """Names agree with Python's tarfile for ustar prefixes, GNU long names and pax headers."""
    long = "/".join(["folder"] * 20) + "/" + "n" * 60 + ".jpg" if form == tarfile.USTAR_FORMAT else "n" * 3_000 + ".jpg"
    contents = [("short.jpg", b"1"), (long, b"2" * 600), ("\N{SNOWMAN}\u00e9.jpg", b"3"), ("after.jpg", b"4")]
    found = list(members(io.BytesIO(tar_bytes(contents, form)), lambda _: 10_000))
    assert [(member.name, member.data) for member in found] == contents


def test_names_that_are_not_utf8_stay_different() -> None:
    """Two names that differ in one byte that is no UTF-8 do not become one."""
    data = bytearray(tar_bytes([("aX.jpg", b"1"), ("aY.jpg", b"2")]))
    for start, byte in ((0, 0xFF), (1024, 0xFE)):
        data[start + 1] = byte
        header = bytes(data[start : start + 148]) + b" " * 8 + bytes(data[start + 156 : start + 512])
        data[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    names = [member.name for member in members(io.BytesIO(bytes(data)), lambda _: 0)]
    assert names == ["a\\xff.jpg", "a\\xfe.jpg"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text("ab/.é0", min_size=1, max_size=130), st.binary(max_size=1200)), max_size=6), st.data()
)
def test_members_agree_with_the_standard_library(contents: Members, data: st.DataObject) -> None:
    """On sound tars of any names and sizes the reader yields what tarfile yields, kept only up to the limit."""
    form = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    raw = tar_bytes(contents, form)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        expected = [(m.name, m.size) for m in archive if m.isfile()]
    found = list(members(io.BytesIO(raw), lambda _: 600))
    assert [(m.name.rstrip("/"), m.size_bytes) for m in found] == [(name.rstrip("/"), size) for name, size in expected]
    assert all((m.data is None) == (m.size_bytes > 600) for m in found)


def lost_rows(rows: list[dict[str, Any]]) -> list[str]:
    return [row["problem"] for row in rows if row["problem"] is not None]


def test_a_cut_tar_loses_one_sample_and_says_so_at_every_length(tmp_path: Path) -> None:
    """Cut anywhere: samples before the cut are whole, then one row says truncated_shard, and nothing follows."""
    contents = samples_of(["a", "b", "c"])
    whole = tar_bytes(contents)
    end = 3 * (512 + 1024 + 2 * 1024)  # an image of 700 bytes and two small members each
    for length in [*range(0, end, 300), *range(0, end + 1, 512)]:
        (tmp_path / "0.tar").write_bytes(whole[:length])
        rows = rows_at(tmp_path / "0.tar")
        good = [row["image_id"] for row in rows if row["problem"] is None]
        assert lost_rows(rows) == ["truncated_shard"], length
        assert rows[-1]["problem"] == "truncated_shard"
        assert good == ["a", "b", "c"][: len(good)]
        complete, rest = divmod(length, end // 3)
        # Between samples, or in the first header of one, nobody can tell that the sample before had no more members.
        assert len(good) == (complete if rest >= 512 else max(0, complete - 1)), length
        for row in rows[:-1]:
            assert row["captions"] == [f"a picture of {row['image_id']}"]
    (tmp_path / "0.tar").write_bytes(whole)
    assert lost_rows(rows_at(tmp_path / "0.tar")) == []


def test_a_cut_inside_the_next_sample_does_not_cost_the_sample_before(tmp_path: Path) -> None:
    """Where the cut member's header is there, the row that is lost has that member's key."""
    whole = tar_bytes(samples_of(["a", "b"]))
    (tmp_path / "0.tar").write_bytes(whole[: 512 * 7 + 512 + 100])
    rows = rows_at(tmp_path / "0.tar")
    assert [(row["image_id"], row["problem"]) for row in rows] == [("a", None), ("b", "truncated_shard")]


def test_a_damaged_header_ends_the_tar_loudly(tmp_path: Path) -> None:
    """Junk where a header should be: the sample before it may be incomplete, and it and the rest are one row."""
    data = bytearray(tar_bytes(samples_of(["a", "b", "c"])))
    start = 512 * 7 * 2  # the first header of c
    data[start + 10] ^= 0xFF
    (tmp_path / "0.tar").write_bytes(data)
    rows = rows_at(tmp_path / "0.tar")
    assert [(row["image_id"], row["problem"]) for row in rows] == [("a", None), ("b", "broken_tar")]
    assert str(start) in rows[1]["detail"]
    (tmp_path / "0.tar").write_bytes(b"<html>not found</html>" * 100)
    assert [(row["image_id"], row["problem"]) for row in rows_at(tmp_path / "0.tar")] == [("0.tar", "broken_tar")]


def test_data_after_the_end_mark_is_not_ignored(tmp_path: Path) -> None:
    """Two tars written one after the other are not silently taken for the first; padding with zeros is fine."""
    one, two = tar_bytes(samples_of(["a"])), tar_bytes(samples_of(["b"]))
    (tmp_path / "0.tar").write_bytes(one + two)
    assert lost_rows(rows_at(tmp_path / "0.tar")) == ["broken_tar"]
    (tmp_path / "0.tar").write_bytes(one + bytes(2_000_000))
    assert lost_rows(rows_at(tmp_path / "0.tar")) == []


def header_of(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A ustar header with any bytes in its size field and a right checksum."""
    header = name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + b"0" * 11 + b"\0" + b" " * 8 + kind
    header = header.ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0")
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


@pytest.mark.parametrize("size", [b"77777777777", b"\x80" + b"\x00" * 3 + b"\x7f" + b"\xff" * 7])
def test_a_huge_size_in_a_header_takes_no_memory(tmp_path: Path, size: bytes) -> None:
    """A member that states gigabytes is too_large and not allocated; what it swallows is said to be lost."""
    (tmp_path / "0.tar").write_bytes(tar_bytes([("a.jpg", b"good")])[:1024] + header_of(b"b.jpg", size) + bytes(5_000))
    rows = rows_at(tmp_path / "0.tar")
    assert [(row["image_id"], row["problem"]) for row in rows] == [("a", None), ("b", "too_large")]


@pytest.mark.parametrize(
    "broken",
    [
        header_of(b"b.jpg", b"12x"),
        header_of(b"b.jpg", b"\xff" * 12),
        header_of(b"b.jpg", b"-5"),
        header_of(b"long", b"77777777777", b"x"),
        header_of(b"long", b"77777777777", b"L"),
        header_of(b"sparse", b"0", b"S"),
        header_of(b"pax", b"10", b"x") + b"99 path=a\n".ljust(512, b"\0"),
        header_of(b"pax", b"10", b"x") + b"junk junk!".ljust(512, b"\0"),
        header_of(b"pax", b"12", b"x") + b"12 size=-77\n".ljust(512, b"\0") + header_of(b"b.jpg", b"1"),
        header_of(b"pax", b"26", b"x") + b"26 GNU.sparse.realsize=10\n".ljust(512, b"\0"),
    ],
)
def test_headers_that_lie_are_broken_tars(broken: bytes) -> None:
    """Every malformed number or extended header ends the reading with a reason instead of a guess."""
    stream = io.BytesIO(tar_bytes([("a.jpg", b"good")])[:1024] + broken + bytes(2048))
    found = members(stream, lambda _: 100)
    assert next(found).name == "a.jpg"
    with pytest.raises(BrokenTarError) as caught:
        list(found)
    assert caught.value.problem == "broken_tar"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 11_000))
def test_no_damage_raises_anything_else(flips: list[tuple[int, int]], cut: int) -> None:
    """Flipped and missing bytes anywhere either leave a readable tar or end in BrokenTarError."""
    data = bytearray(tar_bytes(samples_of(["a", "b"]), tarfile.PAX_FORMAT))
    for place, value in flips:
        data[place % len(data)] = value
    try:
        found = list(members(io.BytesIO(bytes(data[:cut])), lambda _: 10_000))
    except BrokenTarError as error:
        assert error.problem in {"truncated_shard", "broken_tar", "too_large"}  # noqa: PT017 - either way is right
    else:
        assert len(found) <= 6


IMG2DATASET = pa.schema(
    [(name, pa.string()) for name in ("caption", "url", "key", "status", "error_message")]
    + [("width", pa.int32()), ("similarity", pa.float64())]
)


def shard_table(path: Path, rows: list[tuple[str, str, str | None]]) -> None:
    """The table that img2dataset writes beside a tar."""
    columns = [
        {"caption": f"about {key}", "url": f"http://x/{key}", "key": key, "status": status, "error_message": message,
         "width": 5, "similarity": float("nan")}
        for key, status, message in rows
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(columns, schema=IMG2DATASET), path)


def test_rows_of_the_shards_table_are_all_accounted_for(tmp_path: Path) -> None:
    """Failures keep their status and message; a success that the tar lacks is missing; nothing is counted twice."""
    write(tmp_path / "00000.tar", [*samples_of(["0", "2", "5"]), ("9.jpg", b"not in the table")])
    table = [
        ("0", "success", None), ("1", "failed_to_download", "HTTP Error 404: Not Found"), ("2", "success", None),
        ("3", "failed_to_resize", "image decoding error"), ("4", "success", None), ("5", "success", None),
        ("6", "<odd>", None), ("2", "success", None),
    ]  # fmt: skip
    shard_table(tmp_path / "00000.parquet", table)
    (tmp_path / "00000_stats.json").write_text("{}")
    rows = rows_at(tmp_path)
    assert [(row["image_id"], row["problem"]) for row in rows] == [
        ("0", None), ("2", None), ("5", None), ("9", None),
        ("1", "failed_to_download"), ("3", "failed_to_resize"), ("4", "missing_from_tar"), ("6", "failed"),
        ("2", "duplicate_key"),
    ]  # fmt: skip
    assert len(rows) == len(table) + 1
    by_id = {row["image_id"]: row for row in rows}
    assert by_id["1"]["detail"] == "HTTP Error 404: Not Found"
    assert by_id["1"]["captions"] == ["about 1"]
    assert json.loads(by_id["0"]["metadata"])["url"] == "http://x/0"
    assert json.loads(by_id["0"]["metadata"])["similarity"] is None
    assert by_id["0"]["captions"] == ["a picture of 0"]
    assert rows_at(tmp_path, ', ids="shard_key"')[4]["image_id"] == "00000/1"


def test_a_cut_tar_with_a_table_accounts_for_each_row_once(tmp_path: Path) -> None:
    """At every cut there are as many rows as the table has, or one more for a rest without a name."""
    keys = [str(number) for number in range(5)]
    whole = tar_bytes(samples_of(keys))
    shard_table(tmp_path / "0.parquet", [(key, "success", None) for key in keys])
    for length in range(0, len(whole) - 1024, 777):
        (tmp_path / "0.tar").write_bytes(whole[:length])
        rows = rows_at(tmp_path / "0.tar")
        ids = Counter(row["image_id"] for row in rows)
        assert {ids.pop("0.tar", 0)} <= {0, 1}
        assert ids == Counter(keys)


def test_a_table_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    """A damaged table costs no sample, and is counted; a table of another kind is none of ours."""
    write(tmp_path / "0.tar", samples_of(["a"]))
    (tmp_path / "0.parquet").write_bytes(b"PAR1 broken")
    assert [(row["image_id"], row["problem"]) for row in rows_at(tmp_path)] == [
        ("a", None),
        ("0.tar", "unreadable_table"),
    ]
    pq.write_table(pa.table({"x": [1]}), tmp_path / "0.parquet")
    assert [(row["image_id"], row["problem"]) for row in rows_at(tmp_path)] == [("a", None)]


class Flaky:
    """A stream that breaks once or forever after some bytes."""

    def __init__(self, stream: Any, breaks: list[int], *, ends: bool = False) -> None:
        self.stream, self.breaks, self.ends = stream, breaks, ends
        self.at = 0

    def read(self, size: int) -> bytes:
        """At most 5,000 bytes, or what was to be expected of a bad network."""
        if self.breaks and self.at >= self.breaks[0]:
            self.breaks.pop(0)
            if self.ends:
                return b""
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject: curlCode: 56")
        limit = max(1, self.breaks[0] - self.at) if self.breaks else size
        data: bytes = self.stream.read(min(size, limit, 5_000))
        self.at += len(data)
        return data

    def seek(self, place: int) -> None:
        """Go to a place, as after a reconnection."""
        self.stream.seek(place)
        self.at = place

    def close(self) -> None:
        """Close the stream below."""
        self.stream.close()


def make_flaky(monkeypatch: pytest.MonkeyPatch, breaks: list[int], *, ends: bool = False) -> None:
    """Let all reads of this test go through streams that share one list of breaks."""
    for name in ("open_stream", "open_random"):
        real: Callable[[str], Any] = getattr(storage, name)

        def opened(uri: str, real: Callable[[str], Any] = real) -> Any:
            return Flaky(real(uri), breaks, ends=ends) if uri.endswith(".tar") else real(uri)

        monkeypatch.setattr(storage, name, opened)


@pytest.mark.parametrize("ends", [False, True])
def test_a_broken_connection_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ends: bool) -> None:
    """Errors and early ends at many places, more of them than attempts in a row, give the rows of a calm reading."""
    write(tmp_path / "0.tar", samples_of(map(str, range(40))))
    expected = rows_at(tmp_path / "0.tar")
    assert len(expected) == 40
    make_flaky(monkeypatch, [0, 0, 7, 512, 513, 30_000, 30_000, 90_001], ends=ends)
    assert rows_at(tmp_path / "0.tar") == expected


def test_what_stays_unreadable_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last attempt the cut sample and all after it are one row, and the table still names what is missing."""
    keys = [str(number) for number in range(10)]
    write(tmp_path / "0.tar", samples_of(keys))
    shard_table(tmp_path / "0.parquet", [(key, "success", None) for key in keys])
    make_flaky(monkeypatch, [512 * 7 * 4 + 600] * 50)
    rows = rows_at(tmp_path / "0.tar")
    assert [(row["image_id"], row["problem"]) for row in rows] == [
        *[(key, None) for key in keys[:4]], ("4", "unreadable_shard"),
        *[(key, "missing_from_tar") for key in keys[5:]],
    ]  # fmt: skip
    assert "NETWORK" in rows[4]["detail"]


def test_a_file_that_changes_while_it_is_read_is_not_stitched_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error, a file with another time is not read on from the middle."""
    path = write(tmp_path / "0.tar", samples_of(["a", "b", "c"]))
    source = SOURCES.make(f'webdataset("{path}")').open("unused")
    [shard] = source.plan()
    write(path, samples_of(["x", "y", "z"]))
    make_flaky(monkeypatch, [512 * 7])
    rows = [row for table in source.read(shard) for row in table.to_pylist()]
    assert rows[-1]["problem"] == "unreadable_shard"
    assert "changed" in rows[-1]["detail"]


def test_memory_stays_with_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unwanted members are passed over piece by piece; no read asks for more than a piece."""
    asked: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size or 0)
            return super().read(size)

    monkeypatch.setattr(tar_reader, "_PIECE", 4096)
    raw = tar_bytes([("a.bin", bytes(100_000)), ("a.jpg", b"good")])
    found = list(members(Watched(raw), lambda name: 100 if name.endswith("jpg") else 0))
    assert [member.data for member in found] == [None, b"good"]
    assert max(asked) <= 4096


def test_patterns_expand_as_in_a_shell() -> None:
    """Ranges count with padding, lists keep their order, and the last brace turns fastest."""
    assert expand("x/{000..002}.tar") == ["x/000.tar", "x/001.tar", "x/002.tar"]
    assert expand("{8..11}") == ["8", "9", "10", "11"]
    assert expand("{98..0101}") == ["0098", "0099", "0100", "0101"]
    assert expand("{b,a}/{0..1}.tar") == ["b/0.tar", "b/1.tar", "a/0.tar", "a/1.tar"]
    assert expand("plain") == ["plain"]
    assert len(expand("s3://b/{00000..00067}.tar")) == 68
    for wrong in ("{0..", "0}", "{}", "{x}", "{5..2}", "{0..99999999}", "{0..9999}{0..9999}", "{{0..1}}"):
        with pytest.raises(DataError):
            expand(wrong)


def test_names_are_ordered_by_their_numbers() -> None:
    """Numbers count as numbers; padding that is outgrown is in order, uneven padding is refused."""
    assert in_numeric_order(["10.tar", "9.tar", "0.tar"]) == ["0.tar", "9.tar", "10.tar"]
    assert in_numeric_order(["b-1.tar", "a-10.tar", "a-9.tar"]) == ["a-9.tar", "a-10.tar", "b-1.tar"]
    outgrown = ["00009.tar", "99999.tar", "100000.tar"]
    assert in_numeric_order(reversed(outgrown)) == outgrown
    for uneven in (["1.tar", "02.tar"], ["01.tar", "002.tar"], ["a-1-of-2.tar", "a-01-of-2.tar"]):
        with pytest.raises(DataError, match="rename"):
            in_numeric_order(uneven)


def test_addresses_name_their_shards(tmp_path: Path) -> None:
    """Pattern, folder, list and single file give the same shards; names are below the address's root."""
    for number in range(12):
        write(tmp_path / "set" / f"{number:05d}.tar", samples_of([str(number)]))
    plans = [
        SOURCES.make(spec).open("unused").plan()
        for spec in (
            f'webdataset("{tmp_path}/set/{{00000..00011}}.tar")',
            f'webdataset("{tmp_path}/set")',
            f"webdataset({[f'{tmp_path}/set/{number:05d}.tar' for number in range(12)]})",
        )
    ]
    assert plans[0] == plans[1] == plans[2]
    assert [shard.name for shard in plans[0]] == [f"{number:05d}.tar" for number in range(12)]
    assert [shard.number for shard in plans[0]] == list(range(12))
    [single] = SOURCES.make(f'webdataset("{tmp_path}/set/00003.tar")').open("unused").plan()
    assert (single.name, single.size_bytes) == ("00003.tar", (tmp_path / "set/00003.tar").stat().st_size)
    write(tmp_path / "other" / "00003.tar", samples_of(["x"]))
    both = SOURCES.make(f'webdataset("{tmp_path}/{{set,other}}/00003.tar")').open("unused").plan()
    assert [shard.name for shard in both] == ["set/00003.tar", "other/00003.tar"]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nowhere", "no .tar files"),
        ("nowhere.tar", "not there"),
        ("set/{0..20}.tar", "not there, nor are 18 others"),
        ("set/{0,0}.tar", "named twice"),
        ("set/0.tar.gz", "unpack it"),
        ("set/{0..1}", "does not end in .tar"),
        (".", "name one of them"),
        ("http://x/0.tar", "not a place"),
    ],
)
def test_a_wrong_address_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, sentence: str
) -> None:
    """What cannot be planned says which thing is wrong and what to do."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "set/0.tar", samples_of(["a"]))
    write(tmp_path / "set/1.tar", samples_of(["b"]))
    with pytest.raises((DataError, StorageError)) as caught:
        SOURCES.make(f'webdataset("{address}")').open("unused").plan()
    assert isinstance(caught.value, RequestError)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
