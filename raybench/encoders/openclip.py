"""Any model of open_clip, with its own weights, tokenizer and preprocessing, or an error: never random weights by mistake.

`openclip("ViT-B-32", pretrained="laion2b_s34b_b79k")` is an architecture with a tag or a checkpoint file;
`openclip("hf-hub:owner/model")`, `openclip("local-dir:/path")` (or just the path) and `openclip("raybench:NAME")`, a
model shipped with raybench, bring their own weights. `pretrained="random"` asks for seeded random weights, which
benchmarks of speed need, and the facts say so.

open_clip only warns where weights were trained with QuickGELU and the architecture has another activation; the vectors
are then wrong by a little everywhere, so here that is an error that names the right architecture.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from raybench.encoders import model_files, openclip_catalog
from raybench.encoders.base import Encoder, Precision, check_precision
from raybench.encoders.openclip_preprocess import merged
from raybench.encoders.preprocess import Preprocess
from raybench.errors import RequestError, suggest
from raybench.spec import content_key

RANDOM = "random"
_SEED = 0  # of random weights
_CONFIG = "open_clip_config.json"
_FOLDER_INSTEAD = 'give its folder, as in openclip("local-dir:/path")'


@dataclass(frozen=True, slots=True)
class OpenClip:
    """`openclip("ViT-B-32", pretrained="laion2b_s34b_b79k", precision="fp32")`."""

    name: str
    pretrained: str | None = None
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        # Workers run in other folders, so a path is made absolute where the recipe is made.
        kind, rest = _origin(self.name)
        if kind == "folder" and not self.name.startswith(model_files.EMBEDDED):
            object.__setattr__(self, "name", f"local-dir:{model_files.absolute(rest)}")
        if self.pretrained is not None and kind == "architecture" and _is_checkpoint(self.pretrained, rest):
            object.__setattr__(self, "pretrained", model_files.absolute(self.pretrained))

    def check(self) -> None:
        """Names, tags, folders and files are looked up; neither open_clip nor torch is imported."""
        check_precision(self.precision)
        kind, rest = _origin(self.name)
        if kind != "architecture" and self.pretrained is not None:
            raise RequestError(
                f"{self.name} brings its own weights, so pretrained={self.pretrained!r} would be ignored; leave it out"
            )
        if kind == "folder":
            _check_folder(_folder(self.name))
        elif kind == "hub":
            model_files.check_repository(rest, _FOLDER_INSTEAD)
        else:
            openclip_catalog.architecture(rest)
            _check_pretrained(rest, self.pretrained)

    def preprocess(self) -> Preprocess:
        """As open_clip merges it: its defaults, the tag's or the folder's own values, and the model's picture size."""
        self.check()
        kind, rest = _origin(self.name)
        if kind == "architecture":
            tag = openclip_catalog.tags(rest).get(_tag(self.pretrained or ""), {})
            return merged(openclip_catalog.architecture(rest), tag, self.name)
        config = _read_config(self.name)
        return merged(config["model_cfg"], config["preprocess_cfg"], self.name)

    def fingerprint(self) -> str:
        """The content of local files and the precision; for a hub or a tag the names and the version of open_clip."""
        self.check()
        kind, rest = _origin(self.name)
        if kind == "folder":
            return content_key("openclip", model_files.folder_digest(_folder(self.name)), self.precision, length=64)
        weights = self.pretrained
        if weights is not None and _is_checkpoint(weights, rest):
            weights = model_files.file_digest(Path(weights))
        release = [version("open_clip_torch")] + ([version("torch")] if weights == RANDOM else [])
        return content_key("openclip", rest, weights, self.precision, release, length=64)

    def load(self, device: str, threads: int) -> Encoder:
        """The model in evaluation mode. Raises RequestError, in one sentence, for whatever cannot be loaded."""
        self.check()
        from raybench.encoders import towers

        place = towers.place(device, threads, self.precision)
        kind, rest = _origin(self.name)
        source = f"local-dir:{_folder(self.name)}" if kind == "folder" else f"hf-hub:{rest}" if kind == "hub" else rest
        config = _read_config(self.name)["model_cfg"] if kind != "architecture" else openclip_catalog.architecture(rest)
        _check_reachable(kind, rest, self.pretrained, config)
        # open_clip runs not all architectures (CoCa, text towers of transformers) in reduced precision.
        advice = "check its files" if self.precision == "fp32" else "check its files, or use precision='fp32'"
        with towers.load_errors(self.name, advice):
            model, tokenizer = _create(source, self.pretrained, self.precision, place.device, config)
            return _encoder(self, model, tokenizer, config, place)


