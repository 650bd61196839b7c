"""What a layout of ImageNet's folder promises, what is asked of it, and the numbers that it is held against."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from raybench.errors import DataError
from raybench.sources.base import Shard
from raybench.sources.imagenet_classes import ImageClass
from raybench.sources.rows import Row, as_json

SIZES: Mapping[str, int] = {"train": 1_281_167, "validation": 50_000}
"""Images of each split (Russakovsky et al. 2015)."""

PER_CLASS: Mapping[str, tuple[int, int]] = {"train": (732, 1_300), "validation": (50, 50)}
"""Fewest and most images of a class."""

ALIASES: Mapping[str, tuple[str, ...]] = {"train": ("train",), "validation": ("validation", "val", "valid")}
"""How files and folders of a split are called."""


@dataclass(frozen=True, slots=True)
class Subset:
    """What is asked for: some classes of a split in a folder."""

    address: str
    split: str
    classes: tuple[ImageClass, ...]
    whole: bool

    def check_total(self, images: int, where: str) -> None:
        """DataError unless a split has as many images as published, or need not."""
        if self.whole and images != SIZES[self.split]:
            raise DataError(
                f"{where} has {images:,} images, and {self.split} of ImageNet-1k has {SIZES[self.split]:,}; fetch what is"
                " missing, or say whole=False if a part of it is meant"
            )

    def check_class(self, images: int, one: ImageClass, where: str) -> None:
        """DataError unless a class has a number of images that it can have, or need not."""
        fewest, most = PER_CLASS[self.split]
        if self.whole and not fewest <= images <= most:
            published = f"{fewest:,}" + (f" to {most:,}" if most > fewest else "")
            raise DataError(
                f"{where} has {images:,} images of {one.synset} ({one.first_name}), and {self.split} of ImageNet-1k has"
                f" {published} of each class; fetch what is missing, or say whole=False if a part of it is meant"
            )

    def note(self, images: int, of: int | None) -> str:
        """How many images are of the classes, and of how many where that is known."""
        classes = f"of the {len(self.classes):,} classes"
        if of is None or of == images:
            return f"ImageNet-1k {self.split}: {images:,} images {classes}"
        return f"ImageNet-1k {self.split}: {images:,} of {of:,} images are {classes}; the others are not read"

    def metadata(self, one: ImageClass | None) -> str | None:
        """What a row says of its image."""
        known = {} if one is None else {"label": one.label, "synset": one.synset, "class": one.first_name}
        return as_json({"split": self.split, **known})


class Part(Protocol):
    """One split in one layout."""

    def plan(self) -> list[Shard]:
        """Shards whose names begin with the split and a slash; their numbers are the caller's."""
        ...

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The rows of a shard that are of the classes, and those whose class cannot be known."""
        ...

    def note(self) -> str:
        """How many images there are."""
        ...
