"""Copies of the pictures that are shown, an object each: what a system that serves answers would fetch them from.

    <out>/pictures/<key>/00003-0000017    the bytes of position 17 of shard 3, as they are stored; the key is of the shards

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
    """Positions of one shard, and where their copies go."""

    shard: Shard
    uris: Mapping[int, str]


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
    made: dict[int, Copied] = {}
    wanted: dict[str, dict[int, str]] = {}
    there = {facts.name for facts in storage.list_files(folder)}
    for row, (image_id, name, position) in places.items():
        if name not in by_name:
            raise DataError(f"{images.uri} names the shard {name!r}, which the images no longer have; embed again")
        file = f"{by_name[name].number:05d}-{int(position):07d}"
        made[row] = Copied(image_id, storage.join(folder, file))
        if file not in there:
            wanted.setdefault(name, {})[int(position)] = made[row].uri
    if wanted:
        items = [_Wanted(by_name[name], uris) for name, uris in sorted(wanted.items())]
        with reporter.stage("copying pictures", sum(len(item.uris) for item in items)) as advance:
            for done, (item, _) in enumerate(workers.each(_copy, items, source), 1):
                advance(len(item.uris), done / len(items))
    return made


def _copy(item: _Wanted, source: Source) -> int:
    """Read a shard as far as its last wanted position; how many pictures were copied."""
    left = dict(item.uris)
    for table in source.read(item.shard):
        positions = table["position"].to_pylist()
        for place, position in enumerate(positions):
            if position in left:
                content = table["image"][place].as_py()
                if content is None:
                    raise DataError(f"{item.shard.uri} no longer has the picture at {position}; embed again")
                storage.write_bytes(left.pop(position), content)
        if not left:
            return len(item.uris)
    raise DataError(f"{item.shard.uri} has no position {min(left)}, which was embedded; embed again")
