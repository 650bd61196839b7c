"""A chunk on its way through the pipeline is a table of one row, whose large parts are binary cells that move without a copy."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybench.embedding.chunks import Drop, Prepared

PLACE = ("shard", "number", "last")


def chunk_row(job: int, shard: int, number: int, last: bool, **columns: Any) -> pa.Table:
    """One chunk as a table of one row; buffers become large binary cells that move without a copy."""
    values = {"job": job, "shard": shard, "number": number, "last": last} | columns
    return pa.table({name: _cell(value) for name, value in values.items()})


def _cell(value: Any) -> pa.Array:
    if not isinstance(value, pa.Buffer):
        return pa.array([value])
    offsets = pa.py_buffer(np.array([0, value.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, value])


def array_of(batch: pa.Table, dtype: type[np.generic]) -> npt.NDArray[Any] | None:
    """The array of a chunk, a view of the store; None where it has but one axis, as texts have no pixels."""
    shape = batch["shape"][0].as_py()
    if len(shape) < 2:
        return None
    return np.frombuffer(batch["data"][0].as_buffer(), dtype).reshape(shape)


def prepared_of(batch: pa.Table, pixels_BHWC: npt.NDArray[np.uint8] | None) -> Prepared:
    """A chunk without its vectors; texts have no pixels."""
    row = {name: batch[name][0].as_py() for name in (*PLACE, "digest", "rows_in", "drops")}
    drops = tuple(Drop(**drop) for drop in json.loads(row["drops"]))
    return Prepared(
        row["shard"], row["number"], row["last"], row["digest"], row["rows_in"], table_of(batch["rows"]), pixels_BHWC,
        drops,
    )  # fmt: skip


def ipc(table: pa.Table) -> pa.Buffer:
    """A table as a cell."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def table_of(column: Any) -> pa.Table:
    """The table that is the cell of a column of one row."""
    with pa.ipc.open_stream(column[0].as_buffer()) as reader:
        return reader.read_all()
