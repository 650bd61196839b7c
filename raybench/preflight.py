"""Places are tried before work starts, so that a wrong bucket or a read-only disk is one sentence within seconds.

S3 is asked through boto3 with short time limits, because its errors say what is wrong (the bucket, the key, the
permission), where the first read of a pipeline would only say that it failed, after many retries.
"""

import os
from pathlib import Path
from typing import Any

from raybench import storage
from raybench.errors import StorageError

_SENTENCES = {
    "NoSuchBucket": "there is no such bucket; check its name",
    "404": "there is no such bucket; check its name",
    "InvalidAccessKeyId": "the access key is not known there; check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key does not match; check AWS_SECRET_ACCESS_KEY or the profile",
    "ExpiredToken": "the session token has expired; get new credentials",
    "AccessDenied": "access is denied; check the credentials and the bucket's policy",
    "403": "access is denied; check the credentials and the bucket's policy",
    "301": "the bucket is in another region; set AWS_REGION",
}


def check_readable(uri: str) -> None:
    """Raise StorageError if the bucket of an address does not answer, does not exist or does not know the credentials.

    That listing is denied says nothing about reading, and local paths are checked when they are opened.
    """
    if storage.is_s3(uri):
        _ask_s3(uri, "read")


def check_writable(uri: str) -> None:
    """Raise StorageError unless files can be written below a folder, which is made if it is missing."""
    if storage.is_s3(uri):
        _ask_s3(uri, "write")
        return
    path = Path(storage.absolute(uri))
    try:
        nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    except OSError as error:
        raise StorageError(f"cannot write below {uri[:80]}: {error.strerror}; choose another folder") from None
    if not nearest.is_dir():
        raise StorageError(f"cannot write below {uri}: {nearest} is a file; choose another folder")
    # Asked of the system before anything is made, and then tried, because a full or read-only disk says yes here.
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise StorageError(f"cannot write below {uri}: no permission in {nearest}; choose another folder")
    probe = storage.join(str(path), ".writable")
    storage.write_bytes(probe, b"")
    storage.delete(probe)


def _ask_s3(uri: str, action: str) -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StorageError(f"{uri!r} names no bucket; write it like s3://bucket/folder")
    limits = Config(connect_timeout=2, read_timeout=3, retries={"max_attempts": 0})
    try:
        # A session of its own: the default one keeps the credentials that it met first.
        client: Any = boto3.session.Session().client("s3", config=limits)
        if action == "read":
            client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        else:
            probe = f"{key}/.writable".lstrip("/")
            client.put_object(Bucket=bucket, Key=probe, Body=b"")
            client.delete_object(Bucket=bucket, Key=probe)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if action == "read" and code == "AccessDenied":
            return
        sentence = _SENTENCES.get(code, str(error))
        raise StorageError(f"cannot {action} {uri}: {sentence}") from None
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"cannot {action} {uri}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if kind == "NoCredentialsError":
        return "there are no AWS credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if kind in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"):
        return f"no answer from {endpoint or 'AWS'}; check AWS_ENDPOINT_URL and the network"
    return " ".join(str(error).split())
