"""The scenes collection is what it says it is, and the shipped models find their way in it."""

import hashlib
import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from raybench.sources.scenes import Sample, build, write
from raybench.sources.scenes.captions import describe
from raybench.sources.scenes.draw import PALETTE, draw
from raybench.sources.scenes.files import DEFECTS, ODD_FORMATS
from raybench.sources.scenes.labels import CLASSES, UNKNOWN, labels
from raybench.sources.scenes.plan import Kind, captions_of, plan, scene_of
from raybench.sources.scenes.scene import (
    OPPOSITE,
    Purpose,
    Scene,
    Side,
    Texture,
    Thing,
    differences,
    generator,
    sample,
    vary,
)
from raybench.sources.tar import write_tar

ASSETS = Path(__file__).parents[1] / "raybench" / "assets"
MODELS = ("scenes-clip", "scenes-clip-small")
SEED = 5
IMAGES = 300

# The checker below reads captions by its own tables, so that a mistake in the writer's tables shows.
SIZES = {"small": "small", "little": "small", "tiny": "small", "large": "large", "big": "large", "huge": "large"}
TEXTURES = {"plain": "plain", "solid": "plain", "striped": "striped", "dotted": "dotted", "spotted": "dotted"}
TEXTURES["checkered"] = "checkered"
SIDES = {"left": "left", "right": "right", "above": "above", "over": "above", "higher": "above"}
SIDES |= {"below": "below", "under": "below", "lower": "below"}
MIRROR = {"left": "right", "right": "left", "above": "below", "below": "above"}
THING = rf"an? (?:({'|'.join(SIZES)}) )?(?:({'|'.join(TEXTURES)}) )?(\w+) (circle|square|triangle|star|cross|ring|diamond|moon)"
PAIR = re.compile(rf"{THING}(?: is| sits| placed)? (?:(?:to|on) the )?({'|'.join(SIDES)})(?: of| than)? {THING}")
THIRD = re.compile(rf"with {THING} (?:to their (left|right)|({'|'.join(SIDES)})(?: of)? them)")
BACKGROUND = re.compile(r"(\w+) (?:background|wall)")
COUNT = re.compile(r"(two|three) (?:shapes|objects)")


def named(scene: Scene, claim: tuple[str, ...]) -> int | None:
    """The position of the thing that a (size, texture, colour, shape) claim is true of; empty words claim nothing."""
    size, texture, colour, shape = claim
    for position, thing in enumerate(scene.things):
        sizes, textures = {"", thing.size.value}, {"", thing.texture.value}
        if (thing.colour, thing.shape) == (colour, shape):
            fits = SIZES.get(size or "", "") in sizes and TEXTURES.get(texture or "", "") in textures
            return position if fits else None
    return None


def is_true(caption: str, scene: Scene) -> bool:
    """Whether all that the caption claims holds in the scene; a caption that claims too little raises."""
    things = re.findall(THING, caption)
    assert len(things) >= 2, caption
    if any(named(scene, claim) is None for claim in things):
        return False
    if pair := PAIR.search(caption):
        one, side, other = pair.groups()[:4], SIDES[pair.group(5)], pair.groups()[5:]
        positions = [named(scene, claim) for claim in (one, other)]
        if (side if positions == [0, 1] else MIRROR[side]) != scene.side or sorted(map(str, positions)) != ["0", "1"]:
            return False
    if third := THIRD.search(caption):
        side = SIDES[third.group(5) or third.group(6)]
        if named(scene, third.groups()[:4]) != 2 or side != scene.third_side:
            return False
    if (wall := BACKGROUND.search(caption)) and wall.group(1) != scene.background:
        return False
    count = COUNT.search(caption)
    assert pair or count, caption
    return count is None or {"two": 2, "three": 3}[count.group(1)] == len(scene.things) == len(things)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [item for _, shard in build(IMAGES, SEED, samples_per_shard=64) for item in shard]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "collection"
    write(folder, IMAGES, SEED)
    return folder


def pixels(item: Sample) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(item.image)).convert("RGB"))


def copied(item: Sample) -> str:
    """The id of the image that a negative or a duplicate was made of."""
    found = re.match(r"of (\d{9})", item.note)
    assert found is not None, item
    return found.group(1)


