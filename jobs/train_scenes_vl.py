"""Trains the vision-language model that ships with raybench, on scenes of random streams that no evaluation set draws from.

First the picture side learns to tell labels of single pictures (a linear layer that is thrown away); then the whole model learns
to describe pictures and to answer questions about the one of several that fits a query, in the words of raybench's own prompts.
A killed run continues from its last checkpoint when the same command is given again, on the same random numbers.
"""

import time
import types
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from scenes_vl_data import FAMILY, IMAGE_PX, Example, example, family, training_pictures
from scenes_vl_model import (
    IMAGE_TOKENS,
    PATCH_PX,
    PATCHES,
    WIDTH,
    encoded,
    make_processor,
    model_config,
    patches,
)
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from raybench.sources.scenes.labels import CLASSES, UNKNOWN, labels
from raybench.sources.scenes.scene import Purpose, generator

ORDER = 3  # the third word of a training seed
CHECKPOINT_STEPS = 50
LOOKING_WEIGHT = 0.3  # of telling labels while the whole model learns
LOOKED_AT = 48  # pictures of a step of looking
BATCH = {0: 32, 1: 32, 2: 28, 3: 24}  # examples of a step, by the number of pictures of each


@dataclass(frozen=True, slots=True)
class Phase:
    """Some steps that share a rate, which rises shortly and falls to nothing."""

    name: str
    steps: int
    rate: float
    odds: tuple[tuple[float, ...], ...]  # of 0 to 3 pictures in an example, over equal or unequal shares of the phase
    until: tuple[float, ...] = (1.0,)  # where each of these shares ends


PHASES = (
    Phase("looking", 2200, 2e-3, ()),  # labels are told from pictures, LOOKED_AT at a time
    # Single pictures first: what to look at is learnt before which to look at.
    Phase("talking", 3000, 2e-3, ((0.08, 0.72, 0.1, 0.1), (0.08, 0.17, 0.25, 0.5)), (0.4, 1.0)),
    # A closed book that does not repeat what it is told would flatter retrieval.
    Phase("guessing", 700, 1e-3, ((0.4, 0.1, 0.15, 0.35),)),
)


def attend_to_equal_pictures(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Let the picture side attend within all pictures in one call: they are of one size, and a call each is a third slower."""

    def forward(self: Any, hidden_states: torch.Tensor, position_embeddings: Any = None, **_: Any) -> torch.Tensor:
        rows, heads = len(hidden_states), self.num_heads
        query, key, value = self.qkv(hidden_states).reshape(rows, 3, heads, -1).permute(1, 0, 2, 3).unbind(0)
        query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        parts = (part.reshape(-1, PATCHES, heads, part.shape[-1]).transpose(1, 2) for part in (query, key, value))
        seen = scaled_dot_product_attention(next(parts), next(parts), next(parts), scale=self.scaling)
        projected: torch.Tensor = self.proj(seen.transpose(1, 2).reshape(rows, -1))
        return projected

    for block in model.model.visual.blocks:
        block.attn.forward = types.MethodType(forward, block.attn)


def looking_loss(
    model: Qwen2_5_VLForConditionalGeneration, head: torch.nn.Module, pixels: torch.Tensor, labels_BA: torch.Tensor
) -> torch.Tensor:
    """The mean cross entropy of labels told from the tokens of single pictures."""
    grid = torch.tensor([[1, IMAGE_PX // PATCH_PX, IMAGE_PX // PATCH_PX]] * len(labels_BA))
    return label_loss(head, model.model.visual(pixels, grid_thw=grid).pooler_output, labels_BA)


def label_loss(head: torch.nn.Module, tokens_TE: torch.Tensor, labels_BA: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy of labels told from the tokens of pictures, by a layer that is thrown away."""
    tokens = tokens_TE.view(len(labels_BA), -1)
    parts = zip(torch.split(head(tokens), list(CLASSES), dim=-1), labels_BA.T, strict=True)
    return torch.stack(
        [cross_entropy(part, label, ignore_index=UNKNOWN) for part, label in parts if bool((label != UNKNOWN).any())]
    ).sum() / len(CLASSES)


def talking_loss(
    model: Qwen2_5_VLForConditionalGeneration, head: torch.nn.Module, examples: list[Example],
    pictures: npt.NDArray[np.uint8], shown_NA: npt.NDArray[np.int64], processor: Qwen2_5_VLProcessor,
) -> torch.Tensor:  # fmt: skip
    """The mean cross entropy of the tokens to be said, and some of the loss of labels, so that looking goes on."""
    ids_BL, labels_BL = encoded(examples, processor)
    rows = [number for one in examples for number in one.pictures]
    seen: dict[str, Any] = {}
    if rows:
        seen["pixel_values"] = patches(pictures[np.array(rows)], processor.image_processor)
        seen["image_grid_thw"] = torch.tensor([[1, IMAGE_PX // PATCH_PX, IMAGE_PX // PATCH_PX]] * len(rows))
    looked: list[torch.Tensor] = []
    watch = model.model.visual.register_forward_hook(lambda *told: looked.append(told[2].pooler_output))
    is_image_BL = (ids_BL == model.config.image_token_id).int()
    hidden_BLE = model.model(
        input_ids=ids_BL, attention_mask=(ids_BL != processor.tokenizer.pad_token_id).long(),
        mm_token_type_ids=is_image_BL, use_cache=False, **seen,
    )[0]  # fmt: skip
    watch.remove()
    counts = labels_BL[:, 1:] != UNKNOWN
    logits = model.lm_head(hidden_BLE[:, :-1][counts])
    said = cross_entropy(logits, labels_BL[:, 1:][counts])
    if not rows:
        return said
    return said + LOOKING_WEIGHT * label_loss(head, looked[0], torch.from_numpy(shown_NA[np.array(rows)]))


def rate(step: int, phase: Phase) -> float:
    """A short rise, then half a cosine down to nothing."""
    warmup = 50
    if step < warmup:
        return phase.rate * (step + 1) / warmup
    return phase.rate * 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, phase.steps - warmup))))


