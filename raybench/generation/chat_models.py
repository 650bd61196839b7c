"""Which model a chat server serves, asked once when a generator is loaded.

vLLM takes what a request leaves open from the generation settings that come with a model, among them a penalty on repetition.
There those settings are sent as well, so that greedy is greedy; other servers refuse fields that they do not know.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raybench.errors import RequestError, suggest
from raybench.generation.chat_reply import FaultError
from raybench.generation.chat_server import Server, pieces

_TIMEOUT_S = 15.0
_VLLM = {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0}


@dataclass(frozen=True, slots=True)
class Served:
    """A model's name, what is sent with each request to it, and what the server tells about itself."""

    model: str
    more: Mapping[str, Any]
    facts: Mapping[str, Any]


def served(server: Server, model: str | None) -> Served:
    """The model that was asked for, or the only one; RequestError where there is none such."""
    try:
        found, told = _get(server, "/models")
    except FaultError as fault:
        why = server.say(f"{fault.problem}: {fault.detail}")
        raise RequestError(
            f"{server.url} does not list its models ({why}); start the server, or correct the URL"
        ) from None
    listed = found.get("data") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("id"), str) for one in listed
    ):
        raise RequestError(f"{server.url}/models lists no models as OpenAI's format has it; correct the URL")
    by_name = {one["id"]: one for one in listed}
    if model is None:
        if len(by_name) != 1:
            names = server.say(", ".join(sorted(by_name)) or "none")
            raise RequestError(f'{server.url} serves {len(by_name)} models; choose with model="...": {names}')
        model = next(iter(by_name))
    if model not in by_name:
        raise RequestError(f"{server.url} serves no model {model!r}; {server.say(suggest(model, by_name))}")
    one = by_name[model]
    is_vllm = one.get("owned_by") == "vllm"
    facts: dict[str, Any] = {"model": model, "server": told, "sent": dict(_VLLM) if is_vllm else {}}
    for name, kind in (("root", str), ("max_model_len", int), ("owned_by", str)):
        if isinstance(one.get(name), kind):
            facts[name] = server.say(one[name]) if kind is str else one[name]
    if is_vllm:
        facts["version"] = _version(server)
    return Served(model, facts["sent"], facts)


def _get(server: Server, path: str) -> tuple[Any, str | None]:
    """The JSON of an address, and the server's name for itself."""
    with server.ask("GET", path, None, _TIMEOUT_S) as (response, _):
        told = response.headers.get("Server")
        data = b"".join(pieces(response))
    try:
        return json.loads(data), None if told is None else server.say(told)
    except (ValueError, RecursionError):
        raise FaultError("reply_malformed", "no JSON") from None


def _version(server: Server) -> str | None:
    """What vLLM says at /version, which lies beside /v1; None where it does not."""
    beside = Server(server.url.rpartition("/v1")[0] or server.url, server.key, server.key_env)
    try:
        found, _ = _get(beside, "/version")
    except (FaultError, RequestError):
        return None
    version = found.get("version") if isinstance(found, dict) else None
    return server.say(version) if isinstance(version, str) else None
