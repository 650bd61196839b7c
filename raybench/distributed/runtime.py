"""Ray is started or joined here and nowhere else, with everything that matters set and nothing left to defaults.

A cluster is joined if RAY_ADDRESS names one (a submitted job has it set). Otherwise a private Ray starts in this
session: on loopback, without dashboard, with token authentication under a token of its own that only this process
and its children know, so that neither an old token file nor another cluster on the machine can interfere.
"""

import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raybench.environment import available_cores, memory_bytes
from raybench.errors import RaybenchError, RequestError, WorkError

_STORE_BYTES = 2 * 1024**3  # enough for the chunks under way on one machine; more would only be reserved
_KNOCK_S = 4
_KIND = "accelerator_type:"  # how Ray calls the resource that names a GPU


def _hush() -> None:
    """Keep what Ray Data tells the authors of pipelines in its log files, and off the user's terminal."""
    import ray.data  # noqa: F401 (it sets its loggers up when it is imported)

    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


def _check_answers(address: str) -> None:
    """Knock before joining, since Ray itself tries for minutes; addresses that are no host:port are left to Ray."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise RequestError(f"no Ray answers at RAY_ADDRESS={address}: {error}; start it or unset it") from None


@contextmanager
def _stderr_held() -> Iterator[None]:
    """Hold back what compiled code prints while Ray starts; it is shown only if the start fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _authenticate() -> None:
    """Token authentication for a private Ray, under a token that only this process and its children know."""
    from ray import _raylet

    raylet: Any = _raylet  # a compiled module, of which the checker sees nothing

    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # Ray read its environment when it was imported; this is how its own default reads it again.
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def connected(num_cpus: int | None = None) -> Iterator[dict[str, Any]]:
    """Join or start Ray for the time of a block; yields facts of the cluster. A Ray that is up already is used."""
    address = os.environ.get("RAY_ADDRESS")
    import ray

    if ray.is_initialized():
        yield cluster_facts()
        return
    _hush()
    if not address:
        _authenticate()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        _check_answers(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = (str(error).splitlines()[0] if str(error) else type(error).__name__).rstrip(":. ")
            raise RequestError(f"no Ray answers at RAY_ADDRESS={address}: {reason}; correct it or unset it") from error
    else:
        with _stderr_held():
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=num_cpus or available_cores(),
                object_store_memory=min(_STORE_BYTES, max(memory_bytes() // 4, 100 * 1024**2)),
                **quiet,
            )
    try:
        yield cluster_facts()
    finally:
        ray.shutdown()


def _as_raised(error: RaybenchError) -> RaybenchError:
    """The error with its own sentence, without the advice for authors of pipelines that Ray Data appends."""
    error.args = (str(error).partition("\nFailed to apply UDF")[0], *error.args[1:])
    return error


@contextmanager
def failures_explained(what: str) -> Iterator[None]:
    """Turn what Ray raises into one sentence; an error that raybench raised on a worker stays as it is."""
    import ray

    try:
        yield
    except ray.exceptions.GetTimeoutError:
        raise
    except (ray.exceptions.RayError, RuntimeError) as error:
        cause: BaseException | None = error
        while cause is not None:
            own = getattr(cause, "cause", None)
            # What Ray raises for an error of ours is an error of ours too, but prints as the worker's traceback.
            if isinstance(own, RaybenchError):
                raise _as_raised(own) from None
            if isinstance(cause, RaybenchError):
                raise _as_raised(cause) from None
            cause = own if isinstance(own, BaseException) else cause.__cause__
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise WorkError(f"{what} failed: {reason}; run the same command again to go on") from error


def cluster_facts() -> dict[str, Any]:
    """Nodes and resources of the cluster that this process is connected to; a JSON value.

    A node without CPUs, as a head often is, counts as none: nothing can be placed there.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0)]
    per_node = sorted(
        ((node["Resources"]["CPU"], int(node["Resources"].get("GPU", 0))) for node in nodes), reverse=True
    )
    kinds = {name for node in nodes for name in node["Resources"] if name.startswith(_KIND)}
    return {
        "ray": ray.__version__,
        "nodes": len(nodes),
        "node_cpus": [cpus for cpus, _ in per_node],
        "node_gpus": [gpus for _, gpus in per_node],
        "accelerators": sorted(name.removeprefix(_KIND) for name in kinds),
        "cpus": sum(node["Resources"].get("CPU", 0) for node in nodes),
        "gpus": sum(node["Resources"].get("GPU", 0) for node in nodes),
        "largest_node_cpus": max((node["Resources"].get("CPU", 0) for node in nodes), default=0),
        "memory_bytes": int(sum(node["Resources"].get("memory", 0) for node in nodes)),
    }
