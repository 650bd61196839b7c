"""Suspected false negatives: pictures that are judged wrong and look right, set aside for a person to look at.

A picture is suspected of a query if every one of several encoders finds it no further from the query's text than the
picture that answers it. One encoder alone is no witness: being ahead of the answer is what makes a negative hard.

Axes: Q queries, K results, P judged pairs.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybench.arrays import Neighbors, Rows
from raybench.curation.base import Draft, Flags, Models, Verdict, Work, encoders_of
from raybench.errors import RequestError

REVIEW = pa.schema(
    [
        ("image_id", pa.string()), ("query_id", pa.string()), ("text", pa.string()), ("answer_id", pa.string()),
        ("encoder", pa.string()), ("cosine", pa.float64()), ("cosine_of_answer", pa.float64()), ("removed", pa.bool_()),
    ]
)  # fmt: skip
"""One row for each suspected picture, query and encoder."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """Pictures that all encoders find no further from `queries` queries of one cluster than the answer is are set aside."""

    over_all: ClassVar[bool] = True  # without the answers beside it, no distractor can be held against one

    queries: int = 1  # of one cluster (captions of one picture) that must agree
    margin: float = 0.0  # by which a suspect's cosine must exceed the answer's; 0: or be equal to it
    depth: int = 100  # an answer further down says nothing: the encoder does not know it
    encoders: tuple[str, ...] = ()  # none: the recipe's

    def check(self, encoders: Sequence[str]) -> None:
        """Two encoders, numbers in range."""
        names = self.encoders or tuple(encoders)
        if len(set(names)) < 2:
            raise RequestError(
                f"suspects() has {len(set(names))} encoders, and one witness is none; list two or more encoders in the recipe"
            )
        if self.queries < 1 or self.depth < 1 or not self.margin >= 0:
            raise RequestError(
                f"suspects(queries={self.queries}, margin={self.margin:g}, depth={self.depth}) cannot be applied; give whole "
                "numbers from 1, and a margin from 0"
            )

    def models(self, encoders: Sequence[str]) -> Models:
        """The encoders that it names, or the recipe's."""
        return encoders_of(self.encoders or encoders)

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:
        """Suspected pictures go and are listed for review."""
        encoders = self.encoders or work.encoders
        seen = [self._before(encoder, draft, rows, work) for encoder in encoders]
        agreed = set.intersection(*(set(one) for one in seen))
        clusters: dict[tuple[int, str], set[int]] = defaultdict(set)
        for query, row in agreed:
            clusters[row, draft.asking.clusters[query]].add(query)
        enough = {row for (row, _), queries in clusters.items() if len(queries) >= self.queries}
        # The answer of another query is listed too, but stays: without it that query could not be asked.
        gone = np.array(sorted(row for row in enough if not draft.answers[row]), np.int64)
        told = Counter(row for _, row in agreed)
        review = _review(draft, sorted(agreed), dict(zip(encoders, seen, strict=True)), set(gone.tolist()))
        details = [f"before the answer of {told[row]} queries by {len(encoders)} encoders" for row in gone.tolist()]
        return Verdict(
            gone, ["suspected_false_negative"] * len(gone), details,
            {"suspected": len({row for _, row in agreed}), "queries_concerned": len({query for query, _ in agreed})},
            review=review,
        )  # fmt: skip

    def _before(
        self, encoder: str, draft: Draft, rows: Rows, work: Work
    ) -> dict[tuple[int, int], tuple[float, float, int]]:
        """(query, picture) -> the cosines of picture and answer, and the answer, for pictures that come before it."""
        stored, asked = work.embedded(encoder, rows, draft.asking.texts)
        found = work.nearest(asked, stored, min(self.depth, len(stored)))
        answer_Q, best_Q = _best_answers(draft, found)
        is_wrong_QK = (found.ids_QK >= 0) & ~_is_judged(draft, found.ids_QK)
        is_before_QK = is_wrong_QK & (found.scores_QK >= best_Q[:, None] + self.margin) & (answer_Q >= 0)[:, None]
        return {
            (query, int(found.ids_QK[query, place])): (
                float(found.scores_QK[query, place]), float(best_Q[query]), int(answer_Q[query]),
            )
            for query, place in np.argwhere(is_before_QK).tolist()
        }  # fmt: skip


def _best_answers(draft: Draft, found: Neighbors) -> tuple[Rows, npt.NDArray[np.float64]]:
    """The best-scored answer of each query that is in its list, and its cosine; -1 where none is [Q]."""
    is_judged_QK = _is_judged(draft, found.ids_QK)
    place_Q = is_judged_QK.argmax(axis=1)
    every_Q = np.arange(len(found))
    is_there_Q = is_judged_QK.any(axis=1)
    answer_Q = np.where(is_there_Q, found.ids_QK[every_Q, place_Q], -1)
    return answer_Q, np.where(is_there_Q, found.scores_QK[every_Q, place_Q], np.inf)


def _is_judged(draft: Draft, ids_QK: Rows) -> Flags:
    """Which results answer their query."""
    count = len(draft.candidates)
    judged = np.unique(draft.asking.query_P * count + draft.asking.row_P)
    asked_QK = np.arange(len(ids_QK))[:, None] * count + ids_QK
    return np.isin(asked_QK, judged) & (ids_QK >= 0)


def _review(
    draft: Draft,
    agreed: Sequence[tuple[int, int]],
    seen: dict[str, dict[tuple[int, int], tuple[float, float, int]]],
    gone: set[int],
) -> pa.Table:
    listed, ids = [], draft.candidates["image_id"].to_pylist()
    for query, row in agreed:
        for encoder, pairs in seen.items():
            cosine, of_answer, answer = pairs[query, row]
            image_id, answer_id = ids[row], ids[answer]
            listed.append(
                {
                    "image_id": image_id, "query_id": draft.asking.query_ids[query], "text": draft.asking.texts[query],
                    "answer_id": answer_id, "encoder": encoder, "cosine": cosine, "cosine_of_answer": of_answer,
                    "removed": row in gone,
                }
            )  # fmt: skip
    return pa.Table.from_pylist(listed, schema=REVIEW)
