"""Hard evaluation sets: which pictures of some pools stay, why the others go, and how those that stay are written.

A pool is any source of images. What is read of it is a table of candidates, numbered through all pools; a step looks at
some of them and says which go and why. Nothing is copied until the last step has spoken.
"""

from raybench.curation.base import Step
from raybench.registry import Registry

STEPS: Registry[Step] = Registry(
    "curation step",
    {
        "answers": "raybench.curation.choose:Answers",
        "sample": "raybench.curation.choose:Sample",
        "huggingface_classes": "raybench.curation.classes:HuggingFaceClasses",
        "timm_classes": "raybench.curation.classes:TimmClasses",
        "zero_shot": "raybench.curation.zero_shot:ZeroShot",
        "cluster": "raybench.curation.cluster:Cluster",
        "hard_negatives": "raybench.curation.negatives:HardNegatives",
        "equal": "raybench.curation.duplicates:Equal",
        "near_duplicates": "raybench.curation.duplicates:NearDuplicates",
        "suspects": "raybench.curation.suspects:Suspects",
    },
)
