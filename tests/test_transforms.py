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
from raybench.transforms.packed import pack_signs, signs
from raybench.transforms.pca import PcaRecipe
from raybench.transforms.precision import Int4, Int8
from raybench.transforms.sketch import SketchRecipe
from raybench.transforms.store import fit_once, load, open_transform

SPECS = [
    "stored()", "float16()", "truncate(dim=16)", "pca(dim=8)", "sketch(bits=128)", "rotation()", "bfloat16()", "int8()", "int4()", "binary()",
    'chain("truncate(dim=16)", "int4()")', 'chain("rotation(seed=3)", "truncate(dim=24)", "binary()")',
]  # fmt: skip
IN_FULL = ("bfloat16", "int8", "int4")  # whose queries are not rounded
FIT = [spec for spec in SPECS if TRANSFORMS.make(spec).needs_fit]


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


def _rows(transform, matrix, first_row=0):
    """What the transform makes of a matrix, as numbers."""
    return np.asarray(transform.apply(Vectors(matrix, first_row)).matrix_ND)


def test_the_list_is_the_whole_family():
    """Whoever adds a transform adds it to the contract."""
    assert {spec.partition("(")[0] for spec in SPECS} == set(TRANSFORMS.names)


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


def test_pca_without_a_centre_keeps_inner_products():
    """The first right singular vectors of the rows as they are; with all of them, inner products are the cosines."""
    found = _rows(PcaRecipe(48, centre=False).fit(CORPUS), ROWS[:200]).astype(np.float64)
    np.testing.assert_allclose(found @ found.T, _unit(ROWS[:200]) @ _unit(ROWS[:200]).T, atol=1e-5)
    few = _rows(PcaRecipe(8, centre=False).fit(CORPUS), ROWS[:200]).astype(np.float64)
    _, _, right = np.linalg.svd(_unit(ROWS), full_matrices=False)
    np.testing.assert_allclose(np.abs(few), np.abs(_unit(ROWS[:200]) @ right[:8].T), atol=2e-5)
    assert PcaRecipe(8, centre=False).metric("ip") == "ip"


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
    whole = _rows(FITTED[spec], rows)
    parts = [_rows(FITTED[spec], rows[low:high]) for low, high in pairwise(bounds)]

    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_single_rows_are_the_same_bytes_as_in_a_block_at_full_width():
    """At 768 dimensions and 1,024 bits, a row alone comes out as in a block of thousands."""
    corpus = LaionLike(rows=5_000).open()
    rows = read_rows(corpus)
    for recipe in (PcaRecipe(96, sample=3_000), SketchRecipe(1_024, sample=3_000)):
        fitted = recipe.fit(corpus)
        whole = _rows(fitted, rows)
        for row in (0, 1_234, 4_999):
            assert _rows(fitted, rows[row : row + 1]).tobytes() == whole[row].tobytes()


@pytest.mark.parametrize(
    "spec",
    [
        "pca(dim=8, sample=1000)", "sketch(bits=64, sample=1000)", "int8(sample=1000)", "int4(sample=1000)",
        "binary(sample=1000)", 'chain("truncate(dim=16)", "int8(sample=1000)")',
    ],
)  # fmt: skip
def test_fitting_is_decided_by_recipe_corpus_and_seed(spec):
    """The same three give equal transforms with equal bytes; another seed draws other rows, and another key."""
    first, again, other = (TRANSFORMS.make(spec).fit(CORPUS, seed) for seed in (1, 1, 2))

    assert first == again
    assert hash(first) == hash(again)
    assert _rows(first, ROWS).tobytes() == _rows(again, ROWS).tobytes()
    assert first != other
    assert first.key != other.key
    assert getattr(first, "rows", 1_000) == 1_000


def test_stateless_recipes_are_their_own_transforms():
    """float16 and truncate need no corpus."""
    for recipe in (Float16(), Truncate(16)):
        assert not recipe.needs_fit
        assert recipe.fit(None) is recipe