def _create(
    source: str, pretrained: str | None, precision: Precision, device: Any, config: Mapping[str, Any]
) -> tuple[Any, Any]:
    import open_clip
    import torch

    random = pretrained == RANDOM
    # Without these, a folder could ask for code of its own to be run, or for files of its own from the network.
    options = {"trust_remote_code": False, "local_files_only": source.startswith("local-dir:")}
    with torch.random.fork_rng(devices=[]):  # models are made on the CPU, so one seed gives one model everywhere
        torch.manual_seed(_SEED)
        model = open_clip.create_model(
            source,
            pretrained=None if random else pretrained,
            precision=precision,
            device=device,
            require_pretrained=not random,
            pretrained_image=False,
            pretrained_text=False,
            weights_only=True,
        )
    model.eval().requires_grad_(requires_grad=False)
    return model, open_clip.get_tokenizer(source, **(options if config["text_cfg"].get("hf_tokenizer_name") else {}))


def _encoder(recipe: OpenClip, model: Any, tokenizer: Any, config: Mapping[str, Any], place: Any) -> Encoder:
    import torch

    from raybench.encoders import towers

    vocabulary = config["text_cfg"].get("vocab_size", 49408)  # the default of open_clip's CLIPTextCfg
    rows = None if config["text_cfg"].get("hf_model_name") else vocabulary

    def text_tower(texts: list[str]) -> torch.Tensor:
        tokens_BL = towers.check_tokens(tokenizer(texts), rows)
        vectors_BD: torch.Tensor = model.encode_text(tokens_BL.to(place.device))
        return vectors_BD

    pixels = recipe.preprocess()
    image_tower: Callable[[torch.Tensor], torch.Tensor] = model.encode_image
    clean = getattr(getattr(tokenizer, "clean_fn", None), "__name__", "")
    facts = {
        "encoder": "openclip",
        "model": recipe.name,
        "pretrained": recipe.pretrained,
        "weights": f"random, seed {_SEED}" if recipe.pretrained == RANDOM else "pretrained",
        "model_class": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokenizer": type(getattr(tokenizer, "tokenizer", tokenizer)).__name__,  # what an HFTokenizer wraps
        "clean": clean.removeprefix("_clean_"),
        "preprocess": asdict(pixels),
        "versions": towers.library_versions("open_clip_torch", "timm", "transformers", "tokenizers", "ftfy"),
    }
    return towers.towers(image_tower, text_tower, pixels, place, int(tokenizer.context_length), facts)


def _origin(name: str) -> tuple[Literal["architecture", "folder", "hub"], str]:
    """What a name means: an architecture, a folder (local or shipped) or a hub repository, and the rest of the name."""
    for prefix, kind in (("hf-hub:", "hub"), ("local-dir:", "folder"), (model_files.EMBEDDED, "folder")):
        if name.startswith(prefix):
            return kind, name.removeprefix(prefix)  # type: ignore[return-value]  # mypy widens the tuple of literals
    architecture = name.replace("/", "-")  # open_clip writes ViT-B/32 as ViT-B-32
    if architecture not in openclip_catalog.architectures() and model_files.is_path(name):
        return "folder", name
    return "architecture", architecture


