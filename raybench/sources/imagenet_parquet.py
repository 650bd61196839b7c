"""ImageNet in Parquet files: labels are read first, and images only of row groups that hold a class that is asked for.

Problems beside those of Parquet: no_label (null, or no class of ImageNet-1k) and other_label (the file name in the
image's path names another synset than the label does, as where labels are numbered in another order).
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from raybench import storage
from raybench.errors import DataError, StorageError
from raybench.sources.addresses import Found, in_numeric_order
from raybench.sources.base import Shard
from raybench.sources.imagenet_classes import ImageClass, imagenet_classes
from raybench.sources.imagenet_part import ALIASES, Subset
from raybench.sources.parquet import batches, image_column, named, picture_in, read_footer, runs
from raybench.sources.rows import Row, dictionaries
from raybench.sources.steady import attempted

_THREADS = 16  # footers are small and many


def find(subset: Subset, image: str, label: str) -> "ParquetPart | None":
    """The files of the split, or None where there are none: `train-*.parquet`, or all in `train/`, in the folder or in data/."""
    names = "|".join(ALIASES[subset.split])
    for place in (subset.address, storage.join(subset.address, "data")):
        files, folders = storage.list_folder(place)
        found = {file.name: file for file in files if re.fullmatch(rf"({names})(-[^/]*)?\.parquet", file.name)}
        if not found:
            for folder in (name for name in ALIASES[subset.split] if name in folders):
                there, _ = storage.list_folder(storage.join(place, folder))
                found |= {f"{folder}/{file.name}": file for file in there if file.name.endswith(".parquet")}
        if found:
            ordered = [
                Found(name, storage.join(place, name), found[name].size_bytes, found[name].modified_ns)
                for name in in_numeric_order(found)
            ]
            return ParquetPart(subset, tuple(ordered), image, label)
    return None


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """A split; a shard's name ends in `@` and the number of its first row in the split."""

    subset: Subset
    files: tuple[Found, ...]
    image: str
    label: str

    def plan(self) -> list[Shard]:
        """Files or runs of their row groups. Raises DataError for a file without its footer or a column."""
        with ThreadPoolExecutor(_THREADS) as pool:
            footers = list(pool.map(lambda file: attempted(lambda: read_footer(file.uri)), self.files))
            planned = list(pool.map(lambda file: list(runs(file)), self.files))
        shards, start = [], 0
        for file, footer, of_file in zip(self.files, footers, planned, strict=True):
            self._check_columns(footer, file.uri)
            for shard in of_file:
                before = sum(footer.row_group(group).num_rows for group in range(shard.first))
                shards.append(replace(shard, name=f"{self.subset.split}/{file.name}@{start + before}"))
            start += footer.num_rows
        self.subset.check_total(start, f"{self.files[0].uri} to {self.files[-1].name}")
        return shards

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The wanted rows of some row groups; of a group whose labels cannot be read, every row is one with a problem."""
        try:
            footer = attempted(lambda: read_footer(shard.uri))
            self._check_columns(footer, shard.uri)
        except (OSError, StorageError, DataError) as error:
            yield Row(shard.name, problem="unreadable_shard", detail=str(error))
            return
        start = int(shard.name.rpartition("@")[2])
        last = footer.num_row_groups if shard.count is None else shard.first + shard.count
        for group in range(shard.first, last):
            yield from self._group(shard.uri, footer, group, start)
            start += footer.row_group(group).num_rows

    def note(self) -> str:
        """How many rows are of the classes; all labels are read."""
        with ThreadPoolExecutor(_THREADS) as pool:
            counted = list(pool.map(self._count, self.files))
        return self.subset.note(sum(wanted for wanted, _ in counted), sum(rows for _, rows in counted))

    def _group(self, uri: str, footer: Any, group: int, start: int) -> Iterator[Row]:
        wanted = list(range(footer.row_group(group).num_rows))
        done = 0
        try:
            classes = self._labels(uri, footer, group)
            ours = set(self.subset.classes)
            wanted = [place for place, one in enumerate(classes) if one is None or one in ours]
            if not wanted:
                return
            place = 0
            for batch in batches(uri, footer, group, [self.image]):
                here = wanted[done:]
                here = [at - place for at in here if at - place < batch.num_rows]
                for at, values in zip(here, dictionaries(batch.take(pa.array(here, pa.int64()))), strict=True):
                    yield self._row(values[self.image], classes[place + at], start + place + at)
                    done += 1
                place += batch.num_rows
        except (OSError, StorageError, pa.ArrowException) as error:
            for at in wanted[done:]:
                detail = f"row group {group}: {error}"
                yield Row(self._id(start + at), None, (), self.subset.metadata(None), "unreadable_row", detail)

    def _row(self, cell: Any, one: ImageClass | None, number: int) -> Row:
        image, problem, detail = picture_in(cell)
        said = re.search(r"_(n\d{8})\.\w+$", (isinstance(cell, dict) and cell.get("path")) or "")
        if one is None:
            image, problem, detail = None, "no_label", f"column {self.label!r} is no class of ImageNet-1k"
        elif said and said[1] != one.synset:
            image, problem = None, "other_label"
            detail = f"the label {one.label} is {one.synset}, and the file is of {said[1]}"
        return Row(self._id(number), image, (), self.subset.metadata(one), problem, detail)

    def _labels(self, uri: str, footer: Any, group: int) -> list[ImageClass | None]:
        """The class of each row of a row group."""
        known = _classes_by_name()
        return [
            known.get(values[self.label])
            for batch in batches(uri, footer, group, [self.label])
            for values in dictionaries(batch)
        ]

    def _count(self, file: Found) -> tuple[int, int]:
        footer = attempted(lambda: read_footer(file.uri))
        ours = set(self.subset.classes)
        groups = range(footer.num_row_groups)
        return sum(one in ours for group in groups for one in self._labels(file.uri, footer, group)), footer.num_rows

    def _id(self, number: int) -> str:
        return f"imagenet_{self.subset.split}_{number:08d}"

    def _check_columns(self, footer: Any, uri: str) -> None:
        schema = footer.schema.to_arrow_schema()
        image_column(self.image, schema, uri)
        kind = schema.field(named(self.label, schema, uri)).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(
                f"{uri}: column {self.label!r} is {kind}; labels are whole numbers from 0 to 999, or synsets"
            )


def _classes_by_name() -> Mapping[int | str, ImageClass]:
    """Classes by label and by synset."""
    return {name: one for one in imagenet_classes() for name in (one.label, one.synset)}
