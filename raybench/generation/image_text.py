"""Vision-language models of transformers, by the one path that all of them share: chat template, processor, `generate`.

Pictures go in as pictures: where there are some, a prompt without their tokens is an error and never an answer. Batches are
padded on the left, so that every prompt ends where its answer begins. Of the decoding settings that come with a model only the
marks of beginning, end and padding are kept: greedy is greedy. What is sampled depends on the seed and the place of an ask in its
call, not on the asks beside it. A batch that does not fit into memory is halved, and so are those after it.

Axes: B asks, L tokens of a prompt, T tokens of an answer, V vocabulary.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raybench.encoders import model_files
from raybench.encoders.base import Precision, check_precision
from raybench.errors import RequestError
from raybench.generation.base import Generator
from raybench.spec import content_key

_INSTEAD = 'download it where there is a network and give the folder, as in image_text("/path/to/folder")'
_QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")


@dataclass(frozen=True, slots=True)
class ImageText:
    """`image_text("owner/model", precision="bf16")`, a local folder, or `raybench:scenes-vl`.

    `max_pixels` bounds the tokens of a picture where a model reads pictures in their own size, as Qwen's do. One that brings every
    picture to sizes of its own is given no larger picture, and has as many tokens as before.
    """

    name: str
    precision: Precision = "bf16"
    batch: int = 8
    max_pixels: int = 401_408  # of one picture; 512 tokens of Qwen2.5-VL
    gpus: int = 1  # of one worker, over which the layers are spread; none where the cluster has none
    revision: str | None = None

    def __post_init__(self) -> None:
        if model_files.is_path(self.name):  # workers run in other folders
            object.__setattr__(self, "name", model_files.absolute(self.name))

    def check(self) -> None:
        """Everything that needs no hub: the name's form, a local folder's files, numbers in range."""
        check_precision(self.precision)
        for name, least in (("batch", 1), ("gpus", 1), ("max_pixels", 56 * 56)):
            if getattr(self, name) < least:
                raise RequestError(f"{name}={getattr(self, name)} is too small; give at least {least}")
        folder = self.folder
        if folder is None:
            model_files.check_repository(self.name, _INSTEAD)
            return
        if not folder.is_dir():
            raise RequestError(
                f"{folder} is not a folder; give one that a model was saved to, or a name like owner/model"
            )
        if self.revision is not None:
            raise RequestError(f"revision={self.revision!r} means nothing for the folder {folder}; leave it out")
        self.check_kind(model_files.read_config(folder / "config.json"))
        if not any(folder.glob("*.safetensors")):
            raise RequestError(f"{folder} holds no *.safetensors; save the model again with save_pretrained")

    def check_kind(self, config: dict[str, Any]) -> None:
        """RequestError for a configuration of a model that this is not for."""
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

        kind = config.get("model_type")
        if kind not in KNOWN:
            raise RequestError(
                f"{self.name} is a model of type {kind!r}, which answers no pictures here; give a vision-language model, "
                "or serve it and use endpoint()"
            )

    @property
    def folder(self) -> Path | None:
        """Where the model is, if it is here; None for one of the hub."""
        if self.name.startswith(model_files.EMBEDDED):
            return model_files.embedded_folder(self.name.removeprefix(model_files.EMBEDDED))
        return Path(self.name) if Path(self.name).is_absolute() else None

    def fingerprint(self) -> str:
        """The content of a local folder, or name and revision; and what else decides the numbers."""
        self.check()
        from importlib.metadata import version

        folder = self.folder
        model = model_files.folder_digest(folder) if folder is not None else [self.name, self.revision]
        return content_key(
            "image_text", model, version("transformers"), self.precision, self.max_pixels, self.batch, length=64
        )

    def load(self, device: str, threads: int) -> Generator:
        """The model in evaluation mode. Raises RequestError, in one sentence, for whatever cannot be loaded."""
        self.check()
        from raybench.encoders import towers
        from raybench.generation.chat_loading import load

        place = towers.place(device, threads, self.precision)
        options: dict[str, Any] = {"local_files_only": True}
        folder, advice = self.folder, "check its files"
        if folder is None:
            options = {"revision": model_files.hub_commit(self.name, self.revision, _INSTEAD)}
            advice = f"or {_INSTEAD}"
            read = model_files.hub_file(self.name, "config.json", self.revision, _INSTEAD)
            if read is not None:
                self.check_kind(model_files.read_config(read))
        with towers.load_errors(self.name, advice):
            return load(str(folder or self.name), options, place, self.max_pixels, self.gpus, asdict(self))


@dataclass(frozen=True, slots=True)
class QwenVL(ImageText):
    """`qwen_vl("Qwen/Qwen2.5-VL-7B-Instruct")`: Qwen's vision-language models, and nothing that only looks like one."""

    def check_kind(self, config: dict[str, Any]) -> None:
        """RequestError for any other family."""
        kind = str(config.get("model_type"))
        if kind not in _QWEN:
            raise RequestError(
                f"{self.name} is a model of type {kind!r}; qwen_vl is for {', '.join(_QWEN)}: use image_text() for others"
            )
