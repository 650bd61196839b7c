"""Every measure agrees with trec_eval, with its definition computed slowly, and with every way to break ties."""

import itertools
import math
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pytest
import pytrec_eval
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from oracles import count_block

from raybench.arrays import Neighbors, Qrels
from raybench.errors import DataError, RequestError, SpecError, WorkError
from raybench.metrics import (
    MEASURES,
    Counts,
    Pairs,
    Ranks,
    chance,
    evaluate,
    evaluate_overlap,
    is_at_chance,
    parse_measure,
)
from raybench.metrics.chance import _harmonic

JUDGED = [name for name, definition in MEASURES.items() if definition.score is not None]


def spec(name: str, k: int | None) -> str:
    return name if k is None or MEASURES[name].cut == "none" else f"{name}@{k}"


def slowly(name: str, k: int | None, gains: Sequence[int], grades: Sequence[int]) -> float:  # noqa: PLR0911  one per measure
    """A measure by its definition: gains of all rows in rank order (0 if not relevant), grades of all relevant rows."""
    first = next((rank for rank, gain in enumerate(gains, 1) if gain), None)
    cut = len(gains) if k is None else k
    top = list(gains)[:cut]
    found = sum(gain > 0 for gain in top)
    if name in ("mean_rank", "median_rank"):
        return float(first or len(gains) + 1)
    if name == "mrr":
        return 1 / first if first and first <= cut else 0.0
    if name == "hit":
        return float(found > 0)
    if name == "recall":
        return found / len(grades) if grades else 0.0
    if name == "precision":
        return found / cut
    if name == "map":
        hits = [rank for rank, gain in enumerate(top, 1) if gain]
        return sum(nth / rank for nth, rank in enumerate(hits, 1)) / len(grades) if grades else 0.0
    if name == "ndcg":
        ideal = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(sorted(grades, reverse=True)[:cut], 1))
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(top, 1)) / ideal if ideal else 0.0
    raise AssertionError(f"no slow definition of {name}; add one here")


@dataclass(frozen=True)
class Case:
    """A corpus of few rows with scores full of ties, and what is relevant; rows under 0 are not in the corpus."""

    scores: list[float]
    judged: dict[int, int]

    @property
    def pairs(self) -> Pairs:
        """The judgments of its one query."""
        return Pairs.of(Qrels.of({"q": self.judged}, {"q": "c"}))

    @property
    def targets(self) -> np.ndarray:
        """The scores of the relevant rows."""
        return np.array([self.scores[row] if row >= 0 else np.nan for row in self.judged], np.float64)

    @property
    def ranks(self) -> Ranks:
        """Ranks from counting all rows."""
        return Ranks.of_counts(self.pairs, count_block(np.array([self.scores]), 0, self.pairs, self.targets))

    def declared(self) -> list[int]:
        """All rows in the declared order."""
        return sorted(range(len(self.scores)), key=lambda row: (-self.scores[row], row))

    def neighbors(self, k: int) -> Neighbors:
        """The first k rows, padded."""
        rows = self.declared()[:k]
        room = k - len(rows)
        ids = np.array([rows + [-1] * room], np.int64)
        return Neighbors(ids, np.array([[self.scores[row] for row in rows] + [-np.inf] * room], np.float64))

    def orders(self) -> Iterator[list[int]]:
        """Every order of all rows that the scores allow."""
        groups = [[row for row, score in enumerate(self.scores) if score == value] for value in set(self.scores)]
        groups.sort(key=lambda group: -self.scores[group[0]])
        for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
            yield [row for part in parts for row in part]

    def value(self, name: str, k: int | None, order: Sequence[int]) -> float:
        """A measure in one order of the rows, slowly."""
        return slowly(name, k, [self.judged.get(row, 0) for row in order], list(self.judged.values()))


