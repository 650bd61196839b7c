"""Files on local paths and on `s3://`, by one set of functions; what is written appears whole or not at all.

A local file is written under a temporary name and renamed; an object on S3 appears when its upload completes. An
artifact is a folder whose `manifest.json` is written last: its presence means that everything else is there.

S3 follows the usual environment: the AWS credential chain (through boto3), AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL,
AWS_REGION or AWS_DEFAULT_REGION.
"""

import functools
import hashlib
import io
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from raybench.errors import StorageError

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A stored file: its name below the listed folder, bytes, and time of last change in nanoseconds."""

    name: str
    size_bytes: int
    modified_ns: int


def is_s3(uri: str) -> bool:
    """Whether a place is an object store address."""
    return uri.startswith("s3://")


def join(uri: str, *names: str) -> str:
    """A place below another."""
    return posixpath.join(uri.rstrip("/") or "/", *names)


def absolute(uri: str) -> str:
    """A local path made absolute, because workers run in other folders; an address as it is."""
    if not uri or ("://" in uri and not is_s3(uri)) or (is_s3(uri) and not uri.removeprefix("s3://").strip("/")):
        raise StorageError(f"{uri!r} is not a place that raybench knows; use a local path or s3://bucket/folder")
    if is_s3(uri):
        return uri.rstrip("/")
    try:
        return str(Path(uri).expanduser().resolve())
    except (RuntimeError, OSError, ValueError) as error:  # a loop of links, a name too long, a NUL
        raise StorageError(f"{uri[:80]!r} is no path: {error}; give another") from None


def locate(uri: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow filesystem of a place and the path inside it."""
    if is_s3(uri):
        return _s3(), uri.removeprefix("s3://")
    return _local(), absolute(uri)


@functools.cache
def _local() -> pafs.FileSystem:
    return pafs.LocalFileSystem(use_mmap=True)


@functools.cache
def _s3() -> pafs.FileSystem:
    # With a delayed open, a file under 10 MB is one PUT; larger ones are multipart uploads, which appear when complete.
    options: dict[str, Any] = {"connect_timeout": 5, "request_timeout": 60, "allow_delayed_open": True}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        options["endpoint_override"] = endpoint
        # Stores other than AWS often refuse the trailing checksums that newer clients add to every upload.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        options["region"] = region or "us-east-1"
    return pafs.S3FileSystem(**options)


@functools.cache
def _s3_client() -> Any:
    import boto3

    return boto3.session.Session().client("s3")


@contextmanager
def _storage_errors(action: str, uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise StorageError(f"cannot {action} {uri}: it does not exist; check the path") from None
    except PermissionError:
        raise StorageError(f"cannot {action} {uri}: permission denied; check its owner and mode") from None
    except NotADirectoryError:
        raise StorageError(f"cannot {action} {uri}: a part of the path is a file; choose another folder") from None
    except OSError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"cannot {action} {uri}: {reason}") from error


def exists(uri: str) -> bool:
    """Whether a file is there."""
    filesystem, path = locate(uri)
    with _storage_errors("look at", uri):
        return bool(filesystem.get_file_info(path).type == pafs.FileType.File)


def facts(uri: str) -> FileFacts:
    """Name, size and time of one file; StorageError if there is none."""
    filesystem, path = locate(uri)
    with _storage_errors("look at", uri):
        info = filesystem.get_file_info(path)
    if info.type != pafs.FileType.File:
        raise StorageError(f"{uri} is not there; check the path")
    return FileFacts(posixpath.basename(path), info.size, info.mtime_ns or 0)


def list_files(uri: str, suffix: str = "") -> list[FileFacts]:
    """Files at any depth below a folder, by name; none if there is no such folder."""
    filesystem, path = locate(uri)
    with _storage_errors("list", uri):
        infos = filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    below = len(path.rstrip("/")) + 1
    found = [
        FileFacts(info.path[below:], info.size, info.mtime_ns or 0)
        for info in infos
        if info.type == pafs.FileType.File and info.path.endswith(suffix)
    ]
    return sorted(found, key=lambda file: file.name)


def list_folder(uri: str) -> tuple[list[FileFacts], list[str]]:
    """The files directly in a folder, and the names of the folders in it, by name; none if there is no such folder."""
    filesystem, path = locate(uri)
    with _storage_errors("list", uri):
        infos = filesystem.get_file_info(pafs.FileSelector(path, recursive=False, allow_not_found=True))
    files = [FileFacts(one.base_name, one.size, one.mtime_ns or 0) for one in infos if one.type == pafs.FileType.File]
    folders = [info.base_name for info in infos if info.type == pafs.FileType.Directory]
    return sorted(files, key=lambda file: file.name), sorted(folders)


