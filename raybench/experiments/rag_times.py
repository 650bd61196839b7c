"""How long an answer takes: some queries are answered one at a time, with a clock at every step from their words to their answer.

The words go to the encoder, the vector to the index, the neighbours' pictures come from storage, and the generator answers; the
next query starts when the last has its answer. Encoder and generator are in one process, the index is where it always is. The first
query of all, before which nothing was loaded, is the cold start and is told apart; those that warm up are not counted. Queries that
tuned the index's effort are not among them.

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
_GENERATION = ("preprocessing", "first token", "decode")


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


def time_alone(timed: Timed, index: Index, pool: Generators, facts: dict[str, Any]) -> pa.Table:
    """Answer queries one at a time; LATENCIES, the first of which is the cold start of the worker unless it had worked before."""
    uri, alone = timed.uri(facts), timed.section.alone
    if storage.exists(uri):
        return storage.read_table(uri)
    queries = range(min(len(timed.texts), alone.queries))
    rows: list[dict[str, Any]] = []
    for turn, query in enumerate([*(q % len(timed.texts) for q in range(alone.warm_up)), *queries]):
        rows.append(_one(timed, query, index, pool) | {"is_warm": turn >= alone.warm_up})
    if all(row["problem"] is not None for row in rows if row["is_warm"]):
        raise WorkError(
            f"none of the queries that are answered one at a time has an answer: {rows[-1]['problem']}; mend it and run again"
        )
    table = pa.Table.from_pylist(rows, LATENCIES)
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
    """How many queries count: warm, and with an answer."""
    return len(_warm(table))


def _warm(table: pa.Table) -> pa.Table:
    return table.filter(pc.and_(table["is_warm"], pc.is_null(table["problem"])))


def split(table: pa.Table, intervals: Intervals, seed: int) -> dict[str, Any]:
    """Over the queries that count: `stages`, the seconds of each and its share of the total, and `split`, search against generation.

    Generation is preprocessing, first token and decoding; search is all else.
    """
    seconds = _seconds(_warm(table))
    total_Q = seconds["total"]
    generation_Q = np.sum([seconds[name] for name in _GENERATION if name in seconds], axis=0)
    told = _summaries(
        seconds | {"search and the rest": total_Q - generation_Q, "generation": generation_Q}, total_Q, intervals, seed
    )
    return {
        "stages": [told[stage] for stage in seconds],
        "split": {"search": told["search and the rest"], "generation": told["generation"]},
    }


def _seconds(warm: pa.Table) -> dict[str, Times]:
    """By stage, the seconds of each query; a stage that was not timed for all of them is left out."""
    columns = {
        name: np.array([np.nan if value is None else value for value in warm[name].to_pylist()], np.float64)
        for name in warm.column_names
        if name.endswith("_s")
    }
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
