"""A shard is committed by one small file, written after its part; a folder of vectors by its manifest, written last.

    vectors/<key>/recipe.json  encoder.json        what decides the vectors; what the encoder said of itself
    vectors/<key>/chunks/0003-000007.arrow         encoded chunks of shards that are under way
    vectors/<key>/img_emb/img_emb_0003.npy         one part per shard with rows: float16, C order
    vectors/<key>/metadata/metadata_0003.parquet   row-aligned with the part
    vectors/<key>/ledger/0003.json                 the shard's accounts and checksums: the commit mark
    vectors/<key>/manifest.json                    accounts and checksums of all shards

The layout of parts and metadata is clip-retrieval's, so that its tools, autofaiss and embedding-reader read it as it
is (texts are in `text_emb`). A shard without any good row has a ledger entry and no part. Chunk files of a shard
that was not committed are worthless and are removed before a new try.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybench import storage
from raybench.embedding.chunks import Drop, Encoded, read_chunks
from raybench.embedding.job import EmbedJob
from raybench.errors import DataError, WorkError
from raybench.sources.base import Shard

FOLDERS = {"image": "img_emb", "text": "text_emb"}
_EXAMPLES = 3  # kept per reason
_DISTINCT_IDS = 200_000_000  # above this many rows, the check that ids are distinct would not fit the driver


@dataclass(frozen=True, slots=True)
class Timed:
    """What was embedded of one job in one run: input rows, and the seconds that encoders were busy with them, added up."""

    rows: int = 0
    busy_s: float = 0.0

    def __add__(self, other: "Timed") -> "Timed":
        return Timed(self.rows + other.rows, self.busy_s + other.busy_s)

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {"rows_timed": self.rows, "busy_s": round(self.busy_s, 3)}


def part_names(job: EmbedJob, shard: int) -> tuple[str, str]:
    """The names of a shard's vectors and metadata below the job's folder."""
    digits = max(4, len(str(len(job.shards) - 1)))
    folder = FOLDERS[job.modality]
    return f"{folder}/{folder}_{shard:0{digits}d}.npy", f"metadata/metadata_{shard:0{digits}d}.parquet"


def _entry_uri(job: EmbedJob, shard: int) -> str:
    return storage.join(job.uri, "ledger", f"{shard:04d}.json")


def _chunk_uri(job: EmbedJob, shard: int, number: int) -> str:
    return storage.join(job.uri, "chunks", f"{shard:04d}-{number:06d}.arrow")


def begin(job: EmbedJob) -> list[Shard]:
    """Write the recipe, clear what interrupted or outdated shards left behind, and return the shards to be done."""
    storage.write_json(storage.join(job.uri, "recipe.json"), job.recipe())
    storage.delete_folder(storage.join(job.uri, "chunks"))
    committed = {file.name for file in storage.list_files(storage.join(job.uri, "ledger"), ".json")}
    pending = []
    for shard in job.shards:
        if f"{shard.number:04d}.json" not in committed:
            pending.append(shard)
        elif not _is_current(job, shard):
            _revoke(job, shard)
            pending.append(shard)
    return pending


def _revoke(job: EmbedJob, shard: Shard) -> None:
    """Take back a commit: the manifest first, since it speaks for all shards, and the entry last."""
    storage.delete(storage.join(job.uri, storage.MANIFEST))
    for name in part_names(job, shard.number):
        storage.delete(storage.join(job.uri, name))
    storage.delete(_entry_uri(job, shard.number))


def _is_current(job: EmbedJob, shard: Shard) -> bool:
    """Whether a committed shard still has the input that it was made from; touched inputs are read and compared."""
    entry = storage.read_json(_entry_uri(job, shard.number))
    if not isinstance(entry, dict) or not {"input", "input_sha256", "files"} <= entry.keys():
        return False
    if entry["input"] == _input(shard):
        return True
    digest = hashlib.sha256()
    for chunk in read_chunks(job, shard):
        digest.update(bytes.fromhex(chunk.digest))
    if digest.hexdigest() != entry["input_sha256"]:
        return False
    storage.write_json(_entry_uri(job, shard.number), entry | {"input": _input(shard)})
    return True


def _input(shard: Shard) -> dict[str, Any]:
    return {
        "name": shard.name,
        "size_bytes": shard.size_bytes,
        "modified_ns": shard.modified_ns,
        "fingerprint": shard.fingerprint,
    }


def write_chunk(job: EmbedJob, encoded: Encoded) -> None:
    """Put an encoded chunk beside the parts until its shard is complete."""
    table = encoded.kept
    if len(table):
        width = encoded.vectors_BD.shape[1] * encoded.vectors_BD.itemsize
        flat = pa.py_buffer(encoded.vectors_BD.tobytes())
        vectors = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(table), [None, flat])
        table = table.append_column("vector", vectors)
    facts = {
        "rows_in": encoded.rows_in,
        "digest": encoded.digest,
        "drops": [asdict(drop) for drop in encoded.drops],
    }
    table = table.replace_schema_metadata({"raybench": json.dumps(facts)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    storage.write_bytes(_chunk_uri(job, encoded.shard, encoded.number), sink.getvalue())


def _read_chunk(job: EmbedJob, shard: int, number: int) -> Encoded:
    with pa.ipc.open_file(pa.BufferReader(storage.read_bytes(_chunk_uri(job, shard, number)))) as reader:
        table = reader.read_all()
    facts = json.loads(table.schema.metadata[b"raybench"])
    vectors_BD = np.zeros((0, 0), job.dtype)
    if len(table):
        column = table["vector"].combine_chunks()
        vectors_BD = np.frombuffer(b"".join(column.to_pylist()), job.dtype).reshape(len(table), -1)
        table = table.drop_columns(["vector"])
    drops = tuple(Drop(**drop) for drop in facts["drops"])
    kept = table.replace_schema_metadata(None)
    return Encoded(shard, number, False, facts["digest"], facts["rows_in"], kept, vectors_BD, drops, 0.0)


def commit_chunks(job: EmbedJob, shard: Shard, num_chunks: int) -> None:
    """Join the chunk files of a shard into its part and commit it; a second try after a commit only cleans up."""
    if not storage.exists(_entry_uri(job, shard.number)):
        commit(job, shard, [_read_chunk(job, shard.number, number) for number in range(num_chunks)])
    for number in range(num_chunks):
        storage.delete(_chunk_uri(job, shard.number, number))


def commit(job: EmbedJob, shard: Shard, chunks: Sequence[Encoded]) -> None:
    """Write a shard's part and metadata, then its ledger entry."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(bytes.fromhex(chunk.digest))
    drops = [drop for chunk in chunks for drop in chunk.drops]
    full = [chunk for chunk in chunks if len(chunk.kept)]
    files: dict[str, Any] = {}
    if full:
        vectors_ND = np.concatenate([chunk.vectors_BD for chunk in full])
        metadata = pa.concat_tables([chunk.kept for chunk in full])
        buffer = io.BytesIO()
        np.save(buffer, vectors_ND, allow_pickle=False)
        vectors_name, metadata_name = part_names(job, shard.number)
        for name, data in ((vectors_name, buffer.getvalue()), (metadata_name, storage.table_bytes(metadata))):
            digest_of_file = storage.write_bytes(storage.join(job.uri, name), data)
            files[name] = {"sha256": digest_of_file, "size_bytes": len(data), "rows": len(vectors_ND)}
    entry = {
        "input": _input(shard),
        "input_sha256": digest.hexdigest(),
        "rows_in": sum(chunk.rows_in for chunk in chunks),
        "rows_out": sum(len(chunk.kept) for chunk in chunks),
        "dropped": dict(sorted(Counter(drop.reason for drop in drops).items())),
        "examples": _examples(shard, drops),
        "files": files,
    }
    storage.write_json(_entry_uri(job, shard.number), entry)


