"""The contract of all encoders, and what is particular to open_clip and to the test double."""

import json
import pickle
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jina_models
import numpy as np
import numpy.typing as npt
import pytest
import tiny_models
from PIL import Image

from raybench.encoders import ENCODERS, openclip_catalog
from raybench.encoders.huggingface import HuggingFace
from raybench.encoders.jina_clip import JinaClip
from raybench.encoders.model_files import folder_digest
from raybench.encoders.openclip import OpenClip
from raybench.encoders.openclip_preprocess import merged
from raybench.encoders.tiny import Tiny
from raybench.errors import DataError, RequestError, SpecError, WorkError

TOLERANCE = 1e-5  # of fp32, as the towers state; the library's own path may add up in another order
CAPTIONS = ["a red car", "A Red CAR!", "the dog and the house", "", "unheard of words", "a " * 40]


@dataclass(frozen=True)
class Folders:
    """One model folder of each kind."""

    openclip: Path
    openclip_bpe: Path
    clip: Path
    siglip: Path
    jina: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    def new(name: str) -> Path:
        return tmp_path_factory.mktemp(name)

    return Folders(
        openclip=tiny_models.openclip_folder(new("openclip")),
        openclip_bpe=tiny_models.openclip_folder(
            new("bpe"), {"mean": [0.1, 0.2, 0.3], "resize_mode": "squash"}, words=False
        ),
        clip=tiny_models.clip_folder(new("clip")),
        siglip=tiny_models.siglip_folder(new("siglip")),
        jina=jina_models.jina_folder(new("jina") / "jina-contract"),
    )


def recipes(folders: Folders) -> dict[str, Any]:
    """At least one recipe of every member of the family."""
    return {
        "openclip": OpenClip(str(folders.openclip)),
        "openclip bpe": OpenClip(f"local-dir:{folders.openclip_bpe}"),
        "openclip bf16": OpenClip(str(folders.openclip), precision="bf16"),
        "huggingface clip": HuggingFace(str(folders.clip)),
        "huggingface siglip": HuggingFace(str(folders.siglip)),
        "huggingface bf16": HuggingFace(str(folders.clip), precision="bf16"),
        "jina_clip": _jina(folders.jina),
        "tiny": Tiny(dim=24, seed=5),
    }


def _jina(folder: Path) -> JinaClip:
    """The model with code of its own, pinned by its content, with what is installed here."""
    digest = folder_digest(folder) if folder.is_dir() else None
    return JinaClip(str(folder), digest=digest, remote_code=True, dim=jina_models.DIM, packages=())


NAMES = list(recipes(Folders(*[Path("/nowhere")] * 5)))


@pytest.fixture(scope="module")
def loaded(folders: Folders) -> Any:
    made = {name: (recipe, recipe.load("cpu", 1)) for name, recipe in recipes(folders).items()}
    return made.__getitem__


def pictures(recipe: Any, count: int) -> npt.NDArray[np.uint8]:
    p = recipe.preprocess()
    return np.random.default_rng(count).integers(0, 256, (count, p.height, p.width, 3), dtype=np.uint8)


def test_the_contract_has_every_member_of_the_family() -> None:
    """A new encoder is in the contract tests or this fails."""
    assert {name.split()[0] for name in NAMES} == set(ENCODERS.names)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_unit_float32_rows_of_the_stated_dimension(loaded: Any, name: str) -> None:
    """Length one to float32's rounding, for pictures and texts, whatever the precision of the model."""
    recipe, encoder = loaded(name)
    for vectors, rows in ((encoder.images(pictures(recipe, 4)), 4), (encoder.texts(CAPTIONS), len(CAPTIONS))):
        assert vectors.dtype == np.float32
        assert vectors.shape == (rows, encoder.dim)
        np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_none_gives_no_rows(loaded: Any, name: str) -> None:
    """An empty batch has the right number of dimensions."""
    recipe, encoder = loaded(name)
    assert encoder.images(pictures(recipe, 3)[:0]).shape == (0, encoder.dim)
    assert encoder.texts([]).shape == (0, encoder.dim)