def _folder(name: str) -> Path:
    if name.startswith(model_files.EMBEDDED):
        return model_files.embedded_folder(name.removeprefix(model_files.EMBEDDED))
    return Path(name.removeprefix("local-dir:"))


def _read_config(name: str) -> dict[str, Any]:
    kind, rest = _origin(name)
    if kind == "folder":
        file: Path | None = _folder(name) / _CONFIG
    else:
        file = model_files.hub_file(rest, _CONFIG, None, _FOLDER_INSTEAD)
    if file is None:
        raise RequestError(f"{name} holds no {_CONFIG}; if it is a transformers model, use huggingface({rest!r})")
    config = model_files.read_config(file)
    model = config.get("model_cfg")
    if not isinstance(model, dict) or not all(isinstance(model.get(key), dict) for key in ("vision_cfg", "text_cfg")):
        raise RequestError(f"{_CONFIG} of {name} has no model_cfg with vision_cfg and text_cfg; save the model again")
    if not isinstance(config.setdefault("preprocess_cfg", {}), dict):
        raise RequestError(f"{_CONFIG} of {name} has a preprocess_cfg that is no object; save the model again")
    return config


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder; give one that holds {_CONFIG}, or an architecture like ViT-B-32")
    _read_config(f"local-dir:{folder}")
    if not any(file.suffix in (".safetensors", ".bin", ".pth") for file in folder.iterdir()):
        raise RequestError(f"{folder} holds no weights; save them there as open_clip_model.safetensors")


def _check_pretrained(architecture: str, pretrained: str | None) -> None:
    known = openclip_catalog.tags(architecture)
    if pretrained is None:
        raise RequestError(
            f"openclip({architecture!r}) names no weights; add pretrained=..., a file or one of: "
            f"{', '.join([*sorted(known), RANDOM])}"
        )
    if pretrained == RANDOM or _is_checkpoint(pretrained, architecture):
        return
    tag = known.get(_tag(pretrained))
    if tag is None:
        raise RequestError(
            f"{architecture} has no weights called {pretrained!r}, and no such file is here; "
            f"{suggest(pretrained, [*known, RANDOM])}"
        )
    if tag.get("quick_gelu") and not openclip_catalog.architecture(architecture).get("quick_gelu"):
        quick = f"{architecture}-quickgelu"
        if quick in openclip_catalog.architectures():
            raise RequestError(
                f"the weights {pretrained!r} were trained with QuickGELU, which {architecture} does not have; use {quick!r}"
            )


def _check_reachable(kind: str, rest: str, pretrained: str | None, config: Mapping[str, Any]) -> None:
    """Ask the hub once for every repository that open_clip will ask for, because its own attempts take minutes."""
    if kind == "hub":
        model_files.hub_commit(rest, None, _FOLDER_INSTEAD)
    place = (
        openclip_catalog.tags(rest).get(_tag(pretrained or ""), {}).get("hf_hub", "") if kind == "architecture" else ""
    )
    if place:
        instead = f'give a file, as in openclip("{rest}", pretrained="/path/to/weights.safetensors")'
        model_files.hub_commit(place.rpartition("/")[0], None, instead)
    for key in ("hf_tokenizer_name", "hf_model_name"):
        name = config["text_cfg"].get(key)
        own = kind == "folder" and key == "hf_tokenizer_name"  # a folder brings its own tokenizer
        if name and not own and not Path(name).is_dir():
            model_files.hub_commit(name, None, f"{rest} needs it as its {key}; {_FOLDER_INSTEAD}")


def _is_checkpoint(pretrained: str, architecture: str) -> bool:
    return _tag(pretrained) not in openclip_catalog.tags(architecture) and model_files.is_file(pretrained)


def _tag(pretrained: str) -> str:
    return pretrained.lower().replace("-", "_")  # open_clip compares tags in this form
