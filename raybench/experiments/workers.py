"""Who does the pieces of a work that has many: this process, or tasks of Ray."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from raybench.environment import environment

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Protocol):
    """Who does the pieces of work."""

    def each(self, work: Callable[..., Result], items: Sequence[Item], *shared: Any) -> Iterator[tuple[Item, Result]]:
        """`work(item, *shared)` for every item, in any order, as they are done."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the work runs on; a JSON value."""
        ...


class LocalWorkers:
    """This process."""

    def each(self, work: Callable[..., Result], items: Sequence[Item], *shared: Any) -> Iterator[tuple[Item, Result]]:
        """One after another."""
        for item in items:
            yield item, work(item, *shared)

    def facts(self) -> dict[str, Any]:
        """The facts of this machine."""
        return environment() | {"runner": "in this process"}