@pytest.mark.parametrize("name", NAMES)
def test_the_size_of_the_batch_changes_nothing(loaded: Any, name: str) -> None:
    """One at a time and all at once give the same vectors, within the stated tolerance of the precision."""
    from raybench.encoders.towers import TOLERANCE as BY_PRECISION

    recipe, encoder = loaded(name)
    pixels, tolerance = pictures(recipe, 5), BY_PRECISION[getattr(recipe, "precision", "fp32")]
    alone = np.concatenate([encoder.images(pixels[row : row + 1]) for row in range(5)])
    np.testing.assert_allclose(encoder.images(pixels), alone, atol=tolerance)
    alone = np.concatenate([encoder.texts([text]) for text in CAPTIONS])
    np.testing.assert_allclose(encoder.texts(CAPTIONS), alone, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_tell_inputs_apart_and_repeat(loaded: Any, name: str) -> None:
    """Different pictures and captions differ; a recipe that was pickled and loaded again gives the same bytes."""
    recipe, encoder = loaded(name)
    pixels = pictures(recipe, 3)
    images, texts = encoder.images(pixels), encoder.texts(["a red car", "the dog"])
    assert np.abs(images[0] - images[1]).max() > 1e-3
    assert np.abs(texts[0] - texts[1]).max() > 1e-3
    travelled = pickle.loads(pickle.dumps(recipe))  # noqa: S301  # it was made a line ago
    again = travelled.load("cpu", 1)
    assert np.array_equal(again.images(pixels), images)
    assert np.array_equal(again.texts(["a red car", "the dog"]), texts)


@pytest.mark.parametrize("name", NAMES)
def test_facts_can_be_stored_and_the_recipe_is_a_value(loaded: Any, folders: Folders, name: str) -> None:
    """Facts survive JSON; recipes made alike are equal and have one fingerprint."""
    recipe, encoder = loaded(name)
    assert json.loads(json.dumps(dict(encoder.facts)))["dim"] == encoder.dim
    twin = recipes(folders)[name]
    assert twin == recipe
    assert hash(twin) == hash(recipe)
    assert twin.fingerprint() == recipe.fingerprint()
    assert len(recipe.fingerprint()) == 64


@pytest.mark.parametrize("name", NAMES)
def test_wrong_pixels_and_wrong_texts_are_named(loaded: Any, name: str) -> None:
    """Floats, other sizes and what is no text are errors that say what came and what is read."""
    recipe, encoder = loaded(name)
    pixels = pictures(recipe, 2)
    with pytest.raises(DataError, match="float32"):
        encoder.images(pixels.astype(np.float32))
    with pytest.raises(DataError, match="uint8"):
        encoder.images(pixels[:, :-1])
    with pytest.raises(DataError, match="text 1 of the batch is NoneType"):
        encoder.texts(["a red car", None])


@pytest.mark.parametrize("name", NAMES)
def test_hostile_captions_are_read(loaded: Any, name: str) -> None:
    """Half a surrogate pair, control characters and a word of a million letters (hours, if not cut) are no failure."""
    encoder = loaded(name)[1]
    vectors = encoder.texts(["\ud800 a red car", "\x00\x1b[31m\u202e", "x" * 1_000_000, "😀" * 10_000])
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("name", NAMES)
def test_read_only_pixels_are_taken(loaded: Any, name: str) -> None:
    """Arrays from shared memory are read-only; that is neither an error nor a warning, and they stay as they were."""
    recipe, encoder = loaded(name)
    pixels = pictures(recipe, 2)
    expected, before = encoder.images(pixels), pixels.copy()
    pixels.flags.writeable = False
    assert np.array_equal(encoder.images(pixels), expected)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("name", ["openclip", "huggingface clip"])
def test_bf16_is_near_fp32(loaded: Any, name: str) -> None:
    """The same weights in bf16 give nearly the same directions, and not by having ignored the precision."""
    recipe, exact = loaded(name)
    rough = replace(recipe, precision="bf16").load("cpu", 1)
    pixels = pictures(recipe, 4)
    for one, other in ((exact.images(pixels), rough.images(pixels)), (exact.texts(CAPTIONS), rough.texts(CAPTIONS))):
        assert (one * other).sum(axis=1).min() > 0.999
        assert np.abs(one - other).max() > 1e-5
    assert recipe.fingerprint() != replace(recipe, precision="bf16").fingerprint()


@pytest.mark.parametrize("name", ["openclip", "huggingface clip"])
def test_a_gpu_or_precision_that_is_not_there_is_refused(
    folders: Folders, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp16 on a CPU, a GPU on a machine without, an unknown device and no threads: one sentence each."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = recipes(folders)[name]
    with pytest.raises(RequestError, match="fp16' needs a GPU"):
        replace(recipe, precision="fp16").load("cpu", 1)
    with pytest.raises(RequestError, match="sees no GPU"):
        recipe.load("cuda", 1)
    with pytest.raises(RequestError, match="no device is called 'tpu'"):
        recipe.load("tpu", 1)
    with pytest.raises(RequestError, match="threads=0"):
        recipe.load("cpu", 0)
    with pytest.raises(RequestError, match="did you mean 'fp16'"):
        replace(recipe, precision="fp17").check()


@pytest.mark.parametrize("name", ["openclip", "huggingface clip", "huggingface siglip"])
def test_a_folder_never_touches_the_network(folders: Folders, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a local folder opens no connection, also where the hub is not switched off."""
    import huggingface_hub.constants as hub

    asked: list[object] = []

    def refuse(*args: object, **_: object) -> None:
        asked.append(args)  # an exception alone might be caught and forgotten
        raise OSError("no network")

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    recipe = recipes(folders)[name]
    assert recipe.load("cpu", 1).texts(["a"]).shape[0] == 1
    assert not asked


def broken_copy(source: Path, target: Path, change: Any) -> Path:
    """A model folder with changed weights: `change` takes the tensors and returns what to save, bytes or tensors."""
    from safetensors.torch import load_file, save_file

    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = next(target.glob("*.safetensors"))
    changed = change(load_file(weights))
    if isinstance(changed, bytes):
        weights.write_bytes(changed)
    else:
        save_file(changed, weights, metadata={"format": "pt"})
    return target


@pytest.mark.parametrize(("name", "kind"), [("openclip", OpenClip), ("clip", HuggingFace)])
def test_broken_weights_are_one_sentence(folders: Folders, tmp_path: Path, name: str, kind: Any) -> None:
    """A file of other bytes, and a file that lacks a weight, are refused; nothing is filled with random numbers."""
    source = getattr(folders, name)
    for number, change in enumerate((lambda _: b"not safetensors", lambda w: {k: w[k] for k in sorted(w)[1:]})):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(RequestError) as error:
            kind(str(broken_copy(source, folder, change))).load("cpu", 1)
        assert "\n" not in str(error.value)
        assert str(folder) in str(error.value)
        assert "missing" in str(error.value).lower() or "header" in str(error.value).lower()


@pytest.mark.parametrize(("name", "kind"), [("openclip", OpenClip), ("clip", HuggingFace)])
def test_weights_that_are_not_numbers_fail_the_work(folders: Folders, tmp_path: Path, name: str, kind: Any) -> None:
    """NaN weights give no vectors: the error names the row, for pictures and for texts."""
    folder = broken_copy(getattr(folders, name), tmp_path, lambda w: {k: v * float("nan") for k, v in w.items()})
    recipe = kind(str(folder))
    encoder = recipe.load("cpu", 1)
    with pytest.raises(WorkError, match=r"image 0 of the batch \(2 such rows\) has NaN"):
        encoder.images(pictures(recipe, 2))
    with pytest.raises(WorkError, match="text 0 of the batch"):
        encoder.texts(["a"])


def test_rows_without_direction_are_named() -> None:
    """The first row of zeros or infinities is named, and no other row hides it."""
    import torch

    from raybench.encoders import towers

    place = towers.Place(torch.device("cpu"), "bf16", 1)
    with pytest.raises(WorkError, match=r"image 1 of the batch \(1 such rows\) is all zeros.*fp32"):
        towers.unit(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "image", place)
    with pytest.raises(WorkError, match="text 0 of the batch"):
        towers.unit(torch.tensor([[float("inf"), 0.0], [0.0, 1.0]]), "text", place)
    large = towers.unit(torch.full((1, 4), 3e38), "image", place)  # its float32 norm is infinite
    np.testing.assert_allclose(large, 0.5)


# ---- open_clip ----


def test_pictures_and_texts_agree_with_open_clip(folders: Folders, loaded: Any) -> None:
    """open_clip's own model, transform and tokenizer on the same input give the same vectors."""
    import open_clip
    import torch

    for name, folder in (("openclip", folders.openclip), ("openclip bpe", folders.openclip_bpe)):
        recipe, encoder = loaded(name)
        model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        pixels = pictures(recipe, 3)
        with torch.no_grad():
            inputs = torch.stack([transform(Image.fromarray(picture)) for picture in pixels])
            images = model.eval().encode_image(inputs, normalize=True).numpy()
            texts = model.encode_text(tokenizer(CAPTIONS), normalize=True).numpy()
        np.testing.assert_allclose(encoder.images(pixels), images, atol=TOLERANCE)
        np.testing.assert_allclose(encoder.texts(CAPTIONS), texts, atol=TOLERANCE)


def test_scaled_pixels_equal_the_transform_bit_for_bit(folders: Folders) -> None:
    """Division, mean and deviation are applied as ToTensor and Normalize do, to the last bit."""
    import torch
    from torchvision.transforms.functional import normalize, to_tensor

    from raybench.encoders import towers

    for recipe in (OpenClip(str(folders.openclip)), OpenClip(str(folders.openclip_bpe))):
        pixels, p = pictures(recipe, 3), recipe.preprocess()
        expected = torch.stack([normalize(to_tensor(Image.fromarray(picture)), p.mean, p.std) for picture in pixels])
        assert torch.equal(towers.scale(pixels, p, towers.Place(torch.device("cpu"), "fp32", 1)), expected)


def test_canonical_cleaning_is_the_tokenizers_own(loaded: Any) -> None:
    """With `clean: canonicalize` case and punctuation change nothing; words do."""
    vectors = loaded("openclip")[1].texts(["a red car", "A Red, CAR!", "a red dog"])
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


def test_the_catalog_equals_open_clip() -> None:
    """Architectures, tags and their preprocessing, read without importing open_clip, are those of open_clip."""
    import open_clip
    from open_clip.pretrained import _PRETRAINED

    assert sorted(open_clip.list_models()) == sorted(openclip_catalog.architectures())
    assert {name: openclip_catalog.tags(name) for name in _PRETRAINED} == _PRETRAINED


OVERLAYS = [
    {},
    {"mean": (0.5, 0.5, 0.5), "std": 0.25, "interpolation": "bilinear", "resize_mode": "squash"},
    {"interpolation": "bilinear", "resize_mode": "shortest"},
    {"resize_mode": "longest", "fill_color": 127, "mean": None, "interpolation": "random", "size": 999},
    {"mean": 0.0, "std": []},
]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("size", [32, [24, 40]])
def test_merged_preprocessing_is_open_clips(tmp_path: Path, overlay: dict[str, Any], size: Any) -> None:
    """Whatever a folder says, the result prepares pictures as the transform that open_clip builds from it."""
    import open_clip
    import torch
    from torchvision.transforms.functional import normalize, to_tensor

    vision = {**tiny_models.OPENCLIP["vision_cfg"], "image_size": size}
    text = {**tiny_models.OPENCLIP["text_cfg"], "layers": 1}
    model_cfg = {"embed_dim": 8, "vision_cfg": {**vision, "layers": 1}, "text_cfg": text}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": overlay}))
    transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}", load_weights=False)[2]
    p = merged(model_cfg, overlay, "it")
    for shape in ((50, 71, 3), (64, 64, 3), (33, 20, 3), (32, 35, 3)):
        picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))
        assert torch.equal(normalize(to_tensor(p.apply(picture)), p.mean, p.std), transform(picture))


