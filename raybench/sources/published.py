"""What is published about captioned image sets: their files, their splits, and how many images each split has.

Flickr30k  31,783 images with five captions each; Karpathy's splits are of 31,014: 29,000 train, 1,014 val, 1,000 test.
COCO       2014: 82,783 train and 40,504 val; Karpathy's splits cut val into 5,000 val, 5,000 test (25,010 captions) and
           30,504 restval, which many train on too. 2017 are the same images: 118,287 train and 5,000 val.

Sizes: Young et al. 2014 (Flickr30k); Chen et al. 2015 (COCO captions); Karpathy and Li 2015 (the splits).
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a data set; its annotation files are looked for in the order of `annotations`.

    In a file's name `{split}` is the split that is asked for; `a.zip!b.json` is a member of a zip.
    """

    name: str
    fetch: str  # what `raybench fetch` knows it by
    annotations: tuple[str, ...]
    archives: tuple[str, ...]  # zips of pictures
    folders: tuple[str, ...]  # where pictures are expected; `{folder}` is what the annotations say
    splits: Mapping[str, tuple[str, ...]]  # splits that are several of the annotations' own; () is all of them
    sizes: Mapping[str, tuple[tuple[int, int | None], ...]]  # images and captions; several where files differ
    hint: str  # what to do where a file does not have a split


def _anywhere(name: str) -> tuple[str, ...]:
    """A file of Karpathy's as people keep it, the zip that it comes in last."""
    folders = ("", "annotations/", "karpathy/", "caption_datasets/")
    return (*(folder + name for folder in folders), f"caption_datasets.zip!{name}")


_FLICKR30K = Published(
    name="Flickr30k",
    fetch="flickr30k",
    annotations=(
        "flickr_annotations_30k.csv",
        *_anywhere("dataset_flickr30k.json"),
        "flickr30k_{split}_karpathy.txt",
        "annotations/flickr30k_{split}_karpathy.txt",
        "results_20130124.token",
        "results.csv",
        "flickr30k_images/results.csv",
        "captions.txt",
    ),
    archives=("flickr30k-images.zip", "flickr30k_images.zip"),
    folders=("flickr30k-images", "flickr30k_images", "images", "Images", ""),
    splits={"all": ()},
    sizes={
        "test": ((1_000, 5_000),),
        "val": ((1_014, None),),
        "train": ((29_000, None),),
        "all": ((31_014, None), (31_783, None)),
    },
    hint="get flickr_annotations_30k.csv (`raybench fetch flickr30k`) or Karpathy's dataset_flickr30k.json, which name"
    " the split of each image",
)

_COCO = Published(
    name="COCO",
    fetch="coco-karpathy",
    annotations=(
        "annotations/captions_{split}.json",
        "captions_{split}.json",
        "annotations_trainval2014.zip!annotations/captions_{split}.json",
        "annotations_trainval2017.zip!annotations/captions_{split}.json",
        *_anywhere("dataset_coco.json"),
        "coco_{split}_karpathy.json",
        "annotations/coco_{split}_karpathy.json",
        "coco_karpathy_{split}.json",
        "annotations/coco_karpathy_{split}.json",
        "annotations/captions_val2014.json",  # these and what follows only lead to a refusal that says what they hold
        "captions_val2014.json",
        "annotations_trainval2014.zip!annotations/captions_val2014.json",
        "annotations/captions_val2017.json",
        "annotations_trainval2017.zip!annotations/captions_val2017.json",
    ),
    archives=("val2014.zip", "train2014.zip", "val2017.zip", "train2017.zip"),
    folders=("{folder}", "images/{folder}", "images", "val2014", "train2014", "val2017", "train2017", ""),
    splits={"all": (), "train+restval": ("train", "restval")},
    sizes={
        "test": ((5_000, 25_010),),
        "val": ((5_000, None),),
        "train": ((82_783, None),),
        "restval": ((30_504, None),),
        "train+restval": ((113_287, None),),
        "all": ((123_287, None),),
        "train2014": ((82_783, None),),
        "val2014": ((40_504, None),),
        "train2017": ((118_287, None),),
        "val2017": ((5_000, None),),
    },
    hint="for Karpathy's splits get dataset_coco.json (`raybench fetch coco-karpathy`); COCO's own are train2014, val2014,"
    " train2017 and val2017",
)

PUBLISHED: Mapping[str, Published] = {"flickr30k": _FLICKR30K, "coco": _COCO}
"""By the name of the source."""
