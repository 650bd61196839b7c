"""transformers models: agreement with the library's own path, text rules of each family, image processors, refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tiny_models
from PIL import Image

from raybench.encoders import image_processors
from raybench.encoders.huggingface import HuggingFace, _matrix
from raybench.encoders.text_rules import TEXT_RULES, TextRule, tokenize
from raybench.errors import RequestError, WorkError

TOLERANCE = 1e-5  # transformers folds mean and deviation into one step, which rounds differently
CAPTIONS = ["a red car", "the dog and the house on the left", "", "unheard of words", "a " * 40]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.siglip_folder(tmp_path_factory.mktemp("siglip"))


def pictures(count: int) -> npt.NDArray[np.uint8]:
    side = tiny_models.SIDE
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def unit(rows: Any) -> npt.NDArray[np.float32]:
    rows = rows.numpy().astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def edited(source: Path, target: Path, file: str, **changes: Any) -> Path:
    """A copy of a model folder with changed values in one of its JSON files."""
    if source != target:
        shutil.copytree(source, target, dirs_exist_ok=True)
    values = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps({**values, **changes}))
    return target


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_vectors_agree_with_the_librarys_own_path(family: str, request: pytest.FixtureRequest) -> None:
    """Processor and model of transformers, used as its documentation says, give the same vectors."""
    import torch
    from transformers import AutoModel, AutoProcessor

    folder = request.getfixturevalue(family)
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    pixels = pictures(3)
    padding = {"clip": True, "siglip": "max_length"}[family]
    texts = [text.lower() for text in CAPTIONS] if family == "siglip" else CAPTIONS
    with torch.no_grad():
        seen = processor(images=[Image.fromarray(picture) for picture in pixels], return_tensors="pt")
        images = model.get_image_features(**seen).pooler_output
        read = processor(
            text=texts, padding=padding, max_length=tiny_models.CONTEXT, truncation=True, return_tensors="pt"
        )
        words = model.get_text_features(**read).pooler_output
    encoder = HuggingFace(str(folder)).load("cpu", 1)
    np.testing.assert_allclose(encoder.images(pixels), unit(images), atol=TOLERANCE)
    np.testing.assert_allclose(encoder.texts(CAPTIONS), unit(words), atol=TOLERANCE)


def test_siglip_reads_its_padding(siglip: Path) -> None:
    """Padding to the longest caption gives SigLIP other vectors, so that the table's rule can be seen to be kept."""
    right = HuggingFace(str(siglip)).load("cpu", 1).texts(["a red car", "the dog"])
    wrong = HuggingFace(str(siglip), padding="longest").load("cpu", 1).texts(["a red car", "the dog"])
    assert np.abs(right - wrong).max() > 1e-3


