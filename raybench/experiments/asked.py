"""What was asked and judged in two runs, query by query: only what is the same on both sides can be compared.

A run writes down the content key of its queries and judgments; two runs with one key asked the same. With two keys the stored
tables are read, and the queries whose text or judgments differ are named.
"""

import json

from raybench import storage
from raybench.experiments.pairing import Stored
from raybench.spec import content_key


def asked_otherwise(a: Stored, b: Stored) -> tuple[list[str], list[str]]:
    """The ids of queries that both runs have with another text or other judgments, and notes."""
    uris = [judged_uri(one) for one in (a, b)]
    if None in uris:
        unknown = " and ".join(dict.fromkeys(one.out for one, uri in zip((a, b), uris, strict=True) if uri is None))
        return [], [f"{unknown} does not hold the judgments of its queries: only their ids and clusters were compared"]
    if len({uri.rstrip("/").rpartition("/")[2] for uri in uris if uri}) == 1:  # the key is of their content
        return [], []
    of_a, of_b = (_signatures(str(uri), one.facet("direction")) for one, uri in zip((a, b), uris, strict=True))
    return [query_id for query_id, told in of_a.items() if query_id in of_b and of_b[query_id] != told], []


def judged_uri(one: Stored) -> str | None:
    """The folder of queries and judgments of an experiment; of an older run the only one that is there."""
    queries = storage.join(one.out, "queries")
    if one.judged is not None:
        return (
            storage.join(queries, one.judged)
            if storage.exists(storage.join(queries, one.judged, "qrels.parquet"))
            else None
        )
    there = [file.name for file in storage.list_files(queries, "qrels.parquet")]
    return storage.join(queries, there[0].rpartition("/")[0]) if len(there) == 1 else None


def query_texts(one: Stored, wanted: list[str]) -> dict[str, str]:
    """The texts of some queries; none for queries that are images, or where they were not kept."""
    uri = judged_uri(one)
    if uri is None or one.facet("direction") != "text_to_image":
        return {}
    table = storage.read_table(storage.join(uri, "queries.parquet"), ["query_id", "text"])
    chosen = set(wanted)
    pairs = zip(table["query_id"].to_pylist(), table["text"].to_pylist(), strict=True)
    return {query_id: text for query_id, text in pairs if query_id in chosen}


def _signatures(uri: str, direction: str) -> dict[str, str]:
    """A hash of what was asked and of what answers it, by the id of the query of a direction."""
    queries = storage.read_table(storage.join(uri, "queries.parquet"), ["query_id", "text"])
    qrels = storage.read_table(storage.join(uri, "qrels.parquet"))
    texts = dict(zip(queries["query_id"].to_pylist(), queries["text"].to_pylist(), strict=True))
    told: dict[str, list[list[object]]] = {}
    rows = zip(*(qrels[name].to_pylist() for name in ("query_id", "image_id", "relevance")), strict=True)
    for query_id, image_id, relevance in rows:
        asks, answers = (query_id, image_id) if direction == "text_to_image" else (image_id, query_id)
        told.setdefault(asks, []).append([answers, relevance, "" if asks == query_id else texts.get(query_id)])
    of_text = texts if direction == "text_to_image" else {}
    return {
        asks: content_key(of_text.get(asks), sorted(answers, key=json.dumps)) for asks, answers in told.items()
    }  # fmt: skip
