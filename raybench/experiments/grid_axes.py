"""The axes of a grid multiplied out: precisions after transforms, efforts after indexes, candidates around them.

    transforms x precisions     truncate(dim=64), int8()       chain("truncate(dim=64)", "int8()")
    indexes x efforts           hnsw(m=32), 64                 hnsw(m=32)@64
    those x candidates          hnsw(m=32)@64, 100             rerank("hnsw(m=32)", candidates=100)@64

An axis that is not given changes nothing; what comes out has no axes left, so multiplying again gives the same.
"""

import dataclasses
from collections.abc import Iterable

from raybench.experiments.evaluation import Grid
from raybench.indexes import INDEXES
from raybench.spec import Spec

CONTROL = "float16()"
"""Vectors as embeddings are stored: no step of its own."""


def multiplied(grid: Grid) -> Grid:
    """Transforms and indexes of every cell, each once, in the order of the axes; specs as they print."""
    transforms = [_chained(one, after) for one in grid.transforms for after in grid.precisions or (CONTROL,)]
    indexes = [text for one in grid.indexes for text in _with_efforts(one, grid.efforts)]
    second = [_reranked(one, candidates) for candidates in grid.candidates for one in indexes]
    return Grid(_once(transforms), _once([*indexes, *second]))


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(Spec.parse(text)) for text in texts))


def _chained(transform: str, precision: str) -> str:
    before, after = str(Spec.parse(transform)), str(Spec.parse(precision))
    if after == CONTROL:
        return before
    if before == CONTROL:
        return after
    spec = Spec.parse(before)
    steps = spec.args if spec.name == "chain" else (before,)
    return str(Spec("chain", (*steps, after), parenthesised=True))


def _with_efforts(index: str, efforts: tuple[int, ...]) -> list[str]:
    """An index that needs an effort and has none, with each; any other as it is."""
    spec, dial = Spec.parse(index), INDEXES.make(index).dial
    if spec.at is not None or dial is None or not dial.is_needed:
        return [index]
    return [str(dataclasses.replace(spec, at=effort)) for effort in efforts] or [index]


def _reranked(index: str, candidates: int) -> str:
    spec = Spec.parse(index)
    if spec.name == "rerank":
        return index
    inside = str(dataclasses.replace(spec, at=None))
    return str(Spec("rerank", (inside,), (("candidates", candidates),), spec.at, parenthesised=True))