def test_siglip_is_told_of_no_mask(siglip: Path, tmp_path: Path) -> None:
    """A tokenizer that also returns a mask changes nothing, though the model would heed it."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    names = ["input_ids", "attention_mask"]
    folder = edited(siglip, tmp_path, "tokenizer_config.json", model_input_names=names)
    right = HuggingFace(str(siglip)).load("cpu", 1).texts(["a red car"])
    np.testing.assert_array_equal(HuggingFace(str(folder)).load("cpu", 1).texts(["a red car"]), right)
    tokens = AutoTokenizer.from_pretrained(folder)(
        ["a red car"], padding="max_length", max_length=tiny_models.CONTEXT, return_tensors="pt"
    )
    with torch.no_grad():
        masked = AutoModel.from_pretrained(folder).eval().get_text_features(**tokens).pooler_output
    assert np.abs(unit(masked) - right).max() > 1e-3


def test_padding_goes_to_the_right_whatever_the_tokenizer_says(siglip: Path, tmp_path: Path) -> None:
    """A tokenizer class whose default is the left (as Gemma's is) does not move the words."""
    folder = edited(siglip, tmp_path, "tokenizer_config.json", padding_side="left")
    right = HuggingFace(str(siglip)).load("cpu", 1).texts(CAPTIONS)
    np.testing.assert_array_equal(HuggingFace(str(folder)).load("cpu", 1).texts(CAPTIONS), right)


def test_siglip_lower_cases_and_clip_leaves_it_to_its_tokenizer(clip: Path, siglip: Path) -> None:
    """Capitals change nothing for SigLIP, unless asked for; for CLIP the tokenizer decides, unless asked for."""
    pair = ["a red car", "A Red CAR"]

    def differ(recipe: HuggingFace) -> bool:
        one, other = recipe.load("cpu", 1).texts(pair)
        return bool(np.abs(one - other).max() > 1e-3)

    assert not differ(HuggingFace(str(siglip)))
    assert differ(HuggingFace(str(siglip), lower=False))
    assert differ(HuggingFace(str(clip)))
    assert not differ(HuggingFace(str(clip), lower=True))


def test_gemma_tokenizer_of_siglip_2_follows_the_rule(siglip: Path, tmp_path: Path) -> None:
    """SigLIP 2 of fixed resolution is a SiglipModel with Gemma's tokenizer: lower-cased, right-padded, no mask."""
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    shutil.copytree(siglip, tmp_path, dirs_exist_ok=True)
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"acdeghort▁ADR"]
    gemma = Tokenizer(models.BPE({letter: row for row, letter in enumerate(letters)}, [], unk_token=letters[3]))
    gemma.normalizer = normalizers.Replace(" ", "▁")
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=gemma, **special).save_pretrained(tmp_path)
    edited(tmp_path, tmp_path, "tokenizer_config.json", tokenizer_class="GemmaTokenizer", padding_side="left")
    encoder = HuggingFace(str(tmp_path)).load("cpu", 1)
    assert encoder.facts["tokenizer"].startswith("Gemma")
    one, other, third = encoder.texts(["a red dog", "A RED DOG", "a red cat"])
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - third).max() > 1e-4


def test_rules_fit_the_model_and_may_be_replaced(clip: Path) -> None:
    """A rule's length is cut to the model's positions; a longer one that is asked for is refused; a shorter one holds."""
    assert HuggingFace(str(clip)).load("cpu", 1).facts["text_rule"]["max_length"] == tiny_models.CONTEXT
    with pytest.raises(RequestError, match="max_length=13 is more than the 12 positions"):
        HuggingFace(str(clip), max_length=13).load("cpu", 1)
    short = HuggingFace(str(clip), max_length=3).load("cpu", 1)
    np.testing.assert_allclose(*short.texts(["the red car", "the red dog house"]), atol=TOLERANCE)
    assert TEXT_RULES["siglip"] == TextRule("max_length", 64, lower=True, mask=False)


def test_a_family_without_a_rule_needs_one(clip: Path) -> None:
    """Models that the table does not know are refused until the request says how they read text."""

    class Config:
        model_type = "groupvit"

    with pytest.raises(RequestError, match=r"type 'groupvit' read text is not known"):
        HuggingFace(str(clip))._rule(Config())
    recipe = HuggingFace(str(clip), padding="max_length", max_length=9)
    assert recipe._rule(Config()) == TextRule("max_length", 9, lower=False, mask=True)


def test_features_are_read_in_both_forms() -> None:
    """Version 4 of transformers gave matrices, version 5 gives outputs with `pooler_output`; anything else is an error."""
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    matrix = torch.ones(2, 3)
    assert _matrix(matrix) is matrix
    assert torch.equal(_matrix(BaseModelOutputWithPooling(pooler_output=matrix)), matrix)
    with pytest.raises(WorkError, match="tuple without pooler_output"):
        _matrix((matrix,))


def test_a_folder_that_asks_for_tuples_gets_none(clip: Path, tmp_path: Path) -> None:
    """`return_dict: false` in a configuration changes no vector."""
    folder = edited(clip, tmp_path, "config.json", return_dict=False)
    expected = HuggingFace(str(clip)).load("cpu", 1).texts(CAPTIONS)
    np.testing.assert_array_equal(HuggingFace(str(folder)).load("cpu", 1).texts(CAPTIONS), expected)


