"""A tiny model with code of its own, in a folder or in repositories of a hub's cache, with the methods that Jina CLIP v2 has.

Its towers are a table of words and one linear layer; what it does before and after them is what Jina's code does.
"""

import json
import zipfile
from pathlib import Path

from tiny_models import SIDE, WORDS, word_tokenizer

DIM = 16
_CONFIGURATION = """
from transformers import PretrainedConfig


class JinaCLIPConfig(PretrainedConfig):
    model_type = "tiny_jina_clip"

    def __init__(self, words=10, side=32, dim=16, instruction=None, **kwargs):
        super().__init__(**kwargs)
        self.words, self.side, self.dim, self.instruction = words, side, dim, instruction
"""
_MODELING = """
import torch
import torchvision.transforms as steps
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
PROBE
from .configuration_clip import JinaCLIPConfig


class TextTower(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.words = nn.Embedding(config.words, config.dim)
        self.instruction = config.instruction
        self.scale = NESTED

    def get_instruction_from_task(self, task):
        return self.instruction

    def forward(self, x):
        mask = (x != 0).unsqueeze(-1).to(self.words.weight.dtype)
        return self.scale + (self.words(x) * mask).sum(1) / mask.sum(1)


class JinaCLIPModel(PreTrainedModel):
    config_class = JinaCLIPConfig

    def __init__(self, config):
        super().__init__(config)
        self.text_model = TextTower(config)
        self.vision_model = nn.Linear(3 * config.side**2, config.dim)
        self.post_init()

    def _init_weights(self, module):
        pass

    def get_text_features(self, input_ids=None, *_, **__):
        return self.text_model(input_ids)

    def get_image_features(self, pixel_values=None, *_, **__):
        return self.vision_model(pixel_values.flatten(1))

    @torch.inference_mode()
    def encode_text(self, sentences, truncate_dim=None):
        tokenizer = AutoTokenizer.from_pretrained(self.config._name_or_path, trust_remote_code=True)
        said = [(self.config.instruction or "") + one for one in sentences]
        tokens = tokenizer(said, padding=True, truncation=True, max_length=512, return_tensors="pt")
        made = self.get_text_features(tokens["input_ids"])[:, :truncate_dim]
        return nn.functional.normalize(made, dim=1).numpy()

    @torch.inference_mode()
    def encode_image(self, pictures, truncate_dim=None):
        side, mean, std = self.config.side, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        resize = steps.Resize(side, interpolation=steps.InterpolationMode.BICUBIC)
        to_pixels = steps.Compose([resize, steps.CenterCrop(side), steps.ToTensor(), steps.Normalize(mean, std)])
        made = self.get_image_features(torch.stack([to_pixels(one) for one in pictures]))[:, :truncate_dim]
        return nn.functional.normalize(made, dim=1).numpy()
"""
_TEXT_CONFIGURATION = """
from transformers import PretrainedConfig


class TextConfig(PretrainedConfig):
    model_type = "tiny_text"

    def __init__(self, scale=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
"""


def jina_folder(folder: Path, *, code: str = "", nested: str = "0.0", probe: str = "", **config: object) -> Path:
    """The model, its code and its tokenizer; with `code`, a repository, config.json names that in place of the folder."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"{code}--" if code else ""
    names = {"AutoConfig": "configuration_clip.JinaCLIPConfig", "AutoModel": "modeling_clip.JinaCLIPModel"}
    content = {"model_type": "tiny_jina_clip", "auto_map": {key: prefix + name for key, name in names.items()}}
    content |= {"words": len(WORDS), "side": SIDE, "dim": DIM, **config}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": SIDE, "resize_mode": "shortest", "interpolation": "bicubic"})
    )
    word_tokenizer(folder)
    if not code:
        code_files(folder, nested=nested, probe=probe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        weights = {"text_model.words.weight": torch.randn(len(WORDS), DIM), "vision_model.bias": torch.randn(DIM)}
        weights["vision_model.weight"] = torch.randn(DIM, 3 * SIDE**2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def code_files(folder: Path, *, nested: str = "0.0", probe: str = "") -> None:
    """The code alone; `nested` is the expression of a number, `probe` a module that must be there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "configuration_clip.py").write_text(_CONFIGURATION)
    text = _MODELING.replace("NESTED", nested).replace("PROBE", f"import {probe}" if probe else "")
    (folder / "modeling_clip.py").write_text(text)


def text_repositories(config: Path, code: Path, scale: float) -> None:
    """What the code asks a hub for without a revision: a configuration, whose class is in another repository."""
    for folder in (config, code):
        folder.mkdir(parents=True)
    auto = {"AutoConfig": "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.TextConfig"}
    (config / "config.json").write_text(json.dumps({"model_type": "tiny_text", "auto_map": auto, "scale": scale}))
    (code / "configuration_xlm_roberta.py").write_text(_TEXT_CONFIGURATION)


def wheel(folder: Path, name: str, version: str) -> Path:
    """A package of one module with its version in it."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f'VERSION = "{version}"\n')
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{about}/RECORD", f"{name}/__init__.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n"
        )
    return file
