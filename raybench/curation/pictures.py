"""Pictures that stay are read once more, made small, and written as WebDataset tars in the order of their ids' hashes.

    pieces/pictures/00012.part       samples of some shards as they lie in a tar, in the order of hashes
    pieces/pictures/00012.parquet    where each lies, and what it is; written last

The order is one of chance, so that ties between scores, which go to the smaller row, favour neither answers nor
distractors. A sample is `<id>.jpg`, `<id>.txt` with its captions (of targets that have some) and `<id>.json`.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from raybench import storage
from raybench.arrays import Rows
from raybench.curation.choose import hash_of
from raybench.curation.chosen import Chosen
from raybench.embedding.decode import decode
from raybench.errors import WorkError
from raybench.sources.tar import END_OF_TAR, tar_member

TAR_ROWS = 1_000
TAR_BYTES = 256 * 1024**2
_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR,
}  # fmt: skip
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "MPO": "jpg"}

WRITTEN = pa.schema(
    [
        ("row", pa.int64()), ("hash", pa.uint64()), ("offset", pa.int64()), ("length", pa.int64()), ("member", pa.string()),
        ("sha256", pa.string()), ("size_bytes", pa.int64()), ("width", pa.int32()), ("height", pa.int32()),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pictures:
    """How pictures are stored: RGB JPEG, the shorter side at most `shortest` pixels; 0 keeps files as they are."""

    shortest: int = 160
    quality: int = 90
    filter: Literal["lanczos", "bicubic", "bilinear"] = "lanczos"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some shards of one pool: what a worker writes at a time."""

    number: int
    source: Chosen
    shards: tuple[int, ...]  # of the choice
    first: int  # of its pictures, in the list of those that stay
    count: int
    pool: str


def stored_picture(image: bytes, pictures: Pictures) -> tuple[bytes, str, int, int]:
    """Bytes, extension, width and height of a picture as it is stored; never enlarged. WorkError if it cannot be read."""
    decoded = decode(image)
    if decoded.picture is None:
        raise WorkError(
            f"a picture that was read before is now {decoded.problem}: {decoded.detail}; did its file change?"
        )
    picture = decoded.picture
    width, height = picture.size
    if not pictures.shortest:
        with Image.open(io.BytesIO(image)) as opened:
            return image, _EXTENSIONS[str(opened.format)], width, height
    ratio = min(1.0, pictures.shortest / min(width, height))
    size = max(1, round(ratio * width)), max(1, round(ratio * height))
    if size != (width, height):
        picture = picture.resize(size, _FILTERS[pictures.filter])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=pictures.quality)
    return buffer.getvalue(), "jpg", *size


