"""Result files of a SISAP challenge, one for each space that was searched, with the times that were measured.

<out>/sisap/<space>.h5    as the year's evaluator reads it; the recall that it will compute is told beside
"""

import re
from dataclasses import dataclass
from typing import Any

from raybench import storage
from raybench.arrays import Neighbors
from raybench.errors import RequestError
from raybench.experiments.spaces import Space, stored
from raybench.experiments.vector_evaluation import VectorEvaluation
from raybench.formats import open_vectors
from raybench.formats.base import StoredNeighbors
from raybench.sisap import YEARS, challenge_recall, read_results, write_results
from raybench.sisap.results import check_attributes


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
    name = f"sisap/{re.sub(r'[^A-Za-z0-9=.-]+', '_', space.name).strip('_')}.h5"
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
    """RequestError where the year asks for an attribute that the evaluation does not give, before anything is searched."""
    if evaluation.challenge is not None:
        given = attributes(evaluation, stored(evaluation), 0.0)
        check_attributes(evaluation.challenge.year, evaluation.challenge.task, given)


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