@st.composite
def cases(draw: st.DrawFn, most: int = 6) -> Case:
    scores = draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5]), min_size=1, max_size=most))
    rows = st.integers(0, len(scores) - 1) | st.integers(-4, -2)
    return Case(scores, draw(st.dictionaries(rows, st.integers(1, 3), max_size=4)))


CUTS = st.integers(1, 8)


@settings(deadline=None, max_examples=60)
@given(cases(), CUTS)
def test_measures_are_their_definitions_and_ties_bound_them_exactly(case: Case, k: int) -> None:
    """In the declared order the value is the definition's; worst and best are reached over all ways to break ties."""
    for name in JUDGED:
        for cut in [k, None] if MEASURES[name].cut == "possible" else [k]:
            found = evaluate(parse_measure(spec(name, cut)), case.ranks)
            every = [case.value(name, cut, order) for order in case.orders()]
            worst, best = sorted([min(every), max(every)], reverse=MEASURES[name].better == "lower")
            assert found.value == pytest.approx(case.value(name, cut, case.declared()), abs=1e-12)
            assert found.worst == pytest.approx(worst, abs=1e-12)
            assert found.best == pytest.approx(best, abs=1e-12)


@settings(deadline=None, max_examples=150)
@given(cases(), CUTS, st.integers(1, 7))
@example(Case([0.0] * 6, {0: 1, 1: 1}), 2, 3)  # both relevant rows tie with rows behind the list
@example(Case([1.0, 0.0, 0.0, 0.0], {3: 1}), 2, 3)  # the relevant row is behind the list and may tie with its end
def test_lists_give_the_same_values_and_enclose_the_bounds(case: Case, k: int, depth: int) -> None:
    """Deep enough lists give what the whole corpus gives; their bounds enclose the truth.

    They are the truth where the list goes on past every tie across the cut-off.
    """
    ranks = Ranks.of_neighbors(case.pairs, case.neighbors(depth), len(case.scores))
    shows_all = depth >= len(case.scores)
    for name in JUDGED:
        measure = parse_measure(spec(name, k))
        if measure.k is None or (k > depth and not shows_all):
            with pytest.raises(RequestError, match=f"{measure} needs"):
                evaluate(measure, ranks)
            continue
        found, truth = evaluate(measure, ranks), evaluate(measure, case.ranks)
        assert found.value == pytest.approx(truth.value, abs=1e-12)
        if k == depth and not shows_all:
            assert (found.worst, found.best) == (None, None)
            continue
        enclosing, enclosed = [found.worst, -1 * found.best], [truth.worst, -1 * truth.best]
        assert (np.array(enclosing) <= np.array(enclosed) + 1e-12).all()
        scores = sorted(case.scores, reverse=True)
        if shows_all or scores[k - 1] > scores[depth - 1]:
            assert found.worst == pytest.approx(truth.worst, abs=1e-12)
            assert found.best == pytest.approx(truth.best, abs=1e-12)


def test_worked_examples() -> None:
    """Relevant rows at ranks 2 and 5 of grades 1 and 3, one more of grade 2 that is not in the corpus: by hand."""
    case = Case([9.0, 8.0, 7.0, 6.0, 5.0, 4.0], {1: 1, 4: 3, -2: 2})
    by_hand = {
        "hit@1": 0,
        "hit@2": 1,
        "recall@5": 2 / 3,
        "precision@5": 2 / 5,
        "precision@10": 2 / 10,
        "map@5": (1 / 2 + 2 / 5) / 3,
        "mrr@1": 0,
        "mrr@5": 1 / 2,
        "mrr": 1 / 2,
        "mean_rank": 2,
        "median_rank": 2,
        "ndcg@5": (1 / math.log2(3) + 3 / math.log2(6)) / (3 + 2 / math.log2(3) + 1 / 2),
    }
    for text, value in by_hand.items():
        found = evaluate(parse_measure(text), case.ranks)
        assert (found.value, found.worst, found.best) == pytest.approx((value,) * 3, abs=1e-15)


