"""An answer that comes as server-sent events: `data: {chunk}` for each piece, one with the usage, then `data: [DONE]`.

A stream without `[DONE]` was cut. One with it need not be an answer: vLLM sends it after an error as well, so each event is checked.
The reason for the end can come with the last piece of text or alone, and the usage with no, null or empty choices.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from raybench.generation.chat_reply import (
    ONLY_REASONING,
    FaultError,
    Reply,
    as_object,
    content,
    ended_as,
    part,
    reasons,
    the_choice,
    token_counts,
    whole_text,
)

_LONGEST_LINE = 1 << 20  # bytes


@dataclass(slots=True)
class _Stream:
    texts: list[str] = field(default_factory=list)
    reason: object = None
    usage: object = None
    has_content: bool = False  # an empty string is one, null is none
    has_reasoning: bool = False
    first_at: float | None = None
    last_at: float = 0.0

    def take(self, chunk: dict[str, Any]) -> None:
        if chunk.get("usage") is not None:
            self.usage = chunk["usage"]
        choice = the_choice(chunk)
        if choice is None:  # the usage, or what some servers tell before the answer
            return
        delta = part(choice, "delta")
        text = content(delta)
        self.has_content |= text is not None
        if text:
            if self.reason is not None:
                raise FaultError("reply_malformed", "content after its end")
            self.last_at = time.perf_counter()
            self.first_at = self.first_at or self.last_at
            self.texts.append(text)
        self.has_reasoning |= reasons(delta)
        reason = choice.get("finish_reason") or None  # "" where some servers mean null
        if reason is not None and self.reason not in (None, reason):
            raise FaultError("reply_malformed", f"ended twice: {self.reason}, {reason}")
        self.reason = self.reason if reason is None else reason


def read_stream(pieces: Iterable[bytes]) -> Reply:
    """The answer of a stream of events, in pieces as they come. Raises FaultError."""
    stream = _Stream()
    for data in _events(pieces):
        if data == b"[DONE]":
            break
        stream.take(as_object(data))
    else:
        raise FaultError("reply_truncated", "the stream ended without [DONE]", again=True)
    ended = ended_as(stream.reason)
    if not stream.texts and stream.has_reasoning:
        raise FaultError("only_reasoning", ONLY_REASONING)
    if not stream.has_content:
        raise FaultError("reply_malformed", "the content is null")
    last_at = stream.last_at or time.perf_counter()
    return Reply(whole_text("".join(stream.texts)), ended, *token_counts(stream.usage), stream.first_at, last_at)


def _events(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event, which these servers send on one line; comments and other fields are passed over."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        if len(rest) > _LONGEST_LINE:
            raise FaultError("reply_too_long", f"a line of more than {_LONGEST_LINE} bytes")
    if rest.strip() == b"data: [DONE]":  # some servers end without the end of the line
        yield b"[DONE]"