@pytest.mark.parametrize("spec", FIT)
def test_a_fitted_transform_survives_storage_and_pickling(spec, tmp_path):
    """What is loaded equals what was saved, and gives the same bytes; a second request reads the first one's folder."""
    fitted, uri = fit_once(spec, CORPUS, "checksum", str(tmp_path), seed=1)
    modified = storage.facts(storage.join(uri, "manifest.json")).modified_ns
    again, same_uri = fit_once(spec, CORPUS, "checksum", str(tmp_path), seed=1)

    assert fitted == FITTED[spec] == load(uri) == again == pickle.loads(pickle.dumps(fitted)) == open_transform(uri)  # noqa: S301 (own bytes)
    assert same_uri == uri
    assert storage.facts(storage.join(uri, "manifest.json")).modified_ns == modified
    assert _rows(load(uri), ROWS).tobytes() == _rows(FITTED[spec], ROWS).tobytes()
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

    found = _rows(fitted, ROWS)
    assert set(np.unique(found)) == {-1, 1}
    assert sure.mean() > 0.999
    assert np.array_equal(found[sure], np.sign(products[sure]))
    # In a cycle of 64 the differences add up to nothing, so not all bits of a word can be equal.
    assert (np.abs(found.reshape(len(found), -1, 64).sum(axis=2, dtype=np.float64)) < 64).all()


