"""Models that turn images and texts into vectors: one table from a name to its recipe."""

from raybench.encoders.base import EncoderRecipe
from raybench.registry import Registry

ENCODERS: Registry[EncoderRecipe] = Registry(
    "encoder",
    {
        "openclip": "raybench.encoders.openclip:OpenClip",
        "huggingface": "raybench.encoders.huggingface:HuggingFace",
        "jina_clip": "raybench.encoders.jina_clip:JinaClip",
        "tiny": "raybench.encoders.tiny:Tiny",
    },
)
