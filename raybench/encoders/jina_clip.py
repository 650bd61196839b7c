"""Jina CLIP v2: a model whose code comes with it, and which transformers 5 cannot load.

`jina_clip("jinaai/jina-clip-v2", remote_code=True, revision=..., code_revision=..., text_revision=..., text_code_revision=...)`
names four commits, because four repositories take part: the weights, the code of the towers, and the text tower's
configuration and code, which that code asks for without a revision. All four are fetched at their commits into a cache of
their own and loaded with the hub switched off, so nothing that is not pinned can run. A local folder that holds model and code
is pinned by the digest of its content.

It needs packages of its own (`packages`), which its actors on Ray get; see `raybench.encoders.packages`. Text and pictures are
read as the model's own `encode_text` and `encode_image` read them: 512 tokens at most, the shorter side to 512 pixels and the
middle of it, the first `dim` dimensions, brought to unit length.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raybench.encoders import jina_files, model_files, packages
from raybench.encoders.base import Encoder, Precision, check_precision
from raybench.encoders.preprocess import Preprocess
from raybench.errors import RequestError
from raybench.spec import content_key

PACKAGES = ("transformers==4.57.6", "huggingface-hub==0.36.2", "tokenizers==0.22.2", "einops==0.8.2", "peft==0.18.1", "accelerate==1.12.0")  # fmt: skip
"""What the model's code was written for, complete with what raybench's environment lacks; torch and timm are raybench's."""

_REPOSITORIES = {
    "code_revision": "jinaai/jina-clip-implementation",
    "text_revision": "jinaai/jina-embeddings-v3",
    "text_code_revision": "jinaai/xlm-roberta-flash-implementation",
}
_LARGEST = 1024
_INSTEAD = 'download it where there is a network and give the folder, as in jina_clip("/path/to/folder")'


