"""A request that failed is sent again where it may succeed, a bounded number of times and seconds."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from raybench.generation.chat_reply import FaultError

BACKOFF_S = 1.0  # before the second try; doubled with each
_LONGEST_WAIT_S = 60.0  # whatever a server asks for

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one try may take, how many there are, and how long all of them may take together, with waiting."""

    timeout_s: float
    tries: int
    patience_s: float


def with_tries(
    once: Callable[[float], T], patience: Patience, chance: random.Random, stopped: threading.Event
) -> tuple[T | FaultError, int, float]:
    """What the last try gave, the number of tries, and the seconds that were waited between them.

    The n-th wait is 2^(n-1) times BACKOFF_S with up to half taken off by chance, or what the server asks for if that is longer.
    """
    began, waited_s, number = time.monotonic(), 0.0, 0
    while True:
        number += 1
        left_s = patience.patience_s - (time.monotonic() - began)
        try:
            return once(max(0.001, min(patience.timeout_s, left_s))), number, waited_s
        except FaultError as fault:
            wait_s = max(BACKOFF_S * 2 ** (number - 1) * chance.uniform(0.5, 1), fault.after_s)
            wait_s = min(wait_s, _LONGEST_WAIT_S)
            is_late = time.monotonic() - began + wait_s >= patience.patience_s
            if not fault.again or number >= patience.tries or is_late or stopped.is_set():
                return fault, number, waited_s
        since = time.monotonic()
        stopped.wait(wait_s)
        waited_s += time.monotonic() - since
