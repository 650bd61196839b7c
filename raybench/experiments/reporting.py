"""The runner says what happens to whoever listens: a terminal, a log, or nobody."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Reporter(Protocol):
    """Who tells the user what happens."""

    def say(self, text: str) -> None:
        """One line that stays."""
        ...

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Progress of a long stage; call the value with the number of units just done. None: length unknown."""
        ...


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:  # noqa: ARG002 (nothing is shown)
        """Nothing."""
        yield lambda _: None
