"""How long an answer takes: some queries are answered one at a time, with a clock at every step from their words to their answer.

The words go to the encoder, the vector to the index, the neighbours' pictures come from storage, and the generator answers; the
next query starts when the last has its answer. Encoder and generator are in one process, the index is where it always is. The first
query that a worker answers loads its models: it is the cold start, and is told apart. Those that warm up are not counted, nor are those
without an answer or with more than one try of a server. Queries are drawn by lot; those that tuned the index's effort are not among
them. They are timed before batches are generated, so that no server has seen their prompts; the first fetch of a copied picture may
still come from the machine's own cache.

    <out>/results/latencies/<key>.parquet    LATENCIES
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench import storage
from raybench.arrays import FloatMatrix
from raybench.errors import WorkError
from raybench.experiments.answered import Asking
from raybench.experiments.cell import Cell
from raybench.experiments.costs import machine
from raybench.experiments.evaluation import Generate, Intervals
from raybench.experiments.generators import Generators
from raybench.experiments.picture_copies import Copied
from raybench.generation.tables import LATENCIES
from raybench.generation.worker import Alone, Task, Worker
from raybench.indexes.base import Index
from raybench.metrics.cost import Times
from raybench.metrics.uncertainty import bootstrap_intervals
from raybench.spec import Spec, content_key

FORMAT = 1
STAGES = (
    ("query encoding", "encode_s"), ("search", "search_s"), ("search: shard", "shard_s"), ("search: transport", "transport_s"),
    ("search: merge", "merge_s"), ("picture fetch", "fetch_s"), ("preprocessing", "preprocess_s"),
    ("first token", "first_token_s"), ("decode", "decode_s"), ("total", "total_s"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """What is answered alone, through what."""

    asking: Asking
    cell: Cell
    section: Generate
    copies: dict[int, Copied]
    texts: Sequence[Sequence[str]]  # of each query: its own, or those that are averaged
    vectors_QD: FloatMatrix  # of the queries, as they were searched before
    encodes: bool  # whether words are encoded there; an encoder with packages of its own is not

    def uri(self, facts: dict[str, Any]) -> str:
        """Where the seconds are: those of another machine, library or runner are measured again."""
        key = content_key(
            "alone", FORMAT, self.asking.key, self.cell.identity(), asdict(self.section.alone), self.section.pictures,
            self.encodes, self.asking.generator, self.section.workers, self.section.threads, machine(facts),
        )  # fmt: skip
        return storage.join(self.asking.out, "results", "latencies", f"{key}.parquet")


def time_alone(timed: Timed, index: Index, pool: Generators, facts: dict[str, Any], *, is_cold: bool) -> pa.Table:
    """Answer queries one at a time; LATENCIES. `is_cold` says that the worker has loaded nothing yet."""
    uri, alone, total = timed.uri(facts), timed.section.alone, len(timed.texts)
    drawn = np.random.default_rng([timed.asking.seed, 0xA1]).permutation(total).tolist()
    counted_Q = drawn[: alone.queries]
    warm_up = [drawn[(alone.queries + turn) % total] for turn in range(alone.warm_up)]
    rows: list[dict[str, Any]] = []
    for turn, query in enumerate([*warm_up, *counted_Q]):
        told = {"is_warm": turn >= alone.warm_up, "is_cold": is_cold and not turn}
        rows.append(_one(timed, query, index, pool) | told)
    table = pa.Table.from_pylist(rows, LATENCIES)
    if not counted(table):
        last = rows[-1]
        raise WorkError(
            f"none of the queries that are answered one at a time has an answer at the first try (the last: {last['problem'] or 'tried'} "
            f"{last['tries']} times); mend it and run again"
        )
    storage.write_table(uri, table)
    return table


def _one(timed: Timed, query: int, index: Index, pool: Generators) -> dict[str, Any]:
    task = timed.asking.tasks[query]
    started = time.perf_counter()
    vector_1D = _encoded(timed, query, pool)
    encoded = time.perf_counter()
    found = index.search(vector_1D, timed.section.pictures, Spec.parse(timed.cell.index).at)
    searched = time.perf_counter()
    rows = [int(row) for row in found.ids_QK[0] if row >= 0]
    # The same pictures as before, unless the vector's last bits changed their order: only what was copied can be shown.
    shown = tuple(timed.copies[row].uri for row in rows if row in timed.copies)
    done = pool.ask(_answer, Task(task.query_id, shown, task.words, task.examples))
    ended = time.perf_counter()
    # How it went inside is asked after the clock has stopped.
    merge_s = float(getattr(index, "merged_s", float)())
    shard_s = max(one.seconds for one in index.last_search()) or searched - encoded - merge_s
    return {
        "query_id": task.query_id, "encode_s": encoded - started if timed.encodes else None, "search_s": searched - encoded,
        "shard_s": shard_s, "merge_s": merge_s, "fetch_s": done.fetch_s, "preprocess_s": done.preprocess_s,
        "first_token_s": done.answer.first_token_s, "decode_s": done.answer.decode_s,
        "total_s": ended - started, "answer_tokens": done.answer.answer_tokens, "problem": done.answer.problem,
        "tries": done.answer.tries,
    }  # fmt: skip


def _encoded(timed: Timed, query: int, pool: Generators) -> FloatMatrix:
    stored_1D = timed.vectors_QD[query : query + 1]
    if not timed.encodes:
        return np.ascontiguousarray(stored_1D)
    vectors_TD: FloatMatrix = pool.ask(_encode, (timed.cell.asked.encoder, timed.texts[query])).astype(stored_1D.dtype)
    if len(vectors_TD) == 1:
        return np.ascontiguousarray(vectors_TD)
    sum_D = vectors_TD.astype(np.float64).sum(axis=0)
    return np.ascontiguousarray((sum_D / np.linalg.norm(sum_D))[None].astype(stored_1D.dtype))


def _encode(worker: Worker, item: tuple[str, Sequence[str]]) -> FloatMatrix:
    spec, texts = item
    return worker.texts(spec, texts)


def _answer(worker: Worker, task: Task) -> Alone:
    return worker.answer_alone(task)


def counted(table: pa.Table) -> int:
    """How many queries count: warm, with an answer, at the first try."""
    return len(_warm(table))


def _warm(table: pa.Table) -> pa.Table:
    has_answer = pc.and_(pc.is_null(table["problem"]), pc.equal(table["tries"], 1))
    return table.filter(pc.and_(table["is_warm"], has_answer))


def cold_s(table: pa.Table) -> float | None:
    """Seconds of the first answer of a worker, with the loading of its models; None where another was asked before."""
    cold = table.filter(table["is_cold"])
    return float(cold["total_s"][0].as_py()) if len(cold) else None


def split(table: pa.Table, intervals: Intervals, seed: int) -> dict[str, Any]:
    """Over the queries that count: `stages`, the seconds of each and its share of the total, and `split`, search against generation.

    Search is from the words to the fetched pictures; generation is all that comes after, to the answer.
    """
    warm = _warm(table)
    seconds = _seconds(warm)
    total_Q = seconds["total"]
    search_Q = np.sum([_column(warm, name, 0.0) for name in ("encode_s", "search_s", "fetch_s")], axis=0)
    both = {"search and fetch": search_Q, "generation": total_Q - search_Q}
    told = _summaries(seconds | both, total_Q, intervals, seed)
    return {
        "stages": [told[stage] for stage in seconds],
        "split": {"search": told["search and fetch"], "generation": told["generation"]},
    }


def _column(warm: pa.Table, name: str, missing: float) -> Times:
    return np.array([missing if value is None else value for value in warm[name].to_pylist()], np.float64)


def _seconds(warm: pa.Table) -> dict[str, Times]:
    """By stage, the seconds of each query; a stage that was not timed for all of them is left out."""
    columns = {name: _column(warm, name, np.nan) for name in warm.column_names if name.endswith("_s")}
    columns["transport_s"] = np.maximum(columns["search_s"] - columns["shard_s"] - columns["merge_s"], 0)
    return {stage: columns[name] for stage, name in STAGES if not np.isnan(columns[name]).any()}


def _summaries(seconds: dict[str, Times], total_Q: Times, intervals: Intervals, seed: int) -> dict[str, dict[str, Any]]:
    """By stage, mean and share with their intervals, and how the seconds vary."""
    values = [*seconds.values(), *(seconds_Q / total_Q for seconds_Q in seconds.values())]
    found = bootstrap_intervals(
        values, np.arange(len(total_Q), dtype=np.int64), ["mean"] * len(values), resamples=intervals.resamples,
        level=intervals.level, seed=seed,
    )  # fmt: skip
    told = {}
    for place, (stage, seconds_Q) in enumerate(seconds.items()):
        mean, share = found[place], found[place + len(seconds)]
        told[stage] = {
            "stage": stage, "mean_s": float(seconds_Q.mean()), "low_s": mean and mean.low, "high_s": mean and mean.high,
            "median_s": float(np.median(seconds_Q)), "min_s": float(seconds_Q.min()), "max_s": float(seconds_Q.max()),
            "std_s": float(seconds_Q.std(ddof=1)) if len(seconds_Q) > 1 else 0.0,
            "p95_s": float(np.quantile(seconds_Q, 0.95)), "p99_s": float(np.quantile(seconds_Q, 0.99)),
            "share": float(values[place + len(seconds)].mean()), "share_low": share and share.low,
            "share_high": share and share.high,
        }  # fmt: skip
    return told