def test_equal_seeds_give_equal_bytes(samples: list[Sample], written: Path, tmp_path: Path) -> None:
    """The same seed gives the same files in another folder and the same images in other shards; another seed does not."""
    write(tmp_path / "again", IMAGES, SEED)
    names = sorted(path.name for path in written.iterdir())
    assert names == ["00000.tar", "images.parquet", "qrels.parquet", "queries.parquet"]
    for name in names:
        assert (written / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    whole = [item for _, shard in build(IMAGES, SEED) for item in shard]
    assert [(item.image, item.captions) for item in whole] == [(item.image, item.captions) for item in samples]
    other = [item for _, shard in build(IMAGES, SEED + 1) for item in shard]
    assert {item.image for item in whole if item.kind == "target"}.isdisjoint(item.image for item in other)


def test_the_plan_and_the_captions_of_a_seed_never_change() -> None:
    """Published numbers name a seed, so its kinds, scenes and captions stay what they were on every machine."""
    digest = hashlib.sha256()
    for entry in plan(IMAGES, SEED, 100):
        facts = (entry.image_id, entry.kind.value, *scene_of(entry, SEED), *captions_of(entry, SEED))
        digest.update(repr(facts).encode())
    assert digest.hexdigest()[:16] == "af7ea14a3b26bb01"


def test_ids_name_shard_and_position(samples: list[Sample]) -> None:
    """An id is five digits of shard and four of position, and the kinds are mixed from the first shard on."""
    assert [item.image_id for item in samples] == [f"{n // 64:05d}{n % 64:04d}" for n in range(IMAGES)]
    assert len({item.kind for item in samples[:64]}) >= 5


def test_captions_are_true_of_their_scene() -> None:
    """An independent reader of captions finds every claim of all five in the scene, and the five all differ."""
    for index in range(400):
        rng = generator(Purpose.EVALUATION, SEED, 99, index)
        scene = sample(rng)
        captions = describe(scene, rng)
        assert len(set(captions)) == 5
        for caption in captions:
            assert is_true(caption, scene), (caption, scene)


def test_captions_are_false_of_most_other_pictures(samples: list[Sample]) -> None:
    """Most captions contradict every other scene that they were not written for, and the fullest contradict them all."""
    entries = plan(IMAGES, SEED, 64)
    scenes = {entry.image_id: scene_of(entry, SEED)[0] for entry in entries if entry.kind is not Kind.BROKEN}
    captions = [(text, scenes[item.image_id]) for item in samples for text in item.captions]
    fitting = [sum(is_true(text, scene) for scene in scenes.values() if scene != own) for text, own in captions]
    assert np.mean([number > 0 for number in fitting]) < 0.25
    assert sum(fitting[4::5]) == 0


def test_things_are_drawn_where_the_scene_says() -> None:
    """The pixels of the first thing's colour lie on the named side of the second's, and the third's across."""
    checked = 0
    for index in range(100):
        rng = generator(Purpose.EVALUATION, SEED, 98, index)
        drawn = sample(rng)
        scene = replace(drawn, things=tuple(replace(thing, texture=Texture.PLAIN) for thing in drawn.things))
        if len({thing.colour for thing in scene.things}) < len(scene.things):
            continue
        pixels_HWC = np.asarray(draw(scene, rng)).astype(int)
        centres = []
        for thing in scene.things:
            near_HW = np.abs(pixels_HWC - np.array(PALETTE[thing.colour])).max(axis=2) <= 16
            centres.append(np.argwhere(near_HW).mean(axis=0))
        checked += 1
        assert side_of(centres[0], centres[1]) == scene.side
        if scene.third_side is not None:
            assert side_of(centres[2], (centres[0] + centres[1]) / 2) == scene.third_side
    assert checked > 50


def side_of(one_YX: npt.NDArray[np.float64], other_YX: npt.NDArray[np.float64]) -> Side:
    down, right = one_YX - other_YX
    if abs(down) > abs(right):
        return Side.BELOW if down > 0 else Side.ABOVE
    return Side.RIGHT if right > 0 else Side.LEFT


def test_hard_negatives_differ_in_exactly_one_attribute(samples: list[Sample]) -> None:
    """Each hard negative differs from the target that it names in the one attribute that it names, and to the eye."""
    scenes = {entry.image_id: scene_of(entry, SEED)[0] for entry in plan(IMAGES, SEED, 64)}
    by_id = {item.image_id: item for item in samples}
    negatives = [item for item in samples if item.kind == "hard_negative"]
    assert len(negatives) == 90
    for item in negatives:
        target = by_id[copied(item)]
        paths = differences(scenes[item.image_id], scenes[target.image_id])
        assert item.note.endswith(paths[0])
        assert leaves(scenes[item.image_id]) - leaves(scenes[target.image_id])
        assert len(leaves(scenes[item.image_id]) ^ leaves(scenes[target.image_id])) == 2
        assert (np.abs(pixels(item).astype(int) - pixels(target)).max(axis=2) > 40).sum() > 20
        if paths[0].endswith(("colour", "shape")):
            assert not any(is_true(text, scenes[item.image_id]) for text in target.captions)
    assert {item.note.split(".")[-1].split(": ")[-1] for item in negatives} >= {"colour", "shape", "side"}


def leaves(scene: Scene) -> set[tuple[str, str]]:
    """Every attribute of a scene with its path, found without the code under test."""
    found = {(name, str(getattr(scene, name))) for name in ("side", "third_side", "background")}
    for position, thing in enumerate(scene.things):
        found |= {(f"{position}.{name}", str(getattr(thing, name))) for name in Thing.__slots__}
    return found


def test_duplicates_are_exact_or_near(samples: list[Sample]) -> None:
    """Exact duplicates repeat a target's bytes under another id; near ones repeat its look but not its bytes."""
    by_id = {item.image_id: item for item in samples}
    exact = [item for item in samples if item.kind == "exact_duplicate"]
    near = [item for item in samples if item.kind == "near_duplicate"]
    assert exact
    assert {item.note.split(": ")[1].split()[0] for item in near} == {"stored", "moved", "brightness"}
    for item in exact:
        assert item.image == by_id[copied(item)].image
    for item in near:
        target = by_id[copied(item)]
        assert item.image != target.image
        assert np.abs(pixels(item).astype(int) - pixels(target)).mean() < 14


def test_broken_files_do_not_decode_and_odd_ones_do(samples: list[Sample]) -> None:
    """Every defect occurs and defeats the decoder; every odd format occurs, decodes, and is what it says."""
    broken = [item for item in samples if item.kind == "broken"]
    assert {item.note for item in broken} == {defect.value for defect in DEFECTS}
    for item in broken:
        with pytest.raises((UnidentifiedImageError, OSError)):
            Image.open(io.BytesIO(item.image)).load()
    odd = [item for item in samples if item.kind == "odd_format"]
    assert {item.note for item in odd} == {form.value for form in ODD_FORMATS}
    modes = set()
    for item in odd:
        image = Image.open(io.BytesIO(item.image))
        image.load()
        modes.add((item.extension, image.mode, ImageOps.exif_transpose(image).tobytes() != image.tobytes()))
    upright = {("png", "P"), ("png", "RGBA"), ("jpg", "CMYK"), ("jpg", "L"), ("webp", "RGB")}
    assert modes == {(*pair, False) for pair in upright} | {("jpg", "RGB", True)}


def test_judgments_are_complete_and_consistent(written: Path) -> None:
    """A caption's answers are its image, all copies of it, and the same of the one other image with that caption."""
    rows = pq.read_table(written / "images.parquet").to_pylist()
    queries = pq.read_table(written / "queries.parquet").to_pylist()
    same = {row["image_id"]: {row["image_id"]} for row in rows if row["kind"] in ("target", "odd_format")}
    for row in rows:
        if row["kind"].endswith("duplicate"):
            same[row["note"][3:12]].add(row["image_id"])
    by_text: dict[str, set[str]] = {}
    for query in queries:
        by_text.setdefault(query["text"], set()).add(query["cluster_id"])
    judged: dict[str, set[str]] = {query["query_id"]: set() for query in queries}
    for row in pq.read_table(written / "qrels.parquet").to_pylist():
        assert row["relevance"] == 1
        judged[row["query_id"]].add(row["image_id"])
    for query in queries:
        expected = set().union(*(same[image_id] for image_id in by_text[query["text"]]))
        assert judged[query["query_id"]] == expected, query
    assert sum(len(images) == 2 for images in by_text.values()) == 3  # 54 targets hold three pairs that share one
    assert any(len(same[image_id]) > 2 for image_id in same)


def test_shards_are_web_datasets(written: Path) -> None:
    """A shard holds image, captions and facts of each sample side by side, with nothing of clock or user."""
    texts = pq.read_table(written / "queries.parquet")
    with tarfile.open(written / "00000.tar") as shard:
        found = shard.getmembers()
        captions = [shard.extractfile(member).read().decode() for member in found if member.name.endswith(".txt")]  # type: ignore[union-attr]
        facts = json.load(shard.extractfile(found[-1]))  # type: ignore[arg-type]
    assert "\n".join(captions).split("\n") == texts["text"].to_pylist()
    assert sorted(facts) == ["height", "image_id", "kind", "note", "seed", "width"]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in found} == {
        (0, 0, 0, "", 0o644)
    }
    assert len({member.name.split(".")[0] for member in found}) == IMAGES
    stems = [member.name.split(".")[0] for member in found]
    assert stems == sorted(stems)


