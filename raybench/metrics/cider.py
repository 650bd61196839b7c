"""CIDEr-D: how much an answer says what many references say and few other pictures' references do (Vedantam et al. 2015).

N-grams of one to four words are weighted by their count times the logarithm of how rare they are among the queries; the score
is ten times the mean cosine over orders and references, in which an answer's weight counts at most as much as the reference's,
times a Gaussian penalty for another length (sigma 6). It runs from 0 to 10, as in the code published with the paper.

Tokens are those of `raybench.metrics.words`, not the Penn Treebank's, so numbers differ from published ones. Rarity is counted
over the queries that are scored together, once per query however many of its references say it: scores of different sets of
queries do not compare, and the score of one query changes with the others. An n-gram that the references of all queries say
weighs nothing; with a single query all n-grams do, and its score is 0.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raybench.errors import DataError
from raybench.metrics.measure import Values
from raybench.metrics.words import words

ORDERS = 4
SIGMA = 6.0
SCALE = 10.0

Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Weighted:
    """A text as weights of its n-grams, one table and one norm per order."""

    weights: tuple[dict[Ngram, float], ...]
    norms: tuple[float, ...]
    length: int  # in words


def cider(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Values:
    """CIDEr-D of each answer [Q], 0 to 10; each with one reference or more. An answer without words scores 0."""
    if len(answers) != len(references):
        raise DataError(f"{len(answers)} answers and {len(references)} lists of references do not belong together")
    for query, texts in enumerate(references):
        if isinstance(texts, str) or not texts:
            raise DataError(f"query {query} has no list of references; CIDEr needs at least one for each answer")
    told = [[_ngrams(text) for text in texts] for texts in references]
    queries_with: Counter[Ngram] = Counter()
    for counted in told:
        queries_with.update(set().union(*counted))
    scores_Q = np.zeros(len(answers))
    for query, (answer, counted) in enumerate(zip(answers, told, strict=True)):
        said = _weighted(_ngrams(answer), queries_with, len(answers))
        similarities = [_similarity(said, _weighted(ngrams, queries_with, len(answers))) for ngrams in counted]
        scores_Q[query] = SCALE * sum(similarities) / len(similarities)
    return scores_Q


def _ngrams(text: str) -> Counter[Ngram]:
    tokens = words(text)
    return Counter(
        tuple(tokens[start : start + order])
        for order in range(1, ORDERS + 1)
        for start in range(len(tokens) - order + 1)
    )


def _weighted(ngrams: Counter[Ngram], queries_with: Counter[Ngram], queries: int) -> _Weighted:
    weights: tuple[dict[Ngram, float], ...] = tuple({} for _ in range(ORDERS))
    length = 0
    for ngram, count in ngrams.items():
        # An n-gram that no reference says is as rare as one that a single query's references say.
        rarity = math.log(queries) - math.log(max(1, queries_with[ngram]))
        weights[len(ngram) - 1][ngram] = count * rarity
        length += count * (len(ngram) == 1)
    norms = tuple(math.sqrt(sum(weight**2 for weight in table.values())) for table in weights)
    return _Weighted(weights, norms, length)


def _similarity(said: _Weighted, told: _Weighted) -> float:
    """The mean over orders of the clipped cosine, times the penalty for another length."""
    total = 0.0
    for order in range(ORDERS):
        mine, theirs = said.weights[order], told.weights[order]
        norm = said.norms[order] * told.norms[order]
        if norm:
            total += sum(min(mine[ngram], theirs[ngram]) * theirs[ngram] for ngram in mine if ngram in theirs) / norm
    return total / ORDERS * math.exp(-((said.length - told.length) ** 2) / (2 * SIGMA**2))
