"""Transforms: what they compute, that runs of rows do not show, and that a fitted one survives storage."""

import pickle
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench import storage
from raybench.arrays import Vectors
from raybench.errors import DataError, SpecError
from raybench.formats.base import read_rows
from raybench.formats.laion_like import LaionLike
from raybench.formats.transformed import Transformed
from raybench.transforms import TRANSFORMS, Float16, Truncate
from raybench.transforms.pca import PcaRecipe
from raybench.transforms.sketch import SketchRecipe, pack, unpack, words
from raybench.transforms.store import fit_once, load, open_transform

SPECS = ["float16()", "truncate(dim=16)", "pca(dim=8)", "sketch(bits=128)"]


@dataclass(frozen=True)
class Matrix:
    """A matrix as rows to fit on."""

    matrix: np.ndarray

    rows = property(lambda self: len(self.matrix))
    dim = property(lambda self: self.matrix.shape[1])
    dtype = property(lambda self: self.matrix.dtype)

    def read_into(self, start, out_BD):
        """Fill a buffer."""
        out_BD[:] = self.matrix[start : start + len(out_BD)]


CORPUS = LaionLike(rows=5_000, dim=48, clusters=50).open()
ROWS = read_rows(CORPUS)
FITTED = {spec: TRANSFORMS.make(spec).fit(CORPUS, 1) for spec in SPECS}


def _unit(matrix):
    wide = matrix.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def _pca_oracle(matrix, dim):
    """Projections on the first right singular vectors of the centred unit rows, each's largest coordinate positive."""
    unit = _unit(matrix)
    _, singular, right = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    right = right[:dim] * np.sign(right[np.arange(dim), np.abs(right[:dim]).argmax(axis=1)])[:, None]
    return (unit - unit.mean(axis=0)) @ right.T, (singular[:dim] ** 2).sum() / (singular**2).sum()


@pytest.mark.parametrize("dim", [1, 8, 48])
def test_pca_is_the_projection_of_the_singular_value_decomposition(dim):
    """Values, signs and explained variance are those of numpy's decomposition of all rows in float64."""
    fitted = PcaRecipe(dim).fit(CORPUS)
    expected, explained = _pca_oracle(ROWS, dim)
    found = fitted.apply(Vectors(ROWS, first_row=7))

    assert found.matrix_ND.dtype == np.float32
    assert found.first_row == 7
    assert np.abs(found.matrix_ND - expected).max() < 2e-5
    assert fitted.explained == pytest.approx(explained, abs=1e-5)


def test_pca_keeps_distances_where_all_components_are_kept():
    """Squared distances in the full projection are 2 - 2 cos."""
    found = PcaRecipe(48).fit(CORPUS).apply(Vectors(ROWS[:200])).matrix_ND.astype(np.float64)
    unit = _unit(ROWS[:200])

    distances = ((found[:, None] - found[None]) ** 2).sum(axis=2)
    assert np.abs(distances - (2 - 2 * unit @ unit.T)).max() < 1e-5