RUNS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 14), st.integers(0, 3), max_size=8),
        st.lists(st.tuples(st.integers(0, 14), st.integers(0, 4)), max_size=10, unique_by=lambda hit: hit[0]),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(RUNS)
def test_agreement_with_trec_eval(run: list[tuple[dict[int, int], list[tuple[int, int]]]]) -> None:
    """Graded judgments, short lists, empty ones, queries without relevant rows and ties: the same to 1e-12.

    trec_eval reads scores in single precision and breaks ties by id, so it is given scores that spell our order. It
    leaves queries without results out, which count 0 here.
    """
    judged = {f"q{number}": grades for number, (grades, _) in enumerate(run)}
    ids = np.full((len(run), 10), -1, np.int64)
    scores = np.full((len(run), 10), -np.inf)
    for number, (_, hits) in enumerate(run):
        ordered = sorted(hits, key=lambda hit: (-hit[1], hit[0]))
        ids[number, : len(hits)] = [row for row, _ in ordered]
        scores[number, : len(hits)] = [score for _, score in ordered]
    pairs = Pairs.of(Qrels.of(judged, dict.fromkeys(judged, "c")))
    ranks = Ranks.of_neighbors(pairs, Neighbors(ids, scores), corpus_size=15)
    cuts = [1, 3, 5, 10]
    theirs = {
        "recall": "recall", "hit": "success", "precision": "P", "ndcg": "ndcg_cut", "map": "map_cut", "mrr": "recip_rank",
    }  # fmt: skip
    assert set(theirs) == {name for name in JUDGED if MEASURES[name].cut != "none"}
    wanted = {f"{name}.{','.join(map(str, cuts))}" for name in theirs.values() if name != "recip_rank"}
    oracle = pytrec_eval.RelevanceEvaluator(
        {query: {str(row): grade for row, grade in grades.items()} for query, grades in judged.items()},
        wanted | {"recip_rank"},
    ).evaluate(
        {
            f"q{number}": {str(row): float(-rank) for rank, row in enumerate(ids[number]) if row >= 0}
            for number, (_, hits) in enumerate(run)
            if hits
        }
    )
    for (name, theirs_name), k in itertools.product(theirs.items(), cuts):
        found = evaluate(parse_measure(f"{name}@{k}"), ranks).values_Q
        for number in range(len(run)):
            values = oracle.get(f"q{number}", {})
            if name == "mrr":
                expected = values.get("recip_rank", 0.0)
                expected = expected if expected * k >= 1 - 1e-9 else 0.0
            else:
                expected = values.get(f"{theirs_name}_{k}", 0.0)
            assert found[number] == pytest.approx(expected, abs=1e-12), (name, k, run[number])


def test_identities_with_one_relevant_image_per_query() -> None:
    """Five captions per image: P@10 = R@10 / 10, R@k = hit@k, MAP@k = MRR@k, NDCG@k = 1 / log2(rank + 1) up to k."""
    random = np.random.default_rng(5)
    images, corpus = 40, 300
    image_Q = np.repeat(np.arange(images), 5)
    scores_QN = random.standard_normal((len(image_Q), corpus))
    scores_QN[np.arange(len(image_Q)), image_Q] += 2
    judged = {f"{image}_caption_{number}": {int(image): 1} for number, image in enumerate(image_Q)}
    pairs = Pairs.of(Qrels.of(judged, {query: query.split("_")[0] for query in judged}))
    target_P = scores_QN[np.arange(len(image_Q)), image_Q]
    ranks = Ranks.of_counts(pairs, count_block(scores_QN, 0, pairs, target_P))
    rank_Q = 1 + (scores_QN > target_P[:, None]).sum(axis=1)

    def values(text: str) -> np.ndarray:
        return evaluate(parse_measure(text), ranks).values_Q

    for k in (1, 5, 10, 100):
        np.testing.assert_array_equal(values(f"recall@{k}"), rank_Q <= k)
        np.testing.assert_array_equal(values(f"recall@{k}"), values(f"hit@{k}"))
        np.testing.assert_array_equal(values(f"map@{k}"), values(f"mrr@{k}"))
        np.testing.assert_allclose(values(f"precision@{k}"), values(f"recall@{k}") / k, atol=1e-15)
        np.testing.assert_allclose(values(f"ndcg@{k}"), (rank_Q <= k) / np.log2(rank_Q + 1), atol=1e-15)
    np.testing.assert_array_equal(values("mrr"), 1 / rank_Q)
    assert evaluate(parse_measure("mean_rank"), ranks).value == rank_Q.mean()
    assert evaluate(parse_measure("median_rank"), ranks).value == np.median(rank_Q)


