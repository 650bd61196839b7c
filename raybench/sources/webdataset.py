"""Images in WebDataset tars, compressed as they are stored; every sample and every row of the shard's table is a row.

Problems: no_image, zero_bytes, too_large, split_key, duplicate_member; truncated_shard, broken_tar, unreadable_shard
(one row each for the sample at that place and all after it); and of the table that img2dataset writes beside a tar:
failed_to_download, failed_to_resize, failed, missing_from_tar, duplicate_key, unreadable_table.

Samples come in the order of the tar, then rows of the table that have no sample, in its order.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from raybench import storage
from raybench.errors import DataError
from raybench.sources.addresses import find
from raybench.sources.base import Shard
from raybench.sources.img2dataset import captions_of, facts_of, read_shard_table, table_of
from raybench.sources.rows import LARGEST_IMAGE_BYTES, Row, as_json, lines_in, tables
from raybench.sources.samples import Sample, samples
from raybench.sources.steady import open_steady
from raybench.sources.tar_reader import Member
from raybench.spec import content_key

_LARGEST_TEXT_BYTES = 16 * 1024 * 1024  # of one caption file or JSON


@dataclass(frozen=True, slots=True)
class WebDataset:
    """Tars at an address: a file, a brace pattern, a list of those, or a folder, whose tars are taken by number.

    image    extensions of the image, the first that a sample has; `seg.png` is not `png`
    caption  extension of captions, one a line; `0.txt`, `1.txt` and `caption.txt` are captions too. Where a sample
             has none, `caption` or `captions` of its JSON are taken
    ids      "key": the sample's key, distinct over all shards as img2dataset writes them; "shard_key": the shard's
             name and the key, for tars whose keys start anew in each
    """

    address: str | tuple[str, ...]
    image: str | tuple[str, ...] = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
    caption: str = "txt"
    ids: Literal["key", "shard_key"] = "key"

    def is_ready(self, datasets_uri: str) -> bool:  # noqa: ARG002 - it is read where it lies
        """Always: nothing is made or fetched."""
        return True

    def open(self, datasets_uri: str) -> "Tars":  # noqa: ARG002 - nothing is made or fetched
        """The source; its files are looked up when it plans."""
        addresses = (self.address,) if isinstance(self.address, str) else self.address
        packed = next((address for address in addresses if re.search(r"\.(tgz|tar\.\w+)$", address)), None)
        if packed is not None:
            raise DataError(f"{packed} is compressed; unpack it to a plain .tar, whose images are compressed already")
        extensions = (self.image,) if isinstance(self.image, str) else self.image
        return Tars(replace(self, image=tuple(extension.lower().lstrip(".") for extension in extensions)))


@dataclass(frozen=True, slots=True)
class Tars:
    """The source of a WebDataset; one shard is one tar."""

    recipe: WebDataset

    def plan(self) -> list[Shard]:
        """One shard per tar, in the address's order."""
        found = find(self.recipe.address, ".tar")
        folders = {posixpath.dirname(file.uri) for file in found}
        beside = {
            storage.join(folder, file.name): content_key(file.size_bytes, file.modified_ns)
            for folder in folders
            for file in storage.list_files(folder, ".parquet")
        }
        return [
            Shard(
                number, file.name, file.uri, file.size_bytes, file.modified_ns,
                fingerprint=beside.get(table_of(file.uri), ""),
            )
            for number, file in enumerate(found)
        ]  # fmt: skip

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The rows of one tar and of the table beside it."""
        return tables(self._rows(shard))

    def queries(self) -> None:
        """None: the captions are the queries."""

    def judgments(self) -> None:
        """None: a caption's image is its answer."""

    def _rows(self, shard: Shard) -> Iterator[Row]:
        table = read_shard_table(shard.uri)
        prefix = shard.name.removesuffix(".tar") + "/" if self.recipe.ids == "shard_key" else ""
        with open_steady(shard.uri, shard.size_bytes, shard.modified_ns) as stream:
            for sample in samples(stream, self._keep_bytes):
                if sample.key is None:
                    yield Row(shard.name, problem=sample.problem, detail=sample.detail)
                else:
                    row = self._row(sample, table.claim(sample.key))
                    yield replace(row, image_id=prefix + row.image_id)
        for row in table.leftovers():
            yield replace(row, image_id=prefix + row.image_id if row.image_id else shard.name)

    def _keep_bytes(self, extension: str) -> int:
        if extension in self.recipe.image:
            return LARGEST_IMAGE_BYTES
        return _LARGEST_TEXT_BYTES if extension == "json" or self._is_caption(extension) else 0

    def _is_caption(self, extension: str) -> bool:
        return extension == self.recipe.caption or extension.endswith("." + self.recipe.caption)

    def _row(self, sample: Sample, columns: dict[str, Any]) -> Row:
        key = sample.key or ""
        texts = {name: member for name, member in sample.by_extension.items() if self._is_caption(name)}
        facts = _json_of(sample.by_extension.get("json"))
        captions = tuple(
            line for name in sorted(texts, key=_numbers_first) for line in lines_in(texts[name].data or b"")
        )
        if not texts:
            captions = captions_of(facts) or captions_of(columns)
        metadata = as_json(facts_of(facts) | facts_of(columns))
        chosen = next((sample.by_extension[name] for name in self.recipe.image if name in sample.by_extension), None)
        problem, detail = self._problem(sample, chosen)
        if problem is not None or chosen is None:
            return Row(key, None, captions, metadata, problem, detail)
        return Row(key, chosen.data, captions, metadata)

    def _problem(self, sample: Sample, chosen: Member | None) -> tuple[str | None, str | None]:
        if sample.problem is not None:
            return sample.problem, sample.detail
        if chosen is None:
            return "no_image", f"the sample has {', '.join(name or 'no extension' for name in sample.by_extension)}"
        if not chosen.is_file:
            return "no_image", f"{chosen.name} is a link"
        for name, member in sample.by_extension.items():
            if member.is_file and member.data is None and self._keep_bytes(name):
                return (
                    "too_large",
                    f"{member.name} has {member.size_bytes} bytes; at most {self._keep_bytes(name)} are read",
                )
        return ("zero_bytes", f"{chosen.name} is empty") if not chosen.data else (None, None)


def _numbers_first(extension: str) -> tuple[int, str]:
    number = extension.partition(".")[0]
    return (int(number), "") if re.fullmatch("[0-9]{1,9}", number) else (-1, extension)


def _json_of(member: Member | None) -> dict[str, Any]:
    """The object in a JSON member, {} if there is none; one that cannot be read says so in the metadata."""
    if member is None or member.data is None:
        return {}
    try:
        value = json.loads(member.data)
    except (ValueError, RecursionError) as error:
        return {"unreadable_json": str(error)[:200]}
    return value if isinstance(value, dict) else {"json": value}
