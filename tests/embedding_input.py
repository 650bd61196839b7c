"""Tars with broken pictures, and the job of embedding them, for tests of embedding."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from raybench import storage
from raybench.embedding.job import EmbedJob
from raybench.encoders import ENCODERS
from raybench.sources import SOURCES
from raybench.sources.tar import write_tar

PER_SHARD = 23
SHARDS = 5


def jpeg(number: int) -> bytes:
    """Noise of its own."""
    pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write_tars(folder: Path) -> Path:
    """Five tars of 23 samples, with broken images of three kinds, one truncated tar and one empty tar."""
    for shard in range(SHARDS):
        members = []
        for position in range(PER_SHARD):
            number = shard * PER_SHARD + position
            data = jpeg(number)
            if position == 4:
                data = data[: len(data) // 2]
            elif position == 9 and shard == 1:
                data = b""
            elif position == 17 and shard == 2:
                data = b"<html>not found</html>"
            members += [
                (f"{number:09d}.jpg", data),
                (f"{number:09d}.txt", f"picture {number}\nnoise {number}".encode()),
            ]
        buffer = io.BytesIO()
        write_tar(buffer, members)
        data = buffer.getvalue()
        (folder / f"{shard:05d}.tar").write_bytes(data[: len(data) * 2 // 3] if shard == 4 else data)
    buffer = io.BytesIO()
    write_tar(buffer, [])
    (folder / "00005.tar").write_bytes(buffer.getvalue())
    return folder


def make_job(tars: Path | str, out: Path | str, **changes: object) -> EmbedJob:
    """Images through `tiny(dim=16)`, with other fields where they are given."""
    source = SOURCES.make(f'webdataset("{tars}")').open(str(out))
    encoder = ENCODERS.make("tiny(dim=16)")
    job = EmbedJob(
        "image", source, tuple(source.plan()), "tiny(dim=16)", encoder, encoder.fingerprint(), encoder.preprocess(),
        storage.join(str(out), "vectors"), chunk_rows=8,
    )  # fmt: skip
    return dataclasses.replace(job, **changes)
