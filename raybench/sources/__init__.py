"""Where images come from: one table from a name to its recipe."""

from raybench.registry import Registry
from raybench.sources.base import SourceRecipe

SOURCES: Registry[SourceRecipe] = Registry(
    "source",
    {
        "webdataset": "raybench.sources.webdataset:WebDataset",
        "parquet": "raybench.sources.parquet:Parquet",
        "folder": "raybench.sources.folder:Folder",
        "curated": "raybench.sources.curated:Curated",
        "flickr30k": "raybench.sources.flickr30k:Flickr30k",
        "coco": "raybench.sources.coco:Coco",
        "imagenet": "raybench.sources.imagenet:ImageNet",
        "scenes": "raybench.sources.embedded:Scenes",
    },
)
