"""The embedded data set: drawn scenes with their queries and judgments, made once per number of images and seed.

    <datasets>/scenes-<key>/00000.tar ...      WebDataset tars
    <datasets>/scenes-<key>/images.parquet     what each image is
    <datasets>/scenes-<key>/queries.parquet    query_id, text, cluster_id
    <datasets>/scenes-<key>/qrels.parquet      query_id, image_id, relevance
    <datasets>/scenes-<key>/manifest.json      checksums; written last

Two processes that make it at once write the same bytes to the same places.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

from raybench import storage
from raybench.errors import DataError, StorageError
from raybench.sources.base import JUDGMENT_ROWS, Shard, Truth
from raybench.sources.tables import QUERY_ROWS
from raybench.sources.webdataset import Tars, WebDataset
from raybench.spec import content_key

FORMAT = 1  # raise it when the same number and seed give other bytes


@dataclass(frozen=True, slots=True)
class Scenes:
    """So many images of the embedded data set; a seed is another data set of the same kind."""

    images: int = 2_000
    seed: int = 0

    def open(self, datasets_uri: str) -> "EmbeddedScenes":
        """The source; the data set is made below `datasets_uri` unless it is there, whole."""
        from raybench.sources.scenes.plan import FEWEST_IMAGES

        if self.images < FEWEST_IMAGES or self.seed < 0:
            asked = f"scenes(images={self.images}, seed={self.seed})"
            raise DataError(f"{asked} cannot be made; ask for at least {FEWEST_IMAGES} images and a seed from 0")
        folder = self._place(datasets_uri)
        manifest = storage.read_manifest(folder)
        if manifest is None:
            self._make(folder)
        else:
            lost = storage.lost_file(folder, manifest)
            if lost is not None:
                raise StorageError(
                    f"{storage.join(folder, lost)} is not what was written; delete {folder} and run again"
                )
        return EmbeddedScenes(folder, WebDataset(folder).open(datasets_uri), self)

    def is_ready(self, datasets_uri: str) -> bool:
        """Whether the data set has been made already."""
        return storage.read_manifest(self._place(datasets_uri)) is not None

    def _place(self, datasets_uri: str) -> str:
        key = content_key("scenes", FORMAT, self.images, self.seed)
        return storage.absolute(storage.join(datasets_uri, f"scenes-{key}"))

    def _make(self, folder: str) -> None:
        from raybench.sources.scenes import collection

        with tempfile.TemporaryDirectory() as made:
            summary = collection.write(Path(made) / "scenes", images=self.images, seed=self.seed)
            files = {}
            for path in sorted((Path(made) / "scenes").iterdir()):
                data = path.read_bytes()
                digest = storage.write_bytes(storage.join(folder, path.name), data)
                files[path.name] = {"sha256": digest, "size_bytes": len(data)}
        manifest = {
            "kind": "scenes",
            "recipe": asdict(self) | {"format": FORMAT},
            "images": summary.images,
            "queries": summary.queries,
            "judgments": summary.judgments,
            "kinds": {str(kind): count for kind, count in summary.kinds.items()},
            "files": files,
            "versions": {name: version(name) for name in ("pillow", "numpy", "pyarrow")},
        }
        storage.write_manifest(folder, manifest)


@dataclass(frozen=True, slots=True)
class EmbeddedScenes:
    """The source of the embedded data set."""

    folder: str
    tars: Tars
    recipe: Scenes

    def plan(self) -> list[Shard]:
        """One shard per tar."""
        return self.tars.plan()

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The rows of one tar."""
        return self.tars.read(shard)

    def queries(self) -> pa.Table:
        """Its queries: one per caption of an image that has captions."""
        return (
            storage.read_table(storage.join(self.folder, "queries.parquet")).select(QUERY_ROWS.names).cast(QUERY_ROWS)
        )

    def judgments(self) -> pa.Table:
        """Its judgments: every image that shows what a query says."""
        table = storage.read_table(storage.join(self.folder, "qrels.parquet"))
        return table.select(JUDGMENT_ROWS.names).cast(JUDGMENT_ROWS)

    def truth(self) -> Truth:
        """What every picture shows."""
        from raybench.sources.scenes.collection import scenes_by_id
        from raybench.sources.scenes.truth import SceneTruth

        return SceneTruth(scenes_by_id(self.recipe.images, self.recipe.seed))
