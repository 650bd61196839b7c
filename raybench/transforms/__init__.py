"""Transforms turn vectors into cheaper vectors of the same meaning; corpus and queries always get the same one."""

from raybench.registry import Registry
from raybench.transforms.base import Rows, Transform, TransformRecipe
from raybench.transforms.plain import Float16, Truncate

TRANSFORMS: Registry[TransformRecipe] = Registry(
    "transform",
    {
        "stored": "raybench.transforms.plain:Stored",
        "float16": "raybench.transforms.plain:Float16",
        "truncate": "raybench.transforms.plain:Truncate",
        "pca": "raybench.transforms.pca:PcaRecipe",
        "rotation": "raybench.transforms.rotation:Rotation",
        "bfloat16": "raybench.transforms.precision:Bfloat16",
        "int8": "raybench.transforms.precision:Int8",
        "int4": "raybench.transforms.precision:Int4",
        "binary": "raybench.transforms.binary:BinaryRecipe",
        "sketch": "raybench.transforms.sketch:SketchRecipe",
        "chain": "raybench.transforms.chain:ChainRecipe",
    },
)

__all__ = ["TRANSFORMS", "Float16", "Rows", "Transform", "TransformRecipe", "Truncate"]
