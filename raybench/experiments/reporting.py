"""The runner says what happens to whoever listens: a terminal, a log, or nobody."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from raybench.embedding.local import Progress


class Reporter(Protocol):
    """Who tells the user what happens."""

    def say(self, text: str) -> None:
        """One line that stays."""
        ...

    def stage(self, name: str, total: int | None, flop: float = 0.0) -> AbstractContextManager[Progress]:
        """Progress of a long stage; call the value with the units just done and the share of all work done so far.

        Where the total is None, it is estimated from the share. `flop` per unit shows the rate of computing as well.
        """
        ...


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None, flop: float = 0.0) -> Iterator[Progress]:  # noqa: ARG002 (nothing is shown)
        """Nothing."""
        yield lambda _rows, _share: None
