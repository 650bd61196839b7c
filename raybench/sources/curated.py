"""A set that `raybench curate` made: its tars, queries and judgments, checked against its manifest when it is opened."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from raybench import storage
from raybench.errors import DataError, suggest
from raybench.sources.base import JUDGMENT_ROWS, Shard
from raybench.sources.tables import QUERY_ROWS
from raybench.sources.webdataset import Tars, WebDataset


@dataclass(frozen=True, slots=True)
class Curated:
    """The folder of a set, and which part of its queries is asked: none for all."""

    folder: str
    split: str | None = None

    def is_ready(self, datasets_uri: str) -> bool:  # noqa: ARG002 - it is read where it lies
        """Always: nothing is made or fetched."""
        return True

    def open(self, datasets_uri: str) -> "CuratedSet":
        """The source. DataError for a folder that holds no finished set, or not what was written."""
        folder = storage.absolute(self.folder)
        manifest = storage.read_manifest(folder)
        if manifest is None or manifest.get("kind") != "images":
            raise DataError(f"{folder} holds no finished set; give the folder that `raybench curate` printed")
        lost = storage.lost_file(folder, manifest)
        if lost is not None:
            raise DataError(f"{storage.join(folder, lost)} is not what was written; delete {folder} and curate again")
        splits = manifest["counts"]["splits"]
        if self.split is not None and self.split not in splits:
            raise DataError(f"{folder} has no part {self.split!r}; {suggest(self.split, splits)}")
        tars = sum(name.endswith(".tar") for name in manifest["files"])
        return CuratedSet(folder, self.split, tars, WebDataset(folder).open(datasets_uri))


@dataclass(frozen=True, slots=True)
class CuratedSet:
    """The source of a set."""

    folder: str
    split: str | None
    count: int  # of its tars, which are numbered from 0; others in the folder are not of the set
    tars: Tars

    def plan(self) -> list[Shard]:
        """One shard for each tar of the set."""
        own = {f"{number:06d}.tar" for number in range(self.count)}
        kept = [shard for shard in self.tars.plan() if shard.name in own]
        return [replace(shard, number=number) for number, shard in enumerate(kept)]

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The rows of one tar."""
        return self.tars.read(shard)

    def queries(self) -> pa.Table:
        """The queries of the part."""
        return self._asked().select(QUERY_ROWS.names).cast(QUERY_ROWS)

    def judgments(self) -> pa.Table:
        """The judgments of the part's queries."""
        table = storage.read_table(storage.join(self.folder, "qrels.parquet")).cast(JUDGMENT_ROWS)
        return table.filter(pc.is_in(table["query_id"], self._asked()["query_id"].combine_chunks()))

    def _asked(self) -> pa.Table:
        table = storage.read_table(storage.join(self.folder, "queries.parquet"))
        return table if self.split is None else table.filter(pc.equal(table["split"], self.split))
