"""Models that turn pictures and words into words: one table from a name to its recipe."""

from raybench.generation.base import GeneratorRecipe
from raybench.registry import Registry

GENERATORS: Registry[GeneratorRecipe] = Registry(
    "generator",
    {
        "qwen_vl": "raybench.generation.image_text:QwenVL",
        "image_text": "raybench.generation.image_text:ImageText",
        "endpoint": "raybench.generation.endpoint:Endpoint",
        "echo": "raybench.generation.echo:Echo",
    },
)
