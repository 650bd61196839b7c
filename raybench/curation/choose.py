"""Steps that look at nothing but ids and judgments."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raybench.arrays import Rows
from raybench.curation.base import Draft, Models, Verdict, Work
from raybench.errors import RequestError


@dataclass(frozen=True, slots=True)
class Answers:
    """Only pictures that answer a query stay."""

    def check(self, encoders: Sequence[str]) -> None:
        """Nothing can be wrong."""

    def models(self, encoders: Sequence[str]) -> Models:  # noqa: ARG002 - it uses none
        """None."""
        return ()

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:  # noqa: ARG002 - judgments are enough
        """Pictures without a query go."""
        return Verdict.of(rows[~draft.answers[rows]], "answers_no_query")


@dataclass(frozen=True, slots=True)
class Sample:
    """So many pictures at random, by the hash of their ids: a row that is added or lost changes no other's lot."""

    images: int

    def check(self, encoders: Sequence[str]) -> None:  # noqa: ARG002 - it uses none
        """At least one."""
        if self.images < 1:
            raise RequestError(f"sample(images={self.images}) keeps nothing; give 1 or more")

    def models(self, encoders: Sequence[str]) -> Models:  # noqa: ARG002 - it uses none
        """None."""
        return ()

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:
        """The pictures with the smallest hashes stay."""
        order = np.argsort(hash_of(draft.ids(rows), work.seed, "sample"), kind="stable")
        return Verdict.of(np.sort(rows[order[self.images :]]), "not_sampled", asked=self.images, available=len(rows))


def hash_of(ids: Iterable[str], seed: int, purpose: str) -> npt.NDArray[np.uint64]:
    """A number from 0 to 2^64 for each id, the same on every machine and in any company."""
    salt = f"{purpose} {seed} ".encode()
    digests = b"".join(hashlib.blake2b(salt + one.encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(digests, np.dtype("<u8")).astype(np.uint64)
