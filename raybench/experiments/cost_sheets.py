"""The costs of cells as tables: who is not beaten in speed or bytes, and what the bytes are of."""

from collections.abc import Sequence
from typing import Any

from raybench.experiments.evaluation import Cost
from raybench.experiments.run_file import Cell as Value
from raybench.experiments.run_file import Sheet
from raybench.metrics.cost import dominated

Told = dict[str, Any]


def cost_sheets(cost: Cost, told: Sequence[Told]) -> list[Sheet]:
    """For each direction, a table of costs beside quality, and one of bytes."""
    sheets = []
    for direction in dict.fromkeys(one["direction"] for one in told):
        mine = [one for one in told if one["direction"] == direction]
        sheets += [_costs(cost, direction, mine), _bytes(direction, mine)]
    return sheets


def name(one: Told, all_: Sequence[Told]) -> str:
    """Transform and index, and the encoder where several are told of."""
    several = len({each["encoder"] for each in all_}) > 1
    return ", ".join([one["encoder"]] * several + [one["transform"], one["index"]])


def fronts(told: Sequence[Told]) -> list[str]:
    """In what each is not beaten by another of its encoder, whose truth is the same: quality and speed, quality and bytes."""
    names = [""] * len(told)
    for encoder in {one["encoder"] for one in told}:
        mine = [place for place, one in enumerate(told) if one["encoder"] == encoder]
        quality = [told[place]["quality"]["value"] for place in mine]
        slower = dominated(quality, [told[place]["throughput"]["median_qps"] for place in mine])
        larger = dominated(quality, [-float(told[place]["resident_bytes"]) for place in mine])
        for place, slow, large in zip(mine, slower, larger, strict=True):
            names[place] = " and ".join([*["speed"] * (not slow), *["bytes"] * (not large)]) or "dominated"
    return names


def _costs(cost: Cost, direction: str, told: Sequence[Told]) -> Sheet:
    columns = (
        "system", cost.measure, "p50_ms", "p95_ms", "p99_ms", "on shard", "queries/s", "fetched", "resident", "on disk",
        "build_s", "front",
    )  # fmt: skip
    rows = [
        (
            name(one, told), share(one["quality"]), one["latency"]["p50_ms"], one["latency"]["p95_ms"],
            one["latency"]["p99_ms"], one["on_shard_ms"], one["throughput"]["median_qps"],
            one["fetched"] and f"{one['fetched']['per_query']:,.0f} ({one['fetched']['different']:,})",
            one["resident_bytes"], one["file_bytes"], one["build_s"], front,
        )
        for one, front in zip(told, fronts(told), strict=True)
    ]  # fmt: skip
    note = (
        f"{cost.measure}: share of the exact neighbours by the vectors as they are stored, by row (a copy in the place of another "
        "is a miss), and its interval. By cosine, vectors are scaled to length one before they are transformed. Single queries in a "
        f"closed loop ({cost.queries:,} at most, {cost.warm_up} before them not timed), k = {cost.k}; queries/s in batches of "
        f"{max(one['throughput']['batch'] for one in told):,}, the median of rounds; fetched: rows that the index does not hold and a query looks at, and how many "
        f"different ones all queries together; all on the machine below. Front: no other system of the encoder has at least its {cost.measure} "
        f"and more speed, or fewer resident bytes.{_same(told)}"
    )
    return _sheet(f"What it costs, {direction.replace('_', ' ')}", note, columns, rows)


def _bytes(direction: str, told: Sequence[Told]) -> Sheet:
    kinds = list(dict.fromkeys(kind for one in told for kind in one["held_bytes"]))
    columns = ("system", *kinds, "resident", "a row", "on disk", "build peak")
    rows: list[tuple[Value, ...]] = [
        (
            name(one, told), *(one["held_bytes"].get(kind) for kind in kinds), one["resident_bytes"],
            one["resident_bytes"] / one["rows"], one["file_bytes"], one["build_peak_bytes"],
        )
        for one in told
    ]  # fmt: skip
    note = (
        "Bytes, measured on what is held: rows in full, codes, graph (links), ids, and what was learnt. Stored rows by which "
        "candidates are scored again stay where they are (memory-mapped where local), and are no part of it. Build peak: the most "
        f"that a worker took beyond what it held before, where the index was built and the system tells.{_same(told)}"
    )
    return _sheet(f"What the bytes are of, {direction.replace('_', ' ')}", note, columns, rows)


def share(quality: Told) -> str:
    """A share with its interval, as text."""
    bounds = "" if quality["low"] is None else f" [{quality['low']:.3f}, {quality['high']:.3f}]"
    return f"{quality['value']:.3f}{bounds}"


def _same(told: Sequence[Told]) -> str:
    encoders = {one["encoder"] for one in told}
    return f" Encoder {encoders.pop()}." if len(encoders) == 1 else ""


def _sheet(title: str, note: str, columns: tuple[str, ...], rows: Sequence[tuple[Value, ...]]) -> Sheet:
    """Without the columns that are empty throughout."""
    used = [place for place in range(len(columns)) if any(row[place] is not None for row in rows)]
    kept = tuple(tuple(row[place] for place in used) for row in rows)
    return Sheet(title, note, tuple(columns[place] for place in used), kept)
