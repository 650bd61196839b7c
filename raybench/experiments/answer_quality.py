"""What answers are worth, query by query: against references, by a model that sees, and against what is known to be true.

An answer that is missing counts as an empty one. References are the other captions of the picture that a query is about; the
query itself is one only where there is no other. Words of an answer are compared with the same tokenizer by all measures.

Axes: Q queries, D dimensions, P pairs of a query and a reference or picture, R random pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raybench.arrays import FloatMatrix
from raybench.collection import Collection
from raybench.errors import WorkError
from raybench.experiments.drawn import Drawn, Shown, by_lot
from raybench.experiments.generators import Died, Generators
from raybench.generation.worker import Worker
from raybench.metrics import clip_score
from raybench.metrics.bleu import sentence_bleu
from raybench.metrics.cider import cider
from raybench.metrics.words import exact_match, rouge_l, token_f1
from raybench.sources.base import Truth

RANDOM_PICTURES = 8  # of a query, beside its retrieved ones
_TEXTS = 256  # encoded at a time

PerQuery = dict[str, npt.NDArray[np.float64]]
"""By measure, a value for each query; NaN where the measure is not defined for it."""

MEASURES: Mapping[str, tuple[str, str]] = {
    "token_f1": ("share", "overlap of words with the best reference, as the harmonic mean of precision and recall"),
    "rouge_l": ("share", "longest common subsequence of words with the best reference, as F-measure"),
    "bleu@4": ("share", "BLEU of four words, smoothed, of one answer against all its references"),
    "cider": ("score", "CIDEr-D, 0 to 10, with document frequencies of these queries' references"),
    "right": ("share", "whether the answer is the right one"),
    "clip_score": ("score", "CLIPScore of the answer and the picture that the query is about, 0 to 2.5"),
    "ref_clip_score": ("score", "RefCLIPScore: the harmonic mean of CLIPScore and the best cosine with a reference"),
    "groundedness": ("score", "mean cosine of the answer with the retrieved pictures, less that with random ones"),
    "accuracy": ("share", "attributes of the true scene that the answer states rightly"),
    "accuracy_untold": ("share", "the same, of the attributes that the query does not tell"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What answers of one set of queries are held against."""

    drawn: Drawn
    image_ids: tuple[str, ...]  # of the pictures that queries are about
    references: tuple[tuple[str, ...], ...]
    questions: tuple[tuple[str, str] | None, ...]  # question and answer
    truth: Truth | None


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Vectors of a scoring encoder."""

    gold_QD: FloatMatrix
    retrieved_PD: FloatMatrix
    retrieved_query_P: npt.NDArray[np.int64]
    random_QRD: npt.NDArray[np.floating]
    texts: Mapping[str, FloatMatrix]  # of every answer and reference


def of_words(answers: Sequence[str], references: Sequence[Sequence[str]]) -> PerQuery:
    """The measures against reference captions."""
    return {
        "token_f1": np.array([token_f1(one, some) for one, some in zip(answers, references, strict=True)]),
        "rouge_l": np.array([rouge_l(one, some) for one, some in zip(answers, references, strict=True)]),
        "bleu@4": sentence_bleu(answers, references),
        "cider": cider(answers, references),
    }


def of_questions(answers: Sequence[str], held: Held) -> PerQuery:
    """Whether each question was answered rightly, and the overlap of words with the right answer."""
    asked = [(one or ("", "")) for one in held.questions]
    rows = list(zip(held.image_ids, asked, answers, strict=True))
    return {
        "right": np.array([_is_right(held.truth, image_id, *question, said) for image_id, question, said in rows]),
        "token_f1": np.array([token_f1(said, [right]) for _, (_, right), said in rows]),
    }


def _is_right(truth: Truth | None, image_id: str, question: str, right: str, said: str) -> float:
    """By the source, which knows other words for the same, or by equal words."""
    return exact_match(said, [right]) if truth is None else float(truth.is_right(image_id, question, right, said))


def of_truth(answers: Sequence[str], held: Held) -> PerQuery:
    """Accuracy by attribute, where the source knows what its pictures show."""
    if held.truth is None:
        return {}
    told = [
        held.truth.judge(image_id, text, said)
        for image_id, text, said in zip(held.image_ids, held.drawn.texts, answers, strict=True)
    ]
    names = dict.fromkeys(name for one in told for name in one)
    return {
        name: np.array(
            [one[name][0] / one[name][1] if one.get(name, (0, 0))[1] else np.nan for one in told], np.float64
        )
        for name in names
    }


def of_sight(answers: Sequence[str], held: Held, seen: Seen, prefix: str) -> PerQuery:
    """What a model that sees makes of the answers."""
    dim = seen.gold_QD.shape[1]
    answers_QD = np.stack([seen.texts[prefix + one] if one.strip() else np.zeros(dim, np.float32) for one in answers])
    pairs = [(query, reference) for query, some in enumerate(held.references) for reference in some]
    query_P = np.array([query for query, _ in pairs], np.int64)
    references_PD = np.stack([seen.texts[prefix + reference] for _, reference in pairs])
    made = {
        "clip_score": clip_score.clip_score(answers_QD, seen.gold_QD),
        "ref_clip_score": clip_score.ref_clip_score(answers_QD, seen.gold_QD, references_PD, query_P),
    }
    if len(seen.retrieved_PD):
        made["groundedness"] = clip_score.groundedness(
            answers_QD, seen.retrieved_PD, seen.retrieved_query_P, seen.random_QRD
        )
    return made


def look(
    held: Held, answers: Sequence[Sequence[str]], retrieved: Shown | None, images: Collection, encoder: str, prefix: str,
    pool: Generators, seed: int,
) -> Seen:  # fmt: skip
    """Vectors of all that is scored: pictures from the collection, texts from the pool's encoder."""
    drawn = held.drawn
    random = [
        by_lot(len(images), RANDOM_PICTURES, known, seed + 1, query)
        for query, known in zip(drawn.queries.tolist(), drawn.grades, strict=True)
    ]
    shown = retrieved.rows if retrieved is not None and all(retrieved.rows) and all(map(len, random)) else ()
    pairs = [(query, row) for query, some in enumerate(shown) for row in some]
    wanted = sorted({*drawn.gold.tolist(), *(row for some in random for row in some), *(row for _, row in pairs)})
    place = {row: number for number, row in enumerate(wanted)}
    vectors_ND = _rows(images, wanted)
    least = min(map(len, random), default=0)
    return Seen(
        vectors_ND[[place[row] for row in drawn.gold.tolist()]], vectors_ND[[place[row] for _, row in pairs]],
        np.array([query for query, _ in pairs], np.int64),
        np.stack([vectors_ND[[place[row] for row in some[:least]]] for some in random]),
        _encoded(sorted(_read(answers, held, prefix)), encoder, pool),
    )  # fmt: skip


