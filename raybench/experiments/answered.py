"""Batches become answers: what is missing is generated, and the finished table is the same whoever did it and how often it broke.

<out>/generations/<key>/parts/00000.parquet    a batch, while others are under way
<out>/generations/<key>/answers.parquet        ANSWERS
<out>/generations/<key>/timings.parquet        TIMINGS
<out>/generations/<key>/manifest.json          written last
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from raybench import storage
from raybench.errors import WorkError
from raybench.experiments.generators import Died, Generators
from raybench.experiments.reporting import Reporter
from raybench.generation.base import Answer, Decoding
from raybench.generation.prompts import Prompt
from raybench.generation.tables import ANSWERS, TIMINGS
from raybench.generation.worker import Batch, Task, Worker, part_table
from raybench.spec import content_key

FORMAT = 1  # raise it when the same inputs give other answers
_READS = 8  # parts at a time


@dataclass(frozen=True, eq=False)
class Asking:
    """One prompt in one context: a task per query, and what the table says of each beside its answer."""

    generator: str  # the spec
    fingerprint: str
    decoding: Decoding
    seed: int
    prompt: Prompt
    context: str
    tasks: tuple[Task, ...]
    facts: tuple[dict[str, Any], ...]  # columns of ANSWERS, of each query
    searched: tuple[str, ...]  # what the scores are of; nothing where there are none
    batch: int
    out: str

    @cached_property
    def key(self) -> str:
        """The content key: of all that decides the table.

        Addresses do not, but for the names of pictures, which hold checksums; nor do scores, whose last bits differ between machines,
        but what searched.
        """
        asked = [
            [
                task.query_id,
                task.words,
                _names(task.pictures),
                [[_names(one.pictures), one.words, one.answer] for one in task.examples],
            ]
            for task in self.tasks
        ]
        return content_key(
            "generation", FORMAT, self.fingerprint, asdict(self.decoding), self.seed, self.prompt.version, self.context, self.batch, asked,
            self.searched,
            [{name: value for name, value in one.items() if name != "scores"} for one in self.facts],
        )  # fmt: skip

    @property
    def uri(self) -> str:
        """Where the answers are."""
        return storage.join(self.out, "generations", self.key)

    @property
    def parts(self) -> str:
        """Where batches are until all are there."""
        return storage.join(self.uri, "parts")

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.prompt.name}, {self.context}"

    def batches(self) -> list[Batch]:
        """All batches, in order."""
        parts = self.parts
        starts = range(0, len(self.tasks), self.batch)
        return [
            Batch(storage.join(parts, f"{number:05d}.parquet"), number, self.tasks[start : start + self.batch])
            for number, start in enumerate(starts)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A finished generation."""

    asking: Asking
    answers: pa.Table
    timings: pa.Table
    manifest: dict[str, Any]


def is_done(asking: Asking) -> bool:
    """Whether the answers are there, whole."""
    return storage.read_whole(asking.uri) is not None


def answer_all(
    askings: Sequence[Asking], pool: Generators, facts: dict[str, Any], max_bad: float, reporter: Reporter
) -> None:
    """Generate what is missing of several; WorkError where too many queries are without an answer."""
    missing = [asking for asking in askings if not is_done(asking)]
    batches = [batch for asking in missing for batch in _missing(asking)]
    if not missing:
        return
    queries, done = sum(len(batch.tasks) for batch in batches), 0
    with reporter.stage("generating", queries) as advance:
        for batch, result in pool.each(_answer, batches):
            if isinstance(result, Died):
                _give_up(batch, result)
            done += len(batch.tasks)
            advance(len(batch.tasks), done / queries)
    generator = pool.ask(_facts, None)  # last: the first batches load all workers side by side
    faults = [
        _finish(asking, generator, facts, max_bad) for asking in missing
    ]  # all of them, before the first one stops the run
    for fault in faults:
        if fault is not None:
            raise WorkError(fault)


def _missing(asking: Asking) -> list[Batch]:
    """The batches that have no part yet; one listing, since a look at each would be a request each on S3."""
    there = {facts.name for facts in storage.list_files(asking.parts)}
    return [batch for batch in asking.batches() if batch.uri.rpartition("/")[2] not in there]


def read(asking: Asking) -> Answered:
    """A finished generation."""
    manifest = storage.read_manifest(asking.uri)
    if manifest is None:
        raise WorkError(f"{asking.uri} is not finished; run the same command again")
    tables = [storage.read_table(storage.join(asking.uri, name)) for name in ("answers.parquet", "timings.parquet")]
    return Answered(asking, tables[0], tables[1], manifest)


def _answer(worker: Worker, batch: Batch) -> None:
    worker.answer_batch(batch)


def _facts(worker: Worker, _: None) -> dict[str, Any]:
    return worker.facts()


def _give_up(batch: Batch, death: Died) -> None:
    """A batch that ends every worker is a batch of queries without an answer."""
    failed = replace(Answer("", problem="worker_died"), detail=f"{death.times} times: {death.detail}"[:300])
    shared = {"batch": batch.number, "fetch_s": None, "batch_s": None, "worker": None, "is_first": False}
    storage.write_table(batch.uri, part_table(batch.tasks, [failed] * len(batch.tasks), 0.0, shared))


def _finish(asking: Asking, generator: dict[str, Any], facts: dict[str, Any], max_bad: float) -> str | None:
    """Parts to tables; the manifest last. Where too much failed the batches with it are taken away, to be asked again, and it is told."""
    batches = asking.batches()
    with ThreadPoolExecutor(_READS) as readers:
        parts = list(readers.map(storage.read_table, [batch.uri for batch in batches]))
    rows = pa.concat_tables(parts)
    problems = Counter(problem for problem in rows["problem"].to_pylist() if problem is not None)
    if sum(problems.values()) > max_bad * len(rows):
        for batch, part in zip(batches, parts, strict=True):
            if part["problem"].null_count < len(part):
                storage.delete(batch.uri)
        example = next(row for row in rows.to_pylist() if row["problem"] is not None)
        told = ", ".join(f"{problem} {count}" for problem, count in problems.most_common(4))
        return (
            f"{sum(problems.values())} of {len(rows)} queries have no answer ({told}; one: {example['detail']}), more than "
            f"generate.max_bad={max_bad:g}; mend the cause and run again: only these are asked again"
        )
    answers = pa.Table.from_pylist(
        [fact | {name: row[name] for name in rows.column_names if name in ANSWERS.names} for fact, row in zip(asking.facts, rows.to_pylist(), strict=True)],
        ANSWERS,
    )  # fmt: skip
    files: dict[str, dict[str, Any]] = {}
    for name, table in (("answers.parquet", answers), ("timings.parquet", rows.select(TIMINGS.names).cast(TIMINGS))):
        files[name] = {"sha256": storage.write_table(storage.join(asking.uri, name), table)}
        files[name]["size_bytes"] = storage.facts(storage.join(asking.uri, name)).size_bytes
    manifest = {
        "kind": "generation", "generator": asking.generator, "prompt": asdict(asking.prompt), "prompt_version": asking.prompt.version,
        "context": asking.context, "decoding": asdict(asking.decoding), "seed": asking.seed, "batch": asking.batch,
        "rows_in": len(rows), "rows_out": len(rows) - sum(problems.values()), "dropped": dict(problems),
        "generator_facts": generator, "files": files, "environment": facts,
    }  # fmt: skip
    storage.write_manifest(asking.uri, manifest)
    storage.delete_folder(asking.parts)
    return None


def _names(uris: Sequence[str]) -> list[str]:
    return [uri.rpartition("/")[2] for uri in uris]
