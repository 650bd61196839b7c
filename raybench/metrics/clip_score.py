"""How well an answer fits pictures, by the vectors of a model that sees both: CLIPScore, and groundedness by difference.

CLIPScore and RefCLIPScore are those of Hessel et al. 2021 and of clipscore.py in github.com/jmhessel/clipscore: all texts,
references too, are embedded with `PREFIX` before them, and the numbers of the paper are those of OpenAI's ViT-B/32. The model
that scores must not be the one that retrieved: a measure would reward its own taste.

Vectors are of any float type and any length but 0; they are brought to length 1 and compared in float64. An answer without
words has the vector 0, is not embedded, and scores 0.

Axes: Q queries, D dimensions, P pairs of a query and one of its references or pictures, R random pictures.
"""

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix, Rows
from raybench.errors import DataError
from raybench.metrics.measure import Values

PREFIX = "A photo depicts "
WEIGHT = 2.5  # of the paper: it brings what cosines of pictures and captions reach near 1


def clip_score(answers_QD: FloatMatrix, pictures_QD: FloatMatrix) -> Values:
    """2.5 times the cosine of answer and picture, and 0 where that is negative [Q]."""
    answers_QD, pictures_QD = _unit(answers_QD, "answer", may_be_zero=True), _unit(pictures_QD, "picture")
    _check_axes(answers_QD.shape, pictures_QD.shape)
    return np.asarray(WEIGHT * np.maximum(np.einsum("qd,qd->q", answers_QD, pictures_QD), 0))


def ref_clip_score(
    answers_QD: FloatMatrix, pictures_QD: FloatMatrix, references_PD: FloatMatrix, query_P: Rows
) -> Values:
    """The harmonic mean of CLIPScore and the largest cosine of the answer with a reference, 0 where either is not positive [Q].

    `query_P` is the query that each reference belongs to; each query has at least one. CLIPScore goes in with its factor 2.5
    and the cosine without, as in the paper. The published code does not cut a negative cosine off and is undefined where
    both are 0; there, the paper's formula is followed.
    """
    seen_Q = clip_score(answers_QD, pictures_QD)
    cosine_P = _cosines(_unit(answers_QD, "answer", may_be_zero=True), _unit(references_PD, "reference"), query_P)
    _check_each(query_P, len(answers_QD), "reference")
    best_Q = np.zeros(len(answers_QD))
    np.maximum.at(best_Q, query_P, cosine_P)
    total_Q = seen_Q + best_Q
    return np.divide(2 * seen_Q * best_Q, total_Q, out=np.zeros_like(total_Q), where=total_Q > 0)


def groundedness(
    answers_QD: FloatMatrix, retrieved_PD: FloatMatrix, query_P: Rows, random_QRD: npt.NDArray[np.floating]
) -> Values:
    """The mean cosine of an answer with its retrieved pictures, minus that with random pictures of the corpus [Q].

    `query_P` is the query that each retrieved picture belongs to; each query has at least one. 0 is what an answer has to do
    with any picture; it says that an answer fits the pictures, not that what it claims is true of them. From -2 to 2.
    """
    units_QD = _unit(answers_QD, "answer", may_be_zero=True)
    cosine_P = _cosines(units_QD, _unit(retrieved_PD, "retrieved picture"), query_P)
    _check_each(query_P, len(units_QD), "retrieved picture")
    if random_QRD.ndim != 3 or random_QRD.shape[::2] != units_QD.shape or not random_QRD.shape[1]:
        raise DataError(f"random pictures {random_QRD.shape} must be one or more for each of {units_QD.shape} answers")
    pictures_Q = np.bincount(query_P, minlength=len(units_QD))
    retrieved_Q = np.bincount(query_P, cosine_P, len(units_QD)) / pictures_Q
    # One query at a time: random pictures are the largest array here, and float64 copies of all are not needed.
    random_Q = [
        float((_unit(random_RD, "random picture") @ unit_D).mean())
        for random_RD, unit_D in zip(random_QRD, units_QD, strict=True)
    ]
    return np.asarray(retrieved_Q - np.array(random_Q, np.float64))


def _unit(matrix_ND: FloatMatrix, what: str, *, may_be_zero: bool = False) -> npt.NDArray[np.float64]:
    if matrix_ND.ndim != 2:
        raise DataError(f"{what} vectors have shape {matrix_ND.shape}; they must have two axes: rows and dimensions")
    exact_ND = matrix_ND.astype(np.float64)
    if not np.isfinite(exact_ND).all():
        raise DataError(f"a {what} vector has NaN or infinite values; embed it again")
    largest_N = np.abs(exact_ND).max(axis=1, initial=0.0)
    if not may_be_zero and not largest_N.all():
        raise DataError(
            f"{what} {int(np.argmin(largest_N))} is the vector 0, which no text or picture has; embed it again"
        )
    exact_ND /= np.where(largest_N, largest_N, 1)[:, None]  # squares of very large or small values stay finite
    norm_N = np.sqrt(np.einsum("nd,nd->n", exact_ND, exact_ND))
    return np.asarray(exact_ND / np.where(norm_N, norm_N, 1)[:, None])


def _cosines(
    units_QD: npt.NDArray[np.float64], units_PD: npt.NDArray[np.float64], query_P: Rows
) -> npt.NDArray[np.float64]:
    if query_P.shape != units_PD.shape[:1] or (
        len(query_P) and not 0 <= query_P.min() <= query_P.max() < len(units_QD)
    ):
        raise DataError(f"{len(units_PD)} vectors need as many query numbers, each from 0 to {len(units_QD) - 1}")
    _check_axes((len(units_PD), units_QD.shape[1]), units_PD.shape)
    return np.asarray(np.einsum("pd,pd->p", units_QD[query_P], units_PD))


def _check_axes(answers: tuple[int, ...], others: tuple[int, ...]) -> None:
    if answers != others:
        raise DataError(f"vectors of shape {others} do not belong to answers of shape {answers}; use one scoring model")


def _check_each(query_P: Rows, queries: int, what: str) -> None:
    counts_Q = np.bincount(query_P, minlength=queries)
    if not counts_Q.all():
        raise DataError(f"query {int(np.argmin(counts_Q))} has no {what}; leave it out and count it, or give one")
