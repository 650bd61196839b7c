"""Copies of the pictures that are shown, an object each: what a system that serves answers would fetch them from.

    <out>/pictures/<key>/00003-0000017-1f0c2a9b    the bytes of position 17 of shard 3 as they are stored, and eight digits of their
                                                   checksum; the key is of the shards

A tar has no way to its middle, so every shard with a picture that is needed is read once, in parallel, and only as far as needed.
What is there already is not read again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from raybench import storage
from raybench.collection import Collection
from raybench.errors import DataError
from raybench.experiments import judgments
from raybench.experiments.reporting import Reporter
from raybench.experiments.workers import Workers
from raybench.sources.base import Shard, Source
from raybench.spec import content_key


@dataclass(frozen=True, slots=True)
class Copied:
    """A picture and where its copy is."""

    image_id: str
    uri: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Positions of one shard, and what the names of their copies begin with."""

    shard: Shard
    places: Mapping[int, str]


def copy_pictures(
    rows: Sequence[int],
    images: Collection,
    source: Source,
    shards: Sequence[Shard],
    out: str,
    workers: Workers,
    reporter: Reporter,
) -> dict[int, Copied]:
    """The pictures of some rows of a collection, by row. DataError where a shard no longer holds one of them."""
    folder = storage.join(out, "pictures", content_key([asdict(shard) for shard in shards]))
    by_name = {shard.name: shard for shard in shards}
    places = judgments.ids_of_rows(images, np.array(sorted(set(rows)), np.int64), ["image_id", "shard", "position"])
    wanted: dict[str, dict[int, str]] = {}
    files: dict[int, str] = {}
    there = _names(folder)
    for row, (_, name, position) in places.items():
        if name not in by_name:
            raise DataError(f"{images.uri} names the shard {name!r}, which the images no longer have; embed again")
        files[row] = f"{by_name[name].number:05d}-{int(position):07d}"
        if files[row] not in there:
            wanted.setdefault(name, {})[int(position)] = storage.join(folder, files[row])
    if wanted:
        items = [_Wanted(by_name[name], uris) for name, uris in sorted(wanted.items())]
        with reporter.stage("copying pictures", sum(len(item.places) for item in items)) as advance:
            for done, (item, _) in enumerate(workers.each(_copy, items, source), 1):
                advance(len(item.places), done / len(items))
        there = _names(folder)
    return {row: Copied(places[row][0], storage.join(folder, there[file])) for row, file in files.items()}


def _names(folder: str) -> dict[str, str]:
    """The copies that are there, by shard and position."""
    return {facts.name.rpartition("-")[0]: facts.name for facts in storage.list_files(folder)}


def _copy(item: _Wanted, source: Source) -> int:
    """Read a shard as far as its last wanted position; how many pictures were copied."""
    left = dict(item.places)
    for table in source.read(item.shard):
        for place, position in enumerate(table["position"].to_pylist()):
            if position in left:
                content = table["image"][place].as_py()
                if content is None:
                    raise DataError(f"{item.shard.uri} no longer has the picture at {position}; embed again")
                storage.write_bytes(f"{left.pop(position)}-{storage.digest(content)[:8]}", content)
        if not left:
            return len(item.places)
    raise DataError(f"{item.shard.uri} has no position {min(left)}, which was embedded; embed again")
