"""COCO captions as they lie in people's folders: Karpathy's splits or COCO's own, pictures as files or in COCO's zips."""

import uuid
from dataclasses import dataclass
from typing import Literal

from raybench import storage
from raybench.sources.annotated import AnnotatedPictures


@dataclass(frozen=True, slots=True)
class Coco:
    """COCO captions in a folder; an image's id is its file name, its metadata has the split.

    address      the folder. Pictures are found below it at any depth (`val2014/`, `train2014/` are what they are expected
                 in) or in `val2014.zip`, `train2014.zip`, `val2017.zip`, `train2017.zip`, which are read in place
    split        Karpathy's: "test" (5,000 images), "val" (5,000), "train" (82,783), "restval" (30,504), "train+restval"
                 (the 113,287 that many models train on), or "all"; COCO's own: "val2014" (40,504), "train2014" (82,783),
                 "val2017" (5,000, which are not Karpathy's), "train2017" (118,287)
    annotations  a file by its address or its path in the folder, `a.zip!b.json` for a member of a zip; None takes the
                 first there is of captions_<split>.json (COCO, also in annotations/ or annotations_trainval2014.zip or
                 ...2017.zip), dataset_coco.json (Karpathy, also in annotations/, karpathy/, caption_datasets/ or
                 caption_datasets.zip), coco_<split>_karpathy.json (CLIP_benchmark) and coco_karpathy_<split>.json (BLIP)
    whole        False lets a split have another number of images than published
    """

    address: str
    split: Literal[
        "test", "val", "train", "restval", "train+restval", "all", "val2014", "train2014", "val2017", "train2017"
    ] = "test"
    annotations: str | None = None
    whole: bool = True

    def is_ready(self, datasets_uri: str) -> bool:  # noqa: ARG002 - it is read where it lies
        """Always: nothing is made or fetched."""
        return True

    def open(self, datasets_uri: str) -> AnnotatedPictures:  # noqa: ARG002 - nothing is made or fetched
        """The source; annotations and folder are read when it plans."""
        folder = storage.absolute(self.address)
        return AnnotatedPictures("coco", folder, self.split, self.annotations, self.whole, uuid.uuid4().hex)
