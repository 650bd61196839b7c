"""Images per second of the Ray pipeline against a bare loop that does the same work, in turn, in one run.

    python jobs/benchmarks/embedding.py --images 512 --repeats 2

The bare loop reads, decodes and encodes in one process with as many threads as the machine has cores; the pipeline
has the same cores. Both read the same tars of noise-like JPEGs and use the same random weights (speed does not depend
on them). The pipeline is timed from its first chunk to its last, so starting the pool is left out; the bare loop is
timed without loading the model. What matters is the ratio: times depend on the machine, which is printed beside them.

`encoder_wait_share` is the part of the encoders' time spent waiting for decoded chunks; near 0 means that decoding
keeps up. The last line printed is one JSON object.
"""

import dataclasses
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from raybench import storage
from raybench.distributed.embed import embed
from raybench.distributed.pool import plan_pool
from raybench.distributed.runtime import connected
from raybench.embedding.chunks import encode, prepare, read_chunks
from raybench.embedding.job import EmbedJob
from raybench.encoders import ENCODERS
from raybench.environment import available_cores, environment
from raybench.sources import SOURCES
from raybench.sources.tar import write_tar


def write_images(folder: Path, images: int, per_shard: int, side: int) -> None:
    """Tars of JPEGs with as much detail as photographs: smooth shapes under noise, about 0.2 bytes per pixel."""
    random = np.random.default_rng(0)
    for first in range(0, images, per_shard):
        members = []
        for number in range(first, min(first + per_shard, images)):
            coarse = random.integers(0, 255, (8, 10, 3), np.uint8)
            picture = Image.fromarray(coarse).resize((side * 4 // 3, side), Image.Resampling.BICUBIC)
            noise = random.normal(0, 6, (side, side * 4 // 3, 3))
            pixels = np.clip(np.asarray(picture, np.float64) + noise, 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
            members.append((f"{number:09d}.jpg", buffer.getvalue()))
        with (folder / f"{first // per_shard:05d}.tar").open("wb") as stream:
            write_tar(stream, members)


def bare_loop(job: EmbedJob, threads: int) -> float:
    """Seconds for read, decode and encode in this process, one after the other."""
    encoder = job.encoder.load("auto", threads)
    started = time.perf_counter()
    for shard in job.shards:
        for chunk in read_chunks(job, shard):
            encode(encoder, prepare(job, chunk))
    return time.perf_counter() - started


def pipeline(job: EmbedJob, cluster: dict[str, Any]) -> dict[str, Any]:
    """The facts of one run on Ray, into a folder of its own."""
    pool = plan_pool(cluster, job.threads, 0, len(job.shards))
    with tempfile.TemporaryDirectory() as folder:
        [manifest] = embed([dataclasses.replace(job, vectors_uri=folder)], pool, lambda _rows, _share: None)
    return dict(manifest["environment"]) | {"pool": str(pool)}


@click.command()
@click.option("--images", default=512, show_default=True, help="Images per run.")
@click.option("--repeats", default=2, show_default=True, help="Runs of each, in turn.")
@click.option("--side", default=256, show_default=True, help="Shorter side of the JPEGs in pixels.")
@click.option("--chunk", default=32, show_default=True, help="Images per call of the encoder.")
@click.option(
    "--model", default='openclip("ViT-B-32", pretrained="random")', show_default=True, help="The encoder's spec."
)
def main(images: int, repeats: int, side: int, chunk: int, model: str) -> None:
    """Run both in turn and print the ratio."""
    cores = available_cores()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), images, max(chunk, images // 8), side)
        size = sum(file.size_bytes for file in storage.list_files(folder)) / images
        source = SOURCES.make(f'webdataset("{folder}")').open(folder)
        encoder = ENCODERS.make(model)
        job = EmbedJob(
            "image", source, tuple(source.plan()), model, encoder, encoder.fingerprint(), encoder.preprocess(), folder,
            chunk_rows=chunk,
        )  # fmt: skip
        bare_s: list[float] = []
        ray_s: list[float] = []
        facts: dict[str, Any] = {}
        with connected() as cluster:
            for _ in range(repeats):
                bare_s.append(bare_loop(job, cores))
                facts = pipeline(job, cluster)
                ray_s.append(facts["encoding_s"])
                print(f"bare {images / bare_s[-1]:7.2f} images/s   pipeline {images / ray_s[-1]:7.2f} images/s")
    report = {
        "ratio": round(statistics.median(bare_s) / statistics.median(ray_s), 3),
        "bare_images_per_s": round(images / statistics.median(bare_s), 2),
        "pipeline_images_per_s": round(images / statistics.median(ray_s), 2),
        "encoder_busy_share": facts["encoder_busy_share"],
        "encoder_wait_share": facts["encoder_wait_share"],
        "pool": facts["pool"], "threads_of_bare_loop": cores, "images": images, "repeats": repeats,
        "mean_jpeg_bytes": int(size), "model": model, "environment": environment(),
    }  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    main()
