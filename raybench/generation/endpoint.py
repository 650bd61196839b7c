"""A model behind an OpenAI-compatible chat server, such as `vllm serve`: asks go out side by side, one request each.

Every reply is checked in full; whatever is wrong with one is an answer with a problem, counted by name, and never text. What is
wrong with the whole run (no server, key, model) is a RequestError. The key is read from the environment where the model is loaded
and is in no message, fact or file.
"""

import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from raybench.errors import RequestError
from raybench.generation import chat_request
from raybench.generation.base import Answer, Ask, Decoding, Generator
from raybench.generation.chat_models import Served, served
from raybench.generation.chat_reply import FaultError, Reply, read_whole
from raybench.generation.chat_server import Server, pieces
from raybench.generation.chat_stream import read_stream
from raybench.generation.chat_tries import Patience, with_tries
from raybench.generation.conversation import MARK_SHAPES
from raybench.spec import content_key

_LIKE = 'endpoint("http://host:8000/v1")'


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`endpoint("http://host:8000/v1", model="Qwen/Qwen2.5-VL-7B-Instruct")`; without a model, the only one served.

    With `stream=False`, or where the answer is empty, nothing tells a first token: `first_token_s` is None and `decode_s` holds the
    whole time from sending the request to the end of the answer.
    """

    url: str  # http or https, up to where /chat/completions begins
    model: str | None = None
    batch: int = 8  # requests under way at once
    max_pixels: int = 401_408  # of a picture as it is sent; 512 tokens of Qwen2.5-VL
    timeout_s: float = 300.0  # of one try, from connecting to the last byte
    tries: int = 5  # of one ask
    patience_s: float = 900.0  # of one ask: all tries and the waiting between them
    stream: bool = True
    key_env: str | None = None  # the environment variable that holds the key, such as "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def gpus(self) -> int:
        """None: the server has them."""
        return 0

    def check(self) -> None:
        """The form of the address and numbers in range; asks nobody."""
        _check_url(self.url)
        for name in ("batch", "max_pixels", "tries"):
            if getattr(self, name) < 1:
                raise RequestError(f"endpoint({name}={getattr(self, name)}) cannot be; give a whole number from 1")
        if self.batch > 1024:
            raise RequestError(f"endpoint(batch={self.batch}) is too many requests at once; give at most 1024")
        for name in ("timeout_s", "patience_s"):
            if not 0 < getattr(self, name) <= 86_400:
                raise RequestError(f"endpoint({name}={getattr(self, name)}) cannot be; give seconds, at most a day")
        for name in ("model", "key_env"):
            if getattr(self, name) == "":
                raise RequestError(f'endpoint({name}="") names nothing; leave it out')

    def fingerprint(self) -> str:
        """Address, model, pixels and what is done to words.

        Without a model the server is asked which it serves, its root and version with it; RequestError where it does not tell. A
        model that is named is taken at its word and nobody is asked: other weights under the old name look the same.
        """
        self.check()
        model: list[object] = [self.model]
        if self.model is None:
            facts = served(self._server(), None).facts
            model = [facts["model"], facts.get("root"), facts.get("version")]
        return content_key("endpoint", self.url, model, self.max_pixels, MARK_SHAPES.pattern, length=64)

    def load(self, device: str, threads: int) -> Generator:  # noqa: ARG002  # the seam; the server has the device
        """Ask the server once which models it serves. Raises RequestError where it does not answer or serves another."""
        self.check()
        began = time.perf_counter()
        server = self._server()
        found = served(server, self.model)
        facts = {"generator": "endpoint", "url": self.url, **found.facts, "max_pixels": self.max_pixels}
        facts |= {"stream": self.stream, "device": "server", "loading_s": time.perf_counter() - began}
        return _Loaded(self, server, found, facts)

    def _server(self) -> Server:
        return Server(self.url, _key(self.key_env), self.key_env)


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    recipe: Endpoint
    server: Server
    served: Served
    facts: Mapping[str, Any]

    def answer(self, asks: Sequence[Ask], decoding: Decoding, seed: int) -> list[Answer]:
        """At most `batch` requests at once; one that proves the run wrong ends the others."""
        if not asks:
            return []
        stopped = threading.Event()
        together = min(self.recipe.batch, len(asks))
        with ThreadPoolExecutor(together, thread_name_prefix="endpoint") as threads:
            waiting = [
                threads.submit(self._one, ask, decoding, chat_request.seed_at(seed, place), together, stopped)
                for place, ask in enumerate(asks)
            ]
            try:
                wait(waiting, return_when=FIRST_EXCEPTION)  # in the order of their ends, not in that of the asks
                for failed in (one for one in waiting if one.done()):
                    failed.result()
                return [one.result() for one in waiting]
            except BaseException:
                stopped.set()
                threads.shutdown(wait=False, cancel_futures=True)
                self.server.stop()
                raise

    def _one(self, ask: Ask, decoding: Decoding, seed: int, together: int, stopped: threading.Event) -> Answer:
        recipe = self.recipe
        began = time.perf_counter()
        body = chat_request.body(
            ask, decoding, seed, self.served.model, recipe.max_pixels, stream=recipe.stream, more=self.served.more
        )
        prepared_s = time.perf_counter() - began
        patience = Patience(recipe.timeout_s, recipe.tries, recipe.patience_s)
        done, tries, waited_s = with_tries(
            lambda timeout_s: self._try(body, timeout_s, stopped),
            patience,
            random.Random(seed),  # noqa: S311  # it is no secret
            stopped,
        )
        if isinstance(done, FaultError):
            return Answer(
                "", preprocess_s=prepared_s, first_token_s=None, together=together, problem=done.problem,
                detail=self.server.say(done.detail), tries=tries, waited_s=waited_s,
            )  # fmt: skip
        reply, sent_at = done
        first_at = sent_at if reply.first_at is None else reply.first_at
        return Answer(
            reply.text,
            ended=reply.ended,
            prompt_tokens=reply.prompt_tokens,
            answer_tokens=reply.answer_tokens,
            preprocess_s=prepared_s,
            first_token_s=None if reply.first_at is None else first_at - sent_at,
            decode_s=reply.last_at - first_at,
            together=together,
            tries=tries,
            waited_s=waited_s,
        )

    def _try(self, body: bytes, timeout_s: float, stopped: threading.Event) -> tuple[Reply, float]:
        wanted = "text/event-stream" if self.recipe.stream else "application/json"
        with self.server.ask("POST", "/chat/completions", body, timeout_s, stopped) as (response, sent_at):
            kind = response.headers.get("Content-Type", "nothing").partition(";")[0].strip().lower()
            if kind != wanted:
                raise FaultError("reply_malformed", f"Content-Type is {kind}, not {wanted}")
            read = read_stream if self.recipe.stream else read_whole
            return read(pieces(response)), sent_at


def _check_url(url: str) -> None:
    if "@" in url:  # what is refused is not repeated
        raise RequestError(
            'endpoint: the URL holds a name or password; put the key into an environment variable and name that: key_env="OPENAI_API_KEY"'
        )
    shown = url.partition("?")[0][:200]
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise RequestError(f"endpoint: {shown!r} is no address; write it like {_LIKE}") from None
    if not known or not url.isascii() or not url.isprintable() or " " in url:
        raise RequestError(f"endpoint: {shown!r} is no address of a server; write it like {_LIKE}")
    if parts.query or parts.fragment or url.endswith("/chat/completions"):
        raise RequestError(f"endpoint: {shown!r} is not the base of an API; end it with the version, as in {_LIKE}")


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise RequestError(
            f"the environment variable {name} is not set here; set it to the server's key, on every worker"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(f"the environment variable {name} holds what no key can be; set it again, without spaces")
    return key
