"""BLEU-4 of each answer by sacrebleu, on the words of `raybench.metrics.words`, from 0 to 1 (Papineni et al. 2002).

It is the number of one answer against all its references, smoothed as sacrebleu does unless told otherwise ("exp": the first order
without a match counts half a match, the next a quarter). The mean of these numbers is not the BLEU of a corpus, in which matches and
lengths are summed before they are compared. The reference length is that of the reference nearest in length, the shorter of two.
"""

from collections.abc import Sequence

import numpy as np

from raybench.errors import DataError
from raybench.metrics.measure import Values
from raybench.metrics.words import words

ORDERS = 4


def sentence_bleu(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Values:
    """BLEU of each answer alone [Q], 0 to 1; each answer has one reference or more.

    An answer of fewer than four words is scored on the orders that it has (sacrebleu's effective order); one that shares no
    word with a reference, or has none, scores 0.
    """
    from sacrebleu.metrics.bleu import BLEU  # takes a quarter of a second

    if len(answers) != len(references):
        raise DataError(f"{len(answers)} answers and {len(references)} lists of references do not belong together")
    scorer = BLEU(tokenize="none", force=True, effective_order=True, max_ngram_order=ORDERS)
    values_Q = np.zeros(len(answers))
    for query, (answer, texts) in enumerate(zip(answers, references, strict=True)):
        if isinstance(texts, str) or not texts:
            raise DataError(f"query {query} has no list of references; BLEU needs at least one for each answer")
        score = scorer.sentence_score(" ".join(words(answer)), [" ".join(words(text)) for text in texts])
        values_Q[query] = score.score / 100
    return values_Q
