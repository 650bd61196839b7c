"""What a chat server replied: an answer that keeps every rule of the format, or a fault with a fixed name.

The format is that of OpenAI's chat completions (platform.openai.com/docs/api-reference/chat). Token counts are the server's own,
which may count the mark of the end; chunks are never counted, for a chunk can hold several tokens.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raybench.generation.base import Ended

PROBLEMS = (  # beside "http_400" and the like, after the status that was answered
    "timeout",  # not all there after `timeout_s`
    "connection_lost",  # or never made
    "reply_truncated",  # ended before its end
    "reply_malformed",  # not of the format
    "reply_too_long",  # in bytes
    "server_error",  # status 200, and an error instead of an answer
    "refused",  # by a content filter, or by the model's own mark of refusal
    "only_reasoning",  # all tokens went into thinking
    "ended_otherwise",  # neither by the model nor at `max_tokens`
)
_ENDED: Mapping[str, Ended] = {"stop": "end", "length": "length"}
_PASSING = ("abort", "error")  # the server stopped it, for reasons of its own; words of vLLM
_MOST_TOKENS = 2**53
ONLY_REASONING = "no word of an answer; give a larger max_tokens"


class FaultError(Exception):
    """Why a request gave no answer; `again` where the same one may succeed, after `after_s` or more."""

    def __init__(self, problem: str, detail: str = "", *, again: bool = False, after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.problem, self.detail, self.again, self.after_s = problem, detail, again, after_s


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; the clock is `time.perf_counter`, `first_at` is None where no first token could be seen."""

    text: str
    ended: Ended
    prompt_tokens: int | None
    answer_tokens: int | None
    first_at: float | None
    last_at: float


def read_whole(pieces: Iterable[bytes]) -> Reply:
    """The answer of one JSON object. Raises FaultError."""
    body = as_object(b"".join(pieces))
    now = time.perf_counter()
    choice = the_choice(body)
    if choice is None:
        raise FaultError("reply_malformed", "no choice")
    message = part(choice, "message")
    text = content(message)
    ended = ended_as(choice.get("finish_reason"))
    if text is None:
        if reasons(message):
            raise FaultError("only_reasoning", ONLY_REASONING)
        raise FaultError("reply_malformed", "the content is null")
    return Reply(whole_text(text), ended, *token_counts(body.get("usage")), None, now)


def error_message(body: bytes) -> str:
    """The words of an error as servers send it, or the body itself."""
    try:
        error = json.loads(body)
        error = error.get("error", error)
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, RecursionError, KeyError, AttributeError):
        return body.decode("utf-8", "replace")


def as_object(data: bytes) -> dict[str, Any]:
    """A JSON object that is no error."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise FaultError("reply_malformed", f"no JSON: {data[:200].decode('utf-8', 'replace')}") from None
    if not isinstance(found, dict):
        raise FaultError("reply_malformed", f"a JSON {type(found).__name__} in place of an object")
    if found.get("error") is not None:
        error = found["error"]
        code = error.get("code") if isinstance(error, dict) else None
        is_request = isinstance(code, int) and 400 <= code < 500 and code != 429
        raise FaultError("server_error", error_message(data), again=not is_request)
    return found


def the_choice(body: dict[str, Any]) -> dict[str, Any] | None:
    """The one choice, or None where there is none."""
    choices = body.get("choices")
    if choices is None or choices == []:
        return None
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise FaultError("reply_malformed", "choices are not a list of objects")
    if len(choices) > 1 or choices[0].get("index", 0) != 0:
        raise FaultError("reply_malformed", "more than the one choice that was asked for")
    found: dict[str, Any] = choices[0]
    return found


def part(choice: dict[str, Any], name: str) -> dict[str, Any]:
    """The message or delta of a choice."""
    found = choice.get(name)
    if not isinstance(found, dict):
        raise FaultError("reply_malformed", f"{name} is {type(found).__name__}, not an object")
    return found


def content(message: dict[str, Any]) -> str | None:
    """The text of a message or delta, which may have none."""
    if message.get("refusal"):
        raise FaultError("refused", str(message["refusal"])[:1000])
    text = message.get("content")
    if text is not None and not isinstance(text, str):
        raise FaultError("reply_malformed", f"the content is {type(text).__name__}, not a string")
    return text


def reasons(message: dict[str, Any]) -> bool:
    """Whether it holds thoughts, which servers send beside the text."""
    return bool(message.get("reasoning_content") or message.get("reasoning"))


def ended_as(reason: object) -> Ended:
    """How the answer ended; FaultError where neither the model nor `max_tokens` ended it."""
    if isinstance(reason, str) and reason in _ENDED:
        return _ENDED[reason]
    if reason == "content_filter":
        raise FaultError("refused", "finish_reason content_filter")
    if reason is None:
        raise FaultError("reply_malformed", "no finish_reason")
    raise FaultError("ended_otherwise", f"finish_reason {str(reason)[:100]}", again=reason in _PASSING)


def token_counts(usage: object) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the answer, None where the server does not say."""
    if usage is None:
        return None, None
    if not isinstance(usage, dict):
        raise FaultError("reply_malformed", f"usage is {type(usage).__name__}")
    return _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")


def _count(usage: dict[str, Any], name: str) -> int | None:
    count = usage.get(name)
    if count is None:
        return None
    if type(count) is not int or not 0 <= count < _MOST_TOKENS:
        raise FaultError("reply_malformed", f"{name} is {str(count)[:40]}")
    return count


def whole_text(text: str) -> str:
    """Halves of characters put together where a stream cut between them; no file can hold one alone."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise FaultError("reply_malformed", "half of a surrogate pair in the text") from None
