"""Measures a scenes model over a whole collection without any of raybench's metrics or search, as a second opinion.

Every decodable image is a candidate for every caption; intervals are 95 % and resample images, not captions.
"""

import io
import json
import tarfile
from collections import defaultdict
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import open_clip
import pyarrow.parquet as pq
import torch
from PIL import Image, UnidentifiedImageError

Floats = npt.NDArray[np.float32]
Measures = dict[str, npt.NDArray[np.float64]]
PREFIXES = (128, 64, 32, 16)
BATCH = 256
DEPTH = 10


def embed(folder: Path, images: list[Image.Image], texts: list[str]) -> tuple[Floats, Floats]:
    """images_ND and texts_QD float32, not normalised, by open_clip's own loader."""
    name = f"local-dir:{folder.resolve()}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    with torch.inference_mode():
        pixels_NCHW = torch.stack([preprocess(image) for image in images])
        images_ND = torch.cat([model.encode_image(part_BCHW) for part_BCHW in torch.split(pixels_NCHW, BATCH)])
        texts_QD = torch.cat([model.encode_text(part_BL) for part_BL in torch.split(tokenizer(texts), BATCH)])
    return images_ND.numpy(), texts_QD.numpy()


def decodable(folder: Path) -> tuple[list[str], list[Image.Image]]:
    """The ids and RGB images of every shard, in order, without those that cannot be decoded."""
    ids, images = [], []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as shard:
            for member in shard:
                stream = shard.extractfile(member)
                if member.name.endswith((".txt", ".json")) or stream is None:
                    continue
                try:
                    image = Image.open(io.BytesIO(stream.read())).convert("RGB")
                except (UnidentifiedImageError, OSError):
                    continue
                ids.append(member.name.split(".")[0])
                images.append(image)
    return ids, images


def measure(images_ND: Floats, texts_QD: Floats, relevant: list[set[int]]) -> Measures:
    """hit@1, hit@10 and ndcg@10 of each query [Q], by cosine similarity; equal scores go to the lower position."""
    images_ND = images_ND / np.linalg.norm(images_ND, axis=1, keepdims=True)
    texts_QD = texts_QD / np.linalg.norm(texts_QD, axis=1, keepdims=True)
    best_QK = np.argsort(-(texts_QD @ images_ND.T), axis=1, kind="stable")[:, :DEPTH]
    found_QK = np.array([[item in good for item in row] for row, good in zip(best_QK, relevant, strict=True)])
    discount_K = 1 / np.log2(np.arange(DEPTH) + 2)
    ideal_Q = np.array([discount_K[: len(good)].sum() for good in relevant])
    ndcg_Q = (found_QK * discount_K).sum(axis=1) / ideal_Q
    hit_1_Q, hit_10_Q = found_QK[:, 0].astype(float), found_QK.any(axis=1).astype(float)
    return {"hit@1": hit_1_Q, "hit@10": hit_10_Q, "ndcg@10": ndcg_Q}


def interval(values_Q: npt.NDArray[np.float64], clusters: list[str]) -> tuple[float, float]:
    """The middle 95 % of the means of 1000 resamples of clusters."""
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    cluster_Q = np.array([names[name] for name in clusters])
    totals_C, sizes_C = np.bincount(cluster_Q, weights=values_Q), np.bincount(cluster_Q)
    drawn_RC = np.random.default_rng(0).integers(len(names), size=(1000, len(names)))
    means_R = totals_C[drawn_RC].sum(axis=1) / sizes_C[drawn_RC].sum(axis=1)
    low, high = np.quantile(means_R, [0.025, 0.975])
    return float(low), float(high)


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of the model.")
@click.option("--collection", type=click.Path(path_type=Path, exists=True), required=True, help="As written.")
def main(model: Path, collection: Path) -> None:
    """Print a Markdown table of the model's quality, and one JSON line of hit@1 by caption number."""
    torch.set_num_threads(2)
    ids, images = decodable(collection)
    position = {image_id: index for index, image_id in enumerate(ids)}
    queries = pq.read_table(collection / "queries.parquet").to_pylist()
    judged: defaultdict[str, set[int]] = defaultdict(set)
    for row in pq.read_table(collection / "qrels.parquet").to_pylist():
        judged[row["query_id"]].add(position[row["image_id"]])
    images_ND, texts_QD = embed(model, images, [query["text"] for query in queries])
    relevant = [judged[query["query_id"]] for query in queries]
    clusters = [query["cluster_id"] for query in queries]
    click.echo(
        f"{len(ids)} images, {len(queries)} captions\n\n| dimensions | hit@1 | hit@10 | ndcg@10 |\n|---|---|---|---|"
    )
    for prefix in PREFIXES:
        measured = measure(images_ND[:, :prefix], texts_QD[:, :prefix], relevant)
        cells = []
        for values_Q in measured.values():
            low, high = interval(values_Q, clusters)
            cells.append(f"{values_Q.mean():.3f} [{low:.3f}, {high:.3f}]")
        click.echo(f"| {prefix} | {' | '.join(cells)} |")
    hit_1_Q = measure(images_ND, texts_QD, relevant)["hit@1"]
    numbers = np.array([query["query_id"][-2:] for query in queries])
    click.echo(json.dumps({str(n): round(float(hit_1_Q[numbers == n].mean()), 3) for n in np.unique(numbers)}))


if __name__ == "__main__":
    main()
