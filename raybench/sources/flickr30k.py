"""Flickr30k as it lies in people's folders: one of four forms of annotations, pictures as files or in the hub's zip."""

import uuid
from dataclasses import dataclass
from typing import Literal

from raybench import storage
from raybench.sources.annotated import AnnotatedPictures


@dataclass(frozen=True, slots=True)
class Flickr30k:
    """Flickr30k in a folder; an image's id is its file name, its metadata has the split.

    address      the folder. Pictures are found below it at any depth (`flickr30k-images/` is what they are expected in)
                 or in `flickr30k-images.zip`, which is read in place
    split        "test" (1,000 images), "val" (1,014), "train" (29,000), or "all" of them; as Karpathy cut them
    annotations  a file by its address or its path in the folder, `a.zip!b.json` for a member of a zip; None takes the
                 first there is of flickr_annotations_30k.csv (Hugging Face), dataset_flickr30k.json (Karpathy, also in
                 annotations/, karpathy/, caption_datasets/ or caption_datasets.zip), flickr30k_<split>_karpathy.txt
                 (CLIP_benchmark), results_20130124.token, results.csv and captions.txt, of which the last three know no
                 splits and serve "all" only
    whole        False lets a split have another number of images than published
    """

    address: str
    split: Literal["test", "val", "train", "all"] = "test"
    annotations: str | None = None
    whole: bool = True

    def is_ready(self, datasets_uri: str) -> bool:  # noqa: ARG002 - it is read where it lies
        """Always: nothing is made or fetched."""
        return True

    def open(self, datasets_uri: str) -> AnnotatedPictures:  # noqa: ARG002 - nothing is made or fetched
        """The source; annotations and folder are read when it plans."""
        folder = storage.absolute(self.address)
        return AnnotatedPictures("flickr30k", folder, self.split, self.annotations, self.whole, uuid.uuid4().hex)
