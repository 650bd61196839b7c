"""How Jina CLIP's files are fetched and loaded: at their commits, from a cache of their own, with the hub switched off."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raybench.encoders import model_files
from raybench.encoders.preprocess import Preprocess
from raybench.errors import RequestError, WorkError
from raybench.spec import content_key

_CODE = ("*.json", "*.py")
_WEIGHTS = (*_CODE, "*.safetensors", "*.model", "*.txt")
_MODES, _FILTERS = ("shortest", "longest", "squash"), ("bicubic", "bilinear")
_OPENAI_MEAN, _OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def cache(commits: Mapping[str, str]) -> Path:
    """Where repositories at these commits are kept, apart from all others."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return home / "raybench" / content_key(dict(commits))


def fetch(commits: Mapping[str, str], name: str) -> Path:
    """The snapshot of the repository `name`; all repositories at their commits, in a cache where `main` means these commits.

    The libraries are told to use that cache and no other, which they read once, when they are first imported.
    """
    if "transformers" in sys.modules:
        raise WorkError(f"{name} needs a process that has not imported transformers; run it on Ray (leave out --local)")
    from huggingface_hub import constants, snapshot_download

    root = cache(commits)
    hub, places = str(root / "hub"), {}
    for repository, commit in commits.items():
        files = list(_WEIGHTS if repository == name else _CODE)
        places[repository] = Path(snapshot_download(repository, revision=commit, cache_dir=hub, allow_patterns=files))
        main = places[repository].parent.parent / "refs" / "main"
        main.parent.mkdir(exist_ok=True)
        main.write_text(commit)
    os.environ["HF_HUB_CACHE"] = constants.HF_HUB_CACHE = constants.HUGGINGFACE_HUB_CACHE = hub
    os.environ["HF_MODULES_CACHE"] = str(root / "modules")
    return places[name]


def create(name: str, pins: Mapping[str, Any], place: Any) -> tuple[Any, Any]:
    """The model and its tokenizer. RequestError where its file lacks a weight, which would be random."""
    from transformers import AutoModel, AutoTokenizer

    options = {**pins, "trust_remote_code": True, "local_files_only": True}
    model, found = AutoModel.from_pretrained(
        name, torch_dtype=place.dtype, use_safetensors=True, output_loading_info=True, **options
    )
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found.get(what):
            raise RequestError(
                f"the weights of {name} have {what.replace('_', ' ')}: {min(map(str, found[what]))} and {len(found[what]) - 1} more"
            )
    return model.eval().requires_grad_(requires_grad=False).to(place.device), AutoTokenizer.from_pretrained(
        name, **options
    )


def instruction(model: Any) -> str:
    """What the model puts before a text when no task is named; nothing, in the published one."""
    ask = getattr(getattr(model, "text_model", None), "get_instruction_from_task", None)
    return str((ask(None) if ask is not None else None) or "")


def preprocess(config: Mapping[str, Any], name: str) -> Preprocess:
    """The transform of the model's own image processor, which is open_clip's."""
    size = config.get("size", 224)
    mode, interpolation = config.get("resize_mode", "shortest"), config.get("interpolation", "bicubic")
    if not isinstance(size, int) or mode not in _MODES or interpolation not in _FILTERS:
        raise RequestError(
            f"preprocessor_config.json of {name} has size {size!r}, resize_mode {mode!r}, interpolation {interpolation!r}: not one of the known kinds"
        )
    mean, std = (
        model_files.three_numbers(config.get(key, default), name)
        for key, default in (("mean", _OPENAI_MEAN), ("std", _OPENAI_STD))
    )
    return Preprocess(
        size, size, mean, std, resize=mode, interpolation=interpolation, fill=int(config.get("fill_color", 0))
    )


def switch_hub_off(name: str) -> None:
    """From here on nothing comes from a network; WorkError where the libraries were imported before and may still ask it."""
    from huggingface_hub import constants

    if "transformers" in sys.modules and not constants.HF_HUB_OFFLINE:
        raise WorkError(f"{name} needs a process that has not imported transformers; run it on Ray (leave out --local)")
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
