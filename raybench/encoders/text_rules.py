"""How each family of transformers models reads captions, as it was trained to.

The library applies these rules only in part and breaking one is silent: SigLIP reads the last of 64 positions and
attends to its padding, so shorter or masked padding gives other vectors, and both SigLIPs were trained on lower-case
text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TextRule:
    """How a family reads captions; `mask` tells whether the model is told which positions are padding."""

    padding: str
    max_length: int
    lower: bool = False
    mask: bool = True


# By config.model_type. SigLIP 2 of fixed resolution calls itself siglip. SigLIP's own tokenizer lower-cases anyway.
TEXT_RULES: Mapping[str, TextRule] = {
    "clip": TextRule("longest", 77),
    "metaclip_2": TextRule("longest", 77),
    "siglip": TextRule("max_length", 64, lower=True, mask=False),
    "siglip2": TextRule("max_length", 64, lower=True, mask=False),
}


def tokenize(tokenizer: Any, texts: list[str], rule: TextRule) -> dict[str, Any]:
    """Captions as a model's inputs, by its rule; padded on the right, as all these towers were trained."""
    # The tokenizers are written in Rust, whose strings cannot hold half of a surrogate pair.
    whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
    tokens = tokenizer(
        [text.lower() for text in whole] if rule.lower else whole,
        padding=rule.padding,
        padding_side="right",
        max_length=rule.max_length,
        truncation=True,
        return_tensors="pt",
    )
    return {key: value for key, value in tokens.items() if rule.mask or key != "attention_mask"}