@dataclass(frozen=True, slots=True)
class JinaClip:
    """`jina_clip("jinaai/jina-clip-v2", revision="...", code_revision="...", ..., remote_code=True, dim=1024)`, or a folder."""

    name: str
    revision: str | None = None  # the commit of the weights
    code_revision: str | None = None  # of the towers' code
    text_revision: str | None = None  # of the text tower's configuration
    text_code_revision: str | None = None  # of its code
    digest: str | None = None  # of a local folder, in place of commits
    remote_code: bool = False  # whether the code that comes with the model may run
    dim: int = _LARGEST
    max_length: int = 512
    precision: Precision = "fp32"
    packages: tuple[str, ...] = PACKAGES

    def __post_init__(self) -> None:
        if model_files.is_path(self.name):  # workers run in other folders
            object.__setattr__(self, "name", model_files.absolute(self.name))

    def check(self) -> None:
        """That running the model's code is asked for, and that what runs is pinned."""
        check_precision(self.precision)
        if not 1 <= self.dim <= _LARGEST or not 1 <= self.max_length <= 8192:
            raise RequestError(
                f"dim={self.dim} must be from 1 to {_LARGEST}, and max_length={self.max_length} from 1 to 8192"
            )
        if not self.remote_code:
            raise RequestError(
                f"{self.name} runs code that comes with it; read that code, then add remote_code=True and its pins"
            )
        if self._is_folder:
            self._check_folder()
            return
        model_files.check_repository(self.name, _INSTEAD)
        for pin in ("revision", *_REPOSITORIES):
            commit = getattr(self, pin)
            if not re.fullmatch(r"[0-9a-f]{40}", commit or ""):
                raise RequestError(
                    f"remote_code=True runs code of {_REPOSITORIES.get(pin, self.name)}, and {pin}={commit!r} does not pin it; read that "
                    f"code and give the 40 digits of its commit as {pin}"
                )
        if self.digest is not None:
            raise RequestError(f"digest={self.digest!r} is of a folder, and {self.name} is none; leave it out")

    def preprocess(self) -> Preprocess:
        """From preprocessor_config.json."""
        self.check()
        file: Path | None = Path(self.name) / "preprocessor_config.json"
        if not self._is_folder:
            file = model_files.hub_file(self.name, "preprocessor_config.json", self.revision, _INSTEAD)
        if file is None:
            raise RequestError(f"{self.name} holds no preprocessor_config.json; check its name")
        return jina_files.preprocess(model_files.read_config(file), self.name)

    def fingerprint(self) -> str:
        """The pins, or the content of the folder; dimensions, precision, the text's length and the packages."""
        self.check()
        pins = [self.name, self.revision, *(getattr(self, pin) for pin in _REPOSITORIES)]
        model = self.digest if self._is_folder else pins
        return content_key(
            "jina_clip", model, self.dim, self.max_length, self.precision, packages.key(self.packages), length=64
        )

    def load(self, device: str, threads: int) -> Encoder:
        """The model in evaluation mode. Raises RequestError, in one sentence, for whatever cannot be loaded."""
        self.check()
        packages.check_installed(self.packages, self.name)
        from raybench.encoders import towers

        place = towers.place(device, threads, self.precision)
        with towers.load_errors(self.name, "check its files and pins, and the packages that it is given"):
            folder = Path(self.name) if self._is_folder else jina_files.fetch(self._commits, self.name)
            jina_files.switch_hub_off(self.name)
            pixels = jina_files.preprocess(model_files.read_config(folder / "preprocessor_config.json"), self.name)
            return self._encoder(pixels, place)

    @property
    def _commits(self) -> dict[str, str]:
        """Every repository that takes part, with its commit."""
        pins = (("revision", self.name), *_REPOSITORIES.items())
        return {repository: str(getattr(self, pin)) for pin, repository in pins}

    @property
    def _is_folder(self) -> bool:
        return Path(self.name).is_absolute()

    def _check_folder(self) -> None:
        folder = Path(self.name)
        if not folder.is_dir():
            raise RequestError(
                f"{folder} is not a folder; give one that holds the model and its code, or a name like owner/model"
            )
        given = next((pin for pin in ("revision", *_REPOSITORIES) if getattr(self, pin) is not None), None)
        if given is not None:
            raise RequestError(f"{given}={getattr(self, given)!r} means nothing for the folder {folder}; leave it out")
        code = str(model_files.read_config(folder / "config.json").get("auto_map") or "")
        if "--" in code:  # how transformers writes a class of another repository
            raise RequestError(
                f"config.json of {folder} takes code from another repository ({code[:120]}), which no digest pins; copy that code into the folder"
            )
        found = model_files.folder_digest(folder)
        if self.digest != found:
            raise RequestError(
                f"{folder} has the content {found}, and digest={self.digest!r} does not pin it; read its code, then give digest={found!r}"
            )

    def _encoder(self, pixels: Preprocess, place: Any) -> Encoder:
        import torch

        from raybench.encoders import towers

        pins = {} if self._is_folder else {"revision": self.revision, "code_revision": self.code_revision}
        model, tokenizer = jina_files.create(self.name, pins, place)
        instruction = jina_files.instruction(model)

        def cut(features_BD: torch.Tensor) -> torch.Tensor:
            if features_BD.shape[1] < self.dim:
                raise RequestError(
                    f"dim={self.dim}, but {self.name} has {features_BD.shape[1]} dimensions; ask for fewer"
                )
            return features_BD[:, : self.dim]

        def image_tower(pixels_BCHW: torch.Tensor) -> torch.Tensor:
            return cut(model.get_image_features(pixels_BCHW))

        def text_tower(texts: list[str]) -> torch.Tensor:
            whole = [
                (instruction + text).encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts
            ]
            tokens = tokenizer(whole, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
            return cut(model.get_text_features(tokens["input_ids"].to(place.device)))

        facts = {
            "encoder": "jina_clip",
            "model": self.name,
            "pins": {pin: getattr(self, pin) for pin in ("revision", *_REPOSITORIES, "digest")},
            "model_class": type(model).__name__,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "tokenizer": type(tokenizer).__name__,
            "instruction": instruction,
            "preprocess": asdict(pixels),
            "packages": list(self.packages),
            "versions": towers.library_versions(
                "transformers", "tokenizers", "huggingface-hub", "timm", "einops", "peft"
            ),
        }
        return towers.towers(image_tower, text_tower, pixels, place, self.max_length, facts)
