"""The only folder that imports ray: connecting, the embedding pipeline, and partitions of an index on actors.

Ray reads part of its environment once, when it is imported. That part is set here, before any module of this folder
can import it; a value that the user set stays, but for the first.
"""

import os

# Under `uv run`, Ray would have every worker build an environment of several GB of its own before it starts.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The driver prints Ray's own error log; a line about Ray Data's internals stands in it for every actor pool.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
# Zero GPUs asked for means that none are seen, so a CPU worker cannot grab one.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
