"""A family is one table from a name to the place of its recipe; a member is imported when it is first asked for.

A recipe is a frozen dataclass: small, hashable, sent to workers as it is. `Registry.make` turns a spec into a
recipe and answers every wrong name, parameter and type with one sentence that names the nearest right one.
"""

import dataclasses
import importlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from raybench.errors import SpecError, suggest
from raybench.spec import Spec

Recipe = TypeVar("Recipe")


class Registry(Generic[Recipe]):
    """One family: `Registry("index", {"exact": "raybench.indexes.exact:Exact"})`."""

    def __init__(self, family: str, members: Mapping[str, str], *, takes_at: bool = False) -> None:
        self.family = family
        self.takes_at = takes_at  # whether specs may end in @ and a number, which the caller reads from the spec
        self._members = dict(members)

    @property
    def names(self) -> list[str]:
        """The names of all members, in the table's order; nothing is imported."""
        return list(self._members)

    def load(self, name: str) -> Any:
        """Import and return the class or function behind a name."""
        if name not in self._members:
            raise SpecError(f"no {self.family} is called {name!r}; {suggest(name, self._members)}")
        module, _, attribute = self._members[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def make(self, spec: Spec | str) -> Recipe:
        """Build the recipe of a spec, for example `INDEXES.make("exact(block_rows=4096)")`."""
        spec = Spec.parse(spec) if isinstance(spec, str) else spec
        recipe = self.load(spec.name)
        if spec.at is not None and not self.takes_at:
            raise SpecError(f"{self.family} {spec.name!r} takes no @{spec.at}; write {str(spec).rpartition('@')[0]}")
        made: Recipe = _bind(recipe, spec, self.family)
        return made


def _bind(recipe: Any, spec: Spec, family: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(recipe) if field.init}
    if len(spec.args) > len(fields):
        raise SpecError(f"{family} {spec.name!r} takes at most {len(fields)} parameters; {spec} has {len(spec.args)}")
    given = dict(zip(fields, spec.args, strict=False))
    for name, value in spec.params:
        if name not in fields:
            hint = suggest(name, fields) if fields else "it takes none"
            raise SpecError(f"{family} {spec.name!r} has no parameter {name!r}; {hint}")
        if name in given:
            raise SpecError(f"{family} {spec.name!r}: parameter {name!r} is given twice in {spec}")
        given[name] = value
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise SpecError(f"{family} {spec.name!r} needs {name}; write it like {spec.name}({name}=...)")
    hints = typing.get_type_hints(recipe)
    for name, value in given.items():
        given[name] = _fit(value, hints[name], f"{family} {spec.name!r}: {name}")
    return recipe(**given)


def _fit(value: Any, hint: Any, what: str) -> Any:
    """The value as the field's type, or a SpecError; whole numbers pass for floats, lists become tuples."""
    # Literal["a"] | None is a typing.Union, int | None a types.UnionType.
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    options = typing.get_args(hint) if is_union else (hint,)
    for option in options:
        origin = typing.get_origin(option)
        if origin is typing.Literal and any(
            type(value) is type(one) and value == one for one in typing.get_args(option)
        ):
            return value
        if origin is tuple and isinstance(value, list):
            inner = typing.get_args(option)
            inner = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
            if len(inner) == len(value):
                return tuple(_fit(item, one, what) for item, one in zip(value, inner, strict=True))
        if option is type(None) and value is None:
            return None
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and origin is None and type(value) is option:
            return value
    raise SpecError(f"{what}={value!r} does not fit; it must be {_describe(options)}")


def _describe(options: tuple[Any, ...]) -> str:
    words = []
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            words += [repr(value) for value in typing.get_args(option)]
        elif option is type(None):
            words.append("None")
        else:
            words.append(
                {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}.get(
                    option, str(option)
                )
            )
    return " or ".join(words)
