"""The tables of an evaluation of vectors: what the searches cost, and its numbers beside those that others published."""

from collections.abc import Sequence
from typing import Any

from raybench.errors import RequestError
from raybench.experiments.challenge import Submission
from raybench.experiments.run_file import Sheet
from raybench.experiments.spaces import Searched, Space, vector_bytes
from raybench.experiments.vector_evaluation import Challenge
from raybench.results import Record
from raybench.sisap import published_projection_recall

_PUBLISHED_K, _PUBLISHED_DATA = 30, "clip768v2"  # of recall-projections.csv


def searches(searched: Sequence[Searched]) -> Sheet:
    """What each exact search looked at and took, and how it is certified."""
    rows = []
    for one in searched:
        certificate, recipe = one.manifest["certificate"], one.manifest["recipe"]
        rows.append(
            (
                one.space.name, recipe["metric"], recipe["k"], vector_bytes(one.space), round(one.space.fit_s, 2),
                round(one.search_s, 2), certificate["gflop_per_worker_s"], certificate["candidates_per_query"],
                ", ".join(certificate["scan"]),
            )
        )  # fmt: skip
    columns = ("space", "metric", "k", "bytes", "fit_s", "search_s", "GFLOP/s", "candidates", "scan")
    note = (
        "Every list is the float64 top k of its space, proven. bytes are of one vector; search_s is the time of all queries "
        "together, from when the searchers were ready, with reading and transforming the corpus; GFLOP/s are of one worker; candidates are the rows "
        "that were scored in float64 for each query."
    )
    stopped = [one.space.name for one in searched if one.is_resumed]
    if stopped:
        note += f" {', '.join(stopped)} was stopped and gone on with: its search_s is the sum over all workers."
    return Sheet("Exact searches", note, columns, tuple(rows))


def published_truth(compared: dict[str, Any], truth: str) -> Sheet:
    """How far a published gold standard agrees with the proven one."""
    rows = tuple(
        (int(depth), found["by_id"], found["with_ties"], found["queries_that_differ"])
        for depth, found in compared["depths"].items()
    )
    note = (
        f"{truth} against the proven neighbours. By id, the other half of a tie counts as wrong; with ties allowed, a row "
        "counts if its float64 score reaches the k-th exact one."
    )
    return Sheet("Published truth", note, ("k", "by id", "with ties", "queries that differ"), rows)


def published_projections(challenge: Challenge, spaces: Sequence[Space], records: Sequence[Record]) -> list[Sheet]:
    """Recall of an exact search in projections, beside what the challenge of 2023 published; none where nothing compares."""
    rows = []
    if challenge.data != _PUBLISHED_DATA:
        return []
    ours = {record.transform: record for record in records if record.measure == f"overlap@{_PUBLISHED_K}"}
    for space in spaces:
        record, theirs = ours.get(space.name), _published(space.family, challenge.size)
        if record is not None and theirs is not None:
            files = "the same files" if space.is_projection else "fitted here"
            rows.append((space.name, files, record.value, record.low, record.high, theirs, record.value - theirs))
    if not rows:
        return []
    note = (
        f"overlap@{_PUBLISHED_K} by id of an exact search in the projection. The challenge fitted its own "
        "projections, on rows and references that it does not tell: what is fitted here is of the same kind, and differs."
    )
    columns = ("projection", "made", "ours", "low", "high", "published", "difference")
    return [Sheet("Beside the published projections", note, columns, tuple(rows))]


def _published(family: str | None, size: object) -> float | None:
    if family is None:
        return None
    try:
        return published_projection_recall(family, str(size)).recall
    except RequestError:  # another family or size: nothing was published
        return None


def submissions(challenge: Challenge, made: Sequence[Submission]) -> Sheet:
    """The challenge's result files, and the recall that its evaluator computes from them."""
    rules, is_published = challenge.rules, any(one.published_recall is not None for one in made)
    rows = tuple(
        (
            one.space, one.file, one.recall, *((one.published_recall,) if is_published else ()),
            round(one.buildtime_s, 3), round(one.querytime_s, 3),
        )
        for one in made
    )  # fmt: skip
    note = (
        f"Result files as the evaluator of {challenge.year} reads them ({rules.name}, k = {rules.k}), and the recall by id "
        f"that it computes against the proven neighbours{', and against the published ones' * is_published}."
    )
    columns = ("space", "file", "recall", *(("published truth",) if is_published else ()), "buildtime_s", "querytime_s")
    return Sheet(f"SISAP {challenge.year}", note, columns, rows)
