"""What a text says in words, and how much of it agrees with reference texts: overlap of words, and of their order.

All measures of text share one tokenizer, `words`: Unicode NFKC, lower case, then each run of letters, marks and digits is a
word; all else only parts words. So "don't" is two words and "3.5" two numbers, and a text without spaces, as in Chinese, is
one word. It is not the Penn Treebank tokenizer that published captioning scores were computed with: compare with other numbers
of raybench only. Articles are words like others: nothing is dropped and nothing is stemmed.

An answer without words scores 0 everywhere, also where a reference has none.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from raybench.errors import DataError


def words(text: str) -> list[str]:
    """The words of a text in order; any text is allowed, and the words of the words are the words."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in plain).split()


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if the answer has the words of a reference, in its order, and no others; else 0."""
    said = words(answer)
    return float(bool(said) and said in _told(references))


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the words as a bag, each as often as it comes, with the reference where it is highest, 0 to 1.

    As for SQuAD (Rajpurkar et al. 2016), but that articles count.
    """
    said = words(answer)
    return max(_f1((Counter(said) & Counter(told)).total(), len(said), len(told)) for told in _told(references))


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words, with the reference where it is highest, 0 to 1 (Lin 2004, beta 1).

    Equal to the package rouge-score without stemming where texts are ASCII, which is all that its tokenizer knows.
    """
    said = words(answer)
    return max(_f1(_common(said, told), len(said), len(told)) for told in _told(references))


def _told(references: Sequence[str]) -> list[list[str]]:
    if isinstance(references, str) or not references:
        raise DataError("a measure of text needs a list of at least one reference per answer; it has none")
    return [words(reference) for reference in references]


def _f1(shared: int, said: int, told: int) -> float:
    """From how many words both share, and have."""
    return 2 * shared / (said + told) if shared else 0.0


def _common(said: list[str], told: list[str]) -> int:
    """The length of the longest common subsequence, one row of the table at a time, a bit per column (Hyyro 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(told):
        places[word] = places.get(word, 0) | 1 << place
    all_bits = (1 << len(told)) - 1
    row = all_bits  # a zero bit is a column where the table steps up
    for word in said:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & all_bits
    return len(told) - row.bit_count()
