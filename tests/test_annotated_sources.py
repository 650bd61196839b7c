"""Data sets that come with annotations (Flickr30k, COCO, ImageNet), as small copies of every layout that people have."""

import re
from pathlib import Path

import pytest

from raybench.errors import DataError
from raybench.sources.imagenet_classes import class_list, imagenet_classes


def test_the_vehicle_classes_are_49_of_imagenet():
    """Labels, synsets and names of the list agree with timm's; the sum of the labels is that of the published list."""
    vehicles = class_list("vehicles")
    by_label = {one.label: one for one in imagenet_classes()}

    assert (len(vehicles), sum(one.label for one in vehicles)) == (49, 32_535)
    assert all(one == by_label[one.label] for one in vehicles)
    names = {one.first_name: one.label for one in vehicles}
    assert (names["sports car"], names["crane"], names["Model T"], names["cab"]) == (817, 517, 661, 468)
    assert [one.synset for one in imagenet_classes()] == sorted(one.synset for one in imagenet_classes())


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("label\n1000\n", "no label"), ("label\n1\n1\n", "listed twice"), ("label\nx\n", "no label"),
        ("synset\nn0\n", "is no class"), ("label,synset\n0,n04285008\n", "label 0 is n01440764 and not n04285008"),
        ("label\n", "lists no class"), ("name\nx\n", "without label and synset"),
    ],
)  # fmt: skip
def test_a_list_of_ones_own_is_checked(tmp_path: Path, table: str, reason: str):
    """Labels, synsets or both in any form of table; what ImageNet-1k does not have is refused."""
    path = tmp_path / "own.csv"
    path.write_text("synset,label\r\nn04285008,\r\n,511\r\n", newline="")
    assert [one.label for one in class_list(str(path))] == [511, 817]
    path.write_text(table)
    with pytest.raises(DataError, match=re.escape(reason)):
        class_list(str(path))


def test_an_unknown_list_is_refused():
    """The nearest name is said."""
    with pytest.raises(DataError, match="did you mean 'vehicles'"):
        class_list("vehicle")