def _read(answers: Sequence[Sequence[str]], held: Held, prefix: str) -> set[str]:
    """All that is embedded for scoring: answers with words, and every reference."""
    said = {prefix + text for some in answers for text in some if text.strip()}
    return said | {prefix + text for some in held.references for text in some}


def _rows(images: Collection, wanted: Sequence[int]) -> FloatMatrix:
    """Some rows of a collection, file by file."""
    taken, first = [], 0
    rows = np.array(wanted, np.int64)
    for part in images.parts:
        here = rows[(rows >= first) & (rows < first + part.rows)]
        if len(here):
            taken.append(images.load(first, first + part.rows).matrix_ND[here - first])
        first += part.rows
    return np.concatenate(taken)


def _encoded(texts: Sequence[str], encoder: str, pool: Generators) -> dict[str, FloatMatrix]:
    chunks = [tuple(texts[start : start + _TEXTS]) for start in range(0, len(texts), _TEXTS)]
    made: dict[str, FloatMatrix] = {}
    for (_, chunk), vectors in pool.each(_texts, [(encoder, chunk) for chunk in chunks]):
        if isinstance(vectors, Died):
            raise WorkError(f"scoring with {encoder} ended its worker {vectors.times} times: {vectors.detail}")
        made |= dict(zip(chunk, vectors, strict=True))
    return made


def _texts(worker: Worker, item: tuple[str, Sequence[str]]) -> FloatMatrix:
    spec, texts = item
    return worker.texts(spec, texts)
