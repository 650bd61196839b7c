"""Which item is on which actor, and what becomes of items whose actor died.

Every actor holds up to two items. One whose process died gets nothing until it has started again. Of the items that it held one
ended it: all of them wait for the end, and each is then tried with an actor to itself, so that no item is given up for what
another did. An item that has ended three actors is given up.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import ray

from raybench.errors import WorkError

UNDER_WAY = 2  # of an actor: a batch that generates and one that fetches
DEATHS = 3  # of workers by one item, after which it is given up
READY_S = 1_800  # weights of tens of gigabytes come from a slow disk
_AGAIN_S = 0.2  # between two looks at an actor that starts again


class Turns:
    """Items by number, on actors; `actors` is the pool's own list, from which those that Ray gave up are taken."""

    def __init__(self, actors: list[Any], items: int) -> None:
        self._actors = actors
        self._waiting, self._suspects = deque(range(items)), deque[int]()
        self._working: dict[Any, tuple[Any, int | None]] = {}  # by what is waited for; None: the actor starts again
        self._deaths: Counter[int] = Counter()
        self._last = time.monotonic()  # when an item was done

    def give(self, start: Callable[[Any, int], Any]) -> bool:
        """Start what can be started; whether there is anything to wait for."""
        for place in range(UNDER_WAY):
            for actor in self._actors:
                held = self._on(actor)
                if self._waiting and len(held) == place and not any(one is None or self._deaths[one] for one in held):
                    number = self._waiting.popleft()
                elif not self._waiting and self._suspects and not held:
                    number = self._suspects.popleft()
                else:
                    continue
                self._working[start(actor, number)] = (actor, number)
        under_way = [number for _, number in self._working.values()]
        # An actor that starts again is waited for only where there is no other to be asked next.
        return any(one is not None for one in under_way) or len(under_way) == len(self._actors)

    def wait(self) -> tuple[Any, int | None]:
        """What is done next, and the item that it was; None where an actor has started again, or will not."""
        [done], _ = ray.wait(list(self._working), num_returns=1)
        actor, number = self._working[done]
        if number is None:
            del self._working[done]
            self._look_again(actor, done)
        else:
            self._last = time.monotonic()
        return done, number

    def free(self, done: Any) -> None:
        """The actor has room again."""
        del self._working[done]

    def died(self, done: Any) -> bool:
        """The actor that held an item died; whether that item is given up."""
        actor, number = self._working.pop(done)
        for reference in [one for one, (other, _) in self._working.items() if other is actor]:
            self._lose(self._working.pop(reference)[1])  # it held no other death, or it had been alone
        self._working[actor.__ray_ready__.remote()] = (actor, None)
        self._actors.append(self._actors.pop(self._actors.index(actor)))  # the first is asked what is asked of one
        return self._lose(number)

    def cancel(self) -> None:
        """Take back what is under way."""
        for left in self._working:
            ray.cancel(left)

    def _look_again(self, actor: Any, done: Any) -> None:
        try:
            ray.get(done)
        except ray.exceptions.ActorUnavailableError:
            if time.monotonic() - self._last < READY_S:
                time.sleep(_AGAIN_S)
                self._working[actor.__ray_ready__.remote()] = (actor, None)
                return
        except ray.exceptions.RayError:
            pass
        else:
            return
        self._actors.remove(actor)
        if not self._actors:
            raise WorkError(
                "every generator has died and does not start again; mend the cause and run the same command to go on"
            )

    def _on(self, actor: Any) -> list[int | None]:
        return [number for other, number in self._working.values() if other is actor]

    def _lose(self, number: int | None) -> bool:
        """Whether an item that was on a dead actor is given up."""
        if number is None:
            return False
        self._deaths[number] += 1
        if self._deaths[number] == DEATHS:
            return True
        self._suspects.append(number)
        return False
