"""Requests to one chat server: each ends at its deadline, whatever the server does.

A request has a connection of its own, straight to the server: no proxy, no redirect, so that a key goes to no other host. At the
deadline the connection is ended from outside, so that a byte every few seconds keeps nothing alive. What a server does is a
FaultError; what no later request can mend (the key, the model, the address) is a RequestError.
"""

import email.utils
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from raybench.errors import RequestError
from raybench.generation.chat_reply import FaultError, error_message

_CONNECT_S = 10.0
_MOST_BYTES = 8 << 20  # of a reply; an answer of 10,000 tokens streams in about 3 MB
_MOST_ERROR_BYTES = 64 << 10
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is and what opens it; `running` holds what ends the requests that are under way."""

    url: str  # without a slash at its end
    key: str | None = field(default=None, repr=False)
    key_env: str | None = None
    running: set[Callable[[], None]] = field(default_factory=set, repr=False, compare=False)

    def say(self, text: str) -> str:
        """Foreign words for people: one line of at most 300 characters that can be stored, without the key."""
        text = text.replace(self.key, "***") if self.key else text
        text = "".join(character if character.isprintable() else " " for character in text[:100_000])
        return " ".join(text.split())[:300]

    def stop(self) -> None:
        """End all requests that are under way."""
        for end in list(self.running):
            end()

    @contextmanager
    def ask(
        self, method: str, path: str, body: bytes | None, timeout_s: float, stopped: threading.Event | None = None
    ) -> Iterator[tuple[Any, float]]:
        """An answer of status 200, and when the request began; raises FaultError, also for what goes wrong inside.

        With `stopped` set nothing is sent: a request that comes after `stop` was called is under way no more than the others.
        """
        connection, sockets, over = _connection(self.url), list[socket.socket](), threading.Event()

        def end() -> None:
            over.set()
            for opened in sockets:
                with suppress(OSError):
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)  # that of TLS would unmake what is being read

        timer = threading.Timer(timeout_s, end)
        timer.daemon = True
        timer.start()
        self.running.add(end)
        try:
            connection.timeout = min(_CONNECT_S, timeout_s)
            connection.connect()
            sockets.append(connection.sock)  # an answer takes it away from the connection
            connection.timeout = timeout_s
            if over.is_set() or (stopped is not None and stopped.is_set()):
                raise TimeoutError
            began = time.perf_counter()
            with suppress(BrokenPipeError):  # some answer before they have read it all, and say why
                connection.request(
                    method,
                    urlsplit(self.url).path + path,
                    body=body,
                    headers=self._headers(),
                    preload_content=False,
                    decode_content=False,
                )
            response: Any = connection.getresponse()
            self._check(response)
            yield response, began
        except FaultError:
            if over.is_set():
                raise _late(timeout_s) from None
            raise
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
            raise (_late(timeout_s) if over.is_set() else _broken(error, timeout_s)) from None
        finally:
            timer.cancel()
            self.running.discard(end)
            connection.close()

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "raybench"}
        return headers | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    def _check(self, response: Any) -> None:
        """Status 200 and bytes as they are; or a FaultError or RequestError."""
        status = response.status
        if status == 200:
            if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
                raise FaultError("reply_malformed", "compressed, which was not asked for")
            return
        if 300 <= status < 400:
            place = response.headers.get("Location", "")
            raise FaultError(f"http_{status}", f"redirects to {place}; give that as the URL if it is the server")
        body = b""
        with suppress(OSError, http.client.HTTPException, urllib3.exceptions.HTTPError):  # the status says enough
            body = response.read(_MOST_ERROR_BYTES, decode_content=False)
        said = self.say(error_message(body))
        if status in (401, 403):
            how = (
                f"check the key in {self.key_env}"
                if self.key_env
                else 'name its variable with key_env="OPENAI_API_KEY"'
            )
            raise RequestError(f"{self.url} refuses the key or asks for one (status {status}: {said}); {how}")
        if status == 404:
            raise RequestError(
                f"{self.url} answers 404 ({said}); the URL must end where /chat/completions begins, and the model be served there"
            )
        raise FaultError(f"http_{status}", said, again=status in _TRY_AGAIN, after_s=_after_s(response))


def pieces(response: Any, most_bytes: int = _MOST_BYTES) -> Iterator[bytes]:
    """The body as it comes; FaultError beyond the limit."""
    came = 0
    while data := response.read1(64 << 10, decode_content=False):
        came += len(data)
        if came > most_bytes:
            raise FaultError("reply_too_long", f"more than {most_bytes} bytes")
        yield data


def _connection(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port)


def _late(timeout_s: float) -> FaultError:
    return FaultError("timeout", f"not answered in full within {timeout_s:.3g} s", again=True)


def _broken(error: Exception, timeout_s: float) -> FaultError:
    cause = error.__cause__ or error.__context__
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return FaultError("connection_lost", str(error).rpartition("connection: ")[2], again=True)
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return FaultError("connection_lost", "does not answer", again=True)
    if isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return _late(timeout_s)
    if any(
        isinstance(one, (http.client.IncompleteRead, urllib3.exceptions.InvalidChunkLength)) for one in (error, cause)
    ):
        return FaultError("reply_truncated", str(error), again=True)
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return FaultError("reply_malformed", f"no HTTP: {error}")
    return FaultError("connection_lost", str(error), again=True)


def _after_s(response: Any) -> float:
    """What Retry-After asks for, as seconds or a date; 0 where it says nothing that can be read."""
    after = response.headers.get("Retry-After", "").strip()
    if after.isdecimal():
        return float(after[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return 0.0
