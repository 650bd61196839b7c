"""One request for a range of a file, over http or https only; the answer says what it is a range of.

Redirects are followed by hand, at most five, to http and https alone and never from https down to http. Proxies are
those of the environment. A token is for one origin (scheme, host, port) and goes to no other, whoever redirects there; it is
in no message. A body that stops coming, or comes slower than 1 KiB/s, is a break and never a wait for ever.
"""

import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3

_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CHUNK_BYTES = 256 << 10


class RefusedError(Exception):
    """The source will not give this file; another may. `is_beyond_end` where its file ends before the range begins."""

    def __init__(self, reason: str, *, is_beyond_end: bool = False) -> None:
        super().__init__(reason)
        self.is_beyond_end = is_beyond_end


class BrokenError(Exception):
    """The transfer broke; the same request may succeed after `after_s` seconds."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class StoppedError(Exception):
    """The work was called off from outside."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a source may be silent, how often it is asked again, and how a file is cut."""

    connect_s: float = 10.0
    read_s: float = 30.0
    tries: int = 6  # in a row that hardly give a byte; then the next source
    backoff_s: float = 1.0  # doubled with each try, at most a minute
    slowest_bytes_per_s: int = 1024
    piece_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """An open answer; its body has not been read. `total_bytes` is of the file, None where the server does not say."""

    response: Any
    is_range: bool
    total_bytes: int | None
    is_framed: bool  # whether the end of the body can be told from a break of the connection
    validator: str  # a strong ETag or else the time of change; changes when the file does


class Client:
    """Connections that are kept between requests; safe to use from many threads."""

    def __init__(self, limits: Limits, connections: int, tokens: Mapping[str, str] | None = None) -> None:
        self.limits = limits
        self._tokens = dict(tokens or {})  # by origin
        timeout = urllib3.Timeout(connect=limits.connect_s, read=limits.read_s)
        self._settings: dict[str, Any] = {"timeout": timeout, "maxsize": 2 * connections, "retries": False}
        self._pools: dict[str, urllib3.PoolManager] = {"": urllib3.PoolManager(**self._settings)}
        self._reading: set[Any] = set()
        self._proxies = urllib.request.getproxies()

    def ask(self, url: str, start: int | None = None, stop: int | None = None) -> Answer:
        """The answer to a request for bytes [start, stop), or for all; RefusedError or BrokenError where there is none."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "raybench"}
        if start is not None and stop is not None:
            headers["Range"] = f"bytes={start}-{stop - 1}"
        for _ in range(7):
            with _network():
                response: Any = self._pool(url).request(
                    "GET",
                    url,
                    headers=headers | self._login(url),
                    preload_content=False,
                    decode_content=False,
                    redirect=False,
                )
            if response.status == 416 and start == 0:  # an empty file has no first byte
                response.close()
                headers.pop("Range")
                start = None
                continue
            if response.status not in _REDIRECTS:
                return _answer(response, start, stop)
            response.close()
            url = _redirected(url, response.headers.get("Location", ""))
        raise RefusedError("redirects more than five times")

    def read(self, answer: Answer, stopped: Callable[[], bool], most_bytes: int | None = None) -> Iterator[bytes]:
        """The bytes of an answer as they come, at most so many; BrokenError on silence, slowness and an early end."""
        left = most_bytes
        since, came = time.monotonic(), 0
        self._reading.add(answer.response)
        try:
            if stopped():  # `abort` may have looked just before this answer was there to be ended
                raise StoppedError
            while left is None or left > 0:
                with _network():
                    data: bytes = answer.response.read1(_CHUNK_BYTES if left is None else min(_CHUNK_BYTES, left))
                if stopped():
                    raise StoppedError
                if not data:
                    if left:
                        raise BrokenError("ended early")
                    return
                left = None if left is None else left - len(data)
                came += len(data)
                yield data
                took_s = time.monotonic() - since
                if took_s > self.limits.read_s:
                    if came < took_s * self.limits.slowest_bytes_per_s:
                        raise BrokenError(f"came at {came / took_s:.0f} bytes/s")
                    since, came = time.monotonic(), 0
        finally:
            self._reading.discard(answer.response)
            # What was read to its end can serve the next request; the rest of a body is not waited for.
            if answer.response.length_remaining == 0:
                answer.response.release_conn()
            else:
                answer.response.close()

    def abort(self) -> None:
        """End all reads that are under way in other threads; they see a body that ended early."""
        for response in list(self._reading):
            with suppress(OSError, RuntimeError, ValueError):  # it may have ended by itself just now
                response.shutdown()

    def _login(self, url: str) -> dict[str, str]:
        """The header with the token of an address's origin, or none."""
        parts = urlsplit(url)
        token = self._tokens.get(f"{parts.scheme}://{parts.netloc.lower()}")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all") or ""
        if not proxy.startswith(("http://", "https://")) or urllib.request.proxy_bypass(parts.hostname or ""):
            proxy = ""
        if proxy not in self._pools:
            self._pools[proxy] = urllib3.ProxyManager(proxy, **self._settings)
        return self._pools[proxy]


def _answer(response: Any, start: int | None, stop: int | None) -> Answer:
    status, headers = response.status, response.headers
    if status not in (200, 206):
        response.close()
        if status in _TRY_AGAIN:
            after = headers.get("Retry-After", "")
            raise BrokenError(f"answered {status}", min(float(after), 60.0) if after.isdecimal() else 0.0)
        raise RefusedError(f"answered {status}", is_beyond_end=status == 416)
    if headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        response.close()
        raise RefusedError("sends compressed bytes that were not asked for")
    tag = headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    if status == 200:
        length = headers.get("Content-Length", "")
        framed = length.isdecimal() or "chunked" in headers.get("Transfer-Encoding", "").lower()
        return Answer(response, False, int(length) if length.isdecimal() else None, framed, validator)
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", "").strip())
    if match is None or start is None or stop is None or int(match[1]) != start or int(match[2]) >= stop:
        response.close()
        raise RefusedError(f"answers another range: {headers.get('Content-Range', 'none')[:80]!r}")
    return Answer(response, True, int(match[3]), True, validator)


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    try:
        parts = urlsplit(target)
    except ValueError:
        raise RefusedError(f"redirects to {location[:80]!r}") from None
    if not location or parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedError(f"redirects to {location[:80]!r}, which is not http or https")
    if url.startswith("https:") and parts.scheme == "http":
        raise RefusedError("redirects from https to http")
    return target


@contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.LocationValueError, urllib3.exceptions.LocationParseError) as error:
        raise RefusedError(f"is no address: {error}") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise BrokenError(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "stopped sending"
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return "does not answer"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return f"cannot be reached: {str(error).rpartition('connection: ')[2][:160]}"
    return "broke: " + " ".join(str(error).split())[:160]
