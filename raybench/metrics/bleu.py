"""BLEU-4 by sacrebleu, on the words of `raybench.metrics.words`, from 0 to 1; one number per answer, and one of all of them.

The corpus number is not the mean of the answers' numbers: n-grams and lengths are summed first (Papineni et al. 2002). So what
is kept per query are these sums, from which the number of any subset, or of a resample, is computed exactly.

Both numbers smooth as sacrebleu does unless told otherwise ("exp": the first order without a match counts half a match, the
next a quarter); where each order has a match, as in any corpus of sentences, this changes nothing. The reference length is that
of the reference nearest in length, the shorter of two.

Axes: Q queries, S statistics (length of answer, length of reference, matching 1- to 4-grams, 1- to 4-grams of the answer).
"""

from collections.abc import Sequence

import numpy as np

from raybench.arrays import Rows
from raybench.errors import DataError
from raybench.metrics.measure import Values
from raybench.metrics.uncertainty import Interval, check, draws, numbered
from raybench.metrics.words import words

ORDERS = 4
STATISTICS = 2 + 2 * ORDERS


def bleu_statistics(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Rows:
    """What both numbers are computed from [Q, S], int64; each answer with one reference or more."""
    from sacrebleu.metrics.bleu import BLEU  # takes a quarter of a second

    if len(answers) != len(references):
        raise DataError(f"{len(answers)} answers and {len(references)} lists of references do not belong together")
    scorer = BLEU(tokenize="none", force=True, effective_order=True, max_ngram_order=ORDERS)
    stats_QS = np.zeros((len(answers), STATISTICS), np.int64)
    for query, (answer, texts) in enumerate(zip(answers, references, strict=True)):
        if isinstance(texts, str) or not texts:
            raise DataError(f"query {query} has no list of references; BLEU needs at least one for each answer")
        score = scorer.sentence_score(" ".join(words(answer)), [" ".join(words(text)) for text in texts])
        stats_QS[query] = [score.sys_len, score.ref_len, *score.counts, *score.totals]
    return stats_QS


def sentence_bleu(stats_QS: Rows) -> Values:
    """BLEU of each answer alone [Q], 0 to 1.

    An answer of fewer than four words is scored on the orders that it has (sacrebleu's effective order); one that shares no
    word with a reference, or has none, scores 0.
    """
    return np.array([_bleu(stats_S, effective_order=True) for stats_S in _checked(stats_QS)], np.float64)


def corpus_bleu(stats_QS: Rows) -> float:
    """BLEU of all answers together, 0 to 1; 0 where no answer has four words."""
    return _bleu(_checked(stats_QS).sum(axis=0), effective_order=False)


def corpus_bleu_interval(
    stats_QS: Rows, clusters_Q: Rows, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """The interval of the corpus number, computed again for each resample of clusters; None for a single cluster.

    Draws the same clusters as `bootstrap_intervals` with this seed.
    """
    lengths_Q = _checked(stats_QS)[:, 0].astype(np.float64)
    check(lengths_Q, clusters_Q, resamples, level)
    clusters, clusters_Q = numbered(clusters_Q)
    if clusters < 2:
        return None
    sums_CS = np.zeros((clusters, STATISTICS), np.int64)
    np.add.at(sums_CS, clusters_Q, stats_QS)
    drawn = draws(clusters, resamples, seed)
    bleu_R = [_bleu(weights_C @ sums_CS, effective_order=False) for weights_C in drawn]
    low, high = np.quantile(bleu_R, [(1 - level) / 2, (1 + level) / 2])
    method = f"{level:.0%} percentile bootstrap over {clusters} clusters, {resamples} resamples, seed {seed}"
    return Interval(float(low), float(high), method)


def _bleu(stats_S: Rows, *, effective_order: bool) -> float:
    from sacrebleu.metrics.bleu import BLEU

    answer_length, reference_length, *counts = (int(count) for count in stats_S)
    score = BLEU.compute_bleu(
        counts[:ORDERS],
        counts[ORDERS:],
        answer_length,
        reference_length,
        smooth_method="exp",
        effective_order=effective_order,
        max_ngram_order=ORDERS,
    )
    return float(score.score) / 100


def _checked(stats_QS: Rows) -> Rows:
    if stats_QS.ndim != 2 or stats_QS.shape[1] != STATISTICS or stats_QS.dtype.kind != "i":
        raise DataError(f"BLEU needs {STATISTICS} whole numbers per query, not {stats_QS.dtype} of {stats_QS.shape}")
    return stats_QS