def test_averages_run_over_all_judged_queries() -> None:
    """A query that found nothing, or has nothing to find, counts 0; by rank it comes after the last row."""
    pairs = Pairs.of(Qrels.of({"a": {0: 1}, "b": {}, "c": {-2: 1}}, dict.fromkeys("abc", "x")))
    counts = count_block(np.zeros((3, 4)), 0, pairs, np.array([0.0, np.nan]))
    ranks = Ranks.of_counts(pairs, counts)
    assert evaluate(parse_measure("hit@1"), ranks).value == pytest.approx(1 / 3)
    assert evaluate(parse_measure("mean_rank"), ranks).values_Q.tolist() == [1, 5, 5]
    assert evaluate(parse_measure("median_rank"), ranks).value == 5
    empty = Pairs.of(Qrels.of({}, {}))
    nothing = Ranks.of_counts(empty, Counts.none(empty))
    with pytest.raises(RequestError, match="no judged queries"):
        evaluate(parse_measure("hit@1"), nothing)


@settings(deadline=None)
@given(st.data())
def test_counts_of_shards_add_up(data: st.DataObject) -> None:
    """However rows and queries are split, and in whatever order the parts are added, the counts are those by hand."""
    num_queries, rows = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    level = st.integers(0, 2)
    scores_QN = np.array(
        data.draw(st.lists(st.lists(level, min_size=rows, max_size=rows), min_size=num_queries, max_size=num_queries)),
        np.float64,
    )
    judged = {
        str(query): data.draw(st.dictionaries(st.integers(0, rows - 1) | st.just(-2), level.map(lambda g: g + 1)))
        for query in range(num_queries)
    }
    pairs = Pairs.of(Qrels.of(judged, dict.fromkeys(judged, "c")))
    score_P = np.where(pairs.row_P < 0, np.nan, scores_QN[pairs.query_P, np.maximum(pairs.row_P, 0)])
    cuts = [*sorted(data.draw(st.sets(st.integers(1, rows)))), rows]
    middle = data.draw(st.integers(0, num_queries))
    shards = []
    for start, stop in itertools.pairwise([0, *cuts]):
        parts = []
        for first, last in ((0, middle), (middle, num_queries)):
            part = pairs.part(first, last)
            of_part_P = score_P[(pairs.query_P >= first) & (pairs.query_P < last)]
            parts.append(count_block(scores_QN[first:last, start:stop], start, part, of_part_P))
        shards.append(Counts.join(parts))
    total = reduce(Counts.__add__, data.draw(st.permutations(shards)), Counts.none(pairs))
    assert total.rows == rows
    for pair, (query, row, score) in enumerate(zip(pairs.query_P, pairs.row_P, score_P, strict=True)):
        others = scores_QN[query].tolist()
        assert total.higher_P[pair] == sum(other > score for other in others)
        assert total.tied_P[pair] == sum(other == score for other in others)
        assert total.before_P[pair] == sum(other == score and place < row for place, other in enumerate(others))
        assert total.seen_P[pair] == (row >= 0)
    Ranks.of_counts(pairs, total)


