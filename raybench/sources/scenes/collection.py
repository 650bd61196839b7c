"""A collection is decided by its number of images and its seed, and is hard in the ways that photographs are.

Among the targets stand negatives that differ in one attribute, copies and near copies that answer the same captions,
pairs that share a caption, unlabelled images, odd formats and files that cannot be read. As in sets of photographs,
a caption can also be true of an image that it was not written for, mostly of a negative that differs in what the
caption leaves out; such an image is not judged relevant (of 2,000 images, for about one caption in five).
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raybench.sources.scenes.draw import SIDE_PX, draw
from raybench.sources.scenes.files import DEFECTS, broken, jpeg, odd, retouched
from raybench.sources.scenes.plan import Entry, Kind, Stream, answers, captions_of, odd_format, plan, scene_of
from raybench.sources.scenes.scene import Scene
from raybench.sources.tar import write_tar

SAMPLES_PER_SHARD = 500
RETOUCHES = 3
IMAGES_SCHEMA = pa.schema([(name, pa.string()) for name in ("image_id", "shard", "kind", "note")])
QUERIES_SCHEMA = pa.schema([(name, pa.string()) for name in ("query_id", "text", "cluster_id")])
QRELS_SCHEMA = pa.schema([("query_id", pa.string()), ("image_id", pa.string()), ("relevance", pa.int32())])


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a WebDataset tar."""

    image_id: str  # five digits of shard, four of position
    extension: str  # "jpg", "png" or "webp"
    image: bytes  # compressed; of kind "broken", not decodable
    captions: tuple[str, ...]  # empty except for targets and most odd formats
    kind: str  # a value of Kind
    note: str  # the attribute that differs, the copied image, the format or the defect


@dataclass(frozen=True, slots=True)
class Summary:
    """What `write` wrote."""

    images: int
    shards: int
    queries: int
    judgments: int
    kinds: Mapping[str, int]  # images by kind


def build(images: int, seed: int, samples_per_shard: int = SAMPLES_PER_SHARD) -> Iterator[tuple[str, list[Sample]]]:
    """The shards in order, each a name such as "00000" and its samples; equal arguments give equal bytes."""
    entries = plan(images, seed, samples_per_shard)
    target_ids = {entry.number: entry.image_id for entry in entries if entry.kind is Kind.TARGET}
    for first in range(0, images, samples_per_shard):
        shard = entries[first : first + samples_per_shard]
        yield shard[0].image_id[:5], [_sample(entry, seed, target_ids) for entry in shard]


@dataclass(frozen=True, slots=True, eq=False)
class _Scenes(Mapping[str, Scene]):
    """Scenes by image id, each made when it is asked for."""

    entries: Mapping[str, Entry]
    seed: int

    def __getitem__(self, image_id: str) -> Scene:
        return scene_of(self.entries[image_id], self.seed)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def scenes_by_id(images: int, seed: int) -> Mapping[str, Scene]:
    """The scene of every image of the collection that `write` writes, by its id, in order: what was drawn.

    A grayscale image does not show its scene's colours, and a broken one shows nothing. Raises KeyError for other ids.
    """
    return _Scenes({entry.image_id: entry for entry in plan(images, seed, SAMPLES_PER_SHARD)}, seed)


def write(folder: Path, images: int, seed: int) -> Summary:
    """Write 00000.tar and so on, images.parquet, queries.parquet and qrels.parquet into an empty or new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name a new folder, or empty this one first")
    rows: list[dict[str, str]] = []
    queries: list[dict[str, str]] = []
    shards = 0
    for shard, samples in build(images, seed):
        with (folder / f"{shard}.tar").open("wb") as stream:
            write_tar(stream, (member for sample in samples for member in members(sample, seed)))
        for sample in samples:
            rows.append({"image_id": sample.image_id, "shard": shard, "kind": sample.kind, "note": sample.note})
            queries.extend(queries_of(sample))
        shards += 1
    judged = list(qrels(plan(images, seed, SAMPLES_PER_SHARD), queries))
    pq.write_table(pa.Table.from_pylist(rows, IMAGES_SCHEMA), folder / "images.parquet")
    pq.write_table(pa.Table.from_pylist(queries, QUERIES_SCHEMA), folder / "queries.parquet")
    pq.write_table(pa.Table.from_pylist(judged, QRELS_SCHEMA), folder / "qrels.parquet")
    return Summary(
        images, shards, len(queries), len(judged), dict(sorted(Counter(row["kind"] for row in rows).items()))
    )


def members(sample: Sample, seed: int) -> Iterator[tuple[str, bytes]]:
    """The tar members of a sample: image, captions (one a line, no member where there are none), metadata."""
    yield f"{sample.image_id}.{sample.extension}", sample.image
    if sample.captions:
        yield f"{sample.image_id}.txt", "\n".join(sample.captions).encode()
    side_px = None if sample.kind == Kind.BROKEN else SIDE_PX
    facts: dict[str, Any] = {"image_id": sample.image_id, "kind": sample.kind, "note": sample.note, "seed": seed}
    yield f"{sample.image_id}.json", json.dumps({**facts, "width": side_px, "height": side_px}).encode()


def queries_of(sample: Sample) -> list[dict[str, str]]:
    """One query a caption; its cluster is the image that it came from."""
    return [
        {"query_id": f"{sample.image_id}_caption_{n:02d}", "text": text, "cluster_id": sample.image_id}
        for n, text in enumerate(sample.captions)
    ]


def qrels(entries: tuple[Entry, ...], queries: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Every image that shows the scene of the query's caption; for a shared caption, those of both scenes."""
    found = answers(entries)
    for query in queries:
        same, twins = found[query["cluster_id"]]
        shared = query["query_id"].endswith("_caption_00")
        for image_id in sorted([*same, *(twins if shared else [])]):
            yield {"query_id": query["query_id"], "image_id": image_id, "relevance": 1}


def _sample(entry: Entry, seed: int, target_ids: Mapping[int, str]) -> Sample:
    scene, difference = scene_of(entry, seed)
    image = draw(scene, entry.stream(seed, Stream.PIXELS))
    extension, content, note = _file(entry, image, seed)
    if entry.kind in (Kind.HARD_NEGATIVE, Kind.EXACT_DUPLICATE, Kind.NEAR_DUPLICATE):
        note = f"of {target_ids[entry.number]}" + (f": {note or difference}" if note or difference else "")
    return Sample(entry.image_id, extension, content, captions_of(entry, seed), entry.kind.value, note)


def _file(entry: Entry, image: Image.Image, seed: int) -> tuple[str, bytes, str]:
    """Extension, bytes and note."""
    rng = entry.stream(seed, Stream.VARIANT, entry.variant)
    if entry.kind is Kind.ODD_FORMAT:
        form = odd_format(entry)
        return *odd(image, form), form.value
    if entry.kind is Kind.BROKEN:
        defect = DEFECTS[entry.number % len(DEFECTS)]
        return "jpg", broken(image, defect, rng), defect.value
    if entry.kind is Kind.NEAR_DUPLICATE:
        changed, quality, note = retouched(image, (entry.number + entry.variant) % RETOUCHES, rng)
        return "jpg", jpeg(changed, quality), note
    return "jpg", jpeg(image), ""
