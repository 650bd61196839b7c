"""Candidates are the rows of all pools; a step is asked about some of them and answers which go, each with one reason.

Axes: N candidates, M rows of one embedding, Q queries, D dimensions, K results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybench.arrays import FloatMatrix, Neighbors, Rows
from raybench.encoders import ENCODERS
from raybench.encoders.base import EncoderRecipe
from raybench.errors import RequestError

Flags = npt.NDArray[np.bool_]

Models = tuple[tuple[str, EncoderRecipe], ...]
"""Models by name."""

CANDIDATES = pa.schema(
    [
        ("image_id", pa.string()),  # as it will be in the finished set
        ("source_id", pa.string()),  # as the pool has it
        ("pool", pa.int32()),
        ("shard", pa.int32()),
        ("position", pa.int64()),
        ("sha256", pa.string()),  # of the compressed bytes
        ("size_bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("captions", pa.list_(pa.string())),
        ("metadata", pa.string()),
    ]
)
"""What is known of each readable picture; row numbers are places in this table: pools in order, shards, positions."""


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """The queries of a set while it is made, and which candidates answer each."""

    query_ids: tuple[str, ...]
    texts: tuple[str, ...]
    clusters: tuple[str, ...]  # the image that a query came from, by its id in the finished set
    query_P: Rows  # judged pairs: a query's number
    row_P: Rows  # and the candidate that answers it
    grade_P: Rows

    def __len__(self) -> int:
        return len(self.query_ids)

    def among(self, is_kept_N: Flags) -> "Asking":
        """What is left where only some candidates are: pairs with a kept candidate, and queries with such a pair."""
        is_left_P = is_kept_N[self.row_P]
        left_Q = np.unique(self.query_P[is_left_P])
        number_Q = np.full(len(self), -1, np.int64)
        number_Q[left_Q] = np.arange(len(left_Q))
        chosen = left_Q.tolist()
        return Asking(
            tuple(self.query_ids[query] for query in chosen), tuple(self.texts[query] for query in chosen),
            tuple(self.clusters[query] for query in chosen), number_Q[self.query_P[is_left_P]],
            self.row_P[is_left_P], self.grade_P[is_left_P],
        )  # fmt: skip

    def redirected(self, leader_N: Rows) -> "Asking":
        """The same queries, answered by the candidate that stands for each of theirs; the higher grade where two meet."""
        row_P = leader_N[self.row_P]
        order_P = np.lexsort((-self.grade_P, row_P, self.query_P))
        query_P, row_P, grade_P = self.query_P[order_P], row_P[order_P], self.grade_P[order_P]
        is_first_P = np.ones(len(row_P), np.bool_)
        is_first_P[1:] = (np.diff(query_P) != 0) | (np.diff(row_P) != 0)
        return Asking(
            self.query_ids, self.texts, self.clusters, query_P[is_first_P], row_P[is_first_P], grade_P[is_first_P]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A set while it is made: all candidates, and the queries with their answers among those that are still in."""

    candidates: pa.Table  # CANDIDATES
    asking: Asking

    @property
    def answers(self) -> Flags:
        """Which candidates answer a query [N]."""
        is_answer_N = np.zeros(len(self.candidates), np.bool_)
        is_answer_N[self.asking.row_P] = True
        return is_answer_N

    def ids(self, rows: Rows) -> list[str]:
        """The ids of some candidates in the finished set."""
        listed: list[str] = self.candidates["image_id"].take(pa.array(rows)).to_pylist()
        return listed


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a step says: which rows go, each with a reason and a detail, and what is worth telling."""

    rows: Rows  # that go, ascending
    reasons: Sequence[str]  # one for each of them
    details: Sequence[str]
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON values, for manifest and card
    leader_N: Rows | None = None  # where rows go because another stands for them: that one; else the row itself
    review: pa.Table | None = None  # what a person should look at

    @classmethod
    def of(cls, rows: Rows, reason: str, details: Sequence[str] | None = None, **facts: Any) -> "Verdict":
        """All rows go for one reason."""
        return cls(rows, [reason] * len(rows), [""] * len(rows) if details is None else details, facts)


class Stored(Protocol):
    """Vectors that were made of candidates: vector m is of candidate `rows[m]`."""

    @property
    def rows(self) -> Rows:
        """Candidates in the order of the vectors, ascending [M]."""
        ...

    def __len__(self) -> int:
        """How many vectors there are."""
        ...

    def block(self, start: int, stop: int) -> FloatMatrix:
        """Vectors start to stop."""
        ...


Groups = tuple[Rows, npt.NDArray[np.float32], Mapping[str, Any]]
"""For each vector the place of the one that stands for it (itself, or a close earlier one) and their cosine [M]; and what may
have been missed."""


class Work(Protocol):
    """What a step may ask for; everything that is made is kept, and is not made again by a rerun."""

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders of the recipe, for steps that name none."""
        ...

    @property
    def seed(self) -> int:
        """Of the recipe."""
        ...

    def embedded(self, encoder: str, rows: Rows, texts: Sequence[str] = ()) -> tuple[Stored, FloatMatrix]:
        """The pictures of some candidates, and texts [Q, D], through an encoder that is loaded once for both."""
        ...

    def judged(self, spec: str, recipe: EncoderRecipe, rows: Rows) -> Stored:
        """The same with a model whose numbers are not unit vectors, such as a classifier: stored in float32."""
        ...

    def nearest(self, queries_QD: FloatMatrix, stored: Stored, k: int) -> Neighbors:
        """The exact k nearest by cosine; ids are candidates."""
        ...

    def groups(self, stored: Stored, threshold: float) -> Groups:
        """Which vector stands for which."""
        ...


class Step(Protocol):
    """What a spec such as `hard_negatives(images=1000)` stands for."""

    def check(self, encoders: Sequence[str]) -> None:
        """RequestError for what can be seen to be wrong before anything is read; `encoders` are the recipe's."""
        ...

    def models(self, encoders: Sequence[str]) -> Models:
        """The models that it will use; their content is part of what decides a set."""
        ...

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:
        """Which of `rows` (candidates that are still in, ascending) go, and why."""
        ...


def encoders_of(specs: Sequence[str]) -> Models:
    """Encoders by their specs."""
    return tuple((spec, ENCODERS.make(spec)) for spec in specs)


def one_encoder(named: str, encoders: Sequence[str], step: str) -> str:
    """The encoder that a step names, or the recipe's first. RequestError where there is none."""
    if named or encoders:
        return named or encoders[0]
    raise RequestError(f"{step}() has no encoder; list encoders in the recipe, or name one in the step")
