"""A generator whose answers a test decides, and a small collection to generate over."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raybench.collection import Collection, open_collection
from raybench.embedding.decode import decode
from raybench.experiments import evaluation_file as files
from raybench.experiments import runner
from raybench.experiments.backend import Backend, LocalBackend
from raybench.experiments.drawn import cell_of
from raybench.experiments.embedded import embed_all
from raybench.experiments.generate_plan import plan
from raybench.experiments.prepared import prepare
from raybench.experiments.reporting import Silent
from raybench.experiments.run_file import Run
from raybench.generation.base import Answer, Ask, Decoding, Generator
from raybench.spec import content_key
from raybench.storage import read_manifest

SAYS: dict[str, Callable[[Ask], Answer]] = {}
"""What a double answers, by its name."""
CALLS: list[str] = []
"""The words of every ask that a double was given."""
LOADS: list[str] = []
"""The names of the doubles that were loaded."""

FILE = """
name: answers
images: scenes(images=80)
encoders: ["tiny(dim=24)", "tiny(dim=16, seed=3)"]
embed: {max_bad: 0.5}
intervals: {resamples: 200}
shards: 1
seed: 5
generate:
  generator: double("echo")
  prompts: [describe, answer]
  contexts: [retrieved, none, gold, random]
  queries: 18
  pictures: 3
  alone: {queries: 0}
  decoding: {max_tokens: 400}
  samples: 3
"""


@dataclass(frozen=True, slots=True)
class Double:
    """`double("name")`: answers by `SAYS`, four at a time."""

    name: str
    batch: int = 4
    version: int = 0

    @property
    def gpus(self) -> int:
        """None."""
        return 0

    def check(self) -> None:
        """Nothing can be wrong."""

    def fingerprint(self) -> str:
        """Of name and version."""
        return content_key("double", self.name, self.version)

    def load(self, device: str, threads: int) -> Generator:
        """Counted."""
        LOADS.append(self.name)
        return Loaded(self.name)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Answers one after another."""

    name: str

    @property
    def facts(self) -> dict[str, Any]:
        """Its name."""
        return {"generator": "double", "name": self.name, "loading_s": 0.0}

    def answer(self, asks: Sequence[Ask], decoding: Decoding, seed: int) -> list[Answer]:
        """What the test decided."""
        CALLS.extend(ask.words for ask in asks)
        return [SAYS[self.name](ask) for ask in asks]


def digest(picture: Any) -> str:
    """Size and pixels of a picture, in short."""
    return f"{picture.width}x{picture.height}:{hashlib.sha256(picture.convert('RGB').tobytes()).hexdigest()[:8]}"


def echoed(ask: Ask) -> Answer:
    """The pictures in their order, then the words."""
    shots = [f"shot {' '.join(map(digest, one.pictures))} | {one.words} | {one.answer} ;" for one in ask.shots]
    text = " ".join([*shots, *map(digest, ask.pictures), "#", ask.words])
    return Answer(
        text, ended="end", prompt_tokens=len(ask.words.split()), image_tokens=0, answer_tokens=len(text.split())
    )


SAYS["echo"] = echoed


def quoted(words: str) -> str:
    """The query, which stands between the first two quotes of every prompt that tells it."""
    return words.split('"')[1]


def generate(out: Path | str, *settings: str, text: str = FILE, backend: Backend | None = None) -> Run:
    """The stage; in this process, unless a backend is given."""
    evaluation = files.parse(text, "here", settings)
    return runner.generate(prepare(evaluation, str(out)), backend or LocalBackend(), Silent())


def keys(out: Path, *settings: str) -> list[str]:
    """The keys of what would be generated; nothing is."""
    evaluation = files.parse(FILE, "here", settings)
    assert evaluation.generate is not None
    prepared, backend = prepare(evaluation, str(out)), LocalBackend()
    embedded = embed_all(Run(evaluation, str(out)), prepared, backend, Silent())
    cell = cell_of(runner._asked_to_images(evaluation, embedded, backend)(), evaluation.generate, evaluation)
    return [one.key for one in plan(prepared, evaluation.generate, cell, embedded, backend, Silent()).askings]


def tables(out: Path, run: Run) -> dict[tuple[str, str], pa.Table]:
    """The tables of answers, by prompt and context."""
    return {
        (one["prompt"], one["context"]): pq.read_table(out / "generations" / one["key"] / "answers.parquet")
        for one in run.generations
    }


def by_query(table: pa.Table) -> dict[str, dict[str, Any]]:
    """Rows by query."""
    return {row["query_id"]: row for row in table.to_pylist()}


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What an output folder knows of its collection, read from its files."""

    images: dict[str, Collection]  # by encoder
    texts: dict[str, Collection]
    image_ids: list[str]
    queries: list[dict[str, Any]]
    grades: dict[str, dict[str, int]]  # relevant images by query
    pictures: dict[str, str]  # digests by image id


def look(out: Path) -> World:
    """All of it."""
    images, texts = {}, {}
    for folder in (out / "vectors").iterdir():
        recipe = (read_manifest(str(folder)) or {})["recipe"]
        (images if recipe["modality"] == "image" else texts)[recipe["encoder"]] = open_collection(str(folder))
    first = next(iter(images.values()))
    ids = [one for table in first.metadata(["image_id"]) for one in table["image_id"].to_pylist()]
    [folder] = [path.parent for path in out.glob("queries/*/queries.parquet")]
    grades: dict[str, dict[str, int]] = {}
    for row in pq.read_table(folder / "qrels.parquet").to_pylist():
        if row["relevance"] > 0:
            grades.setdefault(row["query_id"], {})[row["image_id"]] = row["relevance"]
    pictures = {}
    for path in out.glob("datasets/scenes-*/*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                name, _, extension = member.name.partition(".")
                if extension not in ("txt", "json") and (file := tar.extractfile(member)):
                    picture = decode(io.BytesIO(file.read()).getvalue()).picture
                    if picture is not None:
                        pictures[name] = digest(picture)
    return World(images, texts, ids, pq.read_table(folder / "queries.parquet").to_pylist(), grades, pictures)


def unit(matrix_ND: Any) -> np.ndarray:
    """Rows at length 1, in float64."""
    exact_ND = np.asarray(matrix_ND, np.float64)
    return exact_ND / np.linalg.norm(exact_ND, axis=1, keepdims=True)
