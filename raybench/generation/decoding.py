"""How tokens are chosen and timed inside `generate`.

Sampling adds noise of its own to the logits of each ask and takes the largest: the maximum of logits plus Gumbel noise is a draw from
their softmax (Gumbel 1954). The noise is of the seed and the ask's place, so that no ask's answer depends on those beside it.

Axes: B asks, V vocabulary.
"""

import time
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper
from transformers.generation.streamers import BaseStreamer

from raybench.generation.base import Decoding


class Clock(BaseStreamer):  # type: ignore[misc]  # transformers has no types
    """Notes when the tokens of each step are there; they come from the device, so nothing of them is still under way."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.times: list[float] = []
        self._has_prompt = False

    def put(self, value: torch.Tensor) -> None:  # noqa: ARG002  # the seam of transformers
        """The prompt first, then one token of every ask at a time."""
        if self._has_prompt:
            self.times.append(time.perf_counter())
        self._has_prompt = True

    def end(self) -> None:
        """Nothing is left to be told."""

    def since_start(self, step: int) -> float:
        """Seconds from the start to the tokens of a step."""
        return self.times[step] - self.started


class _Noise(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """Gumbel noise, of a stream of its own for each ask."""

    def __init__(self, seed: int, places: Sequence[int]) -> None:
        self._streams = [torch.Generator().manual_seed(seed * 1_000_003 + place) for place in places]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002  # the seam of transformers
        """Scores [B, V] with noise."""
        # In float64: the largest noise comes from numbers next to 1, of which float32 has few.
        tiny = torch.finfo(torch.float64).tiny
        noise = [
            torch.rand(scores.shape[1], generator=stream, dtype=torch.float64).clamp_min(tiny).log().neg().log().neg()
            for stream in self._streams
        ]
        return scores + torch.stack(noise).to(scores.device, scores.dtype)


def drawn_noise(decoding: Decoding, seed: int, places: Sequence[int]) -> LogitsProcessorList:
    """What makes greedy decoding a draw; empty where the temperature is 0."""
    if not decoding.temperature:
        return LogitsProcessorList()
    warpers = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.top_p < 1:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    return LogitsProcessorList([*warpers, _Noise(seed, places)])