def test_a_tar_holds_its_members_in_order() -> None:
    """What is written comes back in order, empty members too."""
    stream = io.BytesIO()
    write_tar(stream, [("b.jpg", b"xyz"), ("a.txt", b"")])
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as archive:
        assert [(member.name, member.size) for member in archive] == [("b.jpg", 3), ("a.txt", 0)]


def test_mistakes_are_named(tmp_path: Path) -> None:
    """A collection that is too small, a shard that is too large and a folder in use are refused by name and value."""
    with pytest.raises(ValueError, match="images is 49"):
        write(tmp_path / "small", 49, 0)
    with pytest.raises(ValueError, match="samples_per_shard is 20000"):
        list(build(100, 0, samples_per_shard=20_000))
    (tmp_path / "kept.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        write(tmp_path, 100, 0)


@pytest.mark.parametrize("name", MODELS)
def test_shipped_tokenizers_know_every_word(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions become start, known words, end and padding, and the end has the highest id, where open_clip pools."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{ASSETS / name}")
    captions = [text for entry in plan(2000, SEED, 500) for text in captions_of(entry, SEED)]
    tokens_QL = tokenizer(captions).numpy()
    vocabulary = tokenizer.tokenizer.get_vocab()
    assert tokens_QL.shape[1] == 32
    assert (tokens_QL[:, 0] == vocabulary["[START]"]).all()
    assert not (tokens_QL == vocabulary["[UNK]"]).any()
    assert vocabulary["[END]"] == max(vocabulary.values())
    assert ((tokens_QL == vocabulary["[END]"]).sum(axis=1) == 1).all()
    for row_L in tokens_QL:
        assert (row_L[row_L.argmax() + 1 :] == vocabulary["[PAD]"]).all()


@pytest.mark.parametrize("name", MODELS)
def test_shipped_models_beat_chance(name: str, samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, a model finds the described image first far more often than chance, also when truncated."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{ASSETS / name}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{ASSETS / name}")
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}
    items = [item for item in samples if item.kind != "broken"]
    queries = [(row, text) for row, item in enumerate(items) if item.kind == "target" for text in item.captions]
    model.eval()
    with torch.inference_mode():
        images_ND = model.encode_image(torch.stack([preprocess(Image.fromarray(pixels(item))) for item in items]))
        texts_QD = model.encode_text(tokenizer([text for _, text in queries]))
    assert images_ND.shape == (len(items), 128)
    looks = [item.image for item in items]
    for prefix, least in ((128, 0.2), (16, 0.1)):  # chance is below 0.01
        normal_ND = torch.nn.functional.normalize(images_ND[:, :prefix], dim=-1)
        normal_QD = torch.nn.functional.normalize(texts_QD[:, :prefix], dim=-1)
        best_Q = (normal_QD @ normal_ND.T).argmax(dim=-1).tolist()
        found = [looks[best] == looks[row] for best, (row, _) in zip(best_Q, queries, strict=True)]
        assert np.mean(found) > least