def test_every_tag_has_a_preprocessing() -> None:
    """All of open_clip's pairs of architecture and tag can be read, and take size, mean and mode from the right place."""
    for name in openclip_catalog.architectures():
        for tag, values in openclip_catalog.tags(name).items():
            p = merged(openclip_catalog.architecture(name), values, name)
            assert (p.mean, p.std, p.resize) == (values["mean"], values["std"], values["resize_mode"]), (name, tag)
    p = OpenClip("ViT-B-16-SigLIP-384", "webli").preprocess()
    assert (p.height, p.width, p.mean, p.resize) == (384, 384, (0.5, 0.5, 0.5), "squash")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ('openclip("ViT-B-23", pretrained="openai")', "did you mean 'ViT-B-32'"),
        ('openclip("ViT-B-32")', "names no weights"),
        ('openclip("ViT-B-32", pretrained="laion2b_s34b_b79")', "did you mean 'laion2b_s34b_b79k'"),
        ('openclip("ViT-B-32", pretrained="openai")', "trained with QuickGELU.*'ViT-B-32-quickgelu'"),
        ('openclip("hf-hub:owner/model", pretrained="openai")', "would be ignored"),
        ('openclip("hf-hub:a b")', "neither a folder here nor a name"),
        ('openclip("raybench:../../etc")', "shipped with raybench"),
        ('openclip("local-dir:/no/such/place")', "is not a folder"),
        ('openclip("./no_such_folder")', "is not a folder"),
        (f'openclip("{"x" * 300}")', "no architecture called"),
        ('huggingface("./no_such_folder")', "is not a folder"),
        ('huggingface("a b")', "neither a folder here nor a name"),
        ('huggingface("owner/model", trust_remote_code=True)', "does not pin it"),
        ('huggingface("owner/model", trust_remote_code=True, revision="main")', "does not pin it"),
        ('huggingface("owner/model", padding="left")', "'longest' or 'max_length'"),
        ('huggingface("owner/model", max_length=0)', "leaves no room"),
        ("tiny(dim=0)", "from 1 to 65536"),
        ("tiny(delay_s=-1)", "seconds from 0"),
    ],
)
def test_wrong_requests_are_one_sentence(spec: str, sentence: str) -> None:
    """`check` answers each wrong request with one sentence that names the value and the next step."""
    with pytest.raises(RequestError, match=sentence) as error:
        ENCODERS.make(spec).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ['openclip("ViT-B-32", pretraind="x")', 'opneclip("ViT-B-32")', "tiny(dim=2.5)"])
