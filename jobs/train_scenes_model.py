"""Trains the CLIP models that ship with raybench, on scenes of random streams that no evaluation set draws from.

A killed run continues from its last checkpoint when the same command is given again, on the same random numbers.
"""

import json
import multiprocessing
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedTokenizerFast

from raybench.sources.scenes.captions import PER_SCENE, describe
from raybench.sources.scenes.draw import draw
from raybench.sources.scenes.labels import CLASSES, TOLD_KL, UNKNOWN, labels
from raybench.sources.scenes.scene import Purpose, Scene, generator, sample, vary

IMAGE_PX = 64
CONTEXT_LENGTH = 32  # the longest caption has 30 words and marks, and a start and an end
PREFIXES = (128, 64, 32, 16)
CHUNK_PAIRS = 500
CHECKPOINT_STEPS = 50
LABEL_WEIGHT = 2.0  # of telling a scene's labels from an embedding; alone, contrast takes far longer to learn shapes
DRAWING, ORDER = 0, 1  # the third word of a training seed

# pictures_NHWC uint8, tokens_NKL int64 of K captions a picture, labels_NA int64
Data = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Preset:
    """The size of one model and the length of its training."""

    vision_width: int
    text_width: int
    steps: int  # of learning what is in a picture, from contrast and labels
    polish: int  # further steps of contrast alone, so that no part of an embedding serves the labels only
    batch: int = 64
    learning_rate: float = 2e-3
    polish_rate: float = 6e-4


PRESETS = {
    "scenes-clip": Preset(16, 96, steps=1500, polish=200),
    "scenes-clip-small": Preset(8, 64, steps=1600, polish=200),
}


def model_config(preset: Preset, vocabulary: int) -> dict[str, Any]:
    """What open_clip reads from open_clip_config.json under "model_cfg"."""
    return {
        "embed_dim": PREFIXES[0],
        # Four layers and no patch size make open_clip build its ResNet, which learns shapes from far fewer pictures.
        "vision_cfg": {"image_size": IMAGE_PX, "width": preset.vision_width, "layers": [1, 1, 1, 1], "head_width": 32},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "tokenizer.json",  # any name: beside a local folder, open_clip reads the folder
            "width": preset.text_width,
            "heads": preset.text_width // 32,
            "layers": 2,
            "mlp_ratio": 2.0,
            "pool_type": "argmax",  # the end mark has the highest id
        },
    }


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One id a word; 0 pads and the end mark is the highest id, because open_clip pools there."""
    words: set[str] = set()
    for index in range(3000):
        rng = generator(Purpose.TRAINING, 0, DRAWING, index)
        words.update(" ".join(describe(sample(rng), rng)).replace(",", " , ").replace(":", " : ").split())
    vocabulary = ["[PAD]", "[UNK]", "[START]", *sorted(words), "[END]"]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, "[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [("[START]", 2), ("[END]", len(vocabulary) - 1)]
    core.post_processor = processors.TemplateProcessing(single="[START] $A [END]", special_tokens=marks)
    roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[START]", "eos_token": "[END]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=CONTEXT_LENGTH, **roles)


def _pair(seed: int, index: int) -> tuple[Scene, Scene, np.random.Generator]:
    """A scene, its hard negative, and the stream that goes on to their captions."""
    rng = generator(Purpose.TRAINING, seed, DRAWING, index)
    scene = sample(rng)
    return scene, vary(scene, rng)[0], rng


def _draw_chunk(seed_and_chunk: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Pictures [2 * CHUNK_PAIRS, H, W, C], each scene followed by its hard negative, and five captions each."""
    seed, chunk = seed_and_chunk
    pictures: list[npt.NDArray[np.uint8]] = []
    captions: list[str] = []
    for index in range(chunk * CHUNK_PAIRS, (chunk + 1) * CHUNK_PAIRS):
        scene, negative, rng = _pair(seed, index)
        for shown in (scene, negative):
            picture = draw(shown, generator(Purpose.TRAINING, seed, DRAWING, index, 1))
            pictures.append(np.asarray(picture.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC)))
            captions.extend(describe(shown, rng))
    return np.stack(pictures), captions


