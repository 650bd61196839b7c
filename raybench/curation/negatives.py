"""Hard negatives: of many pictures, those that are most like an answer to the queries and are none.

Several encoders choose in turns, so that the set favours none of them: in the first turn each gives every query's nearest
picture, in the second every query's second, until there are as many as were asked for.

Axes: Q queries, K results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raybench.arrays import Neighbors, Rows
from raybench.curation.base import Draft, Models, Verdict, Work, encoders_of
from raybench.curation.choose import hash_of
from raybench.errors import RequestError

_MOST_RESULTS = 50_000_000  # in the lists of one encoder


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """So many of the pictures nearest to the queries (by "text") or to the pictures that answer them (by "image").

    Pictures that answer a query always stay and do not count.
    """

    images: int
    by: Literal["text", "image"] = "text"
    encoders: tuple[str, ...] = ()  # none: the recipe's

    def check(self, encoders: Sequence[str]) -> None:
        """At least one picture and one encoder."""
        if self.images < 1:
            raise RequestError(f"hard_negatives(images={self.images}) keeps nothing; give 1 or more")
        if not (self.encoders or encoders):
            raise RequestError(
                "hard_negatives() has no encoder; list encoders in the recipe, or in the step as encoders=[...]"
            )

    def models(self, encoders: Sequence[str]) -> Models:
        """The encoders that it names, or the recipe's."""
        return encoders_of(self.encoders or encoders)

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:
        """Rows that no encoder's lists reach before there are enough go."""
        others = rows[~draft.answers[rows]]
        if len(others) <= self.images:
            return Verdict.of(np.zeros(0, np.int64), "not_near", asked=self.images, available=len(others))
        encoders = self.encoders or work.encoders
        lists = [self._nearest(encoder, draft, others, work) for encoder in encoders]
        chosen, depth = in_turns(lists, self.images, draft, work.seed)
        shares = {
            encoder: float(np.isin(chosen, neighbors.ids_QK[:, :depth]).mean())
            for encoder, neighbors in zip(encoders, lists, strict=True)
        }
        return Verdict.of(
            np.setdiff1d(others, chosen), "not_near", asked=self.images, available=len(others),
            chosen=len(chosen), nearest_of_each_query=depth, share_in_the_lists_of=shares,
        )  # fmt: skip

    def _nearest(self, encoder: str, draft: Draft, others: Rows, work: Work) -> Neighbors:
        if not len(draft.asking):
            raise RequestError(
                "hard_negatives() has no queries to be near to; the first pool must have captions or queries"
            )
        stored, asked = work.embedded(encoder, others, draft.asking.texts if self.by == "text" else ())
        if self.by == "image":
            answers, _ = work.embedded(encoder, np.unique(draft.asking.row_P))
            asked = answers.block(0, len(answers))
        # Every list as long as the set could never run out; lists that long would not fit for many queries.
        depth = min(len(stored), max(-(-self.images // len(asked)) * 8, 64))
        while True:
            found = work.nearest(asked, stored, depth)
            enough = len(np.unique(found.ids_QK)) >= self.images
            if enough or depth == len(stored) or 2 * depth * len(asked) > _MOST_RESULTS:
                return found
            depth = min(len(stored), 2 * depth)


def in_turns(lists: Sequence[Neighbors], images: int, draft: Draft, seed: int) -> tuple[Rows, int]:
    """The first `images` different rows, rank by rank and in each by encoder; and the rank that was reached.

    Where a turn has more new rows than there is room, those with the smallest hashes are taken: no query comes first.
    """
    chosen = np.zeros(0, np.int64)
    depth = max(neighbors.k for neighbors in lists)
    for rank in range(depth):
        for neighbors in lists:
            if rank >= neighbors.k:
                continue
            column = neighbors.ids_QK[:, rank]
            new = np.setdiff1d(column[column >= 0], chosen)
            if len(new) > images - len(chosen):
                order = np.argsort(hash_of(draft.ids(new), seed, "negatives"), kind="stable")
                new = new[order[: images - len(chosen)]]
            chosen = np.union1d(chosen, new)
            if len(chosen) >= images:
                return chosen, rank + 1
    return chosen, depth
