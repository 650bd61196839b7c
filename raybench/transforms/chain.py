"""Transforms one after another: `chain("truncate(dim=256)", "int8()")`.

Each is fitted on the corpus as those before it leave it. What packs rows into codes comes last.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from raybench.arrays import Vectors
from raybench.errors import SpecError
from raybench.spec import Spec, content_key
from raybench.transforms import TRANSFORMS, fitted
from raybench.transforms.base import Rows, Transform

_PACKS = ("bfloat16", "int8", "int4", "binary", "sketch")


@dataclass(frozen=True, slots=True)
class ChainRecipe:
    """Two or three transforms."""

    first: str
    second: str
    third: str | None = None

    def __post_init__(self) -> None:
        *before, _ = self.steps
        for text in self.steps:
            TRANSFORMS.make(text)
            name = text.partition("(")[0].strip()
            if name == "chain" or (name in _PACKS and text in before):
                why = "chains cannot be linked" if name == "chain" else f"{name} packs rows, so it must come last"
                raise SpecError(f"{self.spec}: {why}; write the steps in another order")

    @property
    def steps(self) -> tuple[str, ...]:
        """Their specs."""
        return tuple(text for text in (self.first, self.second, self.third) if text is not None)

    @property
    def recipes(self) -> list[Any]:
        """Their recipes."""
        return [TRANSFORMS.make(text) for text in self.steps]

    @property
    def needs_fit(self) -> bool:
        """Whether one of them does."""
        return any(recipe.needs_fit for recipe in self.recipes)

    @property
    def spec(self) -> str:
        """The recipe as it is written."""
        return str(Spec("chain", self.steps, parenthesised=True))

    def metric(self, asked: str) -> str:
        """That of the last, asked as those before it leave it."""
        for recipe in self.recipes:
            asked = recipe.metric(asked)
        return asked

    def fit(self, corpus: Rows | None, seed: int = 0) -> "Chain":
        """Fit one after another."""
        made: list[Transform] = []
        for recipe in self.recipes:
            seen = corpus if corpus is None or not made else _Seen(corpus, Chain(self, tuple(made), seed))
            made.append(recipe.fit(seen if recipe.needs_fit else None, seed))
        return Chain(self, tuple(made), seed)

    def of_arrays(self, arrays: dict[str, npt.NDArray[Any]], facts: dict[str, Any]) -> "Chain":
        """From what `save` wrote."""
        made = []
        for number, recipe in enumerate(self.recipes):
            own = {name[2:]: array for name, array in arrays.items() if name.startswith(f"{number}_")}
            made.append(recipe.of_arrays(own, facts) if recipe.needs_fit else recipe.fit(None))
        return Chain(self, tuple(made), facts["seed"])


@dataclass(frozen=True, slots=True)
class Chain:
    """Fitted transforms, applied in order; equal to another if their keys are."""

    recipe: ChainRecipe
    parts: tuple[Transform, ...] = field(repr=False)
    seed: int = field(compare=False)

    @property
    def key(self) -> str:
        """What decides the output."""
        return content_key(self.recipe.spec, [part.key for part in self.parts])

    def apply(self, vectors: Vectors) -> Vectors:
        """The rows through all of them."""
        for part in self.parts:
            vectors = part.apply(vectors)
        return vectors

    def ask(self, vectors: Vectors) -> Vectors:
        """Queries through all of them."""
        for part in self.parts:
            vectors = part.ask(vectors)
        return vectors

    def out_dim(self, dim: int) -> int:
        """Dimensions after the last."""
        for part in self.parts:
            dim = part.out_dim(dim)
        return dim

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype after the last."""
        for part in self.parts:
            dtype = part.out_dtype(dtype)
        return dtype

    def save(self, uri: str, **facts: Any) -> None:
        """Write an artifact folder with the arrays of all."""
        rows = max(getattr(part, "rows", 0) for part in self.parts)
        fitted.save(uri, self.recipe.spec, self.key, self.arrays(), {"rows": rows, "seed": self.seed} | facts)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What storage holds of all parts, under their places."""
        fitted_parts: list[tuple[int, Any]] = [
            (number, part) for number, part in enumerate(self.parts) if hasattr(part, "arrays")
        ]
        return {f"{number}_{name}": one for number, part in fitted_parts for name, one in part.arrays().items()}


@dataclass(frozen=True, slots=True)
class _Seen:
    """A corpus as some transforms leave it."""

    corpus: Rows
    before: Chain

    @property
    def rows(self) -> int:
        return self.corpus.rows

    @property
    def dim(self) -> int:
        return self.before.out_dim(self.corpus.dim)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.before.out_dtype(self.corpus.dtype)

    def read_into(self, start: int, out_BD: npt.NDArray[Any]) -> None:
        stored_BD = np.empty((len(out_BD), self.corpus.dim), self.corpus.dtype)
        self.corpus.read_into(start, stored_BD)
        out_BD[:] = self.before.apply(Vectors(stored_BD, start)).matrix_ND