def test_fp16_weights_are_used_in_the_precision_asked_for(clip: Path, tmp_path: Path) -> None:
    """A checkpoint stored in fp16 runs in fp32, where transformers would follow the file."""
    from safetensors.torch import load_file, save_file

    folder = edited(clip, tmp_path, "config.json", dtype="float16")
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = HuggingFace(str(folder)).load("cpu", 1)
    assert encoder.facts["precision"] == "fp32"
    exact = HuggingFace(str(clip)).load("cpu", 1).images(pictures(2))
    np.testing.assert_allclose(encoder.images(pictures(2)), exact, atol=5e-3)


def test_ids_beyond_the_vocabulary_are_named(clip: Path, tmp_path: Path) -> None:
    """A tokenizer of another model is an error that names the row, not a crash inside the model."""
    shutil.copytree(clip, tmp_path, dirs_exist_ok=True)
    words = json.loads((tmp_path / "tokenizer.json").read_text())
    words["model"]["vocab"]["foreign"] = 999
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    encoder = HuggingFace(str(tmp_path)).load("cpu", 1)
    with pytest.raises(WorkError, match="text 1 of the batch has token 999, but the model knows 25"):
        encoder.texts(["a red car", "foreign"])


def test_tokens_of_broken_surrogates_are_tokens_of_the_replacement(clip: Path) -> None:
    """Half a pair reads as U+FFFD; a whole pair written as two halves reads as its character."""
    from transformers import AutoTokenizer

    tokenizer, rule = AutoTokenizer.from_pretrained(clip), TextRule("max_length", 9)
    for broken, meant in (("a \udc00 dog", "a \ufffd dog"), ("a \ud83d\ude00 dog", "a 😀 dog")):
        assert tokenize(tokenizer, [broken], rule)["input_ids"].tolist() == (
            tokenize(tokenizer, [meant], rule)["input_ids"].tolist()
        )