def test_the_shipped_models_are_small_and_described() -> None:
    """Both models together stay below 6 MB, and each has a card with its numbers."""
    assert sum(path.stat().st_size for name in MODELS for path in (ASSETS / name).iterdir()) < 6_000_000
    for name in MODELS:
        assert "hit@1" in (ASSETS / name / "MODEL_CARD.md").read_text()


def test_training_never_sees_an_evaluation_stream() -> None:
    """With equal seeds and paths, training and evaluation draw from different random streams."""
    draws = [generator(purpose, 7, 1, 2).integers(2**63) for purpose in (Purpose.TRAINING, Purpose.EVALUATION)]
    assert draws[0] != draws[1]


def test_labels_do_not_depend_on_who_is_named_first() -> None:
    """A scene told from its second thing has the same labels; a scene with one attribute changed has not."""
    for index in range(100):
        rng = generator(Purpose.EVALUATION, SEED, 97, index)
        scene = sample(rng)
        one, other, *rest = scene.things
        told = replace(scene, things=(other, one, *rest), side=OPPOSITE[scene.side])
        assert (labels(scene) == labels(told)).all()
        assert (labels(scene) != labels(vary(scene, rng)[0])).any()
        assert ((labels(scene) == UNKNOWN).sum() == 0) == (len(scene.things) == 3)
        assert (labels(scene) < np.array(CLASSES)).all()
