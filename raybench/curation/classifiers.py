"""Image classifiers behind the face of an encoder: for each picture the summed probability of some classes, and the likeliest.

So a classification is embedded as vectors are: streamed, on all GPUs, resumed after an interruption, with an account.

Axes: B batch, H height, W width, C channels, L labels.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from raybench.encoders import model_files
from raybench.encoders.base import Encoder, Precision
from raybench.encoders.huggingface import HuggingFace
from raybench.encoders.preprocess import Preprocess
from raybench.errors import RequestError, SpecError, suggest
from raybench.sources.imagenet_classes import class_list
from raybench.spec import content_key

Classes = str | tuple[str | int, ...]
"""The name or path of a list of ImageNet's classes, or names and numbers of a model's own."""

_IMAGENET_LABELS = 1_000


@dataclass(frozen=True, slots=True)
class HuggingFaceClassifier(HuggingFace):
    """Any `AutoModelForImageClassification` whose weights are safetensors."""

    classes: Classes = ()

    def fingerprint(self) -> str:
        """Of the model and the classes."""
        own = HuggingFace(self.name, self.precision, self.revision, self.trust_remote_code).fingerprint()
        return content_key("classifier", own, _content(self.classes), length=64)

    def load(self, device: str, threads: int) -> Encoder:
        """The model in evaluation mode. RequestError, in one sentence, for whatever cannot be loaded."""
        pixels = self.preprocess()
        from raybench.encoders import towers

        place = towers.place(device, threads, self.precision)
        self._check_code()
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self._is_folder:
            options["local_files_only"] = True
        elif self.revision is not None:
            options["revision"] = self.revision
        with towers.load_errors(self.name, "check its name and files"):
            from transformers import AutoModelForImageClassification

            model, found = AutoModelForImageClassification.from_pretrained(
                self.name, dtype=place.dtype, use_safetensors=True, output_loading_info=True, **options
            )
            _refuse_gaps(self.name, found)
            model = model.eval().requires_grad_(requires_grad=False).to(place.device)
            names = {int(label): str(name) for label, name in model.config.id2label.items()}
            labels = labels_of(self.classes, names, self.name)
            facts = {"classifier": "huggingface", "model": self.name, "model_class": type(model).__name__}
            return _Loaded(
                lambda pixels_BCHW: model(pixel_values=pixels_BCHW).logits, pixels, place, labels, names, facts
            )


def _refuse_gaps(name: str, found: Mapping[str, Any]) -> None:
    """A head that is not in the file would be filled with random numbers."""
    for what in ("missing_keys", "mismatched_keys"):
        if found.get(what):
            raise RequestError(
                f"the weights of {name} have {what.replace('_', ' ')}, such as {min(map(str, found[what]))}: it is no trained "
                "image classifier; give one"
            )


@dataclass(frozen=True, slots=True)
class CentreCrop(Preprocess):
    """The shorter side to `shorter` pixels (or both), then the middle cut out: timm's evaluation transform."""

    shorter: int = 0

    def apply(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """An RGB picture as uint8 pixels [height, width, 3]."""
        larger = Preprocess(
            self.shorter, self.shorter, self.mean, self.std, "squash" if self.resize == "squash" else "shortest",
            self.interpolation,
        )  # fmt: skip
        square_HWC = larger.apply(picture)
        top, left = round((self.shorter - self.height) / 2), round((self.shorter - self.width) / 2)
        return np.ascontiguousarray(square_HWC[top : top + self.height, left : left + self.width])


@dataclass(frozen=True, slots=True)
class TimmClassifier:
    """Any image classifier of timm, by its name with tag, or a folder that timm saved to."""

    name: str
    classes: Classes = ()
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if model_files.is_path(self.name):
            object.__setattr__(self, "name", model_files.absolute(self.name))

    @property
    def _is_folder(self) -> bool:
        return Path(self.name).is_absolute()

    def check(self) -> None:
        """A folder that is there, or a name that timm knows with weights."""
        if self._is_folder:
            model_files.read_config(Path(self.name) / "config.json")
            return
        from timm import list_pretrained

        known = list_pretrained()
        if self.name not in known and self.name not in {name.partition(".")[0] for name in known}:
            raise RequestError(f"timm has no trained model {self.name!r}; {suggest(self.name, known)}")

    def _config(self) -> dict[str, Any]:
        """How pictures are prepared, as timm says it."""
        if self._is_folder:
            config = model_files.read_config(Path(self.name) / "config.json")
            return dict(config.get("pretrained_cfg", config))
        from timm.models import get_pretrained_cfg

        known = get_pretrained_cfg(self.name)
        return {} if known is None else dataclasses.asdict(known)

    def preprocess(self) -> Preprocess:
        """From the model's pretrained configuration."""
        self.check()
        config = self._config()
        size, mode = config.get("input_size"), config.get("crop_mode") or "center"
        filters: dict[str, Literal["bicubic", "bilinear"]] = {"bicubic": "bicubic", "bilinear": "bilinear"}
        interpolation = filters.get(str(config.get("interpolation") or "bicubic"))
        if (
            not size
            or len(size) != 3
            or size[1] != size[2]
            or interpolation is None
            or mode not in ("center", "squash")
        ):
            raise RequestError(
                f"{self.name} prepares pictures in a way that is not supported (size {size}, crop {mode}, "
                f"{config.get('interpolation')}); choose a model with square pictures"
            )
        side = int(size[1])
        return CentreCrop(
            side, side, model_files.three_numbers(config["mean"], self.name), model_files.three_numbers(config["std"], self.name),
            "squash" if mode == "squash" else "shortest", interpolation, shorter=int(side / (config.get("crop_pct") or 0.875)),
        )  # fmt: skip

    def fingerprint(self) -> str:
        """Of the folder's content, or of the name with timm's version; and of the classes."""
        from importlib.metadata import version

        model = model_files.folder_digest(Path(self.name)) if self._is_folder else [self.name, version("timm")]
        return content_key("timm classifier", model, self.precision, _content(self.classes), length=64)

    def load(self, device: str, threads: int) -> Encoder:
        """The model in evaluation mode. RequestError, in one sentence, for whatever cannot be loaded."""
        pixels = self.preprocess()
        from raybench.encoders import towers

        place = towers.place(device, threads, self.precision)
        with towers.load_errors(self.name, "check its name and the network, or give a folder that timm saved to"):
            import timm

            # In a folder, timm reads the architecture from config.json and the weights from model.safetensors.
            name = f"local-dir:{self.name}" if self._is_folder else self.name
            model = timm.create_model(name, pretrained=True).eval().requires_grad_(requires_grad=False)
            model = model.to(place.device, place.dtype)
            names = _timm_names(self._config(), int(model.num_classes))  # type: ignore[arg-type]  # torch sees only modules
            labels = labels_of(self.classes, names, self.name)
            facts = {"classifier": "timm", "model": self.name, "model_class": type(model).__name__}
            return _Loaded(model, pixels, place, labels, names, facts)


def _timm_names(config: Mapping[str, Any], count: int) -> dict[int, str]:
    """The names of classes: the model's own, ImageNet's where it has a thousand, else its numbers."""
    given = config.get("label_names")
    if given and len(given) == count:
        described = config.get("label_descriptions") or {}
        return {label: str(described.get(name, name)) for label, name in enumerate(given)}
    if count == _IMAGENET_LABELS:
        return {one.label: one.name for one in class_list("imagenet-1k")}
    return {label: str(label) for label in range(count)}


def labels_of(classes: Classes, names: Mapping[int, str], model: str) -> tuple[int, ...]:
    """The labels of a model that `classes` stand for. RequestError for a class that it does not have."""
    if isinstance(classes, str):
        if len(names) != _IMAGENET_LABELS:
            raise RequestError(
                f"classes={classes!r} are of ImageNet's 1,000, and {model} has {len(names)}; list its own, such as {names[0]!r}"
            )
        return tuple(one.label for one in class_list(classes))
    by_name: dict[str, list[int]] = {}
    for number, name in names.items():
        for part in {name.lower(), *(part.strip().lower() for part in name.split(","))}:
            by_name.setdefault(part, []).append(number)
    found = []
    for one in classes:
        labels = ([one] if one in names else []) if isinstance(one, int) else by_name.get(one.lower(), [])
        if not labels:
            raise RequestError(f"{model} has no class {one!r}; {suggest(str(one), names.values())}")
        if len(labels) > 1:
            told = " and ".join(f"{label} ({names[label]})" for label in labels)
            raise RequestError(f"{model} has several classes {one!r}: {told}; give the number")
        found.append(labels[0])
    return tuple(dict.fromkeys(found))


def _content(classes: Classes) -> list[int] | Classes:
    """What a named list holds: a file of classes may change under its name."""
    return [one.label for one in class_list(classes)] if isinstance(classes, str) else classes


def check_classes(classes: Classes, threshold: float, step: str) -> None:
    """What can be seen to be wrong without a model."""
    if not classes:
        raise SpecError(
            f'{step} needs classes: a list such as ["ambulance", 817], or the name of one, such as "vehicles"'
        )
    if not 0 <= threshold < 1:
        raise SpecError(f"{step}: threshold={threshold:g} is no bound of a probability; give 0 or more and less than 1")
    if isinstance(classes, str):
        class_list(classes)


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A classifier; its vector of a picture is the summed probability of the classes, the likeliest label and its probability."""

    logits: Callable[[Any], Any]
    pixels: Preprocess
    place: Any
    labels: tuple[int, ...]
    names: Mapping[int, str]
    own_facts: Mapping[str, Any]

    @property
    def dim(self) -> int:
        """Three numbers."""
        return 3

    @property
    def facts(self) -> Mapping[str, Any]:
        """The classes by label, device and precision."""
        chosen = {str(label): self.names[label] for label in self.labels}
        return {**self.own_facts, **self.place.facts, "labels": len(self.names), "classes": chosen}

    def images(self, pixels_BHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """[B, 3]: softmax over all labels in float64, summed over the classes."""
        import torch

        from raybench.encoders import towers

        if not len(pixels_BHWC):
            return np.zeros((0, 3), np.float32)
        with torch.inference_mode():
            logits_BL = self.logits(towers.scale(pixels_BHWC, self.pixels, self.place)).double()
            probability_BL = torch.softmax(logits_BL, dim=1).cpu().numpy()
        likeliest_B = probability_BL.argmax(axis=1)
        summed_B = probability_BL[:, list(self.labels)].sum(axis=1)
        columns = (summed_B, likeliest_B, probability_BL.max(axis=1))
        return np.stack(columns, axis=1).astype(np.float32)

    def texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:  # noqa: ARG002 - the seam
        """Never: a classifier reads pictures."""
        raise RequestError("a classifier has no texts; this is a defect of raybench")
