"""CLIP, SigLIP, SigLIP 2 and their like from transformers, each with the text rules that it was trained with.

The rules are the table in `text_rules`. Models of a family that it does not know need `padding` and `max_length` from
their model card.

Weights are safetensors only, and every weight must be in the file: transformers fills gaps with random numbers and a
warning. Code that comes with a model runs only if asked for and pinned to a commit.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raybench.encoders import image_processors, model_files
from raybench.encoders.base import Encoder, Precision, check_precision
from raybench.encoders.preprocess import Preprocess
from raybench.encoders.text_rules import TEXT_RULES, TextRule, tokenize
from raybench.errors import RequestError, WorkError
from raybench.spec import content_key

_INSTEAD = 'download it where there is a network and give the folder, as in huggingface("/path/to/folder")'


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """`huggingface("openai/clip-vit-base-patch32", precision="fp32")`, or a local folder."""

    name: str
    precision: Precision = "fp32"
    revision: str | None = None
    trust_remote_code: bool = False
    max_length: int | None = None
    lower: bool | None = None
    padding: str | None = None

    def __post_init__(self) -> None:
        if model_files.is_path(self.name):  # workers run in other folders
            object.__setattr__(self, "name", model_files.absolute(self.name))

    def check(self) -> None:
        """Everything that needs no hub: the name's form, a local folder's files, pinned code, parameters in range."""
        check_precision(self.precision)
        if self.padding not in (None, "longest", "max_length"):
            raise RequestError(f"padding={self.padding!r} is not known; use 'longest' or 'max_length'")
        if self.max_length is not None and self.max_length < 1:
            raise RequestError(f"max_length={self.max_length} leaves no room for text; give at least 1")
        if self._is_folder:
            self._check_folder()
        else:
            model_files.check_repository(self.name, _INSTEAD)
            if self.trust_remote_code and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
                raise RequestError(
                    f"trust_remote_code=True runs code of {self.name}, and revision={self.revision!r} does not pin it; "
                    "read that code and give the 40 digits of its commit as revision"
                )

    def preprocess(self) -> Preprocess:
        """From processor_config.json or preprocessor_config.json."""
        self.check()
        return image_processors.preprocess(self._processor_config(), self.name)

    def fingerprint(self) -> str:
        """The content of a local folder, or name and revision with the version of transformers; and the parameters."""
        self.check()
        model = model_files.folder_digest(Path(self.name)) if self._is_folder else [self.name, self.revision]
        release = None if self._is_folder else version("transformers")
        rules = [self.precision, self.max_length, self.lower, self.padding]
        return content_key("huggingface", model, release, rules, length=64)

    def load(self, device: str, threads: int) -> Encoder:
        """The model in evaluation mode. Raises RequestError, in one sentence, for whatever cannot be loaded."""
        pixels = self.preprocess()
        from raybench.encoders import towers

        place = towers.place(device, threads, self.precision)
        self._check_code()
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self._is_folder:
            options["local_files_only"] = True
        else:
            options["revision"] = model_files.hub_commit(self.name, self.revision, _INSTEAD)
        advice = "check its files" if self._is_folder else f"or {_INSTEAD}"
        with towers.load_errors(self.name, advice):
            model, tokenizer = _create(self.name, options, place)
            return self._encoder(model, tokenizer, pixels, place, options.get("revision"))

    @property
    def _is_folder(self) -> bool:
        return Path(self.name).is_absolute()

    def _check_folder(self) -> None:
        folder = Path(self.name)
        if not folder.is_dir():
            raise RequestError(
                f"{folder} is not a folder; give one that a model was saved to, or a name like owner/model"
            )
        if self.revision is not None:
            raise RequestError(f"revision={self.revision!r} means nothing for the folder {folder}; leave it out")
        model_files.read_config(folder / "config.json")
        if not any(folder.glob("*.safetensors")):
            raise RequestError(f"{folder} holds no *.safetensors; save the model again with safe_serialization=True")

    def _read(self, file: str) -> dict[str, Any]:
        """A JSON file of the model, empty where it has none."""
        place = Path(self.name) / file
        found = model_files.hub_file(self.name, file, self.revision, _INSTEAD) if not self._is_folder else place
        return model_files.read_config(found) if found is not None and found.is_file() else {}

    def _check_code(self) -> None:
        """Code that comes with the model is asked for and pinned; without it transformers may take another tokenizer."""
        from transformers import CONFIG_MAPPING

        for file in ("config.json", "tokenizer_config.json"):
            values = self._read(file)
            code = str(values.get("auto_map") or "")
            native = file == "config.json" and values.get("model_type") in CONFIG_MAPPING
            if code and not self.trust_remote_code and not native:
                pin = "" if self._is_folder else " and its commit as revision="
                raise RequestError(
                    f"{file} of {self.name} names code of its own ({code[:200]}), which does not run unasked; "
                    f"read that code, then add trust_remote_code=True{pin}"
                )
            if self.trust_remote_code and "--" in code:  # how transformers writes a class of another repository
                raise RequestError(
                    f"{file} of {self.name} takes code from another repository, which no revision here pins "
                    f"({code[:200]}); copy model and code into one folder, read the code, and give that folder"
                )

    def _processor_config(self) -> dict[str, Any]:
        for name in ("processor_config.json", "preprocessor_config.json"):  # the first is the newer form
            config = self._read(name)
            config = config.get("image_processor", {}) if name == "processor_config.json" else config
            if config:
                return dict(config)
        raise RequestError(f"{self.name} holds no preprocessor_config.json; save the model's image processor beside it")

    def _rule(self, config: Any) -> TextRule:
        """The family's rule with the recipe's own parameters over it, within the positions that the model has."""
        rule = TEXT_RULES.get(config.model_type)
        if rule is None and (self.padding is None or self.max_length is None):
            raise RequestError(
                f"how models of type {config.model_type!r} read text is not known here; add padding='longest' or "
                "'max_length' and max_length=, as the model card says"
            )
        positions = getattr(getattr(config, "text_config", None), "max_position_embeddings", None)
        if self.max_length is not None and positions is not None and self.max_length > positions:
            raise RequestError(f"max_length={self.max_length} is more than the {positions} positions of {self.name}")
        rule = rule or TextRule("longest", 1)
        length = self.max_length or (rule.max_length if positions is None else min(rule.max_length, positions))
        lower = rule.lower if self.lower is None else self.lower
        return TextRule(self.padding or rule.padding, length, lower, rule.mask)

    def _encoder(self, model: Any, tokenizer: Any, pixels: Preprocess, place: Any, commit: str | None) -> Encoder:
        import torch

        from raybench.encoders import towers

        rule = self._rule(model.config)
        vocabulary = getattr(getattr(model.config, "text_config", None), "vocab_size", None)

        def image_tower(pixels_BCHW: torch.Tensor) -> torch.Tensor:
            features_BD: torch.Tensor = _matrix(model.get_image_features(pixel_values=pixels_BCHW))
            return features_BD

        def text_tower(texts: list[str]) -> torch.Tensor:
            tokens = tokenize(tokenizer, texts, rule)
            towers.check_tokens(tokens["input_ids"], vocabulary)
            inputs = {key: value.to(place.device) for key, value in tokens.items()}
            features_BD: torch.Tensor = _matrix(model.get_text_features(**inputs))
            return features_BD

        facts = {
            "encoder": "huggingface",
            "model": self.name,
            "commit": commit,
            "model_class": type(model).__name__,
            "model_type": model.config.model_type,
            "attention": getattr(model.config, "_attn_implementation", None),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "tokenizer": type(tokenizer).__name__,
            "text_rule": asdict(rule),
            "image_processor": image_processors.processor_class(self._processor_config()),
            "image_backend": "pillow",
            "preprocess": asdict(pixels),
            "versions": towers.library_versions("transformers", "tokenizers", "sentencepiece", "safetensors"),
        }
        return towers.towers(image_tower, text_tower, pixels, place, rule.max_length, facts)


def _create(name: str, options: Mapping[str, Any], place: Any) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(name, **options)
    model, found = AutoModel.from_pretrained(
        name, config=config, dtype=place.dtype, use_safetensors=True, output_loading_info=True, **options
    )
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found.get(what):
            raise RequestError(
                f"the weights of {name} have {what.replace('_', ' ')}: {min(map(str, found[what]))} and "
                f"{len(found[what]) - 1} more; they do not belong to its config.json, save the model again"
            )
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise RequestError(
            f"{name} is a {type(model).__name__} without image and text towers; give a CLIP or SigLIP model"
        )
    model.config.return_dict = True  # a folder may ask for tuples, whose order differs between models
    return model.eval().requires_grad_(requires_grad=False).to(place.device), AutoTokenizer.from_pretrained(
        name, **options
    )


def _matrix(output: Any) -> Any:
    """The projected vectors [B, D]: transformers 4 returned them, transformers 5 returns them as `pooler_output`."""
    import torch

    found = output if isinstance(output, torch.Tensor) else getattr(output, "pooler_output", None)
    if not isinstance(found, torch.Tensor):
        raise WorkError(f"the model returned {type(output).__name__} without pooler_output; it is not supported")
    return found