def training_set(work: Path, seed: int, pairs: int, tokenizer: PreTrainedTokenizerFast) -> Data:
    """The pictures and their tokenised captions, drawn once and kept in `work`, and the labels."""
    kept = work / f"scenes-{seed}-{pairs}.npz"
    if not kept.exists():
        jobs = [(seed, chunk) for chunk in range(pairs // CHUNK_PAIRS)]
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            chunks = pool.map(_draw_chunk, jobs, chunksize=1)
        captions = [caption for _, some in chunks for caption in some]
        ids = tokenizer(captions, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True)["input_ids"]
        tokens_NKL = np.asarray(ids, dtype=np.int64).reshape(-1, PER_SCENE, CONTEXT_LENGTH)
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, pictures=np.concatenate([pictures for pictures, _ in chunks]), tokens=tokens_NKL)
        partial.rename(kept)  # a kill while writing leaves no half file under the final name
    arrays = np.load(kept)
    labels_NA = np.stack([labels(scene) for index in range(pairs) for scene in _pair(seed, index)[:2]])
    return arrays["pictures"], arrays["tokens"], labels_NA


def matryoshka_loss(images_BD: torch.Tensor, texts_BD: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The contrastive loss of both directions, averaged over the prefixes that a user may truncate to."""
    target_B = torch.arange(len(images_BD))
    total = torch.zeros(())
    for prefix in PREFIXES:
        logits_BB = scale * normalize(images_BD[:, :prefix], dim=-1) @ normalize(texts_BD[:, :prefix], dim=-1).T
        total = total + (cross_entropy(logits_BB, target_B) + cross_entropy(logits_BB.T, target_B)) / 2
    return total / len(PREFIXES)


def label_loss(logits_BC: torch.Tensor, labels_BA: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy over the labels that are known, the logits of one label beside those of the next."""
    parts = zip(torch.split(logits_BC, list(CLASSES), dim=-1), labels_BA.T, strict=True)
    known = [(part_BC, label_B) for part_BC, label_B in parts if bool((label_B != UNKNOWN).any())]
    losses = [cross_entropy(part_BC, label_B, ignore_index=UNKNOWN) for part_BC, label_B in known]
    return torch.stack(losses).sum() / len(CLASSES)


def batch_loss(
    model: CLIP, head: torch.nn.Module | None, data: Data, size: int, rng: np.random.Generator
) -> torch.Tensor:
    """The loss of one random batch, in which every scene stands beside its hard negative; labels count with a head."""
    pictures_NHWC, tokens_NKL, labels_NA = data
    first_P = rng.choice(len(pictures_NHWC) // 2, size=size // 2, replace=False) * 2
    rows_B = np.concatenate([first_P, first_P + 1])
    caption_B = rng.integers(PER_SCENE, size=len(rows_B))
    images_BHWC = torch.from_numpy(pictures_NHWC[rows_B]).float().div_(127.5).sub_(1.0)
    images_BD = model.encode_image(images_BHWC.permute(0, 3, 1, 2))
    texts_BD = model.encode_text(torch.from_numpy(tokens_NKL[rows_B, caption_B]))
    contrast = matryoshka_loss(images_BD, texts_BD, model.logit_scale.exp().clamp(max=100))
    if head is None:
        return contrast
    shown_BA = labels_NA[rows_B]
    told_BA = np.where(TOLD_KL[caption_B], shown_BA, UNKNOWN)
    told = label_loss(head(texts_BD), torch.from_numpy(told_BA))
    seen = label_loss(head(images_BD), torch.from_numpy(shown_BA))
    return contrast + LABEL_WEIGHT * (seen + told)


def learning_rate(step: int, preset: Preset) -> float:
    """A short rise, then half a cosine down to nothing; polishing starts over from its own, lower rate."""
    peak, length = preset.learning_rate, preset.steps
    if step >= preset.steps:
        step, peak, length = step - preset.steps, preset.polish_rate, preset.polish
    warmup = 40
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, length - warmup))))


def train(preset: Preset, config: dict[str, Any], data: Data, seed: int, kept: Path) -> tuple[CLIP, float]:
    """The trained model and the seconds that training took, over all the runs that it took."""
    torch.manual_seed(seed)
    model = CLIP(**config).to(memory_format=torch.channels_last)
    parts = torch.nn.ModuleDict({"model": model, "head": torch.nn.Linear(PREFIXES[0], sum(CLASSES))})
    optimizer = torch.optim.AdamW(parts.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    first, seconds = 0, 0.0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        parts.load_state_dict(state["parts"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["step"], state["seconds"]
    began = time.monotonic() - seconds
    for step in range(first, total := preset.steps + preset.polish):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, preset)
        head = parts["head"] if step < preset.steps else None
        loss = batch_loss(model, head, data, preset.batch, generator(Purpose.TRAINING, seed, ORDER, step))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == total:
            spent = time.monotonic() - began
            click.echo(f"step {step + 1} of {total}: loss {loss.item():.3f}, {spent:.0f} s")
            state = {"parts": parts.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1, "seconds": spent}, kept.with_suffix(".partial"))
            kept.with_suffix(".partial").rename(kept)  # a kill while writing leaves the checkpoint before
    return model, time.monotonic() - began


def export(model: CLIP, config: dict[str, Any], folder: Path) -> None:
    """What open_clip loads from "local-dir:<folder>"; float16 weights, which it reads into a float32 model."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    (folder / "open_clip_config.json").write_text(text + "\n")
    state = model.state_dict().items()
    weights = {name: (part.half() if part.is_floating_point() else part).contiguous() for name, part in state}
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    make_tokenizer().save_pretrained(folder)  # a used tokenizer would write its padding as well


@click.command()
@click.option("--name", type=click.Choice(list(PRESETS)), default="scenes-clip", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the finished model.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Pictures and checkpoints stay here.")
@click.option("--seed", default=0, show_default=True)
@click.option("--steps", type=int, help="So many steps and no polish: a trial.")
@click.option("--pairs", default=16000, show_default=True, help="Scenes, each with one hard negative beside it.")
def main(name: str, out: Path, work: Path, seed: int, steps: int | None, pairs: int) -> None:
    """Train one of the models that ship with raybench and write it to OUT."""
    torch.set_num_threads(2)
    work.mkdir(parents=True, exist_ok=True)
    preset = PRESETS[name] if steps is None else replace(PRESETS[name], steps=steps, polish=0)
    tokenizer = make_tokenizer()
    config = model_config(preset, len(tokenizer))
    data = training_set(work, seed, pairs, tokenizer)
    model, seconds = train(
        preset, config, data, seed, work / f"{name}-{seed}-{preset.steps}-{preset.polish}-{pairs}.pt"
    )
    export(model, config, out)
    click.echo(f"{name}: {preset.steps + preset.polish} steps in {seconds:.0f} s, written to {out}")


if __name__ == "__main__":
    main()