def test_a_shard_that_is_missing_or_counted_twice_is_noticed() -> None:
    """A rank that did not see its own row exactly once, with its own score, is refused as failed work."""
    case = Case([3.0, 2.0, 1.0], {1: 1})
    scores_QN, pairs, targets = np.array([case.scores]), case.pairs, case.targets
    left, right = (count_block(scores_QN[:, part], part.start, pairs, targets) for part in (slice(0, 1), slice(1, 3)))
    assert Ranks.of_counts(pairs, left + right).declared.rank_P.tolist() == [2]
    for wrong in (left, left + right + right, Counts.none(pairs)):
        with pytest.raises(WorkError, match="relevant row 1 was met"):
            Ranks.of_counts(pairs, wrong)
    with pytest.raises(WorkError, match="relevant row 1 was met 1 times in 3 rows and ties with 0"):
        Ranks.of_counts(pairs, replace(left + right, tied_P=np.zeros(1, np.int64)))
    with pytest.raises(WorkError, match="in its block and"):
        count_block(scores_QN, 0, pairs, np.nextafter(targets, 9))


def test_counts_refuse_what_does_not_belong_together() -> None:
    """Wrong shapes, single precision and NaN are refused before they become ranks."""
    case = Case([3.0, 2.0, 1.0], {1: 1})
    scores_QN, pairs, targets = np.array([case.scores]), case.pairs, case.targets
    whole = count_block(scores_QN, 0, pairs, targets)
    two = Pairs.of(Qrels.of({"q": {0: 1, 1: 1}}, {"q": "c"}))
    with pytest.raises(DataError, match="do not belong"):
        count_block(np.zeros((2, 3)), 0, pairs, targets)
    with pytest.raises(DataError, match="do not belong"):
        count_block(scores_QN, 0, two, targets)
    with pytest.raises(DataError, match="must be float64"):
        count_block(scores_QN.astype(np.float32), 0, pairs, targets)
    with pytest.raises(DataError, match="rows 7 to 10 hold NaN"):
        count_block(np.array([[1.0, np.nan, 2.0]]), 7, pairs, targets)
    with pytest.raises(DataError, match="cannot be added"):
        whole + Counts.none(two)
    with pytest.raises(DataError, match="cannot be joined"):
        Counts.join([whole, Counts.none(pairs)])
    with pytest.raises(DataError, match="do not belong"):
        Ranks.of_counts(two, whole)


NOWHERE = -np.inf


@pytest.mark.parametrize(
    ("ids", "scores", "says"),
    [
        ([3, 1, 2], [0.5, 0.6, 0.1], "query 0 are not in order"),
        ([3, 1, 2], [0.5, 0.5, 0.1], "query 0 are not in order"),
        ([3, 1, 2], [0.5, np.nan, 0.1], "query 0 are not in order"),
        ([3, 1, 2], [np.inf, 0.2, 0.1], "query 0 are not in order"),
        ([3, 1, 2], [0.3, 0.2, NOWHERE], "query 0 are not in order"),
        ([3, -1, 2], [0.3, NOWHERE, 0.1], "query 0 are not in order"),
        ([3, -2, -1], [0.3, NOWHERE, NOWHERE], "query 0 are not in order"),
        ([3, 1, -1], [0.3, 0.2, 0.1], "query 0 are not in order"),
        ([3, 1, -1], [0.3, 0.2, np.nan], "query 0 are not in order"),
        ([99, 1, 2], [0.3, 0.2, 0.1], "query 0 are not in order"),
        ([1, 3, 1], [0.3, 0.2, 0.1], "found row 1 twice"),
        ([1, 1, 2], [0.3, 0.3, 0.1], "query 0 are not in order"),
    ],
)
def test_lists_out_of_order_are_refused(ids: list[int], scores: list[float], says: str) -> None:
    """Results that are not in the one declared order would be ranked wrongly, so they are refused."""
    pairs = Pairs.of(Qrels.of({"q": {1: 1}}, {"q": "c"}))
    with pytest.raises(DataError, match=says):
        Ranks.of_neighbors(pairs, Neighbors(np.array([ids]), np.array([scores])), corpus_size=50)


