"""A loaded vision-language model of transformers: conversations to inputs, inputs to tokens, tokens to answers.

Axes: B asks, L tokens of a prompt, T tokens of an answer, V vocabulary.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from raybench.encoders.towers import Place
from raybench.errors import WorkError
from raybench.generation.base import Answer, Ask, Decoding
from raybench.generation.conversation import (
    bound_pixels,
    made_smaller,
    marks_of,
    pictures_of,
    too_thin,
    turns_of,
)
from raybench.generation.decoding import Clock, drawn_noise

_MOST_DETAIL = 300


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
    """A generator; made by `chat_loading.load`. It remembers how many asks have turned out to fit into memory."""

    def __init__(self, model: Any, processor: Any, place: Place, max_pixels: int, facts: Mapping[str, Any]) -> None:
        self.model, self.processor, self.place, self.facts = model, processor, place, facts
        self._max_pixels = bound_pixels(processor, max_pixels)
        self._most: int | None = None  # asks at a time, once more did not fit
        self._marks, config = marks_of(processor.tokenizer), model.config
        self._image_token = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
        text = config.get_text_config()
        self._positions = int(getattr(text, "max_position_embeddings", 0) or 1 << 30)

    def answer(self, asks: Sequence[Ask], decoding: Decoding, seed: int) -> list[Answer]:
        """An answer to each ask; asks with and without pictures are answered apart, as no batch can hold both."""
        answers: list[Answer | None] = [_refusal(ask) for ask in asks]
        for seen in (True, False):
            places = [p for p, ask in enumerate(asks) if answers[p] is None and bool(pictures_of(ask)) == seen]
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
        pictures = [[made_smaller(one, self._max_pixels) for one in pictures_of(ask)] for ask in asks]
        turns = [turns_of(ask, self._marks) for ask in asks]
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


def _refusal(ask: Ask) -> Answer | None:
    thin = too_thin(ask)
    return _failed("picture_too_thin", thin) if thin else None


def _failed(problem: str, detail: str) -> Answer:
    return Answer("", problem=problem, detail=" ".join(detail.split())[:_MOST_DETAIL])
