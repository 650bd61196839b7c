"""Annotation files of captioned image sets, in the forms that circulate, become one list: name, captions, split.

JSON   Karpathy's `dataset_*.json` (images with filename, split, sentences); COCO's own `captions_*.json` and those cut
       from it (images with file_name, annotations with caption); BLIP's `coco_karpathy_*.json` (a list of image, caption)
Text   a table with a header, as in `raybench.sources.captions`, with a column `split` or without (Hugging Face's
       `flickr_annotations_30k.csv`, CLIP_benchmark's `flickr30k_test_karpathy.txt`); the original `results.csv`, apart by
       bars; the original `*.token` (name#number, tab, caption)

A split is what the file says of each image; where it says nothing, what the file's own name says; else None.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from raybench import storage
from raybench.errors import DataError
from raybench.sources import zips
from raybench.sources.captions import cell, csv_rows
from raybench.sources.rows import texts_in
from raybench.sources.steady import attempted

_LARGEST_BYTES = 2 << 30
_NAMES = ("file_name", "image", "filename", "image_id", "image_name")
_TEXTS = ("caption", "text", "captions", "raw", "comment")
_OF_FILE = (r"_(train|val|test)_karpathy\.\w+$", r"karpathy_(val|test)\.\w+$", r"^captions_((?:train|val)20\d\d)\.")


@dataclass(frozen=True, slots=True)
class Annotated:
    """One image: the last part of its file name, the folder that the file says it is in ("" if it does not), its captions."""

    name: str
    folder: str
    captions: tuple[str, ...]
    split: str | None


def read_annotations(uri: str, member: str = "", token: str = "") -> tuple[Annotated, ...]:
    """The images of a file, or of a member of a zip, in their order; captions of one image in several rows are joined.

    Raises DataError for a form that is not known, and for an image that is in two splits.
    """
    where = f"{uri}/{member}" if member else uri
    text = _text(uri, member, token, where)
    rows = _from_json(text, where) if where.lower().endswith(".json") else _from_text(text, where)
    base = posixpath.basename(where)
    named = next((match[1] for pattern in _OF_FILE if (match := re.search(pattern, base))), None)
    return tuple(_joined(rows, named, where))


def _text(uri: str, member: str, token: str, where: str) -> str:
    if member:
        data = zips.read_member(uri, token, member, _LARGEST_BYTES)
    else:
        data = attempted(lambda: storage.read_bytes(uri))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 at byte {error.start}; fetch it again") from None


def _joined(rows: Iterable[tuple[str, Any, str | None]], named: str | None, where: str) -> Iterator[Annotated]:
    """Rows of (path, captions, split) by image."""
    captions: dict[str, list[str]] = {}
    facts: dict[str, tuple[str, str | None]] = {}
    for path, texts, said in rows:
        folder, _, name = path.strip().rpartition("/") if isinstance(path, str) else ("", "", "")
        if not name:
            raise DataError(f"{where} has a row that names no image ({path!r}); fetch it again")
        split = said or named
        if facts.setdefault(name, (folder, split))[1] != split:
            raise DataError(f"{where} has {name!r} in two splits, {facts[name][1]!r} and {split!r}; fetch it again")
        captions.setdefault(name, []).extend(texts_in(texts))
    for name, (folder, split) in facts.items():
        yield Annotated(name, folder, tuple(captions[name]), split)


def _from_text(text: str, where: str) -> Iterator[tuple[Any, Any, str | None]]:
    header, _, rest = text.partition("\n")
    if re.match(r"[^\t]+#\d+\t", header):
        for line in _lines(text):
            name, tab, caption = line.partition("\t")
            if not tab:
                raise DataError(f"{where}: {line[:60]!r} is not name#number, tab, caption")
            yield name.rpartition("#")[0], (caption,), None
    elif "|" in header:
        for line in _lines(rest):
            # One line of the published file lacks its second bar: "2199200615.jpg| 4   A dog runs across the grass ."
            match = re.fullmatch(r"([^|]+)\|\s*\d+\s*(?:\||\s)(.*)", line)
            if match is None:
                raise DataError(f"{where}: {line[:60]!r} is not name| number| caption")
            yield match[1], (match[2],), None
    else:
        for row in csv_rows(text, None, where):
            yield cell(row, _NAMES, where), cell(row, _TEXTS, where), row.get("split") or None


def _lines(text: str) -> Iterator[str]:
    """Lines as their ends are in these files; other characters that Unicode calls line ends are a caption's own."""
    return (line for line in re.split(r"\r?\n", text) if line.strip())


def _from_json(text: str, where: str) -> Iterator[tuple[Any, Any, str | None]]:
    try:
        # A sentence becomes its text as soon as it is read; its tokens would be a gigabyte in each worker.
        value = json.loads(text, object_hook=lambda one: one.get("raw", one))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}; fetch it again") from None
    try:
        if isinstance(value, list):
            yield from ((one["image"], one["caption"], None) for one in value)
        elif "annotations" in value:
            yield from _official(value, where)
        else:
            for one in value["images"]:
                path = posixpath.join(one.get("filepath", ""), one["filename"])
                yield path, [_text_of(sentence) for sentence in one["sentences"]], one["split"]
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        known = "Karpathy's dataset_*.json, COCO's captions_*.json or a list of image and caption"
        raise DataError(f"{where} is not of a form that is read ({known}): {reason}") from None


def _text_of(sentence: object) -> str:
    if not isinstance(sentence, str):
        raise TypeError("a sentence has no text (raw)")
    return sentence


def _official(value: dict[str, Any], where: str) -> Iterator[tuple[str, list[str], None]]:
    captions: dict[object, list[str]] = {image["id"]: [] for image in value["images"]}
    for one in value["annotations"]:
        if one["image_id"] not in captions:
            raise DataError(
                f"{where} has a caption for image {one['image_id']!r}, which it does not list; fetch it again"
            )
        captions[one["image_id"]].append(one["caption"])
    for image in value["images"]:
        yield image["file_name"], captions[image["id"]], None
