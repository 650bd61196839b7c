"""Result files of a SISAP challenge, one for each space that was searched, with the times that were measured.

<out>/sisap/<space>.h5    as the year's evaluator reads it; the recall that it will compute is told beside
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench import storage
from raybench.arrays import Neighbors
from raybench.errors import RequestError
from raybench.experiments.spaces import Space, stored
from raybench.experiments.vector_evaluation import VectorEvaluation, file_name
from raybench.formats import open_vectors
from raybench.formats.base import StoredNeighbors, VectorFile, read_rows
from raybench.sisap import YEARS, challenge_recall, read_results, write_results
from raybench.sisap.results import check_attributes

_UNITS = {"K": 1_000, "M": 1_000_000}


@dataclass(frozen=True, slots=True)
class Submission:
    """A result file, and the recall that the challenge's evaluator gives it: against our truth, and the published one."""

    space: str
    file: str
    sha256: str
    recall: float | None
    published_recall: float | None
    buildtime_s: float
    querytime_s: float


def submit(
    evaluation: VectorEvaluation,
    space: Space,
    found: Neighbors,
    truths: tuple[Neighbors, StoredNeighbors | None],
    querytime_s: float,
    out: str,
) -> Submission:
    """Write the result file of a space; `truths` are the proven and the published gold standard."""
    challenge = evaluation.challenge
    if challenge is None:
        raise RequestError(f"{evaluation.name} is of no challenge; add the key challenge")
    name = f"sisap/{file_name(space.name)}"
    uri = storage.join(out, name)
    sha256 = write_results(
        uri, challenge.year, found, task=challenge.task, meaning="1-dot" if space.metric in ("ip", "cosine") else "distance",
        **attributes(evaluation, space, querytime_s),
    )  # fmt: skip
    read_QK, rules = read_results(uri).knns_QK, challenge.rules
    columns = rules.k + rules.is_self_join
    recalls = [
        None if ids_QK is None or ids_QK.shape[1] < columns
        else challenge_recall(read_QK, ids_QK + 1, year=challenge.year, task=challenge.task)
        for ids_QK in (truths[0].ids_QK, None if truths[1] is None else truths[1].ids_QK)
    ]  # fmt: skip
    return Submission(space.name, name, sha256, recalls[0], recalls[1], space.fit_s, querytime_s)


def check(evaluation: VectorEvaluation) -> None:
    """RequestError for what the year's evaluator would stumble over, or believe, before anything is searched."""
    challenge = evaluation.challenge
    if challenge is None:
        return
    check_attributes(challenge.year, challenge.task, attributes(evaluation, stored(evaluation), 0.0))
    corpus, queries = open_vectors(evaluation.corpus), open_vectors(evaluation.queries)
    columns = challenge.rules.k + challenge.rules.is_self_join
    if corpus.rows < columns:
        raise RequestError(
            f"{challenge.year} needs {columns} neighbours, and {evaluation.corpus} has {corpus.rows} rows"
        )
    _check_size(challenge.size, corpus.rows, evaluation.corpus)
    if challenge.rules.is_self_join and not _is_same(corpus, queries):
        raise RequestError(
            f"{challenge.year} {challenge.rules.name} asks every row for its own neighbours, and {evaluation.queries} is not "
            f"{evaluation.corpus}; give the corpus as queries"
        )


def _check_size(size: str | int | None, rows: int, corpus: str) -> None:
    """The published files have within a thirtieth of the rows that their size says."""
    if size is None:
        return
    text = str(size)
    said = int(text[:-1]) * _UNITS[text[-1]] if text[:-1].isdigit() and text[-1] in _UNITS else size
    if isinstance(said, int) and not 0.97 * said <= rows <= 1.035 * said:
        raise RequestError(f"challenge.size={size}, but {corpus} has {rows:,} rows; give the size that it has")


def _is_same(corpus: VectorFile, queries: VectorFile) -> bool:
    """Whether two files hold the same vectors, as far as rows spread over them show."""
    if (corpus.rows, corpus.dim) != (queries.rows, queries.dim):
        return False
    places = sorted({corpus.rows * part // 64 for part in range(64)} | {corpus.rows - 1})
    return all(
        np.array_equal(
            read_rows(corpus, row, row + 1).astype(np.float64), read_rows(queries, row, row + 1).astype(np.float64)
        )
        for row in places
    )


def attributes(evaluation: VectorEvaluation, space: Space, querytime_s: float) -> dict[str, Any]:
    """The root attributes that the year asks for; of the optional ones those that are known."""
    challenge = evaluation.challenge
    if challenge is None:
        return {}
    rules = YEARS[challenge.year]
    size = challenge.size
    if size is None and rules.attributes.get("size") is int:
        size = open_vectors(evaluation.corpus).rows
    known = {
        "data": space.name if space.is_projection else challenge.data, "size": size, "dataset": challenge.dataset,
        "algo": f"raybench {space.name}", "buildtime": space.fit_s, "optimtime": 0.0, "querytime": querytime_s,
        "params": f"exact search by {space.metric}", "searchparams": f"precision={evaluation.gold.precision}",
    }  # fmt: skip
    names = {*rules.attributes, *rules.optional}
    return {name: value for name, value in known.items() if name in names and value is not None}
