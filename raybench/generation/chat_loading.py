"""Loading a vision-language model of transformers: every weight comes from its files, and of its decoding settings only marks stay."""

import time
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any

from raybench.encoders.towers import Place, library_versions
from raybench.environment import memory_bytes
from raybench.errors import RequestError
from raybench.generation.chat_model import ChatModel

_ROOM = 0.9  # of what is free on a GPU, for weights; pictures and answers need the rest


def load(
    name: str, options: Mapping[str, Any], place: Place, max_pixels: int, gpus: int, recipe: Mapping[str, Any]
) -> ChatModel:
    """The model and its processor from a folder or the hub; every weight must be in the file."""
    from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
    from transformers.utils.logging import disable_progress_bar

    started = time.perf_counter()
    disable_progress_bar()
    processor = AutoProcessor.from_pretrained(name, **options)
    spread = _spread(gpus) if gpus > 1 and place.device.type == "cuda" else {}
    model, found = AutoModelForImageTextToText.from_pretrained(
        name, dtype=place.dtype, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are told below, by their names
        **options, **spread,
    )  # fmt: skip
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found.get(what):
            raise RequestError(
                f"the weights of {name} have {what.replace('_', ' ')}: {_first(found[what])} and "
                f"{len(found[what]) - 1} more; they do not belong to its config.json, save the model again"
            )
    model = model.eval().requires_grad_(requires_grad=False)
    devices = getattr(model, "hf_device_map", {"": 0})
    check_on_gpus(name, devices, gpus)
    # Of a spread model, inputs go to `place.device`, the first GPU, and hooks move them on to where each layer lies.
    model = model if spread else model.to(place.device)
    tokenizer = processor.tokenizer
    if getattr(processor, "chat_template", None) is None:
        raise RequestError(f"{name} has no chat template; take the instruct version of the model")
    tokenizer.padding_side = "left"
    own = model.generation_config
    ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    pad = next(one for one in (own.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None)
    left_out = {
        key: value
        for key, value in own.to_diff_dict().items()
        if not key.startswith("_") and not key.endswith("_token_id") and key != "transformers_version"
    }
    model.generation_config = GenerationConfig(bos_token_id=own.bos_token_id, eos_token_id=ends, pad_token_id=pad)
    tokenizer.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else pad
    facts = {
        "generator": recipe, "model": recipe["name"], "model_class": type(model).__name__, "model_type": model.config.model_type,
        "processor": type(processor).__name__, "image_processor": type(processor.image_processor).__name__,
        "tokenizer": type(tokenizer).__name__, "commit": options.get("revision"),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "attention": getattr(model.config, "_attn_implementation", None), "settings_not_used": _plain(left_out),
        "spread_over": len(set(devices.values())),
        "versions": library_versions("transformers", "tokenizers", "accelerate", "torchvision"), "torch": version("torch"),
        **place.facts,
    }  # fmt: skip
    return ChatModel(
        model, processor, place, max_pixels, facts | {"loading_s": round(time.perf_counter() - started, 3)}
    )


def _spread(gpus: int) -> dict[str, Any]:
    """Options that spread the layers over so many GPUs, whatever more are seen.

    A CPU's memory takes what does not fit, only so that nothing is written to the disk before it is refused.
    """
    import torch

    seen = range(min(gpus, torch.cuda.device_count()))
    room: dict[int | str, int] = {gpu: int(_ROOM * torch.cuda.mem_get_info(gpu)[0]) for gpu in seen}
    return {"device_map": "auto", "max_memory": room | {"cpu": memory_bytes()}}


def check_on_gpus(name: str, devices: Mapping[str, Any], gpus: int) -> None:
    """RequestError where a device map (layers by name -> device) leaves layers off the GPUs, where each token waits for them."""
    off = [layer for layer, device in devices.items() if str(device) in {"cpu", "disk"}]
    if off and gpus > 1:
        raise RequestError(
            f"{name} does not fit {gpus} GPUs: {len(off)} of its {len(devices)} parts are left over, such as {off[0]}; give it "
            "more gpus, precision='bf16', or take a smaller model"
        )


def _first(keys: Collection[Any]) -> str:
    """The first name; those of other shapes come with them."""
    return min(str(key[0] if isinstance(key, tuple) else key) for key in keys)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold of them."""
    return {
        key: value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
        for key, value in values.items()
    }
