"""The classes of ImageNet's validation images, for the layouts in which the folder does not say them.

The development kit numbers its classes from 1 in an order of its own; only its meta.mat says which synsets they are.
"""

import io
import posixpath
import re
from collections.abc import Mapping

from raybench import storage
from raybench.errors import DataError
from raybench.sources.captions import csv_rows
from raybench.sources.imagenet_classes import ImageClass, imagenet_classes
from raybench.sources.steady import attempted

_KAGGLE = "LOC_val_solution.csv"
_LIST = "imagenet_2012_validation_synset_labels.txt"
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_FOLDERS = ("", "val", "data", "ILSVRC2012_devkit_t12/data", "devkit/data")


def validation_labels(folder: str) -> Mapping[str, ImageClass]:
    """The class of each file name without its extension. Raises DataError where no file of labels is there, or a wrong one.

    Read are, in this order, Kaggle's LOC_val_solution.csv, a list of one synset a line in the order of the file numbers
    (imagenet_2012_validation_synset_labels.txt), and the development kit's ground truth with its meta.mat.
    """
    known = {one.synset: one for one in imagenet_classes()}
    if (uri := _somewhere(folder, _KAGGLE)) is not None:
        rows = csv_rows(_text(uri), None, uri)
        synsets = {str(row.get("ImageId")): str(row.get("PredictionString")).split(" ")[0] for row in rows}
    elif (uri := _somewhere(folder, _LIST)) is not None:
        synsets = _numbered(_text(uri).split())
    elif (uri := _somewhere(folder, _TRUTH)) is not None:
        by_number = _synsets_of_kit(uri)
        synsets = _numbered([by_number.get(number, number) for number in _text(uri).split()])
    else:
        files = f"{_KAGGLE} (Kaggle), {_LIST} or {_TRUTH} with {_META} (the development kit)"
        raise DataError(f"{folder} has validation images and no file of their labels; put {files} there")
    wrong = next((synset for synset in synsets.values() if synset not in known), None)
    if wrong is not None or not synsets:
        raise DataError(f"{uri} names {wrong!r}, which is no class of ImageNet-1k; fetch it again")
    return {posixpath.basename(name): known[synset] for name, synset in synsets.items()}


def _numbered(synsets: list[str]) -> dict[str, str]:
    return {f"ILSVRC2012_val_{number:08d}": synset for number, synset in enumerate(synsets, start=1)}


def _synsets_of_kit(truth_uri: str) -> dict[str, str]:
    """Synsets by the kit's numbers from 1 to 1,000, from the meta.mat beside its ground truth."""
    from scipy.io import loadmat

    uri = storage.join(posixpath.dirname(truth_uri), _META)
    if not storage.exists(uri):
        raise DataError(f"{truth_uri} has numbers that are no labels; put the development kit's {_META} beside it")
    data = attempted(lambda: storage.read_bytes(uri))
    try:
        table = loadmat(io.BytesIO(data), squeeze_me=True)["synsets"]
        pairs = zip(table["ILSVRC2012_ID"].tolist(), table["WNID"].tolist(), strict=True)
        synsets = {str(int(number)): str(synset) for number, synset in pairs if 1 <= int(number) <= 1_000}
    except Exception as error:  # noqa: BLE001 - scipy raises almost anything for a damaged file
        raise DataError(f"{uri} is not the development kit's: {str(error)[:200]}; fetch it again") from None
    if set(synsets.values()) != {one.synset for one in imagenet_classes()}:
        raise DataError(f"{uri} does not number the 1,000 classes of ImageNet-1k; fetch it again")
    return synsets


def _somewhere(folder: str, name: str) -> str | None:
    uris = [storage.join(folder, below, name) if below else storage.join(folder, name) for below in _FOLDERS]
    return next((uri for uri in uris if storage.exists(uri)), None)


def _text(uri: str) -> str:
    text = attempted(lambda: storage.read_bytes(uri)).decode("utf-8-sig", "replace")
    return re.sub(r"\r\n?", "\n", text)