def write_piece(piece: Piece, folder: str, kept: "Kept", pictures: Pictures) -> int:
    """Write the samples of a piece and the table of where they are; how many there are."""
    name = storage.join(folder, f"{piece.number:05d}")
    if storage.exists(f"{name}.parquet"):
        return piece.count
    planned = piece.source.plan()
    samples: list[tuple[int, bytes, dict[str, Any]]] = []
    place = 0
    for shard in piece.shards:
        for table in piece.source.read(planned[shard]):
            for source_id, image in zip(table["image_id"].to_pylist(), table["image"], strict=True):
                row = kept.at(piece.first + place)
                if source_id != row["source_id"]:
                    raise WorkError(
                        f"{piece.pool} gave {source_id!r} where {row['source_id']!r} was; run the same command again"
                    )
                samples.append(_sample(row, image.as_py(), piece.pool, pictures))
                place += 1
    if place != piece.count:
        raise WorkError(
            f"{piece.pool} gave {place} of {piece.count} pictures that were there before; did its files change?"
        )
    samples.sort(key=lambda sample: (sample[0], sample[2]["row"]))
    offset, listed = 0, []
    for _, data, facts in samples:
        listed.append(facts | {"offset": offset, "length": len(data)})
        offset += len(data)
    storage.write_bytes(f"{name}.part", b"".join(data for _, data, _ in samples))
    storage.write_table(f"{name}.parquet", pa.Table.from_pylist(listed, schema=WRITTEN))
    return piece.count


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The candidates that stay, in their order, with what their samples tell."""

    rows: Rows
    table: pa.Table  # image_id, source_id, captions, metadata, answers
    seed: int

    def at(self, place: int) -> dict[str, Any]:
        """One of them."""
        values: dict[str, Any] = self.table.slice(place, 1).to_pylist()[0]
        image_hash = int(hash_of([values["image_id"]], self.seed, "order")[0])
        return values | {"row": int(self.rows[place]), "hash": image_hash}


def _sample(row: dict[str, Any], image: bytes, pool: str, pictures: Pictures) -> tuple[int, bytes, dict[str, Any]]:
    data, extension, width, height = stored_picture(image, pictures)
    image_id = row["image_id"]
    members = tar_member(f"{image_id}.{extension}", data)
    if row["captions"]:
        members += tar_member(f"{image_id}.txt", "\n".join(" ".join(one.split()) for one in row["captions"]).encode())
    metadata = json.loads(row["metadata"]) if row["metadata"] else {}
    facts = {
        "image_id": image_id,
        "source_id": row["source_id"],
        "pool": pool,
        "answers": row["answers"],
        "source": metadata,
    }
    members += tar_member(f"{image_id}.json", json.dumps(facts, sort_keys=True).encode())
    written = {
        "row": row["row"], "hash": row["hash"], "member": f"{image_id}.{extension}", "sha256": storage.digest(data),
        "size_bytes": len(data), "width": width, "height": height,
    }  # fmt: skip
    return row["hash"], members, written


@dataclass(frozen=True, slots=True, eq=False)
class Tar:
    """One finished tar: for each of its samples in order, the piece that has it, and where."""

    number: int
    piece_S: Rows
    offset_S: Rows
    length_S: Rows


def tar_name(number: int) -> str:
    """The name of a tar below the folder of the set."""
    return f"{number:06d}.tar"


def cut(piece_N: Rows, offset_N: Rows, length_N: Rows) -> list[Tar]:
    """Samples in their final order, cut into tars of 1,000 samples or 256 MiB at most."""
    tars: list[Tar] = []
    start = held = 0
    for place, length in enumerate([*length_N.tolist(), TAR_BYTES]):
        if place > start and (place - start == TAR_ROWS or held + length > TAR_BYTES or place == len(length_N)):
            run = slice(start, place)
            tars.append(Tar(len(tars), piece_N[run], offset_N[run], length_N[run]))
            start, held = place, 0
        held += length
    return tars


def write_tar_of(tar: Tar, pieces_folder: str, folder: str) -> tuple[str, int]:
    """Put a tar together; its SHA-256 and size. A piece is read in one range, since its samples are in this order too."""
    sample_S: list[memoryview] = [memoryview(b"")] * len(tar.piece_S)
    for piece in np.unique(tar.piece_S).tolist():
        places = np.flatnonzero(tar.piece_S == piece)
        low = int(tar.offset_S[places].min())
        high = int((tar.offset_S[places] + tar.length_S[places]).max())
        with storage.open_random(storage.join(pieces_folder, f"{piece:05d}.part")) as file:
            file.seek(low)
            data = memoryview(file.read(high - low))
        for place in places.tolist():
            first = int(tar.offset_S[place]) - low
            sample_S[place] = data[first : first + int(tar.length_S[place])]
    whole = b"".join([*sample_S, END_OF_TAR])
    return storage.write_bytes(storage.join(folder, tar_name(tar.number)), whole), len(whole)


def pieces_of(groups: Sequence[tuple[Chosen, str, Sequence[int], Sequence[int]]]) -> list[Piece]:
    """Shards of each pool's choice joined until a piece has 1,000 pictures or 256 MiB of files.

    A group is the choice, the pool's name, and for each shard of the choice its pictures and their bytes.
    """
    pieces: list[Piece] = []
    first = 0
    for source, pool, shard_rows, shard_bytes in groups:
        begun: list[int] = []
        count = size = 0
        for shard, (rows, size_bytes) in enumerate(zip(shard_rows, shard_bytes, strict=True)):
            if begun and (count + rows > TAR_ROWS or size + size_bytes > TAR_BYTES):
                pieces.append(Piece(len(pieces), source, tuple(begun), first, count, pool))
                first, begun, count, size = first + count, [], 0, 0
            begun.append(shard)
            count, size = count + rows, size + size_bytes
        if begun:
            pieces.append(Piece(len(pieces), source, tuple(begun), first, count, pool))
            first += count
    return pieces
