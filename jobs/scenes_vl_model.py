"""The shape of scenes-vl: a Qwen2.5-VL in every part, with a tokenizer, a chat template and a processor of its own."""

import json

import numpy as np
import numpy.typing as npt
import torch
from scenes_vl_data import IMAGE_PX, Example, family
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2Tokenizer, Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from raybench.generation.prompts import PROMPTS
from raybench.sources.scenes.captions import describe
from raybench.sources.scenes.labels import UNKNOWN
from raybench.sources.scenes.questions import questions
from raybench.sources.scenes.sentence import sentence

PATCH_PX, MERGE = 14, 2
PATCHES = (IMAGE_PX // PATCH_PX) ** 2
IMAGE_TOKENS = PATCHES // MERGE**2
WIDTH = 160  # of the language side
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
CHAT = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


def make_tokenizer() -> Qwen2Tokenizer:
    """Byte-level pairs learnt on the words of scenes, so that each of these is one token and any other text is spelled."""
    texts: list[str] = []
    for index in range(4000):
        scenes, rng = family(0, index)
        for scene in scenes[:2]:
            texts += [*describe(scene, rng), sentence(scene)]
            texts += [text for asked in questions(scene) for text in (asked.text, asked.answer)]
            texts += [p.words(texts[-1], "what is it?", pictures=n) for p in PROMPTS.values() for n in (0, 1)]
            texts.append("user assistant system ")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, min_frequency=100, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    learnt = json.loads(core.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(pair) for pair in learnt["merges"]],
        extra_special_tokens=list(SPECIAL[1:]),
        eos_token="<|im_end|>",  # noqa: S106  # a mark, no secret
        pad_token="<|endoftext|>",  # noqa: S106  # a mark, no secret
        model_max_length=4096,
    )


def make_processor() -> Qwen2_5_VLProcessor:
    """The tokenizer, the picture preparation at 84 pixels, and the chat template."""
    bounds = {"min_pixels": 56 * 56, "max_pixels": IMAGE_PX**2, "patch_size": PATCH_PX, "merge_size": MERGE}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**bounds),
        tokenizer=make_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT,
    )


def model_config(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    """About 2.4 million parameters, in every part the architecture of the 3B and 7B models."""
    number = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 16) * 16, "hidden_size": WIDTH, "intermediate_size": 448,
            "num_hidden_layers": 4, "num_attention_heads": 5, "num_key_value_heads": 1, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": number["<|im_end|>"],
            "pad_token_id": number["<|endoftext|>"],
        },
        vision_config={
            "depth": 4, "hidden_size": 128, "intermediate_size": 320, "num_heads": 4, "out_hidden_size": WIDTH,
            "patch_size": PATCH_PX, "spatial_merge_size": MERGE, "temporal_patch_size": 2, "window_size": 112,
            "fullatt_block_indexes": [0, 1, 2, 3], "tokens_per_second": 2,
        },
        image_token_id=number["<|image_pad|>"], video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"], vision_end_token_id=number["<|vision_end|>"],
        tie_word_embeddings=True,
    )  # fmt: skip


def patches(pictures_NHWC: npt.NDArray[np.uint8], processor: Qwen2VLImageProcessor) -> torch.Tensor:
    """What the processor makes of pictures of this size, [N * PATCHES, 3 * 2 * PATCH_PX**2], without its overhead."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (processor.image_mean, processor.image_std))
    pixels_NCHW = (torch.from_numpy(pictures_NHWC).permute(0, 3, 1, 2).float() / 255 - mean) / std
    n, blocks = len(pictures_NHWC), IMAGE_PX // PATCH_PX // MERGE
    parts = pixels_NCHW.reshape(n, 3, blocks, MERGE, PATCH_PX, blocks, MERGE, PATCH_PX).permute(0, 2, 5, 3, 6, 1, 4, 7)
    # A picture is two equal frames of a film.
    return parts.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(n * PATCHES, -1)


def encoded(examples: list[Example], processor: Qwen2_5_VLProcessor) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels [B, L], padded on the right; only what is to be said counts."""
    image = "<|vision_start|>" + "<|image_pad|>" * IMAGE_TOKENS + "<|vision_end|>"
    asked = [
        f"<|im_start|>user\n{image * len(one.pictures)}{one.words}<|im_end|>\n<|im_start|>assistant\n"
        for one in examples
    ]
    said = [f"{one.answer}<|im_end|>" for one in examples]
    tokenizer = processor.tokenizer
    asked_ids, said_ids = tokenizer(asked)["input_ids"], tokenizer(said)["input_ids"]
    length = max(len(a) + len(s) for a, s in zip(asked_ids, said_ids, strict=True))
    ids_BL = torch.full((len(examples), length), tokenizer.pad_token_id)
    labels_BL = torch.full((len(examples), length), UNKNOWN)
    for row, (a, s) in enumerate(zip(asked_ids, said_ids, strict=True)):
        ids_BL[row, : len(a) + len(s)] = torch.tensor(a + s)
        labels_BL[row, len(a) : len(a) + len(s)] = torch.tensor(s)
    return ids_BL, labels_BL
