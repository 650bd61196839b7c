"""A loaded vision-language model of transformers: conversations to inputs, inputs to tokens, tokens to answers.

Axes: B asks, L tokens of a prompt, T tokens of an answer, V vocabulary.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from PIL import Image

from raybench.encoders.towers import Place, library_versions
from raybench.errors import RequestError, WorkError
from raybench.generation.base import Answer, Ask, Decoding
from raybench.generation.decoding import Clock, drawn_noise

_MOST_DETAIL = 300
# Of the longer side to the shorter. Qwen's processors refuse more; those that bring the shorter side to a size would make of it
# a picture larger than memory.
_MOST_RATIO = 200


def load(
    name: str, options: Mapping[str, Any], place: Place, max_pixels: int, gpus: int, recipe: Mapping[str, Any]
) -> "ChatModel":
    """The model and its processor from a folder or the hub; every weight must be in the file."""
    from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
    from transformers.utils.logging import disable_progress_bar

    started = time.perf_counter()
    disable_progress_bar()
    processor = AutoProcessor.from_pretrained(name, **options)
    spread = {"device_map": "auto"} if gpus > 1 and place.device.type == "cuda" else {}
    model, found = AutoModelForImageTextToText.from_pretrained(
        name, dtype=place.dtype, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are told below, by their names
        **options, **spread,
    )  # fmt: skip
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found.get(what):
            raise RequestError(
                f"the weights of {name} have {what.replace('_', ' ')}: {min(map(str, found[what]))} and "
                f"{len(found[what]) - 1} more; they do not belong to its config.json, save the model again"
            )
    model = model.eval().requires_grad_(requires_grad=False)
    model = model if spread else model.to(place.device)
    tokenizer = processor.tokenizer
    if getattr(processor, "chat_template", None) is None:
        raise RequestError(f"{name} has no chat template; take the instruct version of the model")
    tokenizer.padding_side = "left"
    own = model.generation_config
    ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    pad = next(one for one in (own.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None)
    left_out = {
        key: value
        for key, value in own.to_diff_dict().items()
        if not key.startswith("_") and not key.endswith("_token_id") and key != "transformers_version"
    }
    model.generation_config = GenerationConfig(bos_token_id=own.bos_token_id, eos_token_id=ends, pad_token_id=pad)
    tokenizer.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else pad
    facts = {
        "generator": recipe, "model": recipe["name"], "model_class": type(model).__name__, "model_type": model.config.model_type,
        "processor": type(processor).__name__, "image_processor": type(processor.image_processor).__name__,
        "tokenizer": type(tokenizer).__name__, "commit": options.get("revision"),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "attention": getattr(model.config, "_attn_implementation", None), "settings_not_used": _plain(left_out),
        "spread_over": len(set(getattr(model, "hf_device_map", {"": 0}).values())),
        "versions": library_versions("transformers", "tokenizers", "accelerate", "torchvision"), "torch": version("torch"),
        **place.facts,
    }  # fmt: skip
    return ChatModel(
        model, processor, place, max_pixels, facts | {"loading_s": round(time.perf_counter() - started, 3)}
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """What goes into the model."""

    tensors: Mapping[str, torch.Tensor]
    prompt_tokens: list[int]
    image_tokens: list[int]
    preprocess_s: float


class _Refused(Exception):  # noqa: N818  # it is caught here, and says that a processor does not take what it was given
    """What a processor raised."""


class ChatModel:
    """A generator; made by `load`. It remembers how many asks have turned out to fit into memory."""

    def __init__(self, model: Any, processor: Any, place: Place, max_pixels: int, facts: Mapping[str, Any]) -> None:
        self.model, self.processor, self.place, self.facts = model, processor, place, facts
        self._max_pixels = _bound_pixels(processor, max_pixels)
        self._most: int | None = None  # asks at a time, once more did not fit
        tokenizer, config = processor.tokenizer, model.config
        marks = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        self._marks = tuple(sorted((mark for mark in marks if len(mark) > 1), key=lambda mark: (-len(mark), mark)))
        self._image_token = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
        text = config.get_text_config()
        self._positions = int(getattr(text, "max_position_embeddings", 0) or 1 << 30)

    def answer(self, asks: Sequence[Ask], decoding: Decoding, seed: int) -> list[Answer]:
        """An answer to each ask; asks with and without pictures are answered apart, as no batch can hold both."""
        answers: list[Answer | None] = [_too_thin(ask) for ask in asks]
        for seen in (True, False):
            places = [p for p, ask in enumerate(asks) if answers[p] is None and bool(_pictures(ask)) == seen]
            for place, answer in zip(
                places, self._fitting([asks[p] for p in places], places, decoding, seed), strict=True
            ):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _fitting(self, asks: Sequence[Ask], places: Sequence[int], decoding: Decoding, seed: int) -> list[Answer]:
        """As many at a time as fit into memory."""
        answers: list[Answer] = []
        while len(answers) < len(asks):
            start = len(answers)
            stop = min(len(asks), start + (self._most or len(asks)))
            try:
                answers += self._together(asks[start:stop], places[start:stop], decoding, seed)
                continue
            except (torch.OutOfMemoryError, MemoryError) as error:
                detail = str(error)
            # Only now, as the error holds what had been computed until it came.
            if self.place.device.type == "cuda":
                torch.cuda.empty_cache()
            if stop - start == 1:
                answers.append(_failed("out_of_memory", detail))
            else:
                self._most = (stop - start) // 2
        return answers

    def _together(self, asks: Sequence[Ask], places: Sequence[int], decoding: Decoding, seed: int) -> list[Answer]:
        try:
            inputs = self.inputs(asks)
        except _Refused as error:
            failed = self._refused(asks)
            if not failed:
                raise WorkError(
                    f"{self.facts['processor']} takes {len(asks)} prompts one by one and not together ({error}); use batch=1"
                ) from error
        else:
            failed = {
                row: _failed("prompt_too_long", f"{tokens:,} tokens, and the model has {self._positions:,} positions")
                for row, tokens in enumerate(inputs.prompt_tokens)
                if tokens + decoding.max_tokens > self._positions
            }
        if failed:
            rest = [row for row in range(len(asks)) if row not in failed]
            given = [asks[row] for row in rest], [places[row] for row in rest]
            answers = failed | dict(zip(rest, self._together(*given, decoding, seed) if rest else [], strict=True))
            return [answers[row] for row in range(len(asks))]
        clock = Clock()
        with torch.inference_mode():
            tokens_BT = self.model.generate(
                **inputs.tensors, max_new_tokens=decoding.max_tokens, do_sample=False, streamer=clock,
                logits_processor=drawn_noise(decoding, seed, places),
            )[:, inputs.tensors["input_ids"].shape[1] :].cpu()  # fmt: skip
        return [
            replace(
                self._read(tokens_BT[row].tolist(), clock), prompt_tokens=inputs.prompt_tokens[row],
                image_tokens=inputs.image_tokens[row], preprocess_s=inputs.preprocess_s, together=len(asks),
            )
            for row in range(len(asks))
        ]  # fmt: skip

    def _refused(self, asks: Sequence[Ask]) -> dict[int, Answer]:
        """The asks that the processor does not take alone either, by their rows, so that they do not fail those beside them."""
        failed = {}
        for row, ask in enumerate(asks):
            try:
                self.inputs([ask])
            except _Refused as error:
                failed[row] = _failed("prompt_refused", str(error))
        return failed

    def inputs(self, asks: Sequence[Ask]) -> _Inputs:
        """Tensors on the model's device, with the tokens of every prompt counted.

        WorkError where a picture has left no token in its prompt: the model would answer without having seen it.
        """
        started = time.perf_counter()
        pictures = [[self._bounded(one) for one in _pictures(ask)] for ask in asks]
        turns = [_turns(ask, self._marks) for ask in asks]
        texts = [self.processor.apply_chat_template(one, add_generation_prompt=True, tokenize=False) for one in turns]
        images = pictures if any(pictures) else None
        try:
            made = self.processor(
                text=texts, images=images, padding=True, return_tensors="pt", add_special_tokens=False
            )
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # processors raise every kind of error
            raise _Refused(f"{type(error).__name__}: {error}") from error
        tensors = {key: value.to(self.place.device) for key, value in made.items() if isinstance(value, torch.Tensor)}
        for key, value in tensors.items():
            if value.is_floating_point():
                tensors[key] = value.to(self.place.dtype)
        ids_BL, mask_BL = made["input_ids"], made["attention_mask"]
        if not bool(mask_BL[:, -1].all()):
            raise WorkError("prompts are not padded on the left; this is a defect of raybench")
        image_B = (
            ((ids_BL == self._image_token) & (mask_BL == 1)).sum(1).tolist()
            if self._image_token is not None
            else [0] * len(asks)
        )
        for some, count in zip(pictures, image_B, strict=True):
            if some and count < len(some):
                raise WorkError(
                    f"{len(some)} pictures left {count} tokens in a prompt of {self.facts['model_class']}; its processor and model do not belong together"
                )
        if self.place.device.type == "cuda":
            torch.cuda.synchronize(self.place.device)
        return _Inputs(tensors, mask_BL.sum(1).tolist(), image_B, time.perf_counter() - started)

    def _bounded(self, picture: Image.Image) -> Image.Image:
        """The picture, made smaller where the processor does not do it."""
        if self._max_pixels is None or picture.width * picture.height <= self._max_pixels:
            return picture
        scale = (self._max_pixels / (picture.width * picture.height)) ** 0.5
        size = max(1, int(picture.width * scale)), max(1, int(picture.height * scale))
        return picture.resize(size, Image.Resampling.BICUBIC)

    def _read(self, tokens_T: Sequence[int], clock: Clock) -> Answer:
        """The answer that ends at the first mark of an end."""
        own = self.model.generation_config.eos_token_id
        ends = set(own if isinstance(own, list) else [own])
        count = next((place for place, token in enumerate(tokens_T) if token in ends), len(tokens_T))
        ended = count < len(tokens_T)
        text = self.processor.tokenizer.decode(tokens_T[:count], skip_special_tokens=True).strip()
        last = min(count + ended, len(clock.times)) - 1
        return Answer(
            text, "end" if ended else "length", answer_tokens=count, first_token_s=clock.since_start(0),
            decode_s=clock.since_start(last) - clock.since_start(0),
        )  # fmt: skip


def _bound_pixels(processor: Any, max_pixels: int) -> int | None:
    """Set the bound in a processor that resizes to any size itself; else the bound, which is then up to us."""
    images = processor.image_processor
    size = getattr(images, "size", None)
    own = (
        None
        if size is None
        else (size.get("longest_edge") if hasattr(size, "get") else getattr(size, "longest_edge", None))
    )
    shortest = (
        None
        if size is None
        else (size.get("shortest_edge") if hasattr(size, "get") else getattr(size, "shortest_edge", None))
    )
    # Qwen's processors write pixels of area there, others the length of a side, which no area of interest is below.
    if hasattr(images, "merge_size") and own is not None and shortest is not None:
        images.size = {"shortest_edge": min(shortest, max_pixels), "longest_edge": min(own, max_pixels)}
        return None
    return max_pixels


def _pictures(ask: Ask) -> list[Image.Image]:
    """Those of the examples come first, as in the conversation."""
    return [picture for shot in ask.shots for picture in shot.pictures] + list(ask.pictures)


def _turns(ask: Ask, marks: Sequence[str]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for shot in ask.shots:
        turns += [
            _turn("user", len(shot.pictures), shot.words, marks), _turn("assistant", 0, shot.answer, marks),
        ]  # fmt: skip
    return [*turns, _turn("user", len(ask.pictures), ask.words, marks)]


def _turn(role: str, pictures: int, words: str, marks: Sequence[str]) -> dict[str, Any]:
    """One turn; what looks like a mark of the model (the end of a turn, the place of a picture) is broken up by a blank."""
    for mark in marks:
        words = words.replace(mark, f"{mark[0]} {mark[1:]}")
    return {"role": role, "content": [{"type": "image"}] * pictures + [{"type": "text", "text": words}]}


def _too_thin(ask: Ask) -> Answer | None:
    """The answer to an ask with a picture that has no reasonable shape; None where every picture has."""
    for picture in _pictures(ask):
        if max(picture.size) > _MOST_RATIO * min(picture.size):
            return _failed(
                "picture_too_thin", f"{picture.width} x {picture.height} pixels, more than {_MOST_RATIO} to 1"
            )
    return None


def _failed(problem: str, detail: str) -> Answer:
    return Answer("", problem=problem, detail=" ".join(detail.split())[:_MOST_DETAIL])


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold of them."""
    return {
        key: value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
        for key, value in values.items()
    }
