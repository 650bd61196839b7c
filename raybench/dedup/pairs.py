"""Pairs of rows whose cosine, in float64, is at least a threshold.

A float32 product passes over a pair only if its error bound says that float64 would, and float64 decides those that are left
within the bound. So the pairs are the same for every library, number of threads, and cut into blocks.

Axes: N rows of a run, B of a block, D dimensions, P pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raybench.arrays import Rows
from raybench.search.certified.bound import Terms
from raybench.search.certified.metric import Matrix, Questions, norms, score_pairs, tensor

_TILE = (512, 4_096)  # rows of the one and of the other: 8 MiB of products
_SCORED_PAIRS = 65_536  # in float64 at a time


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Rows with their numbers, ready to be compared. A row of length 0 is close to nothing, and must not be among them."""

    ids_N: Rows
    stored_ND: Matrix
    unit_ND: torch.Tensor  # float32

    @classmethod
    def of(cls, ids_N: Rows, stored_ND: Matrix) -> "Run":
        """Scale rows to length one."""
        return cls(ids_N, stored_ND, unit(stored_ND))

    def __len__(self) -> int:
        return len(self.ids_N)

    def at(self, place_N: Rows) -> "Run":
        """Some of the rows."""
        return Run(self.ids_N[place_N], self.stored_ND[place_N], self.unit_ND[torch.from_numpy(place_N)])

    @classmethod
    def joined(cls, one: "Run", other: "Run") -> "Run":
        """The rows of both, one after the other."""
        return cls(
            np.concatenate([one.ids_N, other.ids_N]), np.concatenate([one.stored_ND, other.stored_ND]),
            torch.cat([one.unit_ND, other.unit_ND]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Numbers of two rows each; `high_P` is the larger."""

    low_P: Rows
    high_P: Rows

    def __len__(self) -> int:
        return len(self.low_P)

    def at(self, place_P: Rows) -> "Pairs":
        """Some of the pairs."""
        return Pairs(self.low_P[place_P], self.high_P[place_P])

    @classmethod
    def none(cls) -> "Pairs":
        """No pairs."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def joined(cls, parts: "Sequence[Pairs]") -> "Pairs":
        """The pairs of several."""
        return cls(np.concatenate([part.low_P for part in parts]), np.concatenate([part.high_P for part in parts]))


def unit(stored_ND: Matrix) -> torch.Tensor:
    """Rows at length one, float32 [N, D]; a row of length 0 stays."""
    rows_ND = tensor(np.ascontiguousarray(stored_ND)).to(torch.float32)
    if stored_ND.dtype == np.float16:  # squares of which are all within float32
        length_N = torch.linalg.vector_norm(rows_ND, dim=1)
        return rows_ND.div_(torch.where(length_N > 0, length_N, 1.0)[:, None])
    length_N = torch.from_numpy(norms(stored_ND))
    return (
        tensor(np.ascontiguousarray(stored_ND)).double() / torch.where(length_N > 0, length_N, 1.0)[:, None]
    ).float()


def slack(dim: int) -> float:
    """What a float32 cosine of two rows can be off by; both rows were scaled in float32."""
    return 1.5 * Terms("cosine", dim).slope


def pairs_within(run: Run, threshold: float) -> Iterator[Pairs]:
    """All pairs of a run, whose numbers ascend."""
    for ours, theirs, sure_P in _tiles(run, run, threshold, triangular=True):
        yield _decided(run, ours, run, theirs, sure_P, threshold)


def pairs_between(run: Run, others: Run, threshold: float) -> Iterator[Pairs]:
    """All pairs of a row of one run and a row of the other, which share no row."""
    for ours, theirs, sure_P in _tiles(run, others, threshold, triangular=False):
        yield _decided(run, ours, others, theirs, sure_P, threshold)


def _decided(run: Run, ours: Rows, others: Run, theirs: Rows, sure_P: npt.NDArray[np.bool_], threshold: float) -> Pairs:
    """Pairs that float32 is sure of, and those of the rest that float64 says reach the threshold."""
    kept = sure_P | (_cosines(run, ours, others, theirs, ~sure_P) >= threshold)
    one_P, other_P = run.ids_N[ours[kept]], others.ids_N[theirs[kept]]
    return Pairs(np.minimum(one_P, other_P), np.maximum(one_P, other_P))


def cosines(run: Run, ours: Rows, others: Run, theirs: Rows) -> npt.NDArray[np.float64]:
    """The float64 cosine of rows at places of two runs."""
    return _cosines(run, ours, others, theirs, np.ones(len(ours), np.bool_))


def _tiles(
    run: Run, others: Run, threshold: float, *, triangular: bool
) -> Iterator[tuple[Rows, Rows, npt.NDArray[np.bool_]]]:
    """Places of pairs that may reach the threshold, and whether they surely do; where `triangular`, of a row and earlier ones."""
    off = slack(run.stored_ND.shape[1])
    buffer = torch.empty(_TILE[0] * _TILE[1], dtype=torch.float32)
    for start in range(0, len(run), _TILE[0]):
        stop = min(start + _TILE[0], len(run))
        for first in range(0, stop if triangular else len(others), _TILE[1]):
            last = min(first + _TILE[1], stop if triangular else len(others))
            tile = buffer[: (stop - start) * (last - first)].view(stop - start, last - first)
            torch.mm(run.unit_ND[start:stop], others.unit_ND[first:last].T, out=tile)
            scores = tile.numpy()
            places = np.flatnonzero(scores >= np.float32(threshold - off))  # over three times as fast as torch's
            ours, theirs = np.divmod(places, last - first)
            sure_P = scores.ravel()[places] >= threshold + off
            ours, theirs = ours + start, theirs + first
            kept = theirs < ours if triangular else slice(None)
            if len(places):
                yield ours[kept], theirs[kept], sure_P[kept]


def _cosines(
    run: Run, ours: Rows, others: Run, theirs: Rows, asked_P: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """The float64 cosine of the pairs that are asked for; -inf for others."""
    cosine_P = np.full(len(ours), -np.inf)
    asked = np.flatnonzero(asked_P)
    for start in range(0, len(asked), _SCORED_PAIRS):
        some = asked[start : start + _SCORED_PAIRS]
        rows, place = np.unique(ours[some], return_inverse=True)
        questions = Questions.of(run.stored_ND[rows], "cosine")
        cosine_P[some] = score_pairs(questions, place, others.stored_ND[theirs[some]])
    return cosine_P