def _examples(shard: Shard, drops: Sequence[Drop]) -> dict[str, list[dict[str, Any]]]:
    kept: dict[str, list[dict[str, Any]]] = {}
    for drop in drops:
        examples = kept.setdefault(drop.reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(
                {"shard": shard.name, "position": drop.position, "image_id": drop.row_id, "detail": drop.detail}
            )
    return kept


def keep_facts(job: EmbedJob, encoder_facts: dict[str, Any]) -> None:
    """Remember what encodes, for a manifest that a later run may have to write."""
    storage.write_json(storage.join(job.uri, "encoder.json"), encoder_facts)


def finish(job: EmbedJob, environment: dict[str, Any]) -> dict[str, Any]:
    """Check the accounts of all shards, write the manifest, and return it.

    Raises WorkError if rows are unaccounted for, and DataError if two rows have one id.
    """
    entries = [storage.read_json(_entry_uri(job, shard.number)) for shard in job.shards]
    dropped: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        dropped.update(entry["dropped"])
        for reason, found in entry["examples"].items():
            examples[reason] = (examples.get(reason, []) + found)[:_EXAMPLES]
    files = {name: facts for entry in entries for name, facts in entry["files"].items()}
    rows_in, rows_out = sum(entry["rows_in"] for entry in entries), sum(entry["rows_out"] for entry in entries)
    if rows_in != rows_out + dropped.total():
        raise WorkError(f"{job.uri}: {rows_in} rows in, but {rows_out} out and {dropped.total()} dropped; delete it")
    facts_uri = storage.join(job.uri, "encoder.json")
    ids_distinct = _check_distinct_ids(job, files, rows_out)
    manifest = {
        "kind": "vectors",
        "key": job.key,
        "recipe": job.recipe(),
        "rows_in": rows_in,
        "rows_out": rows_out,
        "dropped": dict(sorted(dropped.items())),
        "examples": dict(sorted(examples.items())),
        "inputs": [entry["input"] | {"sha256": entry["input_sha256"]} for entry in entries],
        "files": files,
        "checksum": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        "ids_distinct": ids_distinct,
        "encoder_facts": storage.read_json(facts_uri) if storage.exists(facts_uri) else {},
        "environment": environment,
    }
    storage.delete_folder(storage.join(job.uri, "chunks"))
    storage.write_manifest(job.uri, manifest)
    return manifest


def _check_distinct_ids(job: EmbedJob, files: dict[str, Any], rows: int) -> str:
    if rows > _DISTINCT_IDS:
        return "unchecked: too many rows for one machine's memory"
    import pandas as pd

    column = "image_id" if job.modality == "image" else "query_id"
    hashes: list[Any] = []
    for name in files:
        if name.startswith("metadata/"):
            ids = storage.read_table(storage.join(job.uri, name), [column])[column]
            hashes.append(pd.util.hash_array(ids.to_numpy(zero_copy_only=False).astype(object)))
    joined = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    suspects = np.unique(joined[1:][joined[1:] == joined[:-1]])
    value = _repeated_id(job, files, column, suspects) if len(suspects) else None
    if value is not None:
        raise DataError(
            f"{column} {value!r} occurs more than once; ids must differ "
            '(tars whose keys restart in each file need webdataset(..., ids="shard_key"))'
        )
    return "checked"


def _repeated_id(job: EmbedJob, files: dict[str, Any], column: str, suspects: npt.NDArray[np.uint64]) -> str | None:
    """An id that really stands twice among those whose hashes do."""
    import pandas as pd

    seen: set[str] = set()
    for name in files:
        if name.startswith("metadata/"):
            ids = storage.read_table(storage.join(job.uri, name), [column])[column].to_numpy(zero_copy_only=False)
            for value in ids[np.isin(pd.util.hash_array(ids.astype(object)), suspects)]:
                if value in seen:
                    return str(value)
                seen.add(value)
    return None
