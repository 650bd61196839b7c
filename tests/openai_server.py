"""An OpenAI-compatible chat server on loopback for tests: it looks at the pictures it is sent, and fails as it is told.

    with openai_server([status(503), None]) as server:   # the first request fails, all others are answered
        endpoint = Endpoint(server.url)

A fault is a function of the handler and the request, which sends what it wants. `script` is a list of faults in the order of arrival
(None answers), or a function from a request to a fault or None. The answer tells sizes of pictures and the words, a word a token.
"""

import base64
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


@dataclass
class Request:
    """One request for a completion; pictures and words are those of its last message."""

    body: dict[str, Any]
    raw: bytes
    headers: dict[str, str]
    pictures: list[Image.Image]
    words: str
    kinds: list[str]  # of the parts of the last message, in order


Fault = Callable[["Handler", Request], None]


@dataclass
class Told:
    """What a running server has seen; `most_at_once` counts completions."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    model_requests: list[dict[str, str]] = field(default_factory=list)
    now: int = 0
    most_at_once: int = 0


def status(code: int, message: str = "no", **headers: str) -> Fault:
    """An error as servers send it."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: handler.send(code, json.dumps({"error": {"message": message}}).encode(), **names)


def raw(body: bytes, kind: str = "application/json", code: int = 200, **headers: str) -> Fault:
    """Any bytes."""
    return lambda handler, _: handler.send(code, body, kind, **headers)


def events(*chunks: Any, done: bool = True) -> Fault:
    """A stream of these chunks: JSON values, or bytes as they are."""

    def fault(handler: "Handler", _: Request) -> None:
        handler.start_stream()
        for chunk in chunks:
            handler.event(chunk)
        if done:
            handler.event(b"[DONE]")
        handler.chunk(b"")

    return fault


def cut(after: int) -> Fault:
    """The answer's stream, broken off after some events, in the midst of the next chunk."""

    def fault(handler: "Handler", request: Request) -> None:
        handler.start_stream()
        for one in handler.answer(request)[:after]:
            handler.event(one)
        handler.wfile.write(b"40\r\ndata: {")
        handler.close_connection = True

    return fault


def slow(seconds: float) -> Fault:
    """The right answer, too late."""

    def fault(handler: "Handler", request: Request) -> None:
        time.sleep(seconds)
        handler.complete(request)

    return fault


def drip(every_s: float, *, times: int = 400, in_headers: bool = False) -> Fault:
    """A byte now and then, for long; never an end."""

    def fault(handler: "Handler", _: Request) -> None:
        if in_headers:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        else:
            handler.start_stream()
        with suppress(OSError):
            for _ in range(times):
                handler.wfile.write(b"a") if in_headers else handler.chunk(b":")
                handler.wfile.flush()
                time.sleep(every_s)

    return fault


def reset(handler: "Handler", _: Request) -> None:
    """The connection ends with RST instead of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


class Handler(BaseHTTPRequestHandler):
    """One connection; what is scripted is in the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each small write may wait 40 ms for the client
    server: "_Server"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """The list of models, or the version."""
        self.server.told.model_requests.append(dict(self.headers))
        if self.path == "/version":
            self.send(200, json.dumps({"version": self.server.version}).encode())
        elif self.server.models_fault is not None:
            self.server.models_fault(self, Request({}, b"", dict(self.headers), [], "", []))
        else:
            more = {"object": "model", "owned_by": self.server.owner} | self.server.model_facts
            data = [{"id": name, **more} for name in self.server.models]
            self.send(200, json.dumps({"object": "list", "data": data}).encode())

    def do_POST(self) -> None:
        """A completion, or what the script has in its place."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = _read(body, dict(self.headers))
        told = self.server.told
        with self.server.lock:
            told.requests.append(request)
            told.now += 1
            told.most_at_once = max(told.most_at_once, told.now)
            script = self.server.script
            fault = script(request) if callable(script) else script.pop(0) if script else None
        try:
            assert self.path == "/v1/chat/completions"
            (fault or Handler.complete)(self, request)
        except OSError:  # the client has gone
            self.close_connection = True
        finally:
            with self.server.lock:
                told.now -= 1

    def send(self, code: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        """A reply of known length."""
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def start_stream(self) -> None:
        """The head of a stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """A chunk of HTTP; an empty one ends the reply."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, chunk: Any) -> None:
        """One event, of JSON or of bytes as they are."""
        data = chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode()
        self.chunk(b"data: " + data + b"\n\n")

    def answer(self, request: Request) -> list[dict[str, Any]]:
        """The chunks of a right answer, with the usage last."""
        sizes = [f"{picture.width}x{picture.height}" for picture in request.pictures]
        words = [str(len(sizes)), "pictures", *sizes, *request.words.split()]
        kept = words[: request.body["max_tokens"]]
        texts = [kept[0], *[f" {word}" for word in kept[1:]]]
        found = [_delta({"role": "assistant", "content": ""}), *[_delta({"content": text}) for text in texts]]
        usage = {"prompt_tokens": 10 * len(sizes) + len(request.words.split()), "completion_tokens": len(kept)}
        end = _delta({}, "stop" if len(kept) == len(words) else "length")
        return [*found, end, {"choices": [], "usage": usage}]

    def complete(self, request: Request) -> None:
        """The right answer, whole or as a stream."""
        *found, usage = self.answer(request)
        if request.body.get("stream"):
            events(*found, usage)(self, request)
            return
        text = "".join(one["choices"][0]["delta"].get("content", "") for one in found)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        choice["finish_reason"] = found[-1]["choices"][0]["finish_reason"]
        self.send(200, json.dumps({"choices": [choice], "usage": usage["usage"]}).encode())


def _delta(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    script: Any
    models: Sequence[str]
    owner: str
    model_facts: dict[str, Any]
    version: str
    models_fault: Fault | None
    told: Told
    lock: threading.Lock

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is part of the tests."""


def _read(raw_body: bytes, headers: dict[str, str]) -> Request:
    body = json.loads(raw_body)
    content = body["messages"][-1]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    pictures = []
    for part in parts:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/png;base64"
            pictures.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
            pictures[-1].load()
    words = " ".join(part["text"] for part in parts if part["type"] == "text")
    return Request(body, raw_body, headers, pictures, words, [part["type"] for part in parts])


@contextmanager
def openai_server(
    script: list[Fault | None] | Callable[[Request], Fault | None] = (),
    *,
    models: Sequence[str] = ("tiny-vl",),
    owner: str = "tests",
    model_facts: dict[str, Any] | None = None,
    version: str = "0.0.test",
    port: int = 0,
    models_fault: Fault | None = None,
) -> Iterator[Told]:
    """A server for the time of a test."""
    server = _Server(("127.0.0.1", port), Handler)
    server.script = script if callable(script) else list(script)
    server.models, server.owner, server.models_fault = models, owner, models_fault
    server.model_facts, server.version = model_facts or {}, version
    server.told, server.lock = Told(f"http://127.0.0.1:{server.server_address[1]}/v1"), threading.Lock()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.told
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
