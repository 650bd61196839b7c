"""A hard evaluation set: pools are scanned, steps say what goes, and what stays is written.

    <out>/images/<key>/000000.tar ...       WebDataset, in the order of the ids' hashes
    <out>/images/<key>/images.parquet queries.parquet qrels.parquet dropped.parquet review.parquet
    <out>/images/<key>/beir/  README.md     BEIR's files; the card
    <out>/images/<key>/manifest.json        account, counts, checksums; written last
    <out>/images/<key>/pieces/              what a rerun goes on from; gone at the end
    <out>/scans/<key>/                      what is known of a pool's rows

For every pool, rows = pictures in the set + rows dropped by step and reason, exactly.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench import storage
from raybench.arrays import Rows
from raybench.curation import STEPS
from raybench.curation.base import Asking, Draft, Flags, Verdict
from raybench.curation.scan import Pool, read_scan, scan_shard
from raybench.errors import DataError, WorkError
from raybench.experiments.backend import Backend
from raybench.experiments.curated_set import Finished, expected, write_set
from raybench.experiments.curation_work import CurationWork, Soon
from raybench.experiments.prepared import UPSTREAM
from raybench.experiments.recipe import Recipe, dump
from raybench.experiments.reporting import Reporter
from raybench.experiments.set_queries import Given, first_asking
from raybench.experiments.workers import Workers
from raybench.sources import SOURCES
from raybench.sources.base import Shard, notes_of
from raybench.sources.tables import TABLES
from raybench.spec import Spec, content_key

__all__ = ["CurationPlan", "curate", "expected", "plan_curation", "plan_lines"]

FORMAT = 1  # raise it when the same recipe gives another set
_READING = "reading"


@dataclass(frozen=True, slots=True)
class CurationPlan:
    """A recipe with its pools opened."""

    recipe: Recipe
    out: str
    key: str
    pools: tuple[tuple[Pool, tuple[Shard, ...]], ...]

    @property
    def uri(self) -> str:
        """The folder of the set."""
        return storage.join(self.out, "images", self.key)

    @property
    def is_done(self) -> bool:
        """Whether the set is there."""
        return storage.read_whole(self.uri) is not None


def names_of(recipe: Recipe) -> list[str]:
    """A name for each pool: its own, or that of its source; numbered where several share one."""
    names = [pool.name or Spec.parse(pool.images).name for pool in recipe.pools]
    made: list[str] = []
    for number, name in enumerate(names):
        unique = name if names.count(name) == 1 else f"{name}-{number}"
        while unique in made or (unique != name and unique in names):
            unique += "+"
        made.append(unique)
    return made


def plan_curation(recipe: Recipe, out: str) -> CurationPlan:
    """Open the pools. RequestError for a place that cannot be read. Made data sets are made here."""
    pools = []
    for number, pool in enumerate(recipe.pools):
        source = SOURCES.make(pool.images).open(storage.join(out, "datasets"))
        shards = tuple(source.plan())
        stamps = [[shard.name, shard.size_bytes, shard.modified_ns, shard.fingerprint] for shard in shards]
        has_captions = number == 0
        key = content_key("scan", FORMAT, str(Spec.parse(pool.images)), pool.prefix, has_captions, stamps)
        opened = Pool(number, source, pool.prefix, has_captions, storage.join(out, "scans", key))
        pools.append((opened, shards))
    models = [
        [name, model.fingerprint()]
        for text in (*(text for pool in recipe.pools for text in pool.steps), *recipe.steps)
        for name, model in STEPS.make(text).models(recipe.encoders)
    ]
    tables = [storage.digest(storage.read_bytes(storage.absolute(TABLES.make(one).uri))) for one in _tables(recipe)]
    decides = asdict(replace(recipe, expect=None, shards=1)) | {"embed": [recipe.embed.chunk, recipe.embed.threads]}
    key = content_key("set", FORMAT, decides, models, tables, [pool.folder.rpartition("/")[2] for pool, _ in pools])
    return CurationPlan(recipe, out, key, tuple(pools))


def plan_lines(recipe: Recipe, out: str) -> list[str]:
    """The plan in words; nothing is made, fetched or written. RequestError for a place that cannot be read."""
    lines = []
    for pool, name in zip(recipe.pools, names_of(recipe), strict=True):
        source = SOURCES.make(pool.images)
        if source.is_ready(storage.join(out, "datasets")):
            opened = source.open(storage.join(out, "datasets"))
            shards = opened.plan()
            size_bytes = sum(shard.size_bytes for shard in shards)
            lines.append(f"{name}: {len(shards)} shards, {size_bytes / 1e6:,.1f} MB: {pool.images}")
            lines += [f"{name}: {note}" for note in notes_of(opened)]
        else:
            lines.append(f"{name}: make the data set first: {pool.images}")
        lines += [f"{name}: {Spec.parse(step)}" for step in pool.steps]
    lines += [f"all: {Spec.parse(step)}" for step in recipe.steps]
    small = f"shorter side to {recipe.pictures.shortest} px" if recipe.pictures.shortest else "as they are"
    parts = ", ".join(f"{name} {share:.0%}" for name, share in recipe.split.items())
    return [*lines, f"pictures {small}; queries in parts: {parts}", f"into {storage.join(out, 'images')}"]


def _tables(recipe: Recipe) -> list[str]:
    return [one for one in (recipe.queries, recipe.qrels) if one is not None]


def curate(plan: CurationPlan, backend: Backend, reporter: Reporter) -> dict[str, Any]:
    """Make the set; its manifest, with its place under "uri"."""
    manifest = storage.read_whole(plan.uri)
    if manifest is not None:
        reporter.say(f"{plan.uri} is there already, and nothing was read again")
        storage.delete_folder(storage.join(plan.uri, "pieces"))  # of a run that was killed at its very end
        return manifest | {"uri": plan.uri}
    storage.delete(storage.join(plan.uri, storage.MANIFEST))  # of one that lost a file
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    state = _scanned(plan, backend.workers(), reporter)
    seconds["scan"] = round(time.perf_counter() - started, 3)
    work = _work(plan, state.draft.candidates, backend, reporter)
    for number, (pool, _) in enumerate(plan.pools):
        for text in plan.recipe.pools[number].steps:
            _apply(state, text, pool.number, work, seconds)
    for text in plan.recipe.steps:
        _apply(state, text, None, work, seconds)
    finished = state.finished()
    manifest = write_set(plan.recipe, dump(plan.recipe), plan.uri, finished, work, seconds)
    manifest |= {"kind": "images", "key": plan.key, "environment": backend.facts()}
    seconds["all"] = round(time.perf_counter() - started, 3)
    storage.write_manifest(plan.uri, manifest)
    storage.delete_folder(storage.join(plan.uri, "pieces"))
    return manifest | {"uri": plan.uri}


@dataclass(slots=True, eq=False)
class _State:
    """A set while it is made."""

    names: Sequence[str]  # of the pools
    draft: Draft
    is_kept_N: Flags
    rows_in: list[int]  # by pool
    dropped: list[dict[str, str]]
    steps: list[dict[str, Any]]
    review: list[pa.Table]
    given: Given

    def finished(self) -> Finished:
        """What is left, after a last look at the account."""
        pool_N = np.asarray(self.draft.candidates["pool"])
        kept = Counter(pool_N[self.is_kept_N].tolist())
        gone = Counter(one["pool"] for one in self.dropped)
        for number, name in enumerate(self.names):
            if self.rows_in[number] != kept[number] + gone[name]:
                raise WorkError(
                    f"{name}: {self.rows_in[number]} rows in, but {kept[number]} kept and {gone[name]} dropped; this is a "
                    "defect of raybench"
                )
        if not len(self.draft.asking):
            raise WorkError("no query is left: every picture that answers one was dropped; see the steps of the recipe")
        return Finished(
            tuple(self.names), self.draft, np.flatnonzero(self.is_kept_N), tuple(self.rows_in), tuple(self.dropped),
            tuple(self.steps), tuple(self.review), self.given,
        )  # fmt: skip


def _scanned(plan: CurationPlan, workers: Workers, reporter: Reporter) -> _State:
    """Every row of every pool, looked at."""
    items = [(pool, shard) for pool, shards in plan.pools for shard in shards]
    total_bytes, done_bytes = sum(shard.size_bytes for _, shard in items) or 1, 0
    with reporter.stage("reading pictures", None) as advance:
        for (_, shard), rows in workers.each(scan_shard, items):
            done_bytes += shard.size_bytes
            advance(rows, done_bytes / total_bytes)
    names = names_of(plan.recipe)
    tables, rows_in, dropped, steps = [], [], list[dict[str, str]](), list[dict[str, Any]]()
    for (pool, shards), name in zip(plan.pools, names, strict=True):
        table, drops, count = read_scan(pool, len(shards))
        tables.append(table)
        rows_in.append(count)
        dropped += [
            {
                "pool": name, "source_id": one["source_id"], "image_id": "", "step": _READING, "reason": one["reason"],
                "detail": one["detail"],
            }
            for one in drops
        ]  # fmt: skip
        reasons = dict(sorted(Counter(one["reason"] for one in drops).items()))
        steps.append({"step": _READING, "pool": name, "rows_in": count, "rows_out": len(table), "dropped": reasons})
        _check_losses(plan.recipe, name, count, reasons)
    candidates = pa.concat_tables(tables).combine_chunks()
    _refuse_repeated(candidates, names)
    asking, given = first_asking(plan.recipe, plan.pools[0][0], candidates)
    is_kept_N = np.ones(len(candidates), np.bool_)
    return _State(names, Draft(candidates, asking), is_kept_N, rows_in, dropped, steps, [], given)


def _check_losses(recipe: Recipe, name: str, rows_in: int, reasons: dict[str, int]) -> None:
    lost = sum(count for reason, count in reasons.items() if not reason.startswith(UPSTREAM))
    if lost > recipe.embed.max_bad * rows_in:
        worst = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items(), key=lambda one: -one[1])[:4])
        raise WorkError(
            f"{lost:,} of {rows_in:,} pictures of {name} could not be read ({worst}), more than embed.max_bad="
            f"{recipe.embed.max_bad:g}; mend the source, or raise it"
        )


def _refuse_repeated(candidates: pa.Table, names: Sequence[str]) -> None:
    counts = pc.value_counts(candidates["image_id"].combine_chunks())
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        rows = candidates.filter(pc.equal(candidates["image_id"], twice[0])).slice(0, 2).to_pylist()
        told = " and ".join(f"{row['source_id']!r} of {names[row['pool']]}" for row in rows)
        next_step = (
            "rename one" if rows[0]["pool"] == rows[1]["pool"] else "give one pool a prefix, such as prefix: other_"
        )
        raise DataError(f"{told} would both be {twice[0].as_py()!r} in the set; {next_step}")


def _work(plan: CurationPlan, candidates: pa.Table, backend: Backend, reporter: Reporter) -> CurationWork:
    pool_N, shard_N, position_N = (
        np.asarray(candidates[name]).astype(np.int64) for name in ("pool", "shard", "position")
    )
    later = {name for text in plan.recipe.steps for name, _ in STEPS.make(text).models(plan.recipe.encoders)}
    soon = Soon(frozenset(str(Spec.parse(name)) for name in later), np.zeros(0, np.int64), ())
    return CurationWork(
        plan.recipe, plan.out, storage.join(plan.uri, "pieces"), plan.pools, pool_N, shard_N, position_N, backend,
        backend.workers(), reporter, {}, soon,
    )  # fmt: skip


def _apply(state: _State, text: str, pool: int | None, work: CurationWork, seconds: dict[str, float]) -> None:
    """Ask a step about a pool, or about all, and take out what it says."""
    started = time.perf_counter()
    rows = np.flatnonzero(state.is_kept_N if pool is None else state.is_kept_N & (work.pool_N == pool))
    # Pools that have not gone through their own steps yet may lose most of their rows to them.
    through_N = state.is_kept_N if pool is None else state.is_kept_N & (work.pool_N < pool)
    work.soon.rows, work.soon.texts = np.flatnonzero(through_N), state.draft.asking.texts
    scope = "all" if pool is None else state.names[pool]
    verdict = STEPS.make(text).judge(state.draft, rows, work)
    _check(verdict, rows, text)
    state.is_kept_N[verdict.rows] = False
    ids = state.draft.candidates.select(["pool", "source_id", "image_id"]).take(pa.array(verdict.rows)).to_pylist()
    name = str(Spec.parse(text))
    state.dropped += [
        one | {"pool": state.names[one["pool"]], "step": name, "reason": reason, "detail": detail}
        for one, reason, detail in zip(ids, verdict.reasons, verdict.details, strict=True)
    ]
    before = len(state.draft.asking)
    state.draft = replace(state.draft, asking=_left(state, verdict))
    state.review += [] if verdict.review is None else [verdict.review]
    state.steps.append(
        {
            "step": name, "pool": scope, "rows_in": len(rows), "rows_out": len(rows) - len(verdict.rows),
            "dropped": dict(sorted(Counter(verdict.reasons).items())), "queries": len(state.draft.asking),
            "queries_gone": before - len(state.draft.asking), "facts": dict(verdict.facts),
        }
    )  # fmt: skip
    work.reporter.say(f"{scope}: {name}: {len(rows):,} pictures in, {len(rows) - len(verdict.rows):,} stay")
    seconds[f"{scope}: {name}"] = round(time.perf_counter() - started, 3)


def _check(verdict: Verdict, rows: Rows, text: str) -> None:
    is_right = np.isin(verdict.rows, rows, assume_unique=True).all() and (np.diff(verdict.rows) > 0).all()
    if not is_right or not len(verdict.rows) == len(verdict.reasons) == len(verdict.details):
        raise WorkError(f"{text} dropped what it was not asked about, or one twice; this is a defect of raybench")


def _left(state: _State, verdict: Verdict) -> Asking:
    """The queries after a verdict: moved to what stands for their answers, and without those that have none."""
    asking = state.draft.asking
    if verdict.leader_N is not None:
        asking = asking.redirected(verdict.leader_N)
        moved = np.flatnonzero(verdict.leader_N != np.arange(len(verdict.leader_N)))
        new = dict(zip(state.draft.ids(moved), state.draft.ids(verdict.leader_N[moved]), strict=True))
        asking = replace(asking, clusters=tuple(new.get(cluster, cluster) for cluster in asking.clusters))
    return asking.among(state.is_kept_N)
