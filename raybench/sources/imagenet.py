"""ImageNet-1k as it lies in people's folders, whole or some of its classes: the hub's Parquet files, or folders of JPEGs.

Each row's metadata is `{"split": "train", "label": 817, "synset": "n04285008", "class": "sports car"}`. Rows of classes
that were not asked for are no input: they are neither yielded nor lost, and `notes` says how many there are.
"""

import functools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from raybench import storage
from raybench.errors import DataError
from raybench.preflight import check_readable
from raybench.sources import imagenet_folders, imagenet_parquet
from raybench.sources.base import Shard
from raybench.sources.imagenet_classes import ImageClass, chosen, class_list, imagenet_classes
from raybench.sources.imagenet_part import Part, Subset
from raybench.sources.rows import tables


@dataclass(frozen=True, slots=True)
class ImageNet:
    """ImageNet-1k in a folder.

    address  the folder; the first there is of
               train-*.parquet, validation-*.parquet in it, in data/ or in train/, validation/ (also val-*, val/), with
               columns `image` and `label` (0 to 999, or synsets): an image's id is `imagenet_train_00000017`, counting
               the rows of the split's files in their order, which on the hub is the data set's
               train/<synset>/*.JPEG, val/<synset>/*.JPEG, also below ILSVRC/Data/CLS-LOC/: an id is `train/<synset>/<file>`
               val/*.JPEG, with Kaggle's LOC_val_solution.csv, the list imagenet_2012_validation_synset_labels.txt, or
               the development kit's ILSVRC2012_validation_ground_truth.txt and meta.mat: an id is `validation/<file>`
    split    "train" (1,281,167 images), "validation" (50,000), or "all" of both
    classes  a list's name or address (`raybench.sources.imagenet_classes.class_list`), such as "vehicles", or labels and
             synsets; None is all 1,000
    whole    False lets splits and classes have another number of images than published
    """

    address: str
    split: Literal["train", "validation", "all"] = "validation"
    classes: str | tuple[int | str, ...] | None = None
    image: str = "image"
    label: str = "label"
    whole: bool = True

    def is_ready(self, datasets_uri: str) -> bool:  # noqa: ARG002 - it is read where it lies
        """Always: nothing is made or fetched."""
        return True

    def open(self, datasets_uri: str) -> "ImageNetPictures":  # noqa: ARG002 - nothing is made or fetched
        """The source; the folder is looked at when it plans."""
        return ImageNetPictures(replace(self, address=storage.absolute(self.address)), uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class ImageNetPictures:
    """The source; one shard is a Parquet file or a run of its row groups, some classes' folders, or a run of 1,000 files."""

    recipe: ImageNet
    token: str  # tells one opening from another, since a process looks at the folder once

    def plan(self) -> list[Shard]:
        """Shards of train before those of validation. Raises DataError where a split is not there or not the published one."""
        forget()
        check_readable(self.recipe.address)
        shards = [shard for split in self._splits() for shard in self._part(split).plan()]
        return [replace(shard, number=number) for number, shard in enumerate(shards)]

    def read(self, shard: Shard) -> Iterator[pa.Table]:
        """The rows of one shard. Raises DataError if what lies there is no longer what was planned."""
        return tables(self._part(shard.name.partition("/")[0]).rows(shard))

    def queries(self) -> None:
        """None: these images have no captions; they are distractors."""

    def judgments(self) -> None:
        """None, as there are no queries."""

    def notes(self) -> list[str]:
        """For each split, how many of its images are of the classes that were asked for; Parquet's labels are read for it."""
        return [self._part(split).note() for split in self._splits()]

    def _splits(self) -> tuple[str, ...]:
        return ("train", "validation") if self.recipe.split == "all" else (self.recipe.split,)

    def _part(self, split: str) -> Part:
        return _part(self.recipe, split, self.token)


def classes_of(recipe: ImageNet) -> tuple[ImageClass, ...]:
    """The classes that a recipe asks for, by label."""
    if recipe.classes is None:
        return imagenet_classes()
    if isinstance(recipe.classes, str):
        return class_list(recipe.classes)
    return chosen(list(recipe.classes), "classes")


def forget() -> None:
    """Forget what was seen, so that the next look sees what is there now."""
    _part.cache_clear()
    imagenet_folders.forget()


@functools.lru_cache(maxsize=4)
def _part(recipe: ImageNet, split: str, token: str) -> Part:
    subset = Subset(recipe.address, split, classes_of(recipe), recipe.whole)
    part: Part | None = imagenet_parquet.find(subset, recipe.image, recipe.label)
    part = part or imagenet_folders.find(subset, token)
    if part is None:
        files = f"{split}-*.parquet (also in data/), {split}/ with a folder for each synset, or val/ with its labels"
        hint = "or run `raybench fetch imagenet-1k`, which needs its terms accepted"
        raise DataError(f"{recipe.address} has no {split} images of ImageNet-1k; put there {files}, {hint}")
    return part
