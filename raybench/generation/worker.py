"""The worker: it holds a generator, fetches pictures, answers a batch, and leaves a file for it.

What it is asked is a value: words, and addresses of pictures. A batch is one file, written whole, so a worker that dies has
lost at most the batch that it was generating; the pictures of the next one are fetched meanwhile. The same worker makes vectors
of words and pictures by an encoder, for measuring whole answers and for scoring them, so that no other process has to start.
"""

import os
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from raybench import storage
from raybench.embedding.decode import decode
from raybench.encoders import ENCODERS
from raybench.encoders.base import Encoder
from raybench.errors import RaybenchError, StorageError, WorkError
from raybench.generation.base import Answer, Ask, Decoding, Generator, GeneratorRecipe, Shot
from raybench.generation.tables import ANSWERS, TIMINGS
from raybench.spec import content_key

_FETCHES = 8  # at a time

PART = pa.schema(
    [ANSWERS.field(name) for name in ("query_id", "prompt_tokens", "image_tokens", "answer_tokens", "answer", "ended", "problem", "detail")]
    + [TIMINGS.field(name) for name in TIMINGS.names[1:]]
)  # fmt: skip
"""What is written of a batch."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to start."""

    generator: GeneratorRecipe
    decoding: Decoding
    seed: int
    threads: int  # on a CPU


@dataclass(frozen=True, slots=True)
class Example:
    """An example to be shown first: addresses of its pictures, words and answer."""

    pictures: tuple[str, ...]
    words: str
    answer: str


@dataclass(frozen=True, slots=True)
class Task:
    """One query: addresses of the pictures to show, and words."""

    query_id: str
    pictures: tuple[str, ...]
    words: str
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Queries that are answered together; `uri` is the file to be left."""

    uri: str
    number: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Alone:
    """What answering one query alone took, after the search."""

    answer: Answer
    fetch_s: float
    preprocess_s: float
    seconds: float


class Worker:
    """One process with a generator."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._generator: Generator | None = None
        self._encoders: dict[str, Encoder] = {}
        self._turn = threading.Lock()  # one batch generates while the pictures of another are fetched
        self._batches = 0

    def generator(self) -> Generator:
        """The generator, loaded when it is first asked for."""
        if self._generator is None:
            self._generator = self.setup.generator.load("auto", self.setup.threads)
        return self._generator

    def encoder(self, spec: str) -> Encoder:
        """An encoder, loaded when it is first asked for."""
        if spec not in self._encoders:
            self._encoders[spec] = ENCODERS.make(spec).load("auto", self.setup.threads)
        return self._encoders[spec]

    def answer_batch(self, batch: Batch) -> None:
        """Answer a batch and leave its file, unless that is there."""
        if storage.exists(batch.uri):
            return
        started = time.perf_counter()
        fetched = _fetched(batch.tasks)
        fetch_s = time.perf_counter() - started
        with self._turn:
            self.generator()  # loading is no part of a batch's seconds
            began = time.perf_counter()
            answers, decode_s = self._answers(batch.tasks, fetched, batch.number)
            batch_s = time.perf_counter() - began
            self._batches += 1
            is_first = self._batches == 1
        shared = {
            "batch": batch.number, "fetch_s": fetch_s, "batch_s": batch_s, "worker": f"{socket.gethostname()}:{os.getpid()}",
            "is_first": is_first,
        }  # fmt: skip
        storage.write_table(batch.uri, part_table(batch.tasks, answers, decode_s, shared))

    def answer_alone(self, task: Task) -> Alone:
        """Answer one query, with the seconds of each step."""
        started = time.perf_counter()
        fetched = _fetched([task])
        fetch_s = time.perf_counter() - started
        with self._turn:
            [answer], decoded_s = self._answers([task], fetched, 0)
        return Alone(answer, fetch_s, decoded_s + answer.preprocess_s, time.perf_counter() - started)

    def _answers(
        self, tasks: Sequence[Task], fetched: dict[str, bytes | str], number: int
    ) -> tuple[list[Answer], float]:
        """An answer to each task, and the seconds of decoding pictures; a task without its pictures is not asked."""
        generator = self.generator()
        started = time.perf_counter()
        seen = {uri: _picture(content) for uri, content in fetched.items()}
        asks = [_ask(task, seen) for task in tasks]
        decode_s = time.perf_counter() - started
        given = [ask for ask in asks if isinstance(ask, Ask)]
        try:
            answers = iter(
                generator.answer(given, self.setup.decoding, batch_seed(self.setup.seed, number)) if given else []
            )
        except RaybenchError:
            raise
        except Exception as error:  # a model's library raises every kind of error
            raise WorkError(
                f"generating batch {number} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ) from error
        return [next(answers) if isinstance(ask, Ask) else ask for ask in asks], decode_s

    def texts(self, spec: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors of texts by an encoder."""
        with self._turn:
            vectors: npt.NDArray[np.float32] = self.encoder(spec).texts(texts)
        return vectors

    def facts(self) -> dict[str, Any]:
        """What the generator says of itself; loads it."""
        with self._turn:
            return dict(self.generator().facts)


def batch_seed(seed: int, number: int) -> int:
    """The seed of a batch: of the run's seed and the batch's number alone."""
    return int(content_key("batch", seed, number)[:8], 16)


def part_table(tasks: Sequence[Task], answers: Sequence[Answer], decode_s: float, shared: dict[str, Any]) -> pa.Table:
    """The rows of a batch."""
    rows = [
        {
            "query_id": task.query_id, "prompt_tokens": answer.prompt_tokens, "image_tokens": answer.image_tokens,
            "answer_tokens": answer.answer_tokens, "answer": answer.text, "ended": answer.ended,
            "problem": answer.problem, "detail": answer.detail or None, "together": answer.together,
            "preprocess_s": decode_s + answer.preprocess_s, "first_token_s": answer.first_token_s,
            "decode_s": answer.decode_s, "tries": answer.tries, "waited_s": answer.waited_s, **shared,
        }
        for task, answer in zip(tasks, answers, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, PART)


def _fetched(tasks: Iterable[Task]) -> dict[str, bytes | str]:
    """The bytes of every picture by its address, several fetched at a time; a text says why there are none."""
    wanted = dict.fromkeys(uri for task in tasks for uri in _addresses(task))

    def fetch(uri: str) -> bytes | str:
        try:
            return storage.read_bytes(uri)
        except (StorageError, OSError) as error:
            return f"{type(error).__name__}: {error}"

    if not wanted:
        return {}
    with ThreadPoolExecutor(min(_FETCHES, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(fetch, wanted), strict=True))


def _addresses(task: Task) -> list[str]:
    return [uri for example in task.examples for uri in example.pictures] + list(task.pictures)


def _picture(content: bytes | str) -> Image.Image | str:
    if isinstance(content, str):
        return content
    decoded = decode(content)
    return decoded.picture if decoded.picture is not None else f"{decoded.problem}: {decoded.detail}"


def _ask(task: Task, seen: dict[str, Image.Image | str]) -> Ask | Answer:
    """What the generator is asked; an answer with a problem where a picture is missing."""
    for uri in _addresses(task):
        picture = seen[uri]
        if isinstance(picture, str):
            return replace(Answer("", problem="picture_unreadable"), detail=f"{uri}: {picture}"[:300])

    def shown(uris: Sequence[str]) -> tuple[Image.Image, ...]:
        return tuple(picture for uri in uris if isinstance(picture := seen[uri], Image.Image))

    shots = tuple(Shot(shown(example.pictures), example.words, example.answer) for example in task.examples)
    return Ask(shown(task.pictures), task.words, shots)