def test_lists_refuse_other_queries_and_rows() -> None:
    """As many lists as queries, with room for a row, and no judgment past the end of the corpus."""
    pairs = Pairs.of(Qrels.of({"q": {7: 1}}, {"q": "c"}))
    one = Neighbors(np.array([[0]]), np.array([[1.0]]))
    with pytest.raises(DataError, match="results of 2 queries and judgments of 1"):
        Ranks.of_neighbors(pairs, Neighbors(np.zeros((2, 1), np.int64), np.zeros((2, 1))), 50)
    with pytest.raises(DataError, match="row 7 is judged, but the corpus has 7 rows"):
        Ranks.of_neighbors(pairs, one, 7)
    with pytest.raises(DataError, match="no room"):
        Ranks.of_neighbors(pairs, Neighbors(np.zeros((1, 0), np.int64), np.zeros((1, 0))), 50)


def test_large_lists_are_ranked_in_blocks() -> None:
    """Blocks of pairs and queries do not change any rank."""
    random = np.random.default_rng(3)
    queries, k, corpus = 500, 400, 2_000
    scores_QK = -np.sort(-random.integers(0, 3_000, (queries, k)).astype(np.float64), axis=1)
    ids_QK = np.argsort(random.random((queries, corpus)), axis=1)[:, :k]
    order_QK = np.lexsort((ids_QK, -scores_QK), axis=1)
    neighbors = Neighbors(np.take_along_axis(ids_QK, order_QK, 1), np.take_along_axis(scores_QK, order_QK, 1))
    judged = {str(q): dict.fromkeys(random.choice(corpus, 3, replace=False).tolist(), 1) for q in range(queries)}
    ranks = Ranks.of_neighbors(Pairs.of(Qrels.of(judged, dict.fromkeys(judged, "c"))), neighbors, corpus)
    for query, rows in enumerate(judged.values()):
        places = sorted(1 + list(neighbors.ids_QK[query]).index(row) for row in rows if row in neighbors.ids_QK[query])
        assert ranks.declared.rank_P[ranks.declared.query_P == query].tolist() == places


SCORED = st.lists(st.sampled_from([0.0, 0.25, 0.5]), min_size=1, max_size=9)


@settings(deadline=None)
@given(SCORED, st.integers(1, 6), st.data())
def test_overlap_is_the_share_of_the_exact_rows(scores: list[float], k: int, data: st.DataObject) -> None:
    """By id it is the size of the intersection; tie-aware, found rows that score as much as the last exact one count."""
    gold = Case(scores, {}).neighbors(k)
    rows = data.draw(st.lists(st.integers(0, len(scores) - 1), unique=True, max_size=k))
    rows.sort(key=lambda row: (-scores[row], row))
    room = k - len(rows)
    found = Neighbors(
        np.array([rows + [-1] * room], np.int64), np.array([[scores[row] for row in rows] + [NOWHERE] * room])
    )
    exact = [row for row in gold.ids_QK[0] if row >= 0]
    result = evaluate_overlap(parse_measure(f"overlap@{k}"), found, gold, exact_scores=True)
    assert result.value == result.worst == pytest.approx(len(set(exact) & set(rows)) / len(exact))
    assert result.best == pytest.approx(sum(scores[row] >= scores[exact[-1]] for row in rows) / len(exact))
    blind = evaluate_overlap(parse_measure(f"overlap@{k}"), found, gold, exact_scores=False)
    assert (blind.value, blind.best) == (result.value, None)


