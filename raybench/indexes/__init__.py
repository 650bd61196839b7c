"""Indexes over vectors: one table from a name to its recipe."""

from raybench.indexes.base import IndexRecipe
from raybench.registry import Registry

INDEXES: Registry[IndexRecipe] = Registry(
    "index",
    {
        "exact": "raybench.indexes.exact:Exact",
        "flat": "raybench.indexes.flat:Flat",
        "hnsw": "raybench.indexes.graph:Hnsw",
        "compact": "raybench.indexes.compact:Compact",
        "ivf_flat": "raybench.indexes.inverted:IvfFlat",
        "ivf_pq": "raybench.indexes.inverted:IvfPq",
        "fp16": "raybench.indexes.codes:Fp16",
        "sq8": "raybench.indexes.codes:Sq8",
        "sq4": "raybench.indexes.codes:Sq4",
        "pq": "raybench.indexes.codes:Pq",
        "rabitq": "raybench.indexes.codes:RaBitQ",
        "binary": "raybench.indexes.codes:Binary",
        "torch_flat": "raybench.indexes.torch_flat:TorchFlat",
        "cagra": "raybench.indexes.cagra:Cagra",
        "rerank": "raybench.indexes.rerank:Rerank",
    },
    takes_at=True,
)
