"""The classes of ImageNet-1k, and lists of some of them that have a name.

A label is a class's number from 0 to 999, in the order of its WordNet id, as the hub's Parquet files, torchvision and
timm count; the numbers of the challenge's development kit are others. Synsets and names are those that timm carries.

`vehicles` are the 49 classes that the vehicle set is made of; they are those of `src/imagenet_classifier.py` in
https://github.com/lukemerrick/vehicle-image-search-eval.
"""

import functools
import importlib.resources
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raybench import storage
from raybench.errors import DataError, suggest
from raybench.sources.captions import csv_rows, rows_of

LISTS = ("vehicles", "imagenet-1k")
"""The names that `class_list` knows."""

_NUM_CLASSES = 1_000


@dataclass(frozen=True, slots=True)
class ImageClass:
    """One class: its label, its WordNet id such as `n04285008`, and all its names apart by commas."""

    label: int
    synset: str
    name: str

    @property
    def first_name(self) -> str:
        """The name to show; "crane" and "maillot" are two classes each."""
        return self.name.partition(", ")[0]


@functools.cache
def imagenet_classes() -> tuple[ImageClass, ...]:
    """All 1,000 classes by label, from timm's data files, read without importing timm: that takes seconds, for torch."""
    timm = importlib.util.find_spec("timm")
    if timm is None or not timm.submodule_search_locations:
        raise DataError("timm, which carries the classes of ImageNet, is not installed; install raybench again")
    folder = Path(timm.submodule_search_locations[0]) / "data" / "_info"
    synsets = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    names = dict(line.split("\t", 1) for line in lines)
    return tuple(ImageClass(label, synset, names[synset]) for label, synset in enumerate(synsets))


def class_list(name_or_path: str) -> tuple[ImageClass, ...]:
    """The classes of a list, by label: `vehicles`, `imagenet-1k`, or a table with a column `label` or `synset` of one's own.

    Raises DataError for an unknown name, a label or synset that ImageNet-1k has not, one that is listed twice, and a
    label beside a synset that is not its own.
    """
    if name_or_path == "imagenet-1k":
        return imagenet_classes()
    if name_or_path == "vehicles":
        return _vehicles()
    if "/" not in name_or_path and "." not in name_or_path:
        raise DataError(f"no list of classes is called {name_or_path!r}; {suggest(name_or_path, LISTS)}")
    uri = storage.absolute(name_or_path)
    return chosen([_written(row, uri) for row in rows_of(uri)], uri)


def chosen(classes: list[int | str], where: str) -> tuple[ImageClass, ...]:
    """Classes that labels or synsets stand for, by label; `where` is named in the DataError for one that stands for none."""
    by_synset = {one.synset: one for one in imagenet_classes()}
    found: dict[int, ImageClass] = {}
    for given in classes:
        if isinstance(given, int):
            one = imagenet_classes()[given] if 0 <= given < _NUM_CLASSES else None
        else:
            one = by_synset.get(given)
        if one is None:
            raise DataError(f"{where}: {given!r} is no class of ImageNet-1k; give labels from 0 to 999 or synsets")
        if one.label in found:
            raise DataError(f"{where}: class {given!r} ({one.first_name}) is listed twice; list it once")
        found[one.label] = one
    if not found:
        raise DataError(f"{where} lists no class; give labels from 0 to 999 or synsets")
    return tuple(found[label] for label in sorted(found))


@functools.cache
def _vehicles() -> tuple[ImageClass, ...]:
    place = importlib.resources.files("raybench") / "assets" / "classes" / "vehicles.csv"
    rows = csv_rows(place.read_text(encoding="utf-8"), None, "vehicles.csv")
    return tuple(ImageClass(int(row["label"]), row["synset"], row["name"]) for row in rows)


def _written(row: Mapping[str, Any], uri: str) -> int | str:
    """The label or synset of a row."""
    label, synset = row.get("label"), row.get("synset")
    if label in (None, "") and synset in (None, ""):
        raise DataError(f"{uri} has a row without label and synset; it has {', '.join(map(str, row))}")
    if label in (None, ""):
        return str(synset)
    if not re.fullmatch("[0-9]{1,3}", str(label)):
        raise DataError(f"{uri}: label {label!r} is no label; labels are whole numbers from 0 to 999")
    if synset and imagenet_classes()[int(str(label))].synset != synset:
        own = imagenet_classes()[int(str(label))].synset
        raise DataError(
            f"{uri}: label {label} is {own} and not {synset}; labels count from 0 in the order of WordNet ids"
        )
    return int(str(label))
