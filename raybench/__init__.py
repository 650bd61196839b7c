"""raybench: evaluation of image-text retrieval, on one machine or on a Ray cluster.

The map, in the order of the work:

    Evaluation     what to do: `load("evaluation.yaml")` reads and checks a file
    Source         images at an address, in shards
    Encoder        pixels and words to unit vectors
    Vectors        rows of a matrix; Collection: a finished folder of them
    Index          vectors to Neighbors
    Qrels          which rows answer which query
    Record         one number with its interval; `results.read_all(uri)` reads those of a run

`raybench.experiments.runner.run` does it all; the command line is `raybench --help`. Importing this package is light:
a name below is imported when it is first used.
"""

import importlib
from typing import Any

_PLACES = {
    "Collection": "raybench.collection",
    "Evaluation": "raybench.experiments.evaluation",
    "Interval": "raybench.metrics.uncertainty",
    "Neighbors": "raybench.arrays",
    "Qrels": "raybench.arrays",
    "RaybenchError": "raybench.errors",
    "Record": "raybench.results",
    "RequestError": "raybench.errors",
    "Spec": "raybench.spec",
    "Vectors": "raybench.arrays",
    "WorkError": "raybench.errors",
    "load": "raybench.experiments.evaluation_file",
    "open_collection": "raybench.collection",
    "parse_measure": "raybench.metrics",
}

__all__ = sorted(_PLACES)  # noqa: PLE0605 (a list made from the table, so that the two cannot differ)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'raybench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return list(_PLACES)