def test_overlap_of_many_queries() -> None:
    """Blocks do not change any value, and the first k of longer lists are compared."""
    random = np.random.default_rng(1)
    rows, k = 2_000, 60
    gold_QK, found_QK = (np.argsort(random.random((3_000, 90)), axis=1) for _ in range(2))
    scores_QK = np.tile(-np.arange(90.0), (3_000, 1))
    gold, found = Neighbors(gold_QK + rows, scores_QK), Neighbors(found_QK + rows, scores_QK)
    values_Q = evaluate_overlap(parse_measure(f"overlap@{k}"), found, gold, exact_scores=False).values_Q
    slow = [len(set(a[:k]) & set(b[:k])) / k for a, b in zip(gold_QK, found_QK, strict=True)]
    assert values_Q.tolist() == pytest.approx(slow)


def test_overlap_refuses_what_it_cannot_compare() -> None:
    """Short lists, other queries, rows found twice, gold out of order and scores above the exact ones."""
    measure = parse_measure("overlap@2")
    gold = Neighbors(np.array([[4, 5]]), np.array([[0.5, 0.25]]))

    def overlap(ids: list[int], scores: list[float], gold: Neighbors = gold) -> float:
        found = Neighbors(np.array([ids], np.int64), np.array([scores]))
        return evaluate_overlap(measure, found, gold, exact_scores=True).value

    assert overlap([4, 6], [0.5, 0.125]) == 0.5
    with pytest.raises(RequestError, match="the index gave 1"):
        overlap([4], [0.5])
    with pytest.raises(RequestError, match="the exact search gave 1"):
        overlap([4, 5], [0.5, 0.25], gold.top(1))
    with pytest.raises(RequestError, match="same queries"):
        overlap([4, 5], [0.5, 0.25], Neighbors(np.zeros((0, 2), np.int64), np.zeros((0, 2))))
    with pytest.raises(DataError, match="query 0 hold a row twice"):
        overlap([4, 4], [0.5, 0.25])
    with pytest.raises(DataError, match="not in order"):
        overlap([4, 5], [0.5, 0.25], Neighbors(np.array([[4, 5]]), np.array([[0.25, 0.5]])))
    for too_high in (0.3, np.nan):
        with pytest.raises(DataError, match="query 0 found rows with higher scores"):
            overlap([4, 5], [0.5, too_high])
    with pytest.raises(RequestError, match="use evaluate"):
        evaluate_overlap(parse_measure("recall@2"), gold, gold, exact_scores=True)
    with pytest.raises(RequestError, match="use evaluate_overlap"):
        evaluate(measure, Case([1.0], {0: 1}).ranks)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 5),
    st.lists(st.dictionaries(st.integers(0, 4) | st.integers(-3, -2), st.integers(1, 3), max_size=5), min_size=1, max_size=3),
    st.integers(1, 8),
)  # fmt: skip
def test_chance_is_the_average_over_all_orders(rows: int, judged: list[dict[int, int]], k: int) -> None:
    """The closed forms equal the mean of the definition over every order of the corpus, also with missing rows."""
    assume(all(row < rows for grades in judged for row in grades))
    named = {str(number): grades for number, grades in enumerate(judged)}
    pairs = Pairs.of(Qrels.of(named, dict.fromkeys(named, "c")))
    orders = list(itertools.permutations(range(rows)))
    for name in JUDGED:
        for cut in [k, None] if MEASURES[name].cut == "possible" else [k]:
            every = np.array(
                [
                    [
                        slowly(name, cut, [grades.get(row, 0) for row in order], list(grades.values()))
                        for order in orders
                    ]
                    for grades in judged
                ]
            )
            expected = every.mean()
            if name == "median_rank":  # the rank by which half of all outcomes of all queries have come
                expected = np.sort(every.ravel())[math.ceil(every.size / 2) - 1]
            assert chance(parse_measure(spec(name, cut)), pairs, rows) == pytest.approx(expected, abs=1e-12), name
    assert chance(parse_measure(f"overlap@{k}"), pairs, rows) == min(k, rows) / rows


