"""Files on a local disk: whole or absent, listed below their folder, and every failure one sentence."""

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from raybench import storage
from raybench.errors import StorageError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Bytes, JSON and tables come back as they were; folders appear as needed; the checksum is that of the bytes."""
    place = str(tmp_path / "a/b/file.bin")
    digest = storage.write_bytes(place, b"content")
    assert digest == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"  # sha256sum's answer
    assert storage.read_bytes(place) == b"content"
    storage.write_json(str(tmp_path / "x.json"), {"b": [1, None], "a": "é"})
    assert storage.read_json(str(tmp_path / "x.json")) == {"a": "é", "b": [1, None]}
    table = pa.table({"n": [1, 2], "s": ["x", None]})
    storage.write_table(str(tmp_path / "t.parquet"), table)
    assert storage.read_table(str(tmp_path / "t.parquet")).equals(table)
    assert storage.read_table(str(tmp_path / "t.parquet"), ["s"]).column_names == ["s"]
    assert storage.table_bytes(table) == storage.table_bytes(pa.table({"n": [1, 2], "s": ["x", None]}))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing breaks off, the old file stays whole and no temporary file is left."""
    place = str(tmp_path / "file")
    storage.write_bytes(place, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            storage.write_bytes(place, b"new")
    assert storage.read_bytes(place) == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    """A file that is replaced while it is open keeps giving its old bytes: it is renamed over, not written into."""
    place = str(tmp_path / "file")
    storage.write_bytes(place, b"old" * 1000)
    with storage.open_stream(place) as stream:
        first = stream.read(3)
        storage.write_bytes(place, b"new")
        assert first + stream.read() == b"old" * 1000
    assert storage.read_bytes(place) == b"new"


def test_files_are_listed_by_name_below_their_folder(tmp_path: Path) -> None:
    """Names are relative, sorted and at any depth; a missing folder holds nothing."""
    for name in ("b.txt", "a/z.txt", "a/y.bin"):
        storage.write_bytes(str(tmp_path / name), name.encode())
    listed = storage.list_files(str(tmp_path))
    assert [(file.name, file.size_bytes) for file in listed] == [("a/y.bin", 7), ("a/z.txt", 7), ("b.txt", 5)]
    assert listed == storage.list_files(f"{tmp_path}/")
    assert [file.name for file in storage.list_files(str(tmp_path), ".txt")] == ["a/z.txt", "b.txt"]
    assert storage.list_files(str(tmp_path / "gone")) == []
    fact = storage.facts(str(tmp_path / "a/y.bin"))
    assert (fact.name, fact.size_bytes, fact.modified_ns) == ("y.bin", 7, (tmp_path / "a/y.bin").stat().st_mtime_ns)
    os.utime(tmp_path / "a/y.bin", ns=(1, 10**18 + 7))
    assert storage.facts(str(tmp_path / "a/y.bin")).modified_ns == 10**18 + 7


def test_reading_at_a_position(tmp_path: Path) -> None:
    """A file open for random reads gives any range; a stream is opened afresh by each call."""
    place = str(tmp_path / "file")
    storage.write_bytes(place, bytes(range(200)))
    with storage.open_random(place) as file:
        file.seek(150)
        assert file.read(3) == bytes([150, 151, 152])
        assert file.size() == 200
    assert storage.open_stream(place).read(1) == storage.open_stream(place).read(1) == b"\0"


def test_deleting_is_final_and_may_be_repeated(tmp_path: Path) -> None:
    """Files and folders go; what is gone already is no error; neighbours with a like name stay."""
    for name in ("run/a", "run/deep/b", "run2/c"):
        storage.write_bytes(str(tmp_path / name), b"x")
    storage.delete(str(tmp_path / "run/a"))
    storage.delete(str(tmp_path / "run/a"))
    assert [file.name for file in storage.list_files(str(tmp_path))] == ["run/deep/b", "run2/c"]
    storage.delete_folder(str(tmp_path / "run"))
    storage.delete_folder(str(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run2"]


def test_a_manifest_makes_an_artifact(tmp_path: Path) -> None:
    """Without a manifest there is no artifact, whatever files are there."""
    place = str(tmp_path / "artifact")
    storage.write_bytes(storage.join(place, "part"), b"x")
    assert storage.read_manifest(place) is None
    storage.write_manifest(place, {"rows": 3})
    assert storage.read_manifest(place) == {"rows": 3}
    assert json.loads((tmp_path / "artifact/manifest.json").read_text()) == {"rows": 3}


def test_every_failure_is_one_sentence_with_the_place(tmp_path: Path) -> None:
    """Missing files, files for folders, broken JSON and Parquet raise StorageError and nothing else."""
    broken = str(tmp_path / "broken")
    storage.write_bytes(broken, b"{")
    for action in (
        lambda: storage.read_bytes(str(tmp_path / "gone")),
        lambda: storage.open_stream(str(tmp_path / "gone")),
        lambda: storage.open_random(str(tmp_path / "gone")),
        lambda: storage.facts(str(tmp_path / "gone")),
        lambda: storage.facts(str(tmp_path)),
        lambda: storage.read_bytes(str(tmp_path)),
        lambda: storage.read_json(broken),
        lambda: storage.read_table(broken),
        lambda: storage.write_bytes(f"{broken}/below", b"x"),
        lambda: storage.write_bytes(str(tmp_path), b"x"),
        lambda: storage.absolute("http://host/x"),
        lambda: storage.locate("gs://bucket/x"),
    ):
        with pytest.raises(StorageError) as caught:
            action()
        assert "\n" not in str(caught.value)


def test_places_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers run elsewhere, so relative places and the home folder are resolved; addresses stay."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert storage.absolute("data/../x") == str(tmp_path.resolve() / "x")
    assert storage.absolute("~/x") == "/home/somebody/x"
    assert storage.absolute("s3://bucket/folder/") == "s3://bucket/folder"
    assert storage.join("s3://bucket/", "a", "b.npy") == "s3://bucket/a/b.npy"
    assert storage.join("/", "a") == "/a"
    assert not storage.exists(str(tmp_path))
    assert not storage.exists(str(tmp_path / "gone"))