@settings(max_examples=30, deadline=None)
@given(
    spec=st.sampled_from(SPECS),
    cuts=st.lists(st.integers(0, 5_000), max_size=6),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_runs_of_rows_do_not_show(spec, cuts, dtype):
    """However the rows are cut, whatever their dtype, the transformed rows are the same bytes."""
    rows, bounds = ROWS.astype(dtype), [0, *sorted(cuts), 5_000]
    whole = FITTED[spec].apply(Vectors(rows)).matrix_ND
    parts = [FITTED[spec].apply(Vectors(rows[low:high])).matrix_ND for low, high in pairwise(bounds)]

    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_single_rows_are_the_same_bytes_as_in_a_block_at_full_width():
    """At 768 dimensions and 1,024 bits, a row alone comes out as in a block of thousands."""
    corpus = LaionLike(rows=5_000).open()
    rows = read_rows(corpus)
    for recipe in (PcaRecipe(96, sample=3_000), SketchRecipe(1_024, sample=3_000)):
        fitted = recipe.fit(corpus)
        whole = fitted.apply(Vectors(rows)).matrix_ND
        for row in (0, 1_234, 4_999):
            assert fitted.apply(Vectors(rows[row : row + 1])).matrix_ND.tobytes() == whole[row].tobytes()


@pytest.mark.parametrize("spec", ["pca(dim=8, sample=1000)", "sketch(bits=64, sample=1000)"])
def test_fitting_is_decided_by_recipe_corpus_and_seed(spec):
    """The same three give equal transforms with equal bytes; another seed draws other rows, and another key."""
    first, again, other = (TRANSFORMS.make(spec).fit(CORPUS, seed) for seed in (1, 1, 2))

    assert first == again
    assert hash(first) == hash(again)
    assert first.apply(Vectors(ROWS)).matrix_ND.tobytes() == again.apply(Vectors(ROWS)).matrix_ND.tobytes()
    assert first != other
    assert first.key != other.key
    assert first.rows == 1_000


def test_stateless_recipes_are_their_own_transforms():
    """float16 and truncate need no corpus."""
    for recipe in (Float16(), Truncate(16)):
        assert not recipe.needs_fit
        assert recipe.fit(None) is recipe


@pytest.mark.parametrize("spec", ["pca(dim=8)", "sketch(bits=128)"])
def test_a_fitted_transform_survives_storage_and_pickling(spec, tmp_path):
    """What is loaded equals what was saved, and gives the same bytes; a second request reads the first one's folder."""
    fitted, uri = fit_once(spec, CORPUS, "checksum", str(tmp_path), seed=1)
    modified = storage.facts(storage.join(uri, "manifest.json")).modified_ns
    again, same_uri = fit_once(spec, CORPUS, "checksum", str(tmp_path), seed=1)

    assert fitted == FITTED[spec] == load(uri) == again == pickle.loads(pickle.dumps(fitted)) == open_transform(uri)  # noqa: S301 (own bytes)
    assert same_uri == uri
    assert storage.facts(storage.join(uri, "manifest.json")).modified_ns == modified
    assert load(uri).apply(Vectors(ROWS)).matrix_ND.tobytes() == FITTED[spec].apply(Vectors(ROWS)).matrix_ND.tobytes()
    assert fit_once(spec, CORPUS, "other checksum", str(tmp_path), seed=1)[1] != uri
    assert storage.read_manifest(uri)["facts"]["corpus"] == "checksum"


def test_a_changed_or_unfinished_artifact_is_refused(tmp_path):
    """A flipped byte, or a folder without manifest, is an error and not another transform."""
    _, uri = fit_once("pca(dim=8)", CORPUS, "checksum", str(tmp_path))
    data = bytearray(storage.read_bytes(storage.join(uri, "grid.npy")))
    data[-3] ^= 1
    storage.write_bytes(storage.join(uri, "grid.npy"), bytes(data))

    with pytest.raises(DataError, match="not what was written"):
        load(uri)
    with pytest.raises(DataError, match="no fitted transform"):
        load(str(tmp_path / "nothing"))


def test_text_opens_stateless_specs_and_folders_only():
    """A spec that must be fitted first, and a word that is neither, are refused."""
    assert open_transform("truncate(dim=4)") == Truncate(4)
    with pytest.raises(DataError, match="fitted on a corpus first"):
        open_transform("pca(dim=4)")
    with pytest.raises(SpecError, match="pca"):
        open_transform("pac(dim=4)")


def test_sketch_bits_are_sides_of_differences_of_references():
    """Bit j says which of two neighbouring references of a cycle is nearer: signs of float64 products."""
    fitted = FITTED["sketch(bits=128)"]
    products = _unit(ROWS) @ (fitted.grid_DE / 2**22)
    sure = np.abs(products) > 1e-6

    signs = fitted.apply(Vectors(ROWS)).matrix_ND
    assert signs.dtype == np.float16
    assert set(np.unique(signs)) == {-1, 1}
    assert sure.mean() > 0.999
    assert np.array_equal(signs[sure], np.sign(products[sure]))
    # In a cycle of 64 the differences add up to nothing, so not all bits of a word can be equal.
    assert (np.abs(signs.reshape(len(signs), -1, 64).sum(axis=2, dtype=np.float64)) < 64).all()


def test_inner_products_of_sketches_are_hamming_distances():
    """Hamming = (bits - ip) / 2, against the differing bits of numpy's own packing; near vectors differ in fewer."""
    signs = FITTED["sketch(bits=128)"].apply(Vectors(ROWS[:300])).matrix_ND
    packed = pack(signs)
    hamming = np.bitwise_count(packed[:, None] ^ packed[None]).sum(axis=2)
    products = signs.astype(np.float64) @ signs.astype(np.float64).T

    assert np.array_equal(hamming, (128 - products) / 2)
    assert np.corrcoef(hamming.ravel(), (_unit(ROWS[:300]) @ _unit(ROWS[:300]).T).ravel())[0, 1] < -0.8


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.sampled_from([8, 64, 1_024]))
@settings(max_examples=25, deadline=None)
def test_packing_is_numpys_little_bit_order_and_words_hold_bit_j_at_j(seed, rows, bits):
    """Bit j of a row is bit j of its 64-bit words, lowest first; unpacking undoes it, from bytes and from words."""
    is_one = np.random.default_rng(seed).random((rows, bits)) < 0.5
    signs = np.where(is_one, 1, -1).astype(np.float16)
    packed = pack(signs)

    assert np.array_equal(packed, np.packbits(is_one, axis=1, bitorder="little"))
    assert np.array_equal(unpack(packed), signs)
    if bits % 64 == 0:
        found = words(packed)
        assert found.shape == (rows, bits // 64)
        for row, bit in [(r, b) for r in range(rows) for b in (0, 1, 63, bits - 1)]:
            assert bool(int(found[row, bit // 64]) >> (bit % 64) & 1) == is_one[row, bit]
        assert np.array_equal(unpack(found), signs)


def test_zero_rows_have_a_place():
    """A zero row has no direction: PCA puts it where the mean goes off a zero vector, a sketch answers -1 throughout."""
    zero = Vectors(np.zeros((1, 48), np.float16))
    pca = FITTED["pca(dim=8)"]

    assert np.abs(pca.apply(zero).matrix_ND + pca.mean_D @ pca.components()).max() < 1e-6
    assert (FITTED["sketch(bits=128)"].apply(zero).matrix_ND == -1).all()


@pytest.mark.parametrize(
    ("recipe", "corpus", "words_"),
    [
        (PcaRecipe(49), CORPUS, "does not fit vectors of 48"),
        (PcaRecipe(4), Matrix(np.ones((10, 8), np.float32)), "all 10 sampled rows are the same"),
        (PcaRecipe(4), Matrix(np.ones((10, 8), np.uint8)), "float vectors"),
        (PcaRecipe(4), Matrix(np.full((10, 8), np.nan, np.float32)), "NaN"),
        (PcaRecipe(4), Matrix(np.zeros((0, 8), np.float32)), "none"),
        (PcaRecipe(4), None, "fitted on a corpus"),
        (SketchRecipe(100), CORPUS, "multiple of 64"),
        (SketchRecipe(64), Matrix(np.ones((100, 8), np.float32)), "the sample has 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(recipe, corpus, words_):
    """One sentence says why."""
    with pytest.raises(DataError, match=words_):
        recipe.fit(corpus)


@pytest.mark.parametrize("spec", ["truncate(dim=16)", "pca(dim=8)", "sketch(bits=128)"])
def test_vectors_of_other_dimensions_are_refused(spec):
    """A transform never pads or cuts."""
    with pytest.raises(DataError, match="12"):
        FITTED[spec].apply(Vectors(np.ones((2, 12), np.float32)))


@pytest.mark.parametrize("spec", SPECS)
def test_a_transformed_file_reads_as_the_transformed_rows(spec):
    """Shape, dtype and any run of rows are those of the transform applied to all."""
    view = Transformed(CORPUS, FITTED[spec])
    whole = FITTED[spec].apply(Vectors(ROWS)).matrix_ND

    assert (view.rows, view.dim, view.dtype, view.is_bits) == (5_000, whole.shape[1], whole.dtype, False)
    assert np.array_equal(read_rows(view), whole)
    assert np.array_equal(read_rows(view, 1_000, 1_003), whole[1_000:1_003])
    assert view.ids(0, 5) is None
    assert FITTED[spec].key in view.files[-1].name


def test_a_packed_view_of_sketches_is_bits():
    """`packed` reads as uint8 bits, as a hamming file would."""
    view = Transformed(CORPUS, FITTED["sketch(bits=128)"], packed=True)

    assert (view.dim, view.dtype, view.is_bits) == (128, np.uint8, True)
    assert np.array_equal(unpack(read_rows(view)), FITTED["sketch(bits=128)"].apply(Vectors(ROWS)).matrix_ND)
