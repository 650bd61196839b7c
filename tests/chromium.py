"""A Chromium that a test tells what to do, through the two pipes of its debugging protocol."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any


class Browser:
    """Chromium, told what to do through two pipes; ends with the test, at the latest after a minute."""

    def __init__(self, program: str, folder: Path) -> None:
        """Start it with a profile of its own; fd 3 is what it reads, fd 4 what it writes."""
        read_end, self._commands = os.pipe()
        self._answers, write_end = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        flags += " --disable-component-update --disable-sync --remote-debugging-pipe"
        start = f'exec "$0" {flags} --user-data-dir="$1" about:blank 3<&{read_end} 4>&{write_end}'
        self._process = subprocess.Popen(
            ["bash", "-c", start, program, str(folder)],
            pass_fds=(read_end, write_end),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_end)
        os.close(write_end)
        self._deadline = time.monotonic() + 60
        self._count, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None

    def open(self) -> None:
        """Open an empty page, which all that follows is about."""
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; events that come before it are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def wait(self, method: str) -> None:
        """Read events until one of this name has come."""
        while not any(event["method"] == method for event in self.events):
            self.events.append(self._next())

    def value(self, script: str) -> Any:
        """What an expression, or the promise it is, comes to in the page."""
        answer = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = self._deadline - time.monotonic()
            assert select.select([self._answers], [], [], max(left, 0))[0], "Chromium did not answer within a minute"
            chunk = os.read(self._answers, 1 << 16)
            assert chunk, "Chromium ended early"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        """End the process group that was started here."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        os.close(self._commands)
        os.close(self._answers)
