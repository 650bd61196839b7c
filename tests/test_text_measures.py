"""Measures of text agree with the packages that define them, and say what they do with what those leave open."""

import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider_scorer import CiderScorer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from raybench.errors import DataError
from raybench.metrics.bleu import sentence_bleu
from raybench.metrics.cider import cider
from raybench.metrics.clip_score import PREFIX, clip_score, groundedness, ref_clip_score
from raybench.metrics.words import exact_match, rouge_l, token_f1, words

FEW_WORDS = ("a", "red", "circle", "left", "of", "blue", "star", "two")
PHRASE = st.lists(st.sampled_from(FEW_WORDS), max_size=12).map(" ".join)
QUERY = st.tuples(PHRASE, st.lists(PHRASE, min_size=1, max_size=5))


def texts(queries: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Random answers of 0 to 14 words, each with one to five references; frequent words are frequent."""
    random = np.random.default_rng(seed)
    odds = np.arange(len(FEW_WORDS), 0, -1.0) / np.arange(len(FEW_WORDS), 0, -1.0).sum()

    def phrase() -> str:
        return " ".join(random.choice(FEW_WORDS, random.integers(15), p=odds))

    references = [[phrase() for _ in range(random.integers(1, 6))] for _ in range(queries)]
    return [phrase() for _ in range(queries)], references


def slow_lcs(one: list[str], other: list[str]) -> int:
    """The longest list of words that is in both in order, by trying all that the first has."""
    for size in range(len(one), 0, -1):
        for chosen in itertools.combinations(one, size):
            rest = iter(other)
            if all(word in rest for word in chosen):
                return size
    return 0


def test_words_are_runs_of_letters_marks_and_digits():
    """Case, punctuation and compatibility forms do not matter; marks belong to their letters."""
    assert words("A  Red\tcircle, don't (3.5)_x!") == ["a", "red", "circle", "don", "t", "3", "5", "x"]
    assert words("\uff32\uff45\uff44 ﬁsh Straße ÉTÉ e\u0301te\u0301") == ["red", "fish", "straße", "été", "été"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("") == words("?! \n\x00 \ud800 🙂") == []


@given(st.text(max_size=40))
def test_words_of_words_are_the_same(text: str):
    """Joined again they are the same words, so that any tokenizer that splits at spaces sees ours."""
    found = words(text)
    assert words(" ".join(found)) == found == " ".join(found).split()
    assert all(unicodedata.category(letter)[0] in "LMN" for word in found for letter in word)


def test_small_cases_by_hand():
    """Bag of words, order and equality, worked out on paper."""
    assert token_f1("a red red circle", ["red circle"]) == 2 * 2 / 6
    assert token_f1("circle red", ["blue", "red circle"]) == 1.0
    assert rouge_l("circle red", ["blue", "red circle"]) == 2 * 1 / 4
    assert rouge_l("the star left of the ring", ["a star is left of a ring"]) == pytest.approx(2 * 4 / 13)
    assert exact_match("Red Circle!", ["blue", "red circle"]) == 1.0
    assert exact_match("the red circle", ["red circle"]) == 0.0  # an article is a word
    assert exact_match("circle red", ["red circle"]) == 0.0


def test_an_answer_without_words_scores_zero_everywhere():
    """Also where the reference has no words either; silence is never right."""
    for answer, reference in itertools.product(["", " ?!"], ["", "...", "red"]):
        measures = (exact_match, token_f1, rouge_l)
        assert [measure(answer, [reference]) for measure in measures] == [0.0] * 3
        assert sentence_bleu([answer], [[reference]]).tolist() == [0.0]
        assert cider([answer, "red star"], [[reference], ["blue star"]])[0] == 0.0
    assert token_f1("red", [""]) == rouge_l("red", [""]) == exact_match("red", [""]) == 0.0


@given(QUERY)
def test_rouge_l_is_that_of_rouge_score(query: tuple[str, list[str]]):
    """The package, without stemming, with the best reference."""
    answer, references = query
    package = RougeScorer(["rougeL"], use_stemmer=False).score_multi(references, answer)["rougeL"].fmeasure
    assert rouge_l(answer, references) == pytest.approx(package, abs=1e-12)


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_rouge_l_counts_the_longest_common_subsequence(one: list[str], other: list[str]):
    """By trying every subsequence."""
    longest = slow_lcs(one, other)
    expected = 2 * longest / (len(one) + len(other)) if longest else 0.0
    assert rouge_l(" ".join(one), [" ".join(other)]) == pytest.approx(expected, abs=1e-12)


def test_rouge_l_of_very_long_texts_is_quick():
    """Lists of 20,000 words, which a table of all pairs would take minutes for; a runaway answer must not stop a run."""
    long = " ".join(str(number % 97) for number in range(20_000))
    assert rouge_l(long, [long]) == 1.0
    assert rouge_l(long + " x", ["x " + long]) == pytest.approx(20_000 / 20_001)


@given(QUERY)
def test_token_f1_is_precision_and_recall_of_words(query: tuple[str, list[str]]):
    """Words crossed off one by one."""
    answer, references = query
    best = 0.0
    for reference in references:
        left, shared = reference.split(), 0
        for word in answer.split():
            if word in left:
                left.remove(word)
                shared += 1
        if shared:
            precision, recall = shared / len(answer.split()), shared / len(reference.split())
            best = max(best, 2 * precision * recall / (precision + recall))
    assert token_f1(answer, references) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("measure", [exact_match, token_f1, rouge_l])
@pytest.mark.parametrize("references", [[], "red circle"])
def test_references_must_be_a_list_of_texts(measure, references):
    """No reference is no score, and a bare text would be read letter by letter."""
    with pytest.raises(DataError, match="at least one reference"):
        measure("red", references)


def test_sentence_bleu_is_that_of_sacrebleu():
    """With its default smoothing and effective order, whatever else is in the corpus."""
    answers, references = texts(80, 4)
    scorer = BLEU(tokenize="none", force=True, effective_order=True)
    expected = [scorer.sentence_score(*query).score / 100 for query in zip(answers, references, strict=True)]
    assert sentence_bleu(answers, references) == pytest.approx(expected, abs=1e-12)
    assert sentence_bleu(["Red circle."], [["red circle"]]).tolist() == [pytest.approx(1.0)]


def test_bleu_by_hand():
    """The brevity penalty of one answer whose four precisions are 1; nothing shared, and no word, are 0."""
    found = sentence_bleu(
        ["a red star left of", "dog", ""], [["a red star left of a blue ring", "blue"], ["cat"], ["cat"]]
    )
    assert found.tolist() == [pytest.approx(np.exp(1 - 8 / 5)), 0.0, 0.0]


def test_bleu_and_cider_refuse_what_has_no_references():
    """Lists of other lengths, and lists without references."""
    for measure in (sentence_bleu, cider):
        with pytest.raises(DataError, match="do not belong together"):
            measure(["a"], [])
        for empty in ([], "a"):
            with pytest.raises(DataError, match="query 1 has no list of references"):
                measure(["a", "b"], [["a"], empty])


def coco_cider(answers: list[str], references: list[list[str]]) -> np.ndarray:
    """The package's number of each query."""
    scorer = CiderScorer(n=4, sigma=6.0)
    for answer, refs in zip(answers, references, strict=True):
        scorer += (answer, refs)
    return scorer.compute_score()[1]


@settings(deadline=None)
@given(st.lists(QUERY, min_size=1, max_size=6).filter(lambda queries: any(any(refs) for _, refs in queries)))
def test_cider_is_that_of_pycocoevalcap(queries: list[tuple[str, list[str]]]):
    """Empty answers, empty and repeated references, one query, and references that several queries share.

    The package fails where no reference at all has a word.
    """
    answers, references = [answer for answer, _ in queries], [refs for _, refs in queries]
    assert cider(answers, references) == pytest.approx(coco_cider(answers, references), abs=1e-9)


def test_cider_of_many_queries_is_that_of_pycocoevalcap():
    """Random texts, and answers that are one of their references."""
    answers, references = texts(120, 7)
    answers[::3] = [refs[0] for refs in references[::3]]
    found = cider(answers, references)
    assert found == pytest.approx(coco_cider(answers, references), abs=1e-9)
    assert found.max() > 3


def test_cider_by_hand():
    """Ten for saying what only this query's reference says, none where all say it, none for a single query."""
    said, other = "a striped red moon above it", "plain blue stars lie under two rings"
    assert cider([said, other], [[said], [other]]) == pytest.approx([10, 10])
    assert cider([said, said], [[said], [other]]) == pytest.approx([10, 0])
    assert cider([said, said], [[said], [said]]).tolist() == [0, 0]  # all queries say it: nothing is rare
    assert cider([said], [[said]]).tolist() == [0]
    # One word of one: unigrams agree, longer n-grams do not exist: a quarter of ten.
    assert cider(["moon", "ring"], [["moon"], ["ring"]]) == pytest.approx([2.5, 2.5])
    assert cider([said.upper() + "!", other], [[said], [other]]) == pytest.approx([10, 10])
    assert cider(["", "red"], [[""], ["?"]]).tolist() == [0, 0]
    assert cider([], []).shape == (0,)


def unit(vector: list[float]) -> np.ndarray:
    return np.array(vector) / np.linalg.norm(vector)


def test_clip_scores_are_those_of_the_paper():
    """Each number worked out with plain cosines; negative ones are cut off and silence scores 0."""
    random = np.random.default_rng(8)
    answers_QD, pictures_QD = random.normal(size=(7, 5)), random.normal(size=(7, 5))
    references_PD, query_P = random.normal(size=(17, 5)), np.array([*range(7), *random.integers(0, 7, 10)])
    answers_QD[3] = 0
    seen_Q = clip_score(answers_QD, pictures_QD)
    both_Q = ref_clip_score(answers_QD, pictures_QD, references_PD, query_P)
    kinds = set()
    for query in range(7):
        if query == 3:
            assert seen_Q[query] == both_Q[query] == 0
            continue
        seen = 2.5 * max(float(unit(answers_QD[query]) @ unit(pictures_QD[query])), 0.0)
        best = max(float(unit(answers_QD[query]) @ unit(row)) for row in references_PD[query_P == query])
        best = max(best, 0.0)
        kinds.add((seen > 0, best > 0))
        assert seen_Q[query] == pytest.approx(seen, abs=1e-12)
        assert both_Q[query] == pytest.approx(2 * seen * best / (seen + best) if seen * best else 0, abs=1e-12)
    assert {(True, True), (False, True)} <= kinds
    assert PREFIX == "A photo depicts "


def test_clip_scores_by_hand_and_of_half_precision():
    """A cosine of 0.6 is 1.5, and with a reference of 0.8 it is 2.4 / 2.3; float16 is lifted before it is multiplied."""
    answer, picture, reference = np.eye(3)[:1], np.array([[0.6, 0.8, 0]]), np.array([[0.8, 0, 0.6]])
    first = np.zeros(1, np.int64)
    assert clip_score(answer, picture) == pytest.approx([1.5])
    assert ref_clip_score(answer, picture, reference, first) == pytest.approx([2 * 1.5 * 0.8 / 2.3])
    assert clip_score(3e4 * answer.astype(np.float16), (3e4 * picture).astype(np.float16)) == pytest.approx(
        [1.5], abs=1e-3
    )
    assert clip_score(answer, picture).dtype == np.float64
    assert ref_clip_score(answer, -picture, reference, first) == [0]
    assert ref_clip_score(answer, -picture, -reference, first) == [0]  # 0 over 0 in the published code


def test_groundedness_is_a_difference_of_mean_cosines():
    """Ragged retrieved pictures, three random ones each, by loops; an empty answer fits nothing."""
    random = np.random.default_rng(9)
    answers_QD, retrieved_PD = random.normal(size=(4, 6)), random.normal(size=(9, 6))
    query_P, random_QRD = np.array([2, 0, 1, 3, 3, 3, 0, 2, 2]), random.normal(size=(4, 3, 6))
    found_Q = groundedness(answers_QD, retrieved_PD, query_P, random_QRD.astype(np.float32))
    for query in range(4):
        own = [unit(answers_QD[query]) @ unit(row) for row in retrieved_PD[query_P == query]]
        others = [unit(answers_QD[query]) @ unit(row) for row in random_QRD[query]]
        assert found_Q[query] == pytest.approx(np.mean(own) - np.mean(others), abs=1e-6)
    assert groundedness(0 * answers_QD, retrieved_PD, query_P, random_QRD).tolist() == [0.0] * 4


def test_vectors_that_cannot_be_compared_are_refused():
    """Other dimensions, NaN, pictures without a direction, and queries without a reference or picture."""
    one, two, first = np.ones((1, 3)), np.ones((2, 3)), np.zeros(1, np.int64)
    with pytest.raises(DataError, match="one scoring model"):
        clip_score(one, np.ones((1, 4)))
    with pytest.raises(DataError, match="one scoring model"):
        clip_score(one, two)
    with pytest.raises(DataError, match="NaN"):
        clip_score(one, one * np.nan)
    with pytest.raises(DataError, match="picture 1 is the vector 0"):
        clip_score(two, np.array([[1, 1, 1], [0, 0, 0]]))
    with pytest.raises(DataError, match="query 1 has no reference"):
        ref_clip_score(two, two, one, first)
    with pytest.raises(DataError, match="query 1 has no retrieved picture"):
        groundedness(two, one, first, np.ones((2, 4, 3)))
    with pytest.raises(DataError, match="query numbers"):
        ref_clip_score(one, one, two, np.array([0, 1]))
    with pytest.raises(DataError, match="one or more for each"):
        groundedness(one, one, first, np.ones((1, 0, 3)))