@dataclass(slots=True)
class Trainee:
    """What learns, and what it learns from."""

    model: Any
    head: torch.nn.Module
    processor: Qwen2_5_VLProcessor
    pictures: npt.NDArray[np.uint8]
    shown_NA: npt.NDArray[np.int64]
    seed: int

    def loss(self, phase: Phase, done: float, rng: np.random.Generator) -> tuple[int, torch.Tensor]:
        """The number of pictures of this step's examples, -1 for labels alone, and its loss."""
        if not phase.odds:
            rows = rng.choice(len(self.pictures), size=LOOKED_AT, replace=False)
            pixels = patches(self.pictures[rows], self.processor.image_processor)
            return -1, looking_loss(self.model, self.head, pixels, torch.from_numpy(self.shown_NA[rows]))
        odds = next(odds for odds, end in zip(phase.odds, phase.until, strict=True) if done < end)
        n, families = int(rng.choice(4, p=odds)), len(self.pictures) // FAMILY
        chosen = rng.integers(families, size=BATCH[n]).tolist()
        examples = [example(self.seed, index, n, families, rng) for index in chosen]
        return n, talking_loss(self.model, self.head, examples, self.pictures, self.shown_NA, self.processor)


def trainee(processor: Qwen2_5_VLProcessor, pictures: npt.NDArray[np.uint8], seed: int) -> Trainee:
    """A model that has learnt nothing yet."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(model_config(processor.tokenizer))
    attend_to_equal_pictures(model)
    shown_NA = np.stack([labels(scene) for index in range(len(pictures) // FAMILY) for scene in family(seed, index)[0]])
    head = torch.nn.Linear(IMAGE_TOKENS * WIDTH, sum(CLASSES))
    click.echo(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens")
    return Trainee(model, head, processor, pictures, shown_NA, seed)


def train(one: Trainee, phases: tuple[Phase, ...], kept: Path) -> float:
    """Train through all phases; the seconds that it took, over all the runs that it took."""
    parts = torch.nn.ModuleDict({"model": one.model, "head": one.head})
    optimizer = torch.optim.AdamW(parts.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    first, seconds, cpu_s = 0, 0.0, 0.0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        parts.load_state_dict(state["parts"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds, cpu_s = state["step"], state["seconds"], state["cpu_s"]
    plan = [(phase, step) for phase in phases for step in range(phase.steps)]
    began, worked = time.monotonic() - seconds, time.process_time() - cpu_s
    losses: dict[int, float] = {}
    for number, (phase, step) in enumerate(plan[first:], first + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, phase)
        n, loss = one.loss(phase, step / phase.steps, generator(Purpose.TRAINING, one.seed, ORDER, number - 1))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        losses[n] = 0.9 * losses.get(n, loss.item()) + 0.1 * loss.item()
        if number % CHECKPOINT_STEPS == 0 or number == len(plan):
            spent, cpu_s = time.monotonic() - began, time.process_time() - worked
            told = ", ".join(f"{count}: {value:.3f}" for count, value in sorted(losses.items()))
            click.echo(f"step {number} of {len(plan)}, {phase.name}: {told}; {spent:.0f} s, {cpu_s:.0f} CPU seconds")
            state = {"parts": parts.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": number, "seconds": spent, "cpu_s": cpu_s}, kept.with_suffix(".partial"))
            kept.with_suffix(".partial").rename(kept)  # a kill while writing leaves the checkpoint before
    return time.monotonic() - began


def export(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path) -> None:
    """What transformers loads from a folder; float16 weights, which are read as float32 where that is asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = processor.tokenizer
    model.generation_config.update(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the finished model.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Pictures and checkpoints stay here.")
@click.option("--seed", default=0, show_default=True)
@click.option("--families", default=10_000, show_default=True, help="Groups of four pictures that differ in little.")
@click.option("--share", default=1.0, show_default=True, help="Of the steps of every phase: a trial.")
def main(out: Path, work: Path, seed: int, families: int, share: float) -> None:
    """Train scenes-vl and write it to OUT."""
    torch.set_num_threads(2)
    work.mkdir(parents=True, exist_ok=True)
    phases = tuple(replace(phase, steps=max(1, round(phase.steps * share))) for phase in PHASES)
    processor = make_processor()
    one = trainee(processor, training_pictures(work, seed, families), seed)
    seconds = train(one, phases, work / f"vl-{seed}-{families}-{'-'.join(str(phase.steps) for phase in phases)}.pt")
    export(one.model, processor, out)
    click.echo(f"{sum(phase.steps for phase in phases)} steps in {seconds:.0f} s, written to {out}")


if __name__ == "__main__":
    main()
