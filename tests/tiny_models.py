"""Real model folders with small random weights, saved by the libraries that own the formats."""

import json
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library is imported: no test asks a network

WORDS = ["<pad>", "</s>", "<unk>", "a", "the", "red", "blue", "green", "car", "dog", "house", "A", "Red", "CAR", "Dog"]
WORDS += [".", ",", "!", "and", "with", "on", "left", "of", "big", "small"]
SIDE = 32
CONTEXT = 12
DIM = 16

OPENCLIP = {
    "embed_dim": DIM,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 2},
}


def word_tokenizer(folder: Path, **extra: Any) -> Any:
    """One id per word, an end token after the text, padding on the right."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token=special["unk_token"]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special, **extra)
    tokenizer.save_pretrained(folder)
    return tokenizer


def openclip_folder(folder: Path, preprocess: dict[str, Any] | None = None, *, words: bool = True) -> Path:
    """A folder as open_clip saves it; with `words` its own tokenizer, which cleans as SigLIP's does, else CLIP's."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    text: dict[str, Any] = {**OPENCLIP["text_cfg"]}
    if words:
        text |= {"hf_tokenizer_name": "words", "tokenizer_kwargs": {"clean": "canonicalize"}, "pool_type": "last"}
        word_tokenizer(folder)
    else:
        text["vocab_size"] = 49408
    model = {**OPENCLIP, "text_cfg": text}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_file(open_clip.CLIP(**model).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocess or {}}))
    return folder


_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT = {**_TOWER, "vocab_size": len(WORDS), "max_position_embeddings": CONTEXT, "eos_token_id": 1, "pad_token_id": 0}
_VISION = {**_TOWER, "image_size": SIDE, "patch_size": 8}


def clip_folder(folder: Path) -> Path:
    """A CLIP of transformers with its tokenizer and image processor."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(2)
    text = {**_TEXT, "bos_token_id": 3}
    CLIPModel(CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=DIM)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    word_tokenizer(folder)
    return folder


def siglip_folder(folder: Path) -> Path:
    """A SigLIP of transformers, or a SigLIP 2 of fixed resolution, which has the same classes."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    torch.manual_seed(3)
    text = {**_TEXT, "projection_size": 32, "bos_token_id": 3}
    SiglipModel(SiglipConfig(text_config=text, vision_config=_VISION)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIDE, "width": SIDE}, resample=2).save_pretrained(folder)
    word_tokenizer(folder, model_input_names=["input_ids"])
    return folder
