"""Vision-language models of several families with small random weights, saved by the library that owns the formats."""

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library is imported: no test asks a network

QWEN_MARKS = (
    "<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
QWEN_CHAT = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
QWEN_PATCH, QWEN_MERGE = 8, 2
QWEN_LEAST, QWEN_MOST = 16 * 16 * 4, 16 * 16 * 48  # pixels of one picture

LLAVA_MARKS = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
LLAVA_CHAT = """\
{{ '<s>' }}{%- for message in messages -%}
{{ message.role | upper }}: {% for part in message.content -%}
{%- if part.type == 'image' -%}{{ '<image>\n' }}{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{{ '</s>' if message.role == 'assistant' else ' ' }}
{%- endfor -%}
{%- if add_generation_prompt -%}ASSISTANT:{% endif -%}"""
LLAVA_SIDE, LLAVA_PATCH = 32, 8

IDEFICS_MARKS = (
    "<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)  # fmt: skip
IDEFICS_CHAT = """\
<|im_start|>{% for message in messages -%}
{{ message.role | capitalize }}:{% for part in message.content -%}
{%- if part.type == 'image' -%}<image>{%- else -%}{{ ' ' + part.text }}{%- endif -%}
{%- endfor -%}<end_of_utterance>
{% endfor -%}
{%- if add_generation_prompt -%}Assistant:{% endif -%}"""
IDEFICS_SIDE, IDEFICS_PATCH, IDEFICS_SHRINK = 32, 8, 2


def byte_tokenizer(marks: tuple[str, ...], roles: str) -> Any:
    """One id per byte, and one per mark; `roles` are those of the first marks, such as "pad eos"."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(marks))
    names = {f"{role}_token": mark for role, mark in zip(roles.split(), marks, strict=False)}
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def _save(folder: Path, model: Any, processor: Any, seed: int) -> Path:
    """The model with weights so large that its answers depend on all that it reads."""
    import torch

    stream = torch.Generator().manual_seed(seed)
    for name, weights in model.named_parameters():
        if weights.ndim > 1:
            fan_in = weights.shape[1:].numel() if "embed" not in name else 1
            weights.data = torch.randn(weights.shape, generator=stream) * 1.5 / fan_in**0.5
    tokenizer = processor.tokenizer
    marks = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()} - {tokenizer.eos_token_id}
    model.get_output_embeddings().weight.data[sorted(marks)] = (
        0  # the largest of noise is never a mark but that of the end
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def qwen_folder(folder: Path) -> Path:
    """A Qwen2.5-VL whose windows are smaller than its pictures; only one of three layers sees a whole picture."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
    )
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    tokenizer = byte_tokenizer(QWEN_MARKS, "pad eos")
    number = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in QWEN_MARKS}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 3, "num_key_value_heads": 1, "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
            "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": number["<|im_end|>"],
            "pad_token_id": number["<|endoftext|>"],
        },
        vision_config={
            "depth": 3, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2, "out_hidden_size": 48,
            "patch_size": QWEN_PATCH, "spatial_merge_size": QWEN_MERGE, "temporal_patch_size": 2, "window_size": 32,
            "fullatt_block_indexes": [1], "tokens_per_second": 2,
        },
        image_token_id=number["<|image_pad|>"], video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"], vision_end_token_id=number["<|vision_end|>"],
        tie_word_embeddings=False,
    )  # fmt: skip
    sizes = {"min_pixels": QWEN_LEAST, "max_pixels": QWEN_MOST, "patch_size": QWEN_PATCH, "merge_size": QWEN_MERGE}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=QWEN_CHAT,
    )
    return _save(folder, Qwen2_5_VLForConditionalGeneration(config), processor, 1)


def llava_folder(folder: Path) -> Path:
    """A LLaVA: CLIP's vision tower and a Llama; every picture becomes a square of one size."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = byte_tokenizer(LLAVA_MARKS, "unk bos eos pad")
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**tower, image_size=LLAVA_SIDE, patch_size=LLAVA_PATCH, projection_dim=32),
        text_config=LlamaConfig(
            **tower, vocab_size=len(tokenizer), max_position_embeddings=512, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )  # fmt: skip
    processor = LlavaProcessor(
        CLIPImageProcessor(
            size={"shortest_edge": LLAVA_SIDE}, crop_size={"height": LLAVA_SIDE, "width": LLAVA_SIDE}
        ),
        tokenizer,
        patch_size=LLAVA_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_CHAT,
    )  # fmt: skip
    return _save(folder, LlavaForConditionalGeneration(config), processor, 2)


def idefics_folder(folder: Path) -> Path:
    """An Idefics3, the family of SmolVLM: large pictures are shown in pieces and once as a whole."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    tokenizer = byte_tokenizer(IDEFICS_MARKS, "pad bos eos")
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    numbers = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = Idefics3Config(
        vision_config={**tower, "image_size": IDEFICS_SIDE, "patch_size": IDEFICS_PATCH},
        text_config={
            **tower, **numbers, "model_type": "llama", "vocab_size": len(tokenizer), "max_position_embeddings": 2048,
        },
        scale_factor=IDEFICS_SHRINK, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    processor = Idefics3Processor(
        Idefics3ImageProcessor(
            size={"longest_edge": 4 * IDEFICS_SIDE}, max_image_size={"longest_edge": IDEFICS_SIDE}
        ),
        tokenizer,
        image_seq_len=(IDEFICS_SIDE // IDEFICS_PATCH // IDEFICS_SHRINK) ** 2,
        chat_template=IDEFICS_CHAT,
    )  # fmt: skip
    return _save(folder, Idefics3ForConditionalGeneration(config), processor, 3)
