"""Indexes over vectors: one table from a name to its recipe."""

from raybench.indexes.base import IndexRecipe
from raybench.registry import Registry

INDEXES: Registry[IndexRecipe] = Registry("index", {"exact": "raybench.indexes.exact:Exact"})