def test_a_model_without_two_towers_is_refused(clip: Path, tmp_path: Path) -> None:
    """A folder with a text model only is named as what it is."""
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(vocab_size=25, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(tmp_path)
    tiny_models.word_tokenizer(tmp_path)
    shutil.copy(clip / "preprocessor_config.json", tmp_path)
    with pytest.raises(RequestError, match="is a BertModel without image and text towers"):
        HuggingFace(str(tmp_path)).load("cpu", 1)


def test_pickled_weights_are_refused(clip: Path, tmp_path: Path) -> None:
    """A folder with pytorch_model.bin alone is told to save safetensors."""
    import torch

    shutil.copytree(clip, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RequestError, match=r"holds no \*.safetensors"):
        HuggingFace(str(tmp_path)).load("cpu", 1)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_came_with_a_model_runs_only_if_asked_for(clip: Path, tmp_path: Path, file: str) -> None:
    """A custom class is not imported without the flag, and code of a second repository not even with it."""
    trace = tmp_path / "ran"
    said: dict[str, Any] = {"auto_map": {"AutoConfig": "mine.Mine", "AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    if file == "config.json":
        said["model_type"] = "mine"
    else:
        said["tokenizer_class"] = "Mine"
    folder = edited(clip, tmp_path / "model", file, **said)
    (folder / "mine.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Mine: pass\n")
    with pytest.raises(RequestError, match="then add trust_remote_code=True"):
        HuggingFace(str(folder)).load("cpu", 1)
    elsewhere = edited(clip, tmp_path / "elsewhere", file, auto_map={"AutoConfig": "owner/code--mine.Mine"})
    with pytest.raises(RequestError, match="takes code from another repository"):
        HuggingFace(str(elsewhere), trust_remote_code=True).load("cpu", 1)
    assert not trace.exists()


def test_a_folder_has_no_revision(clip: Path) -> None:
    """A revision of a folder is refused, not ignored."""
    with pytest.raises(RequestError, match="revision='main' means nothing for the folder"):
        HuggingFace(str(clip), revision="main").check()
    assert replace(HuggingFace(str(clip)), max_length=5).fingerprint() != HuggingFace(str(clip)).fingerprint()


# ---- image processors ----


@pytest.mark.parametrize("name", list(image_processors.DEFAULTS))
def test_defaults_are_the_classes_own(name: str) -> None:
    """What a configuration leaves out is filled with the values of the installed class."""
    import transformers

    kind, defaults = getattr(transformers, name), image_processors.DEFAULTS[name]
    for key in ("size", "crop_size", "do_center_crop", "resample", "image_mean", "image_std"):
        theirs, ours = getattr(kind, key, None), defaults.get(key)
        theirs = tuple(theirs) if isinstance(theirs, list) else theirs
        assert (theirs or None) == (ours or None), key
    assert kind.do_resize and kind.do_rescale and kind.do_normalize  # noqa: PT018  # one claim


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("CLIPImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": {"height": 20, "width": 20}}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": 20, "resample": 2, "do_normalize": False}),
        ("SiglipImageProcessor", {"size": {"height": 24, "width": 20}, "resample": 2}),
        ("SiglipImageProcessor", {"size": {"height": 24, "width": 24}, "image_mean": [0.1, 0.2, 0.3]}),
        ("ViTImageProcessor", {"size": {"height": 16, "width": 24}}),
        ("BlipImageProcessor", {"size": {"height": 32, "width": 32}}),
    ],
)
def test_pixels_are_those_of_the_pillow_processor(name: str, values: dict[str, Any]) -> None:
    """The processor's class for Pillow, saved and read back, prepares the same pixels for pictures of odd shapes."""
    import transformers

    theirs = getattr(transformers, f"{name}Pil")(**values)
    p = image_processors.preprocess(theirs.to_dict(), "it")
    for shape in ((31, 47, 3), (47, 31, 3), (20, 20, 3), (90, 21, 3), (20, 23, 3), (27, 20, 3)):
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        expected = np.asarray(theirs(picture, return_tensors="np")["pixel_values"])[0]
        ours = (p.apply(picture).astype(np.float64) / 255 - p.mean) / p.std
        np.testing.assert_allclose(ours.transpose(2, 0, 1), expected, atol=2e-6)


def test_old_and_new_forms_of_the_configuration_are_read(clip: Path, tmp_path: Path) -> None:
    """A feature extractor with sizes as numbers, and the nested file of newer processors, mean the same."""
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "resample": 3}
    expected = HuggingFace(str(clip)).preprocess()
    assert image_processors.preprocess(old, "it") == expected
    shutil.copytree(clip, tmp_path, dirs_exist_ok=True)
    nested = {"image_processor": json.loads((tmp_path / "preprocessor_config.json").read_text())}
    nested["image_processor"]["image_processor_type"] = "CLIPImageProcessorFast"
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    (tmp_path / "preprocessor_config.json").unlink()
    assert HuggingFace(str(tmp_path)).preprocess() == expected
    (tmp_path / "processor_config.json").unlink()
    with pytest.raises(RequestError, match=r"holds no preprocessor_config\.json"):
        HuggingFace(str(tmp_path)).preprocess()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"image_processor_type": "Siglip2ImageProcessor"}, "NaFlex"),
        ({"image_processor_type": "Qwen2VLImageProcessor"}, "supported are CLIPImageProcessor"),
        ({}, "has the image processor 'none'"),
        ({"do_resize": False}, "do_resize=False"),
        ({"do_pad": True}, "do_pad=True"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor="),
        ({"size": {"shortest_edge": 256}}, "resizes to"),
        ({"do_center_crop": False}, "resizes to"),
        ({"size": {"longest_edge": 224}}, "resizes to"),
        ({"resample": 5}, "Pillow's filter 5"),
        ({"resample": [3]}, "Pillow's filter"),
        ({"image_mean": [0.5, 0.5]}, "one or three numbers"),
        ({"size": 10**6, "crop_size": 10**6}, "up to 8192"),
    ],
)
def test_other_processors_are_refused(values: dict[str, Any], sentence: str) -> None:
    """What is not a resize, a crop and a scaling is refused in one sentence, never approximated."""
    named = values if "image_processor_type" in values or not values else {"image_processor_type": "CLIPImageProcessor"}
    with pytest.raises(RequestError, match=sentence) as error:
        image_processors.preprocess({**named, **values}, "it")
    assert "\n" not in str(error.value)