def test_inner_products_of_sketches_are_hamming_distances():
    """Hamming = (bits - ip) / 2, against the differing bits of numpy's own packing; near vectors differ in fewer."""
    held = FITTED["sketch(bits=128)"].apply(Vectors(ROWS[:300])).matrix_ND
    assert held.nbytes == 300 * 128 // 8
    hamming = np.bitwise_count(held.codes_NB[:, None] ^ held.codes_NB[None]).sum(axis=2)
    products = held[:].astype(np.float64) @ held[:].astype(np.float64).T

    assert np.array_equal(hamming, (128 - products) / 2)
    assert np.corrcoef(hamming.ravel(), (_unit(ROWS[:300]) @ _unit(ROWS[:300]).T).ravel())[0, 1] < -0.8


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.sampled_from([8, 64, 1_024]))
@settings(max_examples=25, deadline=None)
def test_packing_is_numpys_little_bit_order(seed, rows, bits):
    """Bit j of a row is bit j of its 64-bit words, lowest first; reading undoes it."""
    is_one = np.random.default_rng(seed).random((rows, bits)) < 0.5
    codes = pack_signs(is_one)

    assert np.array_equal(codes, np.packbits(is_one, axis=1, bitorder="little"))
    assert np.array_equal(signs(codes), np.where(is_one, 1, -1))
    if bits % 64 == 0:
        for row, bit in [(r, b) for r in range(rows) for b in (0, 1, 63, bits - 1)]:
            assert bool(int(codes.view("<u8")[row, bit // 64]) >> (bit % 64) & 1) == is_one[row, bit]


@pytest.mark.parametrize(("recipe", "step_bytes"), [(Int8(), 1), (Int4(), 0.5), (Int8(inside=0.9), 1)])
def test_whole_numbers_stand_for_the_nearest_step_in_a_range_that_is_learnt_once(recipe, step_bytes):
    """Within the range, off by half a step at most; outside, the range's end; the range is numpy's quantile of the corpus.

    A row is as many bytes as its bits, also where dimensions are odd.
    """
    for matrix in (ROWS, np.ascontiguousarray(ROWS[:, :47])):
        fitted = recipe.fit(Matrix(matrix), 0)
        held = fitted.apply(Vectors(matrix)).matrix_ND
        low, high = np.quantile(matrix.astype(np.float32), ((1 - recipe.inside) / 2, (1 + recipe.inside) / 2), axis=0)
        step = (high - low) / (2**recipe.bits - 1)
        expected = low + step * np.round((np.clip(matrix.astype(np.float64), low, high) - low) / step)
        np.testing.assert_allclose(held[:], expected, atol=step.max() * 1.001)  # a tie may go either way
        assert np.abs(held[:] - np.clip(matrix.astype(np.float64), low, high)).max() <= step.max() * 0.5001
        assert held.nbytes == len(matrix) * np.ceil(matrix.shape[1] * step_bytes)
        far = fitted.apply(Vectors(np.full((1, matrix.shape[1]), 9, np.float32))).matrix_ND[:]
        np.testing.assert_allclose(far[0], high, atol=1e-6)


def test_bfloat16_is_the_upper_half_rounded_to_even():
    """Two bytes a value; the same as rounding the bits by hand."""
    values = np.concatenate(
        [ROWS[:50].astype(np.float32), np.array([[1.00390625, 1.01171875, -0.0, 3e38] * 12], np.float32)]
    )
    held = TRANSFORMS.make("bfloat16()").apply(Vectors(values)).matrix_ND
    bits = values.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    assert np.array_equal(held[:].view(np.uint32), rounded.view(np.uint32))
    assert held.nbytes == values.size * 2


def test_binary_is_the_side_of_the_median_and_queries_get_the_same_medians():
    """Half of the corpus lies on each side of every dimension."""
    fitted = FITTED["binary()"]
    found = _rows(fitted, ROWS)
    assert np.array_equal(found > 0, np.median(ROWS.astype(np.float64), axis=0) < ROWS)
    assert np.abs(found.mean(axis=0)).max() < 0.05
    asked = np.asarray(fitted.ask(Vectors(ROWS[:9] * np.float16(0.5))).matrix_ND)
    assert np.array_equal(asked > 0, ROWS[:9] * np.float16(0.5) > np.median(ROWS.astype(np.float64), axis=0))


def test_a_rotation_keeps_inner_products_and_spreads_what_one_dimension_holds():
    """Orthogonal, of its seed; a unit vector along one axis ends up along all."""
    turned = _rows(TRANSFORMS.make("rotation()"), ROWS[:200]).astype(np.float64)
    wide = ROWS[:200].astype(np.float64)
    np.testing.assert_allclose(turned @ turned.T, wide @ wide.T, atol=2e-6)
    axis = _rows(TRANSFORMS.make("rotation()"), np.eye(48, dtype=np.float32))
    assert np.abs(axis).max() < 0.8
    assert not np.allclose(axis, _rows(TRANSFORMS.make("rotation(seed=1)"), np.eye(48, dtype=np.float32)))


@pytest.mark.parametrize("spec", SPECS)
def test_queries_are_in_the_space_of_the_rows(spec):
    """As many dimensions; in full where codes are read as values of the same space, else as rows become."""
    transform, queries = FITTED[spec], Vectors(ROWS[:20])
    asked = np.asarray(transform.ask(queries).matrix_ND)
    last = spec if "chain" not in spec else TRANSFORMS.make(spec).steps[-1]
    assert asked.shape[1] == transform.out_dim(48)
    if spec.partition("(")[0] in IN_FULL:
        assert np.array_equal(asked, ROWS[:20])
    elif last.partition("(")[0] in IN_FULL:
        assert np.array_equal(asked, _rows(FITTED["truncate(dim=16)"], ROWS[:20]))
    else:
        assert np.array_equal(asked, _rows(transform, ROWS[:20]))
    near = asked.astype(np.float64) @ _rows(transform, ROWS[:20]).astype(np.float64).T
    if spec != "pca(dim=8)":  # whose space is one of distances
        assert (near.argmax(axis=1) == np.arange(20)).mean() > 0.5


def test_a_chain_is_its_steps_one_after_another():
    """Each is fitted on what those before it leave; what packs rows stays last."""
    chained = FITTED['chain("truncate(dim=16)", "int4()")']
    cut = _rows(Truncate(16), ROWS)
    alone = Int4().fit(Matrix(cut), 1)
    assert np.array_equal(_rows(chained, ROWS), _rows(alone, cut))
    assert TRANSFORMS.make('chain("truncate(dim=16)", "binary()")').metric("ip") == "hamming"
    for wrong, words in (
        ('chain("int8()", "truncate(dim=4)")', "must come last"),
        ('chain("truncate(dim=4)", "chain(\\"rotation()\\", \\"int4()\\")")', "cannot be linked"),
        ('chain("truncate(dim=4)", "int9()")', "did you mean"),
    ):
        with pytest.raises(SpecError, match=words):
            TRANSFORMS.make(wrong)


def test_zero_rows_have_a_place():
    """A zero row has no direction: PCA puts it where the mean goes off a zero vector, a sketch answers -1 throughout."""
    zero = Vectors(np.zeros((1, 48), np.float16))
    pca = FITTED["pca(dim=8)"]

    assert np.abs(pca.apply(zero).matrix_ND + pca.mean_D @ pca.components()).max() < 1e-6
    assert (FITTED["sketch(bits=128)"].apply(zero).matrix_ND[:] == -1).all()


@pytest.mark.parametrize(
    ("recipe", "corpus", "words_"),
    [
        (PcaRecipe(49), CORPUS, "does not fit vectors of 48"),
        (PcaRecipe(4), Matrix(np.ones((10, 8), np.float32)), "all 10 sampled rows are the same"),
        (PcaRecipe(4), Matrix(np.ones((10, 8), np.uint8)), "float vectors"),
        (PcaRecipe(4), Matrix(np.full((10, 8), np.nan, np.float32)), "NaN"),
        (PcaRecipe(4), Matrix(np.zeros((0, 8), np.float32)), "none"),
        (PcaRecipe(4), None, "fitted on a corpus"),
        (Int8(inside=0.1), CORPUS, "0.5 to 1"),
        (SketchRecipe(100), CORPUS, "multiple of 64"),
        (SketchRecipe(64), Matrix(np.ones((100, 8), np.float32)), "the sample has 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(recipe, corpus, words_):
    """One sentence says why."""
    with pytest.raises(DataError, match=words_):
        recipe.fit(corpus)


@pytest.mark.parametrize("spec", ["truncate(dim=16)", "pca(dim=8)", "sketch(bits=128)", "int8()", "binary()"])
def test_vectors_of_other_dimensions_are_refused(spec):
    """A transform never pads or cuts."""
    with pytest.raises(DataError, match="12"):
        FITTED[spec].apply(Vectors(np.ones((2, 12), np.float32)))


@pytest.mark.parametrize("spec", SPECS)
def test_a_transformed_file_reads_as_the_transformed_rows(spec):
    """Shape, dtype and any run of rows are those of the transform applied to all."""
    view = Transformed(CORPUS, FITTED[spec])
    whole = _rows(FITTED[spec], ROWS)

    assert (view.rows, view.dim, view.dtype, view.is_bits) == (5_000, whole.shape[1], whole.dtype, False)
    assert np.array_equal(read_rows(view), whole)
    assert np.array_equal(read_rows(view, 1_000, 1_003), whole[1_000:1_003])
    assert view.ids(0, 5) is None
    assert FITTED[spec].key in view.files[-1].name
    asked = Transformed(CORPUS, FITTED[spec], asked=True)
    assert np.array_equal(read_rows(asked, 0, 20), np.asarray(FITTED[spec].ask(Vectors(ROWS[:20])).matrix_ND))
    assert asked.files != view.files


def test_a_packed_view_of_sketches_is_bits():
    """`packed` reads as uint8 bits, as a hamming file would."""
    view = Transformed(CORPUS, FITTED["sketch(bits=128)"], packed=True)

    assert (view.dim, view.dtype, view.is_bits) == (128, np.uint8, True)
    assert np.array_equal(signs(read_rows(view)), _rows(FITTED["sketch(bits=128)"], ROWS))
    with pytest.raises(DataError, match="no bits to be packed"):
        read_rows(Transformed(CORPUS, FITTED["float16()"], packed=True))
