"""What peers.py compares: indexes of raybench, hnswlib, usearch and those that autofaiss chooses, behind one face.

hnswlib and usearch are optional. autofaiss needs a numpy and a pyarrow of before those of raybench, so it gets an
environment of its own and runs as another process, which leaves an index file behind.

Axes: N rows, Q queries, D dimensions, K results.
"""

import importlib
import json
import subprocess
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from raybench.arrays import Rows, Vectors
from raybench.indexes import INDEXES

Float32 = npt.NDArray[np.float32]

# autofaiss wants numpy 1, and makes its rotations by a name of a parameter that faiss has dropped after 1.12; ours reads the
# files of that faiss. These pyarrow and pandas work with numpy 1.
PINS = ("autofaiss==2.18.0", "faiss-cpu==1.12.0", "numpy==1.26.4", "pandas==2.3.3", "pyarrow==20.0.0")
_CHOOSE = """
import json, sys, time
from autofaiss import build_index
started = time.perf_counter()
index, facts = build_index(**json.loads(sys.argv[1]))
seconds = time.perf_counter() - started
print(json.dumps({"key": facts["index_key"], "parameters": facts["index_param"], "seconds": seconds}))
"""


class PeerError(Exception):
    """A peer that cannot take part, and why, as one sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A built index: what it is called, how it is asked, what it took."""

    name: str
    find: Callable[[Float32, int], Rows]  # queries [Q, D] and an effort to row numbers [Q, K], -1 where it found none
    seconds: float
    num_bytes: int  # as a file
    efforts: tuple[int, int]  # least and most

    def at(self, effort: int) -> str:
        """The index with an effort."""
        return f"{self.name}@{effort}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What all indexes are told alike."""

    k: int
    threads: int
    most: int  # the largest effort of a graph


def raybench_index(text: str, corpus: Vectors, setting: Setting) -> Built:
    """One of ours. IndexRequestError where it cannot be built over so few rows."""
    recipe = INDEXES.make(text)
    started = time.perf_counter()
    index: Any = recipe.build(corpus)
    seconds = time.perf_counter() - started
    dial = recipe.dial
    if dial is None:
        raise PeerError(f"{text} has no effort; leave it out.")
    efforts = setting.k if dial.is_k_least else 1, dial.most or setting.most

    def find(queries_QD: Float32, effort: int) -> Rows:
        ids_QK: Rows = index.search(queries_QD, setting.k, effort).ids_QK
        return ids_QK

    return Built(text, find, seconds, sum(index.held_bytes.values()), efforts)


def hnswlib_graph(corpus: Vectors, setting: Setting) -> Built:
    """The graph of hnswlib with the parameters of `hnsw(m=16, build_effort=100)`."""
    hnswlib = _imported("hnswlib", "hnswlib")
    started = time.perf_counter()
    index = hnswlib.Index("ip", corpus.dim)
    index.init_index(len(corpus), M=16, ef_construction=100)
    index.set_num_threads(setting.threads)
    index.add_items(corpus.matrix_ND)
    seconds = time.perf_counter() - started

    def find(queries_QD: Float32, effort: int) -> Rows:
        index.set_ef(effort)
        ids_QK: Rows = index.knn_query(queries_QD, setting.k)[0].view(np.int64)
        return ids_QK

    return Built("hnswlib", find, seconds, index.index_file_size(), (setting.k, setting.most))


def usearch_graph(corpus: Vectors, setting: Setting) -> Built:
    """The graph of usearch with the parameters of `hnsw(m=16, build_effort=100)`."""
    usearch = _imported("usearch.index", "usearch")
    started = time.perf_counter()
    index = usearch.Index(ndim=corpus.dim, metric="ip", dtype="f32", connectivity=16, expansion_add=100)
    index.add(np.arange(len(corpus), dtype=np.uint64), corpus.matrix_ND, threads=setting.threads)
    seconds = time.perf_counter() - started

    def find(queries_QD: Float32, effort: int) -> Rows:
        index.expansion_search = effort
        # It would start all threads for a single query; the others use one by themselves.
        found = index.search(queries_QD, setting.k, threads=min(setting.threads, len(queries_QD)))
        ids_QK: Rows = np.full((len(queries_QD), setting.k), -1)
        if len(queries_QD) == 1:  # it answers in another form
            ids_QK[0, : len(found.keys)] = found.keys
            return ids_QK
        is_found_QK = np.arange(setting.k) < np.asarray(found.counts)[:, None]
        np.copyto(ids_QK, found.keys.view(np.int64), where=is_found_QK)
        return ids_QK

    return Built("usearch", find, seconds, index.serialized_length, (setting.k, setting.most))


def autofaiss_python(folder: Path) -> Path:
    """The Python of an environment with autofaiss, made in this folder where it is not there. PeerError if it cannot be."""
    python = folder / "bin" / "python"
    if (
        python.exists()
        and not subprocess.run([python, "-Ic", "import autofaiss"], check=False, capture_output=True).returncode
    ):
        return python
    try:
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-Im", "pip", "install", "-q", *PINS], check=True, capture_output=True, text=True)
        subprocess.run([python, "-Ic", "import autofaiss"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerError(
            f"autofaiss is left out, because its environment ({', '.join(PINS)}) could not be made: {_last_line(error)}."
        ) from error
    return python


def autofaiss_choice(
    python: Path, rows: Path, setting: Setting, num_bytes: int, latency_ms: float, out: Path
) -> tuple[Built, str]:
    """The index that autofaiss makes of a folder of rows within so many bytes, and the parameters that it chose."""
    asked = {
        "embeddings": str(rows), "index_path": str(out / "index"), "index_infos_path": str(out / "facts.json"),
        "max_index_memory_usage": f"{num_bytes}B", "current_memory_available": "4G", "metric_type": "ip",
        "max_index_query_time_ms": latency_ms, "nb_cores": setting.threads, "verbose": 40,
    }  # fmt: skip
    try:
        done = subprocess.run(
            [python, "-Ic", _CHOOSE, json.dumps(asked)], check=True, capture_output=True, text=True, cwd=out
        )
    except subprocess.CalledProcessError as error:
        raise PeerError(f"autofaiss makes no index of {num_bytes:,} bytes: {_last_line(error)}.") from error
    chosen = json.loads(done.stdout.splitlines()[-1])
    index = faiss.read_index(str(out / "index"))
    faiss.ParameterSpace().set_index_parameters(index, chosen["parameters"])

    def find(queries_QD: Float32, effort: int) -> Rows:
        del effort  # its parameters are set
        ids_QK: Rows = index.search(queries_QD, setting.k)[1]
        return ids_QK

    size = (out / "index").stat().st_size
    return Built(f"autofaiss: {chosen['key']}", find, chosen["seconds"], size, (1, 1)), chosen["parameters"]


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PeerError(
            f"{package} is left out, because it is not installed; run this with `uv run --group peers`."
        ) from error


def _last_line(error: OSError | subprocess.CalledProcessError) -> str:
    """The last line that a failed process wrote, or the error itself."""
    written = str(getattr(error, "stderr", None) or getattr(error, "stdout", None) or error)
    return written.strip().splitlines()[-1].rstrip(".")
