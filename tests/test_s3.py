"""An object store is a place like any other: the same functions, the same bytes."""

import pyarrow as pa
import pytest

from raybench import storage
from raybench.errors import StorageError
from raybench.preflight import check_readable, check_writable

pytestmark = pytest.mark.s3


def test_files_appear_whole_and_are_listed_by_name(s3):
    """Writing, listing, reading and deleting objects, one of them larger than a multipart piece."""
    large = bytes(range(256)) * 80_000  # 20 MB
    storage.write_bytes(f"{s3}/files/b/large", large)
    storage.write_json(f"{s3}/files/a.json", {"é": 1})

    assert [file.name for file in storage.list_files(f"{s3}/files")] == ["a.json", "b/large"]
    assert storage.facts(f"{s3}/files/b/large").size_bytes == len(large)
    assert storage.read_bytes(f"{s3}/files/b/large") == large
    assert storage.read_json(f"{s3}/files/a.json") == {"é": 1}
    storage.delete_folder(f"{s3}/files")
    assert storage.list_files(f"{s3}/files") == []


def test_tables_and_manifests_round_trip(s3):
    """Parquet and manifests are read back as they were written; a folder without manifest is not complete."""
    table = pa.table({"id": ["a", "b"], "value": [1.5, None]})
    storage.write_table(f"{s3}/artifact/part.parquet", table)

    assert storage.read_manifest(f"{s3}/artifact") is None
    storage.write_manifest(f"{s3}/artifact", {"rows": 2})
    assert storage.read_manifest(f"{s3}/artifact") == {"rows": 2}
    assert storage.read_table(f"{s3}/artifact/part.parquet").equals(table)


def test_streams_begin_anew_each_time(s3):
    """Two streams of one object are independent."""
    storage.write_bytes(f"{s3}/stream", b"0123456789")
    with storage.open_stream(f"{s3}/stream") as first, storage.open_stream(f"{s3}/stream") as second:
        assert first.read(4) == b"0123"
        assert second.read(2) == b"01"
        assert first.read(2) == b"45"


def test_a_missing_bucket_is_one_sentence(s3):
    """The bucket is named, and what to check."""
    with pytest.raises(StorageError, match=r"cannot write s3://nowhere/x: there is no such bucket"):
        check_writable("s3://nowhere/x")
    with pytest.raises(StorageError, match="no such bucket"):
        check_readable("s3://nowhere/x")


def test_wrong_credentials_are_one_sentence(s3, monkeypatch):
    """A key that the server does not know is said to be unknown, and the secret is not printed."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(StorageError, match=r"cannot write s3://bench/x: .*AWS_SECRET_ACCESS_KEY") as caught:
        check_writable(f"{s3}/x")
    assert "not-the-secret" not in str(caught.value)


def test_a_dead_endpoint_is_one_sentence(s3, monkeypatch):
    """Where nothing listens, the address is named."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"no answer from http://127.0.0.1:9"):
        check_writable(f"{s3}/x")
