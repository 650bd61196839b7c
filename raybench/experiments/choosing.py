"""Rounds of a retrieval: ask, filter, leave seeds and near duplicates out, and ask deeper where too few rows are left.

Near duplicates are those of `raybench dedup`: rows that are kept already come first, then candidates by rank, so a row is
dropped only where it is close to one that is kept. All is decided again by a rerun; what took long is in files.

Axes: Q queries, F rows of all answers, C candidates, N rows that are held against one another.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raybench import storage
from raybench.arrays import FloatMatrix, Rows
from raybench.experiments.asking import Asking, deepest
from raybench.experiments.dedup import ALL_PAIRS, DedupRequest, deduplicate, representatives
from raybench.experiments.reporting import Reporter
from raybench.experiments.stages import Stages
from raybench.experiments.workers import Workers
from raybench.formats.base import VectorFile
from raybench.retrieval.chosen import Answers, Chosen, Facts, candidates, settle
from raybench.retrieval.metadata import Metadata
from raybench.retrieval.rows import equal_to, write_rows
from raybench.retrieval.where import Where
from raybench.search.strategies import Float32


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What a row must be to be kept."""

    least_score: float
    where: Where | None
    dedup: float | None  # cosine
    refill: bool
    seeds: tuple[FloatMatrix, Float32] | None  # as given and at length one; None: rows that equal them stay
    cells: int  # of a row, where near duplicates meet
    seed: int


@dataclass(slots=True, eq=False)
class Choosing:
    """A retrieval under way."""

    asking: Asking
    rules: Rules
    file: VectorFile
    metadata: Metadata | None
    workers: Workers
    reporter: Reporter
    stages: Stages
    answers: Answers = field(init=False)
    facts: Facts = field(default_factory=Facts)
    kept_N: Rows = field(default_factory=lambda: np.zeros(0, np.int64))  # in the order in which they were chosen
    told: dict[str, Any] = field(default_factory=lambda: {"asked_times": 0, "rounds": []})  # of near duplicates

    def choose(self) -> tuple[Chosen, list[str]]:
        """Rows by query and rank, the counts of each query, and why each was asked no more."""
        requested_Q = self.asking.queries.requested_Q
        self.answers = Answers.none(len(requested_Q))
        which, asked = np.arange(len(requested_Q)), requested_Q.copy()
        while len(which):
            self.told["asked_times"] += 1
            self.asking.deepen(self.answers, which, asked[which], self.stages, self.reporter)
            self._learn()
            while self._settle(requested_Q):
                pass
            ended = self._ended(requested_Q)
            which = np.flatnonzero([not one for one in ended])
            asked[which] = np.minimum(2 * asked[which], deepest(self.asking.index, self.file.rows))
        return Chosen.of(self.answers, self.facts, self.rules.least_score), ended

    def _need(self, requested_Q: Rows) -> Rows:
        owner_K = self.facts.owner_U[self.facts.owner_U >= 0]
        return requested_Q - np.bincount(owner_K, minlength=len(requested_Q))

    def _ended(self, requested_Q: Rows) -> list[str]:
        """Why each query is asked no more; empty for those that are asked for more rows."""
        need_Q, most = self._need(requested_Q), deepest(self.asking.index, self.file.rows)
        told = []
        for query, (asked, need) in enumerate(zip(self.answers.asked_Q.tolist(), need_Q.tolist(), strict=True)):
            found, scores = len(self.answers.rows[query]), self.answers.scores[query]
            if not need:
                told.append("met")
            elif asked >= self.file.rows:
                told.append("every row was asked for")
            elif not self.rules.refill:
                told.append("asked once")
            elif found < asked:
                told.append("the index gives no more")
            elif scores[-1] < self.rules.least_score:
                told.append("all others score less")
            else:
                told.append("" if asked < most else "the index's effort allows no more")
        return told

    def _learn(self) -> None:
        """Whether rows that are new pass the filter, and whether they are seeds."""
        _, _, row_F, score_F = self.answers.flat()
        new = self.facts.grow(np.unique(row_F[score_F >= self.rules.least_score]))
        where = self.rules.where
        if where is not None and self.metadata is not None and len(new):
            with self.stages.of("filter"), self.reporter.stage("filtering", len(new)) as advance:
                for part, table in self.metadata.at(self.facts.rows_U[new], where.columns):
                    self.facts.is_filtered_U[new[part]] = ~where.mask(table)
                    advance(part.stop - part.start, 0)
                new = new[~self.facts.is_filtered_U[new]]
        if self.rules.seeds is not None and len(new):
            with self.stages.of("seeds among rows"):
                self.facts.is_seed_U[new] = equal_to(self.file, self.facts.rows_U[new], *self.rules.seeds)

    def _settle(self, requested_Q: Rows) -> bool:
        """Decide about candidates; False where there are none."""
        need_Q = self._need(requested_Q)
        with self.stages.of("choosing"):
            row_C, query_C = candidates(self.answers, self.facts, self.rules.least_score, need_Q)
        if not len(row_C):
            return False
        leader_C = row_C if self.rules.dedup is None else self._leaders(row_C, self.rules.dedup)
        self.kept_N = np.concatenate([self.kept_N, settle(self.facts, row_C, query_C, leader_C, need_Q)])
        return True

    def _leaders(self, row_C: Rows, threshold: float) -> Rows:
        """The row that stands for each candidate, by comparing it with rows that are kept and with earlier candidates."""
        row_N = np.concatenate([self.kept_N, row_C])
        uri = storage.join(self.asking.pieces, f"rows-{storage.digest(row_N.data)[:16]}.npy")
        with self.stages.of("rows to compare"):
            if not storage.exists(uri):
                write_rows(uri, self.file, row_N)
        with self.stages.of("near duplicates"):
            request = DedupRequest(
                uri, threshold, exact=len(row_N) <= ALL_PAIRS, most_cells=self.rules.cells, seed=self.rules.seed
            )
            manifest = deduplicate(request, self.asking.pieces, self.workers, self.reporter)
        leader_N, _ = representatives(manifest["uri"], len(row_N))
        self.told["rounds"].append(
            {"rows": len(row_N), "seconds": manifest["seconds"], "dropped": manifest["dropped"], "checked": manifest["checked"],
             "rows_in_too_many_cells": manifest["rows_in_too_many_cells"]}
        )  # fmt: skip
        return np.asarray(row_N[leader_N[len(self.kept_N) :]])