def open_stream(uri: str) -> BinaryIO:
    """A file read from its start; every call opens it afresh."""
    filesystem, path = locate(uri)
    with _storage_errors("read", uri):
        stream: BinaryIO = filesystem.open_input_stream(path, compression=None)
        return stream


def open_random(uri: str) -> Any:
    """A file open for reads at any position (memory-mapped where it is local)."""
    filesystem, path = locate(uri)
    with _storage_errors("read", uri):
        return filesystem.open_input_file(path)


def read_bytes(uri: str) -> bytes:
    """The whole of a file."""
    with _storage_errors("read", uri), open_stream(uri) as stream:
        return stream.read()


def write_bytes(uri: str, data: bytes | memoryview) -> str:
    """Write a file whole; returns the SHA-256 of what was written, in hexadecimal."""
    filesystem, path = locate(uri)
    with _storage_errors("write", uri):
        if is_s3(uri):
            with filesystem.open_output_stream(path) as stream:
                stream.write(data)
        else:
            _replace_file(Path(path), data)
    return digest(data)


def upload(path: str, uri: str) -> None:
    """Copy a local file to a place in an object store, in pieces; it appears there when it is complete."""
    filesystem, key = locate(uri)
    with _storage_errors("write", uri), Path(path).open("rb") as source, filesystem.open_output_stream(key) as stream:
        shutil.copyfileobj(source, stream, 16 * 1024**2)


def digest(data: bytes | memoryview) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of(uri: str) -> str:
    """The SHA-256 of a file, in hexadecimal, read a piece at a time."""
    with _storage_errors("read", uri), open_stream(uri) as stream:
        hashed = hashlib.sha256()
        while piece := stream.read(16 * 1024**2):
            hashed.update(piece)
        return hashed.hexdigest()


def _replace_file(path: Path, data: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def delete(uri: str) -> None:
    """Remove a file; it may be gone already."""
    if is_s3(uri):
        # pyarrow would put an empty object in the place of the folder after each deletion.
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            _s3_client().delete_object(Bucket=bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            raise StorageError(f"cannot delete {uri}: {error}") from error
        return
    with _storage_errors("delete", uri):
        Path(absolute(uri)).unlink(missing_ok=True)


def delete_folder(uri: str) -> None:
    """Remove a folder and all below it; it may be gone already."""
    for file in list_files(uri):
        delete(join(uri, file.name))
    if not is_s3(uri):
        filesystem, path = locate(uri)
        with _storage_errors("delete", uri):
            if filesystem.get_file_info(path).type == pafs.FileType.Directory:
                filesystem.delete_dir(path)


def read_json(uri: str) -> Any:
    """A JSON file."""
    text = read_bytes(uri)
    try:
        return json.loads(text)
    except ValueError:
        raise StorageError(f"{uri} is not JSON; delete it and run again") from None


def write_json(uri: str, value: object) -> str:
    """Write a value as JSON, keys sorted; returns the SHA-256 of the file."""
    return write_bytes(uri, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_table(uri: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file."""
    with _storage_errors("read", uri), open_random(uri) as file:
        try:
            return pq.read_table(file, columns=columns)
        except pa.ArrowInvalid as error:
            reason = str(error).splitlines()[0]
            raise StorageError(f"{uri} is not a readable Parquet file: {reason}; write it again") from None


def table_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def write_table(uri: str, table: pa.Table) -> str:
    """Write a Parquet file; returns the SHA-256 of the file."""
    return write_bytes(uri, table_bytes(table))


def read_manifest(uri: str) -> dict[str, Any] | None:
    """The manifest of an artifact, or None where the artifact is not complete."""
    place = join(uri, MANIFEST)
    if not exists(place):
        return None
    manifest: dict[str, Any] = read_json(place)
    return manifest


def read_whole(uri: str) -> dict[str, Any] | None:
    """The manifest of an artifact whose files are all there with the sizes that it lists; None for one that must be made again."""
    manifest = read_manifest(uri)
    if manifest is None:
        return None
    return manifest if lost_file(uri, manifest) is None else None


def lost_file(uri: str, manifest: dict[str, Any]) -> str | None:
    """The first file of a manifest that is gone or has another size than it lists; their content is not read."""
    sizes = {file.name: file.size_bytes for file in list_files(uri)}
    listed: dict[str, dict[str, Any]] = manifest.get("files", {})
    return next(
        (
            name
            for name, facts in listed.items()
            if name not in sizes or facts.get("size_bytes", sizes[name]) != sizes[name]
        ),
        None,
    )


def write_manifest(uri: str, manifest: dict[str, Any]) -> None:
    """Complete an artifact. Nothing below its folder may be written after this."""
    write_json(join(uri, MANIFEST), manifest)
