"""The synthetic LAION: the same bytes however it is read, and the statistics that it promises."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.errors import DataError
from raybench.formats.base import read_rows
from raybench.formats.laion_like import LaionLike, sources

SMALL = LaionLike(rows=6_000, dim=40, seed=3, clusters=50, same=0.3, queries=3_000)
QUERIES = LaionLike(rows=6_000, dim=40, seed=3, clusters=50, same=0.3, queries=3_000, part="queries")
PARTS = {"corpus": SMALL, "queries": QUERIES}
WHOLE = {name: read_rows(recipe.open()) for name, recipe in PARTS.items()}


def _cosines(left, right):
    return left.astype(np.float64) @ right.astype(np.float64).T


@settings(max_examples=40, deadline=None)
@given(part=st.sampled_from(sorted(PARTS)), start=st.integers(0, 2_999), length=st.integers(0, 2_500))
def test_any_run_of_rows_is_the_same_bytes(part, start, length):
    """Where a read begins and ends does not show in what is read."""
    file = PARTS[part].open()
    stop = min(start + length, file.rows)

    assert read_rows(file, start, stop).tobytes() == WHOLE[part][start:stop].tobytes()


def test_smaller_corpora_are_prefixes_of_larger_ones():
    """A row depends on the seed and its number, not on how many rows there are."""
    larger = LaionLike(rows=10**9, dim=40, seed=3, clusters=50).open()

    assert np.array_equal(read_rows(larger, 0, 3_000), WHOLE["corpus"][:3_000])


def test_the_bytes_are_those_of_the_first_release():
    """A change of any byte would change every stored gold standard over these vectors."""
    found = {name: hashlib.sha256(rows.tobytes()).hexdigest()[:16] for name, rows in WHOLE.items()}

    assert found == {"corpus": "e95b1eb46378daf6", "queries": "7cf4d517a621eb0b"}


def test_far_rows_are_computed_without_those_before():
    """The last rows of a billion cost no more than the first, and differ from them."""
    far = read_rows(LaionLike(rows=10**9, dim=40, copies=0, near=0).open(), 10**9 - 5, 10**9)

    assert far.shape == (5, 40)
    assert len(np.unique(far, axis=0)) == 5


def test_seeds_give_other_vectors():
    """No row of one seed is a row of another."""
    other = read_rows(LaionLike(rows=100, dim=40, seed=4, clusters=50).open())

    assert not (other[:, None] == WHOLE["corpus"][None, :100]).all(axis=2).any()


@pytest.mark.parametrize("copies", [0.0, 0.24, 0.6])
def test_the_share_of_copies_is_as_asked_and_groups_are_heavy_tailed(copies):
    """So many rows equal an earlier row, byte for byte; some rows have hundreds of copies and most have one."""
    recipe = LaionLike(rows=20_000, dim=16, copies=copies, clusters=50)
    rows = read_rows(recipe.open())
    _, first, sizes = np.unique(rows, axis=0, return_index=True, return_counts=True)

    assert abs(1 - len(first) / len(rows) - copies) < 0.015
    assert sizes.max() == 1 if not copies else (sizes.max() > 100 and np.median(sizes[sizes > 1]) <= 3)
    roots = sources(recipe, np.arange(20_000))
    assert np.array_equal(np.unique(roots), np.sort(first))
    assert np.array_equal(rows[roots], rows)


def test_near_duplicates_are_near_and_not_equal():
    """Apart from copies, a share of the rows has a neighbour at a cosine above 0.99, and without them none has."""
    recipe = {"rows": 3_000, "dim": 256, "copies": 0.0}
    cosines = {}
    for near in (0.0, 0.1):
        rows = read_rows(LaionLike(**recipe, near=near).open())
        all_NN = np.tril(_cosines(rows, rows), -1)
        cosines[near] = (all_NN.max(axis=1) > 0.99).mean()
        assert len(np.unique(rows, axis=0)) == 3_000

    assert cosines[0.0] == 0
    assert abs(cosines[0.1] - 0.1) < 0.02


def test_images_and_texts_lie_in_two_cones_with_a_gap():
    """Two images, and two texts, are far nearer to one another than an image and a text."""
    images = read_rows(LaionLike(copies=0).open(), 0, 1_000)
    texts = read_rows(LaionLike(part="queries").open(), 0, 1_000)
    between = ~np.eye(1_000, dtype=bool)
    image_image, text_text = _cosines(images, images)[between].mean(), _cosines(texts, texts)[between].mean()
    image_text = _cosines(images, texts)

    assert 0.35 < image_image < 0.6
    assert 0.35 < text_text < 0.65
    assert 0.05 < image_text.mean() < 0.25
    assert image_text.max(axis=0).mean() > image_text.mean() + 0.08  # a text has images that it fits better
    assert np.linalg.norm(images.astype(float).mean(axis=0) - texts.astype(float).mean(axis=0)) > 0.5


def test_vectors_are_anisotropic_with_a_few_large_constant_coordinates():
    """A third of the components hold most of the variance; three coordinates are large in every row."""
    images = read_rows(LaionLike(copies=0).open(), 0, 3_000).astype(np.float64)
    variance = np.linalg.eigvalsh(np.cov(images.T))[::-1]
    mean = np.sort(np.abs(images.mean(axis=0)))

    assert variance[:96].sum() / variance.sum() > 0.6
    assert mean[-3] > 2 * mean[-4]
    assert (images[:, np.abs(images.mean(axis=0)).argmax()] > 0.15).all()


def test_lengths_are_almost_one():
    """float16 leaves lengths within a thousandth of one, and not at one."""
    lengths = np.linalg.norm(read_rows(LaionLike().open(), 0, 500).astype(np.float64), axis=1)

    assert np.abs(lengths - 1).max() < 1e-3
    assert (lengths != 1).any()


def test_dtypes_are_as_asked():
    """float16 for the corpus, float32 for queries; the other way round a corpus keeps its values, and queries round."""
    assert WHOLE["corpus"].dtype == np.float16
    assert WHOLE["queries"].dtype == np.float32
    wide = LaionLike(rows=6_000, dim=40, seed=3, clusters=50, dtype="float32").open()
    narrow = LaionLike(**{name: getattr(QUERIES, name) for name in QUERIES.__slots__} | {"dtype": "float16"}).open()

    assert np.array_equal(read_rows(wide, 0, 100), WHOLE["corpus"][:100].astype(np.float32))
    assert np.array_equal(read_rows(narrow, 0, 100), WHOLE["queries"][:100].astype(np.float16))


def test_a_share_of_the_queries_equals_rows_of_the_corpus():
    """Queries that are the same are found in the corpus bit for bit; the others are not there."""
    rows = {row.tobytes() for row in WHOLE["corpus"].astype(np.float32)}
    share = np.mean([row.tobytes() in rows for row in WHOLE["queries"]])

    assert abs(share - 0.3) < 0.03


def test_image_queries_lie_in_the_images_cone():
    """Queries can be images that are not in the corpus, as those of the SISAP challenge are."""
    images = read_rows(LaionLike().open(), 0, 500)
    asking = read_rows(LaionLike(part="queries", asking="image").open(), 0, 500)

    assert _cosines(images, asking).mean() > 0.35
    assert not (images[:, None, :8] == asking[None, :, :8]).all(axis=2).any()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"rows": 0}, "rows=0"), ({"dim": 3}, "dim=3"), ({"seed": -1}, "seed=-1"), ({"copies": 0.9, "near": 0.2}, "near")],
)
def test_numbers_out_of_range_are_refused(wrong, words):
    """One sentence names the parameter."""
    with pytest.raises(DataError, match=words):
        LaionLike(**wrong).open()


def test_rows_that_are_not_there_are_refused():
    """Reading past the end is an error, not other rows."""
    with pytest.raises(DataError, match="6000"):
        SMALL.open().read_into(5_999, np.empty((2, 40), np.float16))
