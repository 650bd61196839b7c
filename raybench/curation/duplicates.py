"""Pictures that are in a set twice: the later one goes, and the queries that it answered are answered by the earlier one.

The order is that of candidates: pools as they are listed, so a copy of an answer among distractors is what goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from raybench.arrays import Rows
from raybench.curation.base import Draft, Models, Verdict, Work, encoders_of, one_encoder
from raybench.errors import RequestError


@dataclass(frozen=True, slots=True)
class Equal:
    """Files with the same bytes."""

    def check(self, encoders: Sequence[str]) -> None:
        """Nothing can be wrong."""

    def models(self, encoders: Sequence[str]) -> Models:  # noqa: ARG002 - it uses none
        """None."""
        return ()

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:  # noqa: ARG002 - checksums are enough
        """All but the first of each checksum go."""
        codes = pc.dictionary_encode(draft.candidates["sha256"].take(rows).combine_chunks()).indices.to_numpy()
        first_C, place_M = np.unique(codes, return_index=True)[1], codes
        return _verdict(draft, rows, first_C[place_M], "equal_file", ["the same bytes"] * len(rows))


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Pictures whose vectors have a cosine of `threshold` or more; each that goes is so close to one that stays."""

    threshold: float = 0.95
    encoder: str = ""  # none: the first of the recipe

    def check(self, encoders: Sequence[str]) -> None:
        """A cosine, and an encoder."""
        if not 0 < self.threshold <= 1:
            raise RequestError(
                f"near_duplicates(threshold={self.threshold:g}) is no cosine of near duplicates; give more than 0 and up to 1"
            )
        one_encoder(self.encoder, encoders, "near_duplicates")

    def models(self, encoders: Sequence[str]) -> Models:
        """One encoder."""
        return encoders_of([one_encoder(self.encoder, encoders, "near_duplicates")])

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:
        """Stars in the order of candidates: see `raybench dedup`."""
        stored, _ = work.embedded(one_encoder(self.encoder, work.encoders, "near_duplicates"), rows)
        leader_M, cosine_M, facts = work.groups(stored, self.threshold)
        return _verdict(draft, rows, leader_M, "near_duplicate", [f"cosine {cosine:.4f}" for cosine in cosine_M], facts)


def _verdict(
    draft: Draft, rows: Rows, leader_M: Rows, reason: str, details: list[str], facts: Mapping[str, Any] | None = None
) -> Verdict:
    """The rows that another stands for; places in `rows` become candidates."""
    places = np.flatnonzero(leader_M != np.arange(len(rows)))
    leader_N = np.arange(len(draft.candidates))
    leader_N[rows[places]] = rows[leader_M[places]]
    gone, standing = rows[places], rows[leader_M[places]]
    is_answer_N = draft.answers
    told = [f"of {other}, {details[place]}" for other, place in zip(draft.ids(standing), places.tolist(), strict=True)]
    moved = int(is_answer_N[gone].sum())
    return Verdict(gone, [reason] * len(gone), told, {"answers_that_moved": moved, **(facts or {})}, leader_N)
