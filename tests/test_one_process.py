"""Small inputs go to one process that stays; what is too much for it, or kills it, is done by a pipeline, with the same bytes."""

import dataclasses
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import ray
from embedding_input import make_job, write_tars

from raybench import storage
from raybench.distributed import embed as pipeline
from raybench.distributed import one_process
from raybench.distributed.backend import RayBackend
from raybench.embedding import local
from raybench.encoders import ENCODERS
from raybench.errors import RequestError, WorkError

pytestmark = pytest.mark.ray
SAME = ("checksum", "rows_in", "rows_out", "dropped", "examples", "files", "inputs")


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """Tars with broken pictures."""
    return write_tars(tmp_path_factory.mktemp("tars"))


@pytest.fixture
def backend(ray_cluster):
    """On the Ray of all tests; its processes cannot import this file, so what is of it travels by value."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with ExitStack() as lifetime:
            yield RayBackend(lifetime)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def undisturbed(tars, tmp_path_factory):
    """The manifest of a run in this process."""
    return local.embed([make_job(tars, tmp_path_factory.mktemp("there"))], lambda _rows, _share: None)[0]


@pytest.fixture
def pipelines(monkeypatch):
    """What was left to a pipeline: the jobs of each."""
    asked, true = [], pipeline.embed

    def embed(jobs, pool, *more):
        asked.append([job.encoder_spec for job in jobs])
        return true(jobs, pool, *more)

    monkeypatch.setattr(pipeline, "embed", embed)
    return asked


class Told:
    """An encoder that writes down which process loads it, and what it is told to do at its n-th batch."""

    def __init__(self, folder: Path, dim: int = 16, act=None) -> None:
        self.folder, self.act, self.inner = folder, act, ENCODERS.make(f"tiny(dim={dim})")

    def load(self, device, threads):
        """The encoder that does so."""
        with (self.folder / "processes").open("a") as file:
            file.write(f"{os.getpid()}\n")
        inner, folder, act = self.inner.load(device, threads), self.folder, self.act

        class Loaded:
            facts, dim = inner.facts, inner.dim

            def images(self, pixels_BHWC):
                with (folder / "batches").open("a") as file:
                    file.write(".")
                if act is not None:
                    act((folder / "batches").stat().st_size)
                return inner.images(pixels_BHWC)

        return Loaded()


def _die_once(batch):
    if batch == 7:
        os.kill(os.getpid(), signal.SIGKILL)


def _sleep_once(batch):
    time.sleep(30 if batch == 7 else 0)


def _refuse(batch):
    raise WorkError(f"batch {batch} is refused")


def _processes(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "processes").read_text().split()]


def test_one_process_stays_and_writes_the_same_bytes(tars, undisturbed, tmp_path, backend, pipelines):
    """Two inputs and two models in one process, which is not this one; no pipeline; the rows that are told are all rows."""
    seen = []
    jobs = [
        make_job(tars, tmp_path, encoder=Told(tmp_path, dim), encoder_fingerprint=f"{dim}", encoder_spec="tiny()")
        for dim in (16, 4)
    ]
    first, small = backend.embed(jobs, 0, lambda rows, _share: seen.append(rows))
    again = dataclasses.replace(jobs[0], vectors_uri=str(tmp_path / "again"))
    [second] = backend.embed([again], 0, lambda _rows, _share: None)

    assert pipelines == []
    assert [{name: one[name] for name in SAME} for one in (first, second)] == [
        {name: undisturbed[name] for name in SAME}
    ] * 2
    assert small["checksum"] != first["checksum"]
    assert small["encoder_facts"]["dim"] == 4
    assert first["encoder_facts"]["dim"] == second["encoder_facts"]["dim"] == 16
    assert sum(seen) == first["rows_in"] + small["rows_in"]
    assert first["environment"]["rows_timed"] == first["rows_in"]
    assert len(_processes(tmp_path)) == 3
    assert len(set(_processes(tmp_path))) == 1
    assert _processes(tmp_path)[0] != os.getpid()
    assert first["environment"]["runner"] == "one process of Ray"
    assert 0 < first["environment"]["busy_s"] <= first["environment"]["embed_s"]


def test_the_process_reserves_nothing(tars, tmp_path, backend, ray_cluster):
    """It stays beside work that shares out all CPUs, on one that has any."""
    backend.embed([make_job(tars, tmp_path)], 0, lambda _rows, _share: None)
    deadline = time.monotonic() + 30
    while ray.available_resources()["CPU"] < ray_cluster["cpus"]:  # what other tests used comes back after a moment
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_number_of_workers_asks_for_a_pipeline(tars, undisturbed, tmp_path, backend, pipelines):
    """Who says how many encoders is given so many."""
    [manifest] = backend.embed([make_job(tars, tmp_path)], 1, lambda _rows, _share: None)

    assert len(pipelines) == 1
    assert manifest["checksum"] == undisturbed["checksum"]


@pytest.mark.parametrize(
    ("act", "patience_s", "why"), [(_die_once, 600, "died"), (_sleep_once, 3, "in 3 s")], ids=["dies", "is slow"]
)
def test_what_one_process_cannot_do_a_pipeline_does(
    act, patience_s, why, tars, undisturbed, tmp_path, backend, pipelines, monkeypatch
):
    """Shards that were committed stay, the others are done by the pipeline; and the next input has a process again."""
    monkeypatch.setattr(one_process, "_PATIENCE_S", patience_s)
    job, seen = make_job(tars, tmp_path, encoder=Told(tmp_path, act=act)), []
    early = make_job(tars, tmp_path, encoder=Told(tmp_path / "early", 4), encoder_fingerprint="4")
    (tmp_path / "early").mkdir()
    before, manifest = backend.embed([early, job], 0, lambda *told: seen.append(told))

    assert len(pipelines) == 1
    assert before["environment"]["runner"] == "one process of Ray"
    assert before["environment"]["rows_timed"] == before["rows_in"]
    assert manifest["environment"]["runner"] == "Ray Data pipeline"
    assert why in manifest["environment"]["before"]
    rows, shares = zip(*seen, strict=True)
    assert min(rows) >= 0
    assert sum(rows) == before["rows_in"] + manifest["rows_in"]
    assert list(shares) == sorted(shares)
    assert shares[-1] == 1
    assert {name: manifest[name] for name in SAME} == {name: undisturbed[name] for name in SAME}
    assert 0 < manifest["environment"]["rows_timed"] < manifest["rows_in"], "what was committed was done again"
    assert len(set(_processes(tmp_path))) > 1
    assert storage.list_files(storage.join(job.uri, "chunks")) == []

    other = make_job(tars, tmp_path / "other", encoder=Told(tmp_path))
    [manifest] = backend.embed([other], 0, lambda _rows, _share: None)
    assert manifest["checksum"] == undisturbed["checksum"]
    assert len(pipelines) == 1


def test_an_error_of_the_process_is_one_sentence(tars, tmp_path, backend, pipelines):
    """It is not left to a pipeline, which would only meet it again, and the process is good for the next input."""
    with pytest.raises(WorkError, match=r"^batch 1 is refused$"):
        backend.embed([make_job(tars, tmp_path, encoder=Told(tmp_path, act=_refuse))], 0, lambda _rows, _share: None)
    good = make_job(tars, tmp_path / "good", encoder=Told(tmp_path), encoder_fingerprint="another")
    backend.embed([good], 0, lambda _rows, _share: None)

    assert pipelines == []
    assert len(set(_processes(tmp_path))) == 1


def test_what_no_node_has_room_for_is_refused_for_small_inputs_too(tars, tmp_path, backend, pipelines):
    """Before anything is read."""
    job = make_job(tars, tmp_path, encoder=Told(tmp_path), threads=64)
    with pytest.raises(RequestError, match="threads=64 per encoder"):
        backend.embed([job], 0, lambda _rows, _share: None)

    assert pipelines == []
    assert not storage.exists(storage.join(job.uri, "recipe.json"))
