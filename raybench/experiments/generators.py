"""Who generates: a pool of workers in this process or on Ray, each of which holds a generator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from raybench.errors import RequestError
from raybench.generation.worker import Setup, Worker

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Died:
    """What comes in place of a result where an item has ended its worker again and again."""

    times: int
    detail: str


class Generators(Protocol):
    """A pool of workers."""

    @property
    def count(self) -> int:
        """How many workers there are."""
        ...

    def each(
        self, work: Callable[[Worker, Any], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | Died]]:
        """`work(worker, item)` for every item, in any order, as they are done."""
        ...

    def ask(self, work: Callable[[Worker, Any], Result], item: Any) -> Result:
        """`work(worker, item)` on the first worker, now."""
        ...


class LocalGenerators:
    """One worker, in this process."""

    count = 1

    def __init__(self, setup: Setup, workers: int) -> None:
        if workers > 1:
            raise RequestError(
                f"generate.workers={workers}, but this process is one worker; leave --local out to use Ray"
            )
        self._worker = Worker(setup)

    def each(
        self, work: Callable[[Worker, Any], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | Died]]:
        """One after another."""
        for item in items:
            yield item, work(self._worker, item)

    def ask(self, work: Callable[[Worker, Any], Result], item: Any) -> Result:
        """At once."""
        return work(self._worker, item)
