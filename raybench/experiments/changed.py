"""The queries on which two experiments differ most, with what each found first: a mean says that something changed, these say what.

Ranks are those of the first relevant row: exact where a rank was measured, else within the stored lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench import results, storage
from raybench.experiments.asked import query_texts
from raybench.experiments.pairing import Stored
from raybench.metrics.measure import Values

_RANKED = ("mean_rank", "median_rank")  # measures whose value of a query is its exact rank


@dataclass(frozen=True, slots=True)
class Found:
    """What one side found for a query; `rank` None: nothing relevant within `depth` results."""

    value: float
    rank: int | None
    depth: int | None
    first: str | None  # the id of the first result; None where lists were not kept


@dataclass(frozen=True, slots=True)
class Changed:
    """One query on both sides."""

    query_id: str
    text: str  # empty where an image asks
    a: Found
    b: Found


def changed_most(
    a: Stored,
    b: Stored,
    query_ids: Sequence[str],
    a_Q: Values,
    b_Q: Values,
    tables: Sequence[pa.Table],
    top: int,
) -> list[Changed]:
    """The `top` queries by how far B's value is from A's, those with equal differences in the order of their ids."""
    order_Q = np.argsort(-np.abs(b_Q - a_Q), kind="stable")[:top]  # query ids are in order
    rows = [int(row) for row in order_Q if a_Q[row] != b_Q[row]]
    if not rows:
        return []
    wanted = [query_ids[row] for row in rows]
    texts = query_texts(a, wanted)
    found = [_found(one, table, wanted) for one, table in zip((a, b), tables, strict=True)]
    return [
        Changed(
            query_ids[row], texts.get(query_ids[row], ""), Found(float(a_Q[row]), *found[0][query_ids[row]]),
            Found(float(b_Q[row]), *found[1][query_ids[row]]),
        )
        for row in rows
    ]  # fmt: skip


def _found(one: Stored, values: pa.Table, wanted: list[str]) -> dict[str, tuple[int | None, int | None, str | None]]:
    """Rank, depth and first result of some queries."""
    ranks: dict[str, int] = {}
    firsts: dict[str, str] = {}
    depth: int | None = None
    keys = pa.array(wanted, pa.string())
    uri = storage.join(one.out, "results")
    if storage.exists(results.neighbors_uri(uri, one.facet("experiment"))):
        lists = results.read_neighbors(uri, one.facet("experiment"), ["query_id", "rank", "id", "grade"])
        depth = pc.max(lists["rank"]).as_py()
        lists = lists.filter(pc.is_in(lists["query_id"], value_set=keys))
        relevant = lists.filter(pc.greater(lists["grade"], 0)).group_by("query_id").aggregate([("rank", "min")])
        ranks = dict(zip(relevant["query_id"].to_pylist(), relevant["rank_min"].to_pylist(), strict=True))
        top = lists.filter(pc.equal(lists["rank"], 1))
        firsts = dict(zip(top["query_id"].to_pylist(), top["id"].to_pylist(), strict=True))
    for measure in _RANKED:
        exact = values.filter(
            pc.and_(pc.equal(values["measure"], measure), pc.is_in(values["query_id"], value_set=keys))
        )
        pairs = zip(exact["query_id"].to_pylist(), exact["value"].to_pylist(), strict=True)
        ranks |= {
            key: int(rank) for key, rank in pairs if rank <= one.corpus
        }  # one past the last row: not in the corpus
    return {query_id: (ranks.get(query_id), depth, firsts.get(query_id)) for query_id in wanted}
