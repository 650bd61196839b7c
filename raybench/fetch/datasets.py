"""The image sets that raybench knows by name: their files, how large they are, and what their owners ask for.

Files are the rows of `assets/datasets.csv`, with a size and a checksum where somebody published them (`source` says who).
What has none is verified by the length that its server tells, and its SHA-256 is recorded beside it.
"""

import csv
import functools
import importlib.resources
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from raybench.errors import RequestError
from raybench.fetch.items import Checksum, Item, Size, below, safe_name
from raybench.sources.addresses import expand

_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """What is said of a set before its files come. `login` is where its terms are accepted, "" where nobody asks for it."""

    what: str
    about: str  # the size, for people
    terms: str
    reads: str  # the source that reads the folder
    login: str = ""


_FLICKR = (
    "its images are from Flickr and stay under Flickr's terms of use; its authors give them for non-commercial research"
    " and education (https://shannon.cs.illinois.edu/DenotationGraph/)"
)
_COCO = "annotations are CC BY 4.0, images stay under Flickr's terms of use (https://cocodataset.org/#termsofuse)"
_IMAGENET = "for non-commercial research and education, under terms that you accept with an account of the hub"
_ACCEPT = "https://huggingface.co/datasets/ILSVRC/imagenet-1k"

IMAGE_SETS: Mapping[str, ImageSet] = {
    "flickr30k": ImageSet(
        "Flickr30k, all splits: images and five captions each", "4.4 GB", _FLICKR, 'flickr30k("FOLDER", split="test")'
    ),
    "coco-karpathy": ImageSet(
        "COCO captions with Karpathy's splits; images of val and test", "6.7 GB", _COCO, 'coco("FOLDER", split="test")'
    ),
    "coco-2014": ImageSet(
        "COCO captions 2014, train and val", "20.4 GB", _COCO, 'coco("FOLDER", split="val2014")'
    ),
    "coco-2017": ImageSet(
        "COCO captions 2017, train and val", "20.4 GB", _COCO, 'coco("FOLDER", split="val2017")'
    ),
    "imagenet-1k": ImageSet(
        "ImageNet-1k, train and validation", "some 160 GB", _IMAGENET, 'imagenet("FOLDER", split="all")', _ACCEPT
    ),
    "imagenet-1k-validation": ImageSet(
        "ImageNet-1k, validation", "some 6.5 GB", _IMAGENET, 'imagenet("FOLDER", split="validation")', _ACCEPT
    ),
}  # fmt: skip
"""By name, as `raybench fetch --list` shows them."""


def set_of(name: str) -> str | None:
    """The set that a name (`coco-karpathy`, or one file as `coco-karpathy/val2014.zip`) stands for, or None."""
    listing, _, file = name.partition("/")
    if listing not in IMAGE_SETS or (file and file not in {item.name for item in _items(listing)}):
        return None
    return listing


def items(name: str, mirrors: Iterable[str] = ()) -> list[Item]:
    """What to fetch for a name that `set_of` knows, mirrors first."""
    listing, _, file = name.partition("/")
    bases = tuple(mirrors)
    return [
        Item(
            item.name, (*(below(base, item.name) for base in bases), *item.urls),
            item.checksum, item.size, item.note, item.login,
        )
        for item in _items(listing)
        if file in ("", item.name)
    ]  # fmt: skip


def credentials(sets: Iterable[str], *, needed: bool = True) -> dict[str, str]:
    """Tokens by the one origin (scheme and host) that may see them, for sets that want a login.

    RequestError where the environment has none and one is needed.
    """
    asking = [name for name in sets if IMAGE_SETS[name].login]
    if not asking:
        return {}
    given = next((name for name in _TOKENS if os.environ.get(name, "").strip()), None)
    if given is None:
        if not needed:
            return {}
        login = IMAGE_SETS[asking[0]].login
        raise RequestError(
            f"{asking[0]} wants a login: accept its terms at {login}, make a token at {_HUB}/settings/tokens, set"
            f" {_TOKENS[0]} to it, and run this again; files that you have already may lie in the folder, or at a --mirror"
        )
    token = os.environ[given].strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise RequestError(f"{given} holds spaces or characters that no token has; set it again")
    return {_HUB: token}


@functools.cache
def _items(listing: str) -> tuple[Item, ...]:
    text = (importlib.resources.files("raybench") / "assets" / "datasets.csv").read_text(encoding="utf-8")
    login = IMAGE_SETS[listing].login
    hint = login and f"accept the terms at {login} with the account that the token in {_TOKENS[0]} is of"
    made = []
    for row in csv.DictReader(text.splitlines()):
        if row["set"] == listing:
            checksum = Checksum(*row["checksum"].split(":")) if row["checksum"] else None
            size = Size.parse(row["size"]) if row["size"] else None
            made += [
                Item(safe_name(name), (below(row["base"], name),), checksum, size, "", hint)
                for name in expand(row["file"])
            ]
    return tuple(made)
