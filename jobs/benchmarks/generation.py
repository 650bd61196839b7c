"""Tokens a second of a vision-language model through raybench, beside a bare loop over the same weights in the same run.

    python jobs/benchmarks/generation.py --shape 7b --batches 1,2,4,8,16,32      (a GPU with 40 GB)
    python jobs/benchmarks/generation.py --shape scenes --precision fp32         (minutes on two cores)

Weights are random, of the real shapes: speed and memory do not depend on what they say. The bare loop is `generate` of transformers on
inputs that are on the device already; raybench prepares pictures and words as well, which is told apart. Decoding reads all
weights of the language side once a step, so their bytes times the steps a second are set against the bandwidth of memory.
"""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from raybench.encoders import model_files, towers
from raybench.environment import environment, let_blas_choose
from raybench.generation.base import Ask, Decoding
from raybench.generation.chat_model import ChatModel

# hidden, feed-forward, layers, heads, key heads of the language side; the vision side of 3B and 7B is the same.
SHAPES = {"3b": (2048, 11008, 36, 16, 2), "7b": (3584, 18944, 28, 28, 4)}
WORDS = "Describe the picture that fits best, in one sentence, with everything that can be seen in it."


@dataclass(frozen=True, slots=True)
class Row:
    """What one size of batch took."""

    batch: int
    prompt_tokens: float
    first_token_s: float
    decode_s: float
    prepare_s: float
    tokens_per_s: float  # of answers, from prepared inputs to the last token
    bare_tokens_per_s: float
    ratio: float
    weights_gb_per_s: float  # read while decoding
    peak_gb: float | None


def make(shape: str, place: towers.Place) -> ChatModel:
    """A model of a shape with random weights, on its device."""
    folder = model_files.embedded_folder("scenes-vl")
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    config = Qwen2_5_VLConfig.from_pretrained(folder)
    if shape != "scenes":
        width, inner, layers, heads, keys = SHAPES[shape]
        text = config.text_config.to_dict() | {
            "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": keys, "vocab_size": 151_936, "max_position_embeddings": 32_768, "layer_types": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        }  # fmt: skip
        vision = {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": width,
        }
        config = Qwen2_5_VLConfig(
            text_config=text, vision_config=vision, image_token_id=config.image_token_id, video_token_id=config.video_token_id,
            vision_start_token_id=config.vision_start_token_id, vision_end_token_id=config.vision_end_token_id,
        )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(place.device):
        torch.set_default_dtype(place.dtype)
        model = Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(requires_grad=False)
        torch.set_default_dtype(torch.float32)
    processor.tokenizer.padding_side = "left"
    # The mark of an end that no model says, so that no answer ends early.
    model.generation_config = GenerationConfig(eos_token_id=config.text_config.vocab_size, pad_token_id=0)
    return ChatModel(model, processor, place, 401_408, {"model_class": type(model).__name__})


def measure(chat: ChatModel, batch: int, pictures: int, side_px: int, tokens: int, rounds: int) -> Row:
    """One size of batch: the median of rounds, after one that is not timed."""
    rng = np.random.default_rng(batch)
    noise = [rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8) for _ in range(batch * pictures)]
    shown = [Image.fromarray(pixels) for pixels in noise]
    asks = [Ask(tuple(shown[one * pictures : (one + 1) * pictures]), WORDS) for one in range(batch)]
    cuda = chat.place.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    decoding, ours, bare = Decoding(max_tokens=tokens), [], []
    chat.answer(asks, decoding, 0)
    for _ in range(rounds):
        answers = chat.answer(asks, decoding, 0)
        ours.append(answers[0])
        bare.append(_bare(chat, asks, tokens))
    first, decode, prepare = (
        float(np.median([getattr(one, name) for one in ours])) for name in ("first_token_s", "decode_s", "preprocess_s")
    )
    weights = sum(p.numel() * p.element_size() for p in chat.model.model.language_model.parameters())
    said = batch * tokens
    rate, bare_rate = said / (first + decode), said / float(np.median(bare))
    return Row(
        batch, float(answers[0].prompt_tokens or 0), first, decode, prepare, rate, bare_rate, rate / bare_rate,
        weights * (tokens - 1) / max(decode, 1e-9) / 1e9, torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    )  # fmt: skip


def _bare(chat: ChatModel, asks: list[Ask], tokens: int) -> float:
    """Seconds of `generate` alone."""
    inputs = dict(chat.inputs(asks).tensors)
    started = time.perf_counter()
    with torch.inference_mode():
        chat.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    if chat.place.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@click.command()
@click.option("--shape", type=click.Choice(["scenes", *SHAPES]), default="scenes", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="bf16", show_default=True)
@click.option("--batches", default="1,2,4,8,16", show_default=True, help="Sizes, with commas.")
@click.option("--pictures", default=3, show_default=True, help="Of each ask.")
@click.option("--side", default=560, show_default=True, help="Pixels of a picture's side.")
@click.option("--tokens", default=64, show_default=True, help="Of each answer; none ends before.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True, help="On a CPU.")
def main(
    shape: str, precision: Any, batches: str, pictures: int, side: int, tokens: int, rounds: int, threads: int
) -> None:
    """Measure, and print a line a batch and one JSON object."""
    let_blas_choose()
    place = towers.place("auto", threads, precision)
    chat = make(shape, place)
    parameters = sum(p.numel() for p in chat.model.parameters())
    click.echo(f"{shape}, {parameters / 1e6:,.1f} M parameters, {precision} on {place.facts['device']}")
    rows = []
    for batch in (int(text) for text in batches.split(",")):
        try:
            row = measure(chat, batch, pictures, side, tokens, rounds)
        except torch.OutOfMemoryError:
            click.echo(f"batch {batch}: out of memory")
            break
        rows.append(row)
        memory = "" if row.peak_gb is None else f", {row.peak_gb:.1f} GB"
        click.echo(
            f"batch {batch}: {row.tokens_per_s:,.0f} tokens/s, bare {row.bare_tokens_per_s:,.0f} (ratio {row.ratio:.3f}); prompt "
            f"{row.prompt_tokens:.0f} tokens, first token {row.first_token_s:.3f} s, {1e3 * row.decode_s / max(1, tokens - 1):.1f} ms a step, "
            f"weights at {row.weights_gb_per_s:,.0f} GB/s, preparing {row.prepare_s:.3f} s{memory}"
        )
    facts = environment()
    click.echo(json.dumps({"shape": shape, "rows": [asdict(row) for row in rows], "environment": facts}))


if __name__ == "__main__":
    main()