def test_chance_of_a_large_corpus() -> None:
    """Known values at size: one relevant row among N; the series of harmonic numbers meets its sum."""
    pairs = Pairs.of(Qrels.of({"q": {5: 1}}, {"q": "c"}))
    rows = 400_000_000
    assert chance(parse_measure("hit@10"), pairs, rows) == pytest.approx(10 / rows, rel=1e-12)
    assert chance(parse_measure("recall@10"), pairs, rows) == pytest.approx(10 / rows, rel=1e-12)
    assert chance(parse_measure("mean_rank"), pairs, rows) == (rows + 1) / 2
    assert chance(parse_measure("median_rank"), pairs, rows) == rows / 2
    assert chance(parse_measure("mrr"), pairs, rows) == pytest.approx(_harmonic(rows) / rows, rel=1e-12)
    for number in (1, 999, 1000, 30_000):
        assert _harmonic(number) == pytest.approx(math.fsum(1 / i for i in range(1, number + 1)), rel=1e-13)
    with pytest.raises(RequestError, match="needs queries and rows"):
        chance(parse_measure("hit@1"), pairs, 0)


def test_a_result_at_chance_is_told_from_a_result() -> None:
    """The interval decides, and for ranks low is good; without an interval the value does."""
    hit, rank = parse_measure("hit@10"), parse_measure("mean_rank")
    assert is_at_chance(hit, 0.02, 0.01, 0.03, expected=0.01)
    assert not is_at_chance(hit, 0.03, 0.02, 0.04, expected=0.01)
    assert is_at_chance(hit, 0.01, None, None, expected=0.01)
    assert is_at_chance(rank, 480.0, 450.0, 510.0, expected=500.0)
    assert not is_at_chance(rank, 400.0, 350.0, 450.0, expected=500.0)
    assert not is_at_chance(rank, 400.0, None, None, expected=500.0)


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_a_value(name: str) -> None:
    """Its text parses to it and back, it travels to workers, and it says what it needs and in which unit it is."""
    measure = parse_measure(spec(name, 10))
    assert str(measure) == spec(name, 10)
    assert pickle.loads(pickle.dumps(measure)) == measure  # noqa: S301  made here
    assert len({measure, parse_measure(spec(name, 10))}) == 1
    assert measure.unit in {"share", "score", "rank"}
    assert measure.better == ("lower" if measure.unit == "rank" else "higher")
    assert measure.needs == ("gold" if name == "overlap" else "qrels")
    assert measure.depth == {"overlap": 10, "mean_rank": None, "median_rank": None}.get(name, 11)
    assert MEASURES[name].says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ndgc@10", "no measure is called 'ndgc'; did you mean 'ndcg'?"),
        ("r@10", "no measure is called 'r'; "),
        ("recall", "measure 'recall' needs a cut-off; write it like recall@10"),
        ("mean_rank@10", "measure 'mean_rank' has no cut-off, and mean_rank@10 has one; write mean_rank"),
        ("ndcg(10)", "measure 'ndcg' takes no parameters in ndcg(10); write its cut-off as ndcg@10"),
        ("ndcg(k=10)@10", "measure 'ndcg' takes no parameters"),
        ("ndcg@0", "'ndcg@0': what follows @"),
        ("ndcg@9999999999", "the cut-off of ndcg@9999999999 is too deep; the limit is ndcg@1000000000"),
        ("ndcg@10; import os", "'ndcg@10; import os' does not parse"),
    ],
)
def test_wrong_measures_are_answered_with_the_right_form(text: str, says: str) -> None:
    """Unknown names, and cut-offs that are missing, misplaced or too large, are refused with what to write."""
    with pytest.raises(SpecError) as refusal:
        parse_measure(text)
    assert str(refusal.value).startswith(says)


def test_mrr_with_and_without_cut_off_are_two_measures() -> None:
    """Only mrr takes a cut-off or none, and mrr() is mrr."""
    assert parse_measure("mrr") == parse_measure("mrr()") != parse_measure("mrr@10")
    assert (parse_measure("mrr").depth, parse_measure("mrr@10").depth) == (None, 11)
