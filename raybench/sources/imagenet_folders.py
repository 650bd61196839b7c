"""ImageNet as JPEGs: a folder for each synset, or the validation images in one folder beside a file of their labels.

Problems: unreadable_file, zero_bytes, too_large, and no_label (a file that the labels do not name).
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from raybench import storage
from raybench.errors import DataError
from raybench.sources import pictures
from raybench.sources.base import Shard
from raybench.sources.folder import is_image
from raybench.sources.imagenet_classes import ImageClass, imagenet_classes
from raybench.sources.imagenet_labels import validation_labels
from raybench.sources.imagenet_part import ALIASES, SIZES, Subset
from raybench.sources.pictures import Picture
from raybench.sources.rows import Row
from raybench.sources.steady import attempted
from raybench.spec import content_key

_IMAGES_PER_SHARD = 1_000
_THREADS = 16  # one request for each of 1,000 folders


def find(subset: Subset, token: str) -> "ClassFolders | FlatFolder | None":
    """The split's folder in one of its layouts, or None where there is none."""
    for base in ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"):
        place = storage.join(subset.address, base) if base else subset.address
        _, folders = storage.list_folder(place)
        for name in (name for name in ALIASES[subset.split] if name in folders):
            folder = storage.join(place, name)
            files, inside = storage.list_folder(folder)
            synsets = [one for one in inside if re.fullmatch(r"n\d{8}", one)]
            if synsets:
                _check_known(synsets, folder)
                return ClassFolders(subset, folder)
            if subset.split == "validation" and any(is_image(file.name) for file in files):
                return FlatFolder(subset, folder, token)
    return None


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """A split as `<folder>/<synset>/<file>`; one shard is a run of classes with 1,000 files, or one class with more."""

    subset: Subset
    folder: str

    def plan(self) -> list[Shard]:
        """Runs of classes. Raises DataError where a class has fewer images than it must."""
        with ThreadPoolExecutor(_THREADS) as pool:
            listed = list(pool.map(lambda one: _files(self.folder, one.synset), self.subset.classes))
        for one, files in zip(self.subset.classes, listed, strict=True):
            self.subset.check_class(len(files), one, self.folder)
        total = sum(map(len, listed))
        if not total:
            raise DataError(f"{self.folder} has no images of the {len(self.subset.classes):,} classes; check the path")
        if len(self.subset.classes) == len(imagenet_classes()):
            self.subset.check_total(total, self.folder)
        shards, first, held = [], 0, 0
        for place, files in enumerate(listed):
            held += len(files)
            if held >= _IMAGES_PER_SHARD or place == len(listed) - 1:
                shards.append(self._shard(first, listed[first : place + 1]))
                first, held = place + 1, 0
        return shards

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The rows of some classes, class by class and by file name."""
        classes = self.subset.classes[shard.first : shard.first + (shard.count or 0)]
        listed = [_files(self.folder, one.synset) for one in classes]
        if self._shard(shard.first, listed).fingerprint != shard.fingerprint:
            raise DataError(f"{self.folder} changed after it was listed; start again")
        for one, files in zip(classes, listed, strict=True):
            yield from _rows(self.subset, self.folder, [(file, one) for file in files])

    def note(self) -> str:
        """How many files are of the classes."""
        with ThreadPoolExecutor(_THREADS) as pool:
            images = sum(pool.map(lambda one: len(_files(self.folder, one.synset)), self.subset.classes))
        return self.subset.note(images, SIZES[self.subset.split] if self.subset.whole else None)

    def _shard(self, first: int, listed: list[list[Picture]]) -> Shard:
        synset = self.subset.classes[first].synset
        files = [file for of_class in listed for file in of_class]
        return _shard(self.subset, self.folder, f"{synset}+{len(listed)}", files, first, len(listed))


@dataclass(frozen=True, slots=True)
class FlatFolder:
    """The validation images as `<folder>/<file>`; one shard is a run of 1,000 files of the classes."""

    subset: Subset
    folder: str
    token: str

    def plan(self) -> list[Shard]:
        """Runs of files. Raises DataError where labels are missing, or classes have fewer images than they must."""
        chosen = self._chosen()
        images = Counter(one for _, one in chosen if one is not None)
        if not images:
            raise DataError(f"{self.folder} has no images of the {len(self.subset.classes):,} classes; check the path")
        for one in self.subset.classes:
            self.subset.check_class(images[one], one, self.folder)
        firsts = range(0, len(chosen), _IMAGES_PER_SHARD)
        return [self._shard(first, [file for file, _ in chosen[first : first + _IMAGES_PER_SHARD]]) for first in firsts]

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The rows of a run, by file name."""
        chosen = list(self._chosen()[shard.first : shard.first + (shard.count or 0)])
        if not chosen or self._shard(shard.first, [file for file, _ in chosen]).fingerprint != shard.fingerprint:
            raise DataError(f"{self.folder} changed after it was listed; start again")
        return _rows(self.subset, self.folder, chosen)

    def note(self) -> str:
        """How many files are of the classes."""
        return self.subset.note(len(self._chosen()), SIZES["validation"] if self.subset.whole else None)

    def _chosen(self) -> tuple[tuple[Picture, ImageClass | None], ...]:
        return _labelled(self.subset, self.folder, self.token)

    def _shard(self, first: int, files: list[Picture]) -> Shard:
        return _shard(self.subset, self.folder, f"{files[0].path}+{len(files)}", files, first, len(files))


def forget() -> None:
    """Forget what was listed, so that the next look sees what is there now."""
    _labelled.cache_clear()


@functools.lru_cache(maxsize=2)
def _labelled(subset: Subset, folder: str, token: str) -> tuple[tuple[Picture, ImageClass | None], ...]:  # noqa: ARG001 - a part of the key
    """Files of the classes, and those without a label, with their class."""
    labels = validation_labels(subset.address)
    ours = set(subset.classes)
    files = [(file, labels.get(file.path.partition(".")[0])) for file in _files(folder, "")]
    return tuple((file, one) for file, one in files if one is None or one in ours)


def _files(folder: str, synset: str) -> list[Picture]:
    files, _ = attempted(lambda: storage.list_folder(storage.join(folder, synset) if synset else folder))
    prefix = f"{synset}/" if synset else ""
    return [Picture(prefix + file.name, "", file.size_bytes, file.modified_ns) for file in files if is_image(file.name)]


def _shard(subset: Subset, folder: str, name: str, files: list[Picture], first: int, count: int) -> Shard:
    size_bytes = sum(file.size_bytes for file in files)
    modified_ns = max((file.modified_ns for file in files), default=0)
    each = content_key([[file.path, file.size_bytes, file.modified_ns] for file in files])
    return Shard(0, f"{subset.split}/{name}", folder, size_bytes, modified_ns, first, count, each)


def _rows(subset: Subset, folder: str, files: Iterable[tuple[Picture, ImageClass | None]]) -> Iterator[Row]:
    for file, one in files:
        row = Row(f"{subset.split}/{file.path}", None, (), subset.metadata(one))
        if one is None:
            detail = "the file of labels does not name it"
            yield Row(row.image_id, None, (), row.metadata, "no_label", detail)
        else:
            yield pictures.row_of(folder, "", file, row)


def _check_known(synsets: list[str], folder: str) -> None:
    known = {one.synset for one in imagenet_classes()}
    other = next((synset for synset in synsets if synset not in known), None)
    if other is not None:
        raise DataError(f"{folder} has a folder {other}, which is no class of ImageNet-1k; check the path")