def test_unknown_names_and_parameters_are_spec_errors(spec: str) -> None:
    """The registry's own errors hold for encoders."""
    with pytest.raises(SpecError):
        ENCODERS.make(spec)


def test_checking_imports_neither_torch_nor_open_clip() -> None:
    """`check` and `preprocess` of an architecture, and the recipes themselves, leave the heavy libraries alone."""
    program = (
        "import sys\n"
        "from raybench.encoders import ENCODERS\n"
        "for spec in ('openclip(\"ViT-L-14\", \"laion2b_s32b_b82k\")', 'huggingface(\"owner/model\")', 'tiny()'):\n"
        "    recipe = ENCODERS.make(spec); recipe.check(); recipe.fingerprint()\n"
        'print(ENCODERS.make(\'openclip("ViT-L-14", "laion2b_s32b_b82k")\').preprocess().height)\n'
        "assert not {'torch', 'open_clip', 'transformers', 'ray'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "224"), done.stderr


def test_random_weights_are_asked_for_seeded_and_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pretrained="random"` gives the same model each time, whatever the global seed, and says that it is random."""
    import torch

    small = {**tiny_models.OPENCLIP, "text_cfg": {**tiny_models.OPENCLIP["text_cfg"], "vocab_size": 49408}}
    import open_clip.factory

    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", small)
    monkeypatch.setattr(openclip_catalog, "architecture", lambda _: small)
    recipe = OpenClip("ViT-B-32", pretrained="random")
    pixels = pictures(recipe, 2)
    torch.manual_seed(11)
    one = recipe.load("cpu", 1)
    state = torch.random.get_rng_state()
    torch.manual_seed(12)
    other = recipe.load("cpu", 1)
    assert np.array_equal(one.images(pixels), other.images(pixels))
    assert one.facts["weights"] == "random, seed 0"
    torch.manual_seed(11)
    assert torch.equal(torch.random.get_rng_state(), state)  # loading did not draw from the caller's generator


def test_a_checkpoint_file_is_read_and_known_by_its_content(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path as `pretrained` loads those weights; its fingerprint moves with the file and changes with its bytes."""
    import open_clip.factory

    config = json.loads((folders.openclip_bpe / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", config)
    monkeypatch.setattr(openclip_catalog, "architecture", lambda _: config)
    weights = (folders.openclip_bpe / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "one.safetensors").write_bytes(weights)
    monkeypatch.chdir(tmp_path)
    recipe = OpenClip("ViT-B-32", pretrained="one.safetensors")
    texts = recipe.load("cpu", 1).texts(CAPTIONS)
    np.testing.assert_array_equal(texts, OpenClip(str(folders.openclip_bpe)).load("cpu", 1).texts(CAPTIONS))
    (tmp_path / "two.safetensors").write_bytes(weights)
    assert OpenClip("ViT-B-32", pretrained="two.safetensors").fingerprint() == recipe.fingerprint()
    (tmp_path / "two.safetensors").write_bytes(weights[:-1] + b"\x01")
    assert OpenClip("ViT-B-32", pretrained="two.safetensors").fingerprint() != recipe.fingerprint()
    monkeypatch.chdir("/")  # a worker's folder: the path was made absolute
    recipe.check()


def test_a_pickled_checkpoint_runs_nothing(folders: Folders, tmp_path: Path) -> None:
    """Weights saved as a pickle with code in it are refused and the code does not run."""
    trace = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (trace,))

    for file in folders.openclip.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    import torch

    torch.save({"state_dict": Bomb()}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(RequestError, match="cannot be loaded"):
        OpenClip(str(tmp_path)).load("cpu", 1)
    assert not trace.exists()


def test_code_that_came_with_a_folder_does_not_run(folders: Folders, tmp_path: Path) -> None:
    """A tokenizer that asks for its own Python file is refused, also where the folder says that it is to be trusted."""
    for file in folders.openclip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    trace = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Mine: pass\n")
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    said = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    with pytest.raises(RequestError, match="cannot be loaded"):
        OpenClip(str(tmp_path)).load("cpu", 1)
    assert not trace.exists()


def test_a_fingerprint_is_of_content_not_of_place(folders: Folders, tmp_path: Path) -> None:
    """A copied folder has the same fingerprint; a changed weight or tokenizer another; a model card none."""
    for source, kind in ((folders.openclip, OpenClip), (folders.clip, HuggingFace)):
        copy = tmp_path / kind.__name__
        copy.mkdir()
        for file in source.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        assert kind(str(copy)).fingerprint() == kind(str(source)).fingerprint()
        (copy / "README.md").write_text("a model card")
        assert kind(str(copy)).fingerprint() == kind(str(source)).fingerprint()
        for file in (copy / "tokenizer.json", next(copy.glob("*.safetensors"))):
            before = kind(str(copy)).fingerprint()
            file.write_bytes(file.read_bytes() + b" ")
            assert kind(str(copy)).fingerprint() != before


@pytest.mark.parametrize(
    "recipe",
    [
        OpenClip("ViT-B-32", pretrained="laion2b_s34b_b79k"),
        OpenClip("hf-hub:owner/model-that-is-not-cached"),
        HuggingFace("owner/model-that-is-not-cached"),
        HuggingFace("owner/model-that-is-not-cached", revision="0" * 40),
    ],
    ids=str,
)
def test_a_hub_that_cannot_be_reached_is_one_sentence(
    recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names the repository and how to go without the hub; there is one attempt, not minutes of them."""
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RequestError, match=r"could not be fetched.*(local-dir|/path/to)") as error:
        recipe.load("cpu", 1)
    assert "\n" not in str(error.value)


def test_a_shipped_model_is_found_wherever_raybench_is(folders: Folders, tmp_path: Path, monkeypatch: Any) -> None:
    """`raybench:NAME` is a folder of the installed package: no path of this machine in the recipe, same vectors."""
    import importlib.resources
    import shutil

    shutil.copytree(folders.openclip, tmp_path / "assets" / "scenes-clip")
    monkeypatch.setattr(importlib.resources, "files", lambda _: tmp_path)
    recipe = OpenClip("raybench:scenes-clip")
    assert recipe.name == "raybench:scenes-clip"
    assert recipe.fingerprint() == OpenClip(str(folders.openclip)).fingerprint()
    encoder = recipe.load("cpu", 1)
    expected = OpenClip(str(folders.openclip)).load("cpu", 1).texts(CAPTIONS)
    np.testing.assert_array_equal(encoder.texts(CAPTIONS), expected)
    assert str(tmp_path) not in json.dumps(dict(encoder.facts))
    with pytest.raises(RequestError, match="did you mean 'scenes-clip'"):
        OpenClip("raybench:scene-clip").check()


# ---- the double ----


def test_the_double_is_the_same_everywhere() -> None:
    """Its vectors are fixed by dim and seed alone: another process finds these numbers, bit for bit."""
    program = (
        "import numpy as np, hashlib\n"
        "from raybench.encoders.tiny import Tiny\n"
        "e = Tiny(16, seed=3).load('cpu', 1)\n"
        "p = np.arange(2 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 32, 32, 3)\n"
        "print(hashlib.sha256(e.images(p).tobytes() + e.texts(['a red car', '']).tobytes()).hexdigest())\n"
    )
    digests = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
    assert Tiny(16, seed=3).fingerprint() != Tiny(16, seed=4).fingerprint()
    assert Tiny(16, delay_s=0.5).fingerprint() == Tiny(16).fingerprint()


def test_the_double_is_bit_equal_for_any_batch_and_never_zero() -> None:
    """Batches of any size give equal bytes, and one dimension still gives unit vectors."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    encoder = Tiny(dim=40).load("cpu", 1)
    parts = [encoder.images(pixels[start : start + 3]) for start in range(0, 7, 3)]
    assert np.array_equal(encoder.images(pixels), np.concatenate(parts))
    single = Tiny(dim=1).load("cpu", 1)
    texts = ["", *(f"{a} {b}" for a in "abcdefghij" for b in "klmnopqrst")]
    assert np.array_equal(np.abs(single.texts(texts)), np.ones((101, 1), np.float32))


def test_the_double_brings_alike_inputs_together() -> None:
    """Captions that share words and pictures that share their light are closer than others."""
    encoder = Tiny(dim=128).load("cpu", 1)
    cars = encoder.texts(["a red car", "the red car", "two white dogs"])
    assert cars[0] @ cars[1] > cars[0] @ cars[2] + 0.3
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    near = np.clip(one.astype(int) + rng.integers(-5, 6, one.shape), 0, 255).astype(np.uint8)
    images = encoder.images(np.stack([one, near, other]))
    assert images[0] @ images[1] > images[0] @ images[2] + 0.3


def test_the_double_sleeps_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch of images sleeps once; captions do not."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    encoder = Tiny(delay_s=0.25).load("cpu", 1)
    encoder.images(np.zeros((2, 32, 32, 3), np.uint8))
    encoder.texts(["a"])
    assert slept == [0.25]


def test_recipes_show_in_manifests(folders: Folders) -> None:
    """A preprocessing is plain values."""
    for recipe in recipes(folders).values():
        json.dumps(asdict(recipe.preprocess()))
