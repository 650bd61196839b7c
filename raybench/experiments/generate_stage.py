"""What the parts of generation share: the request, the plan, and workers that start when they are needed."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from raybench.experiments.backend import Backend
from raybench.experiments.embedded import Embedded
from raybench.experiments.evaluation import Evaluation, Generate
from raybench.experiments.generate_plan import Planned
from raybench.experiments.generators import Generators
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Run


class Pool:
    """Workers that are started when they are first needed, and stay until the stage ends."""

    def __init__(self, start: Callable[[], Any], lifetime: ExitStack) -> None:
        self._start, self._lifetime = start, lifetime
        self._made: Generators | None = None

    @property
    def is_started(self) -> bool:
        """Whether they have been needed."""
        return self._made is not None

    def __call__(self) -> Generators:
        """The workers."""
        if self._made is None:
            self._made = self._lifetime.enter_context(self._start())
        return self._made


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What the parts of the stage share."""

    progress: Run
    section: Generate
    evaluation: Evaluation
    embedded: Embedded
    plan: Planned
    backend: Backend
    reporter: Reporter
    pool: Pool
    facts: dict[str, Any]
