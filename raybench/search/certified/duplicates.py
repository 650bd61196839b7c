"""Equal rows have equal scores, so a part is searched by one row of each group, and groups are opened afterwards.

Rows are equal if their bytes are. They are put together by a 64-bit hash and then compared byte by byte, so a
collision costs time and never an answer.

Axes: N rows of a part, U rows that stand for their group, M rows in groups of several.
"""

from dataclasses import dataclass

import numpy as np

from raybench.arrays import Rows
from raybench.search.certified.metric import Matrix

_WORTHWHILE = 0.02  # share of copies from which leaving them out is faster than scanning them
_HASHED_ROWS = 8_192
_SAMPLED_ROWS = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rows that stand for themselves and their copies, in order, and where the copies are."""

    first_U: Rows  # the first row of every group, single rows included, ascending
    start_U: Rows  # where its members begin in member_N
    length_U: Rows  # how many there are
    member_N: Rows  # all rows, group by group, ascending within one


def group(rows_ND: Matrix) -> Groups | None:
    """Groups of equal rows, or None where copies are too few to matter."""
    words = _words(rows_ND)
    if words is None or not _has_copies(words):
        return None
    hash_N = _hash(words)
    order_N = np.argsort(hash_N, kind="stable")
    sorted_N = hash_N[order_N]
    follows_N = np.zeros(len(hash_N), np.bool_)  # whether a row equals the one before it in this order
    near = np.flatnonzero(sorted_N[1:] == sorted_N[:-1]) + 1
    if len(near) < _WORTHWHILE * len(hash_N):
        return None
    for start in range(0, len(near), _HASHED_ROWS):
        some = near[start : start + _HASHED_ROWS]
        follows_N[some] = (words[order_N[some]] == words[order_N[some - 1]]).all(axis=1)
    starts = np.flatnonzero(~follows_N)
    # Stable sorting keeps rows of one hash in row order, so the first of a group is its smallest row.
    by_row = np.argsort(order_N[starts], kind="stable")
    lengths = np.diff(np.append(starts, len(hash_N)))[by_row]
    begin_U = np.cumsum(lengths) - lengths
    within = np.arange(len(hash_N)) - np.repeat(begin_U, lengths)
    member_N = order_N[np.repeat(starts[by_row], lengths) + within]
    return Groups(order_N[starts[by_row]], begin_U, lengths, member_N)


def _words(rows_ND: Matrix) -> Matrix | None:
    """Rows as whole 64-bit words, or None where their bytes do not divide into such."""
    if not rows_ND.flags.c_contiguous or rows_ND.shape[1] * rows_ND.itemsize % 8 or not rows_ND.size:
        return None
    return rows_ND.view(np.uint64)


def _has_copies(words_NW: Matrix) -> bool:
    """Whether a sample has two equal rows, as it almost surely has where copies are worth leaving out."""
    sample = _hash(words_NW[:: max(1, len(words_NW) // _SAMPLED_ROWS)])
    return len(np.unique(sample)) < len(sample)


def _hash(words_NW: Matrix) -> Matrix:
    odd_W = np.random.default_rng(7).integers(0, 2**63, words_NW.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    hash_N = np.empty(len(words_NW), np.uint64)
    for start in range(0, len(words_NW), _HASHED_ROWS):
        part = words_NW[start : start + _HASHED_ROWS]
        mixed = np.einsum("nw,w->n", part ^ (part >> np.uint64(29)), odd_W)
        hash_N[start : start + len(part)] = mixed
    return hash_N
