"""Embedding loses nothing, counts everything, and writes the same bytes however often it is killed and whoever works."""

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from embedding_input import PER_SHARD, jpeg, make_job, write_tars
from PIL import Image

from raybench import storage
from raybench.collection import open_collection
from raybench.distributed.pool import plan_pool
from raybench.embedding import ledger, local
from raybench.embedding.job import EmbedJob
from raybench.encoders import ENCODERS
from raybench.errors import DataError, RequestError, WorkError
from raybench.sources.tar import write_tar


@pytest.fixture(scope="module")
def tars(tmp_path_factory) -> Path:
    """Tars with broken pictures."""
    return write_tars(tmp_path_factory.mktemp("tars"))


def _embed(job: EmbedJob) -> dict[str, object]:
    return local.embed([job], lambda _rows, _share: None)[0]


@pytest.fixture(scope="module")
def job(tars, tmp_path_factory) -> EmbedJob:
    """The job of a run in this process."""
    return make_job(tars, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def undisturbed(job):
    """Its manifest."""
    return _embed(job)


def test_every_row_is_accounted_for(undisturbed, job):
    """Rows in are rows out and drops by reason, each with an example that says where."""
    dropped = undisturbed["dropped"]

    assert undisturbed["rows_in"] == undisturbed["rows_out"] + sum(dropped.values())
    assert dropped["truncated_image"] >= 4
    assert dropped["zero_bytes"] == 1
    assert dropped["not_an_image"] == 1
    assert dropped["truncated_shard"] == 1
    whole = [entry for entry in _ledger_entries(job) if entry["input"]["name"] < "00004"]
    assert [entry["rows_in"] for entry in whole] == [PER_SHARD] * 4
    example = undisturbed["examples"]["zero_bytes"][0]
    assert (example["shard"], example["position"], example["image_id"]) == ("00001.tar", 9, "000000032")


def _ledger_entries(job):
    files = sorted((Path(job.uri) / "ledger").glob("*.json"))
    return [json.loads(file.read_text()) for file in files]


def test_parts_are_what_clip_retrieval_reads(tars, tmp_path):
    """float16 C-order matrices and Parquet metadata, numbered alike, row by row the vector of its image."""
    job = make_job(tars, tmp_path)
    _embed(job)
    encoder = job.encoder.load("cpu", 1)
    matrix = np.load(Path(job.uri) / "img_emb" / "img_emb_0001.npy", allow_pickle=False)
    metadata = storage.read_table(storage.join(job.uri, "metadata", "metadata_0001.parquet")).to_pylist()

    assert matrix.dtype == np.float16
    assert matrix.flags.c_contiguous
    assert len(matrix) == len(metadata) == PER_SHARD - 2
    for vector, row in zip(matrix, metadata, strict=True):
        number = int(row["image_id"])
        with Image.open(io.BytesIO(jpeg(number))) as picture:
            pixels = job.preprocess.apply(picture.convert("RGB"))
        np.testing.assert_array_equal(vector, encoder.images(pixels[None])[0].astype(np.float16))
        assert row["caption"] == f"picture {number}"
        assert row["captions"] == [f"picture {number}", f"noise {number}"]


def test_a_second_run_does_nothing(tars, tmp_path):
    """A complete folder is left as it is: not a file is written again."""
    job = make_job(tars, tmp_path)
    _embed(job)
    before = {path: path.stat().st_mtime_ns for path in Path(job.uri).rglob("*") if path.name != "recipe.json"}
    _embed(job)
    after = {path: path.stat().st_mtime_ns for path in Path(job.uri).rglob("*") if path.name != "recipe.json"}

    assert {path for path in before if path.is_file()} == {path for path in after if path.is_file()}
    assert all(after[path] == stamp for path, stamp in before.items() if path.is_file())


def test_only_a_changed_shard_is_done_again(tars, tmp_path):
    """A touched tar is compared and kept; one with other content of the same size is embedded again."""
    import shutil

    folder = tmp_path / "tars"
    shutil.copytree(tars, folder)
    first = _embed(make_job(folder, tmp_path))
    os.utime(folder / "00000.tar", ns=(1, 1))
    assert ledger.begin(make_job(folder, tmp_path)) == []

    data = bytearray((folder / "00002.tar").read_bytes())
    data[data.index(b"picture 48")] = ord("P")
    (folder / "00002.tar").write_bytes(data)
    changed = make_job(folder, tmp_path)
    assert [shard.name for shard in ledger.begin(changed)] == ["00002.tar"]
    assert storage.read_manifest(changed.uri) is None
    second = _embed(changed)

    assert second["checksum"] != first["checksum"]
    assert open_collection(changed.uri).checksum == second["checksum"]


@pytest.mark.parametrize("damage", ["other bytes", "cut short", "gone"])
def test_vectors_that_changed_on_disk_are_refused(damage, tars, tmp_path):
    """A part that is not what was written is named, and never becomes a number."""
    damaged = make_job(tars, tmp_path)
    _embed(damaged)
    part = Path(damaged.uri) / "img_emb" / "img_emb_0002.npy"
    data = part.read_bytes()
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(data[:-2] + (b"\x00\x01" if damage == "other bytes" else b""))

    with pytest.raises(DataError, match=r"img_emb_0002\.npy is not what was written"):
        open_collection(damaged.uri).load()


def test_a_ledger_entry_that_is_no_entry_is_done_again(tars, tmp_path):
    """What was half repaired by hand does not stop a run."""
    broken = make_job(tars, tmp_path)
    first = _embed(broken)
    (Path(broken.uri) / "ledger" / "0001.json").write_text("{}")
    assert [shard.number for shard in ledger.begin(broken)] == [1]
    again = _embed(broken)

    assert again["checksum"] == first["checksum"]
    assert again["encoder_facts"] == first["encoder_facts"] != {}


def test_equal_ids_are_refused(tmp_path):
    """Two tars whose keys restart name the id, and the parameter that helps."""
    for shard in range(2):
        with (tmp_path / f"{shard:05d}.tar").open("wb") as stream:
            write_tar(stream, [("000.jpg", jpeg(shard))])

    with pytest.raises(DataError, match=r"'000'.*shard_key"):
        _embed(make_job(tmp_path, tmp_path / "out"))


def test_the_key_is_recipe_and_input(tars, tmp_path):
    """What decides the vectors changes the key; the place of the output and of the tars does not."""
    job = make_job(tars, tmp_path)

    assert make_job(tars, tmp_path / "elsewhere").key == job.key
    assert make_job(tars, tmp_path, chunk_rows=9).key != job.key
    assert make_job(tars, tmp_path, encoder_fingerprint="other").key != job.key
    assert make_job(tars, tmp_path, shards=job.shards[:-1]).key != job.key


def test_vectors_that_are_not_numbers_stop_the_run(tars, tmp_path):
    """NaN from a model never reaches storage."""

    class Broken:
        dim = 16
        facts = {}  # noqa: RUF012 (a stand-in of three lines)

        def images(self, pixels_BHWC):
            return np.full((len(pixels_BHWC), 16), np.nan, np.float32)

    job = make_job(tars, tmp_path)
    recipe = job.encoder

    class Recipe:
        preprocess, fingerprint, check = recipe.preprocess, recipe.fingerprint, recipe.check

        def load(self, device, threads):
            return Broken()

    with pytest.raises(WorkError, match="non-finite"):
        _embed(dataclasses.replace(job, encoder=Recipe()))
    assert storage.list_files(storage.join(job.uri, "ledger")) == []


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_writes_the_same_bytes(workers, tars, undisturbed, tmp_path, ray_cluster):
    """1, 2 and 4 encoders on Ray give the checksum and the accounts of one process."""
    from raybench.distributed.embed import embed

    seen = []
    job = make_job(tars, tmp_path)
    pool = plan_pool(ray_cluster, 1, workers, len(job.shards))
    [manifest] = embed([job], pool, lambda rows, _share: seen.append(rows))

    for field in ("checksum", "rows_in", "rows_out", "dropped", "examples", "files", "inputs"):
        assert manifest[field] == undisturbed[field], field
    assert sum(seen) == manifest["rows_in"]
    assert storage.list_files(storage.join(job.uri, "chunks")) == []


@pytest.mark.ray
def test_encoders_that_share_a_pipeline_are_loaded_once_and_timed_apart(tars, undisturbed, tmp_path, ray_cluster):
    """One worker and two encoders: chunks come in the order of encoders, vectors are those of one process, rows count for their job."""
    from raybench.distributed.embed import embed

    loads = tmp_path / "loads"

    class Recipe:
        def __init__(self, dim):
            self.dim, self.inner = dim, ENCODERS.make(f"tiny(dim={dim}, delay_s={0.002 * dim})")

        def load(self, device, threads):
            with loads.open("a") as file:
                file.write(f"{self.dim}\n")
            return self.inner.load(device, threads)

    class Slow:
        def __init__(self, inner):
            self.inner = inner

        def read(self, shard):
            """A shard that comes after those of the next encoder, if it is not waited for."""
            time.sleep(1.0 if shard.number == 3 else 0.0)
            yield from self.inner.read(shard)

    jobs = [
        dataclasses.replace(
            make_job(tars, tmp_path),
            encoder=Recipe(dim),
            encoder_fingerprint=str(dim),
            chunk_rows=rows,
            encoder_spec="tiny()",
        )
        for dim, rows in ((16, 8), (4, 8), (16, 9))
    ]
    jobs[2] = dataclasses.replace(jobs[2], source=Slow(jobs[2].source))
    pool = dataclasses.replace(plan_pool(ray_cluster, 1, 1, len(jobs[0].shards)), feeders=3)
    made = embed(jobs, pool, lambda _rows, _share: None)

    assert loads.read_text().split() == ["16", "4"]
    assert made[0]["checksum"] == undisturbed["checksum"]
    plain = local.embed(
        [dataclasses.replace(job, vectors_uri=str(tmp_path / "plain")) for job in jobs], lambda _rows, _share: None
    )
    assert [one["checksum"] for one in made] == [one["checksum"] for one in plain]
    for manifests in (made, plain):
        facts = [one["environment"] for one in manifests]
        assert [one["rows_timed"] for one in facts] == [one["rows_in"] for one in manifests]
        assert facts[1]["busy_s"] < facts[0]["busy_s"] < facts[0]["embed_s"]
        assert all(one["busy_s"] <= one["embed_s"] for one in facts)
        assert len(facts[0]["pipeline"]) == 3


@pytest.mark.ray
def test_a_worker_error_is_one_sentence(tars, tmp_path, ray_cluster):
    """What raybench raises on a worker arrives as the same error, without Ray's traceback."""
    from raybench.distributed.embed import embed

    job = make_job(tars, tmp_path)
    wrong = dataclasses.replace(job, preprocess=None)

    with pytest.raises(WorkError, match="without a preprocess"):
        embed([wrong], plan_pool(ray_cluster, 1, 1, len(job.shards)), lambda _rows, _share: None)


def _command(evaluation: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "raybench", "embed", str(evaluation), "--out", str(out), "--json", *options]


@pytest.mark.ray
@pytest.mark.parametrize(("runner", "kills"), [(("--local",), 3), ((), 1)], ids=["in-process", "ray"])
def test_kills_do_not_change_the_result(runner, kills, tars, undisturbed, tmp_path):
    """SIGKILL of the driver in mid-embedding, once or several times; the next run ends with the manifest of an undisturbed one."""
    evaluation = tmp_path / "evaluation.yaml"
    evaluation.write_text(
        f'name: kills\nimages: webdataset("{tars}")\nencoders: ["tiny(dim=16, delay_s=0.4)"]\n'
        "embed: {chunk: 8, max_bad: 0.5, workers: 1}\n"
    )
    out = tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    committed = []
    for _ in range(kills):
        process = subprocess.Popen(_command(evaluation, out, *runner), env=environment, stdout=subprocess.DEVNULL)
        _wait_for_a_new_shard(out, len(committed), process)
        below = _descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list(out.glob("vectors/*/manifest.json")), "the run was over before it was killed"
        committed = list(out.glob("vectors/*/ledger/*.json"))
        _wait_for_the_end(below)
    done = subprocess.run(
        _command(evaluation, out, *runner), env=environment, capture_output=True, text=True, timeout=240, check=False
    )

    assert done.returncode == 0, done.stderr
    artifact = json.loads(done.stdout.splitlines()[-1])["artifacts"][0]
    manifest = json.loads((out / artifact["uri"] / "manifest.json").read_text())
    for field in ("checksum", "rows_in", "rows_out", "dropped", "examples", "files"):
        assert manifest[field] == undisturbed[field], field


def _descendants(pid: int) -> dict[int, bytes]:
    """The processes below one, with what each runs, so that an id that is used again is not taken for it."""
    found: dict[int, bytes] = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found[child] = _runs(child)
            found |= _descendants(child)
    return found


def _runs(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _wait_for_the_end(processes: dict[int, bytes]) -> None:
    """Ray ends what a killed driver started; what is left after ten seconds would only slow the next run down."""
    deadline = time.monotonic() + 10
    left = {pid for pid, runs in processes.items() if runs and _runs(pid) == runs}
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        left = {pid for pid in left if _runs(pid) == processes[pid]}
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait_for_a_new_shard(out: Path, before: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while len(list(out.glob("vectors/*/ledger/*.json"))) <= before:
        assert process.poll() is None, f"the run ended by itself with {process.returncode}"
        assert time.monotonic() < deadline, "no shard was committed within two minutes"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("cluster", "arguments", "message"),
    [
        ({"cpus": 2, "gpus": 0, "largest_node_cpus": 2}, {"threads": 1, "workers": 3}, "workers=3"),
        ({"cpus": 2, "gpus": 0, "largest_node_cpus": 2}, {"threads": 4}, "threads=4"),
        ({"cpus": 8, "gpus": 1, "largest_node_cpus": 8}, {"threads": 1, "workers": 2}, "1 GPU"),
        ({"cpus": 0, "gpus": 1, "largest_node_cpus": 0}, {"threads": 1}, "no CPU"),
    ],
)
def test_plans_that_would_hang_are_refused(cluster, arguments, message):
    """More than the cluster can schedule is an error before anything starts."""
    with pytest.raises(RequestError, match=message):
        plan_pool(cluster, **arguments)


@pytest.mark.parametrize("cpus", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("gpus", [0, 1, 4])
@pytest.mark.parametrize("shards", [1, 10, 10_000])
def test_every_stage_of_a_plan_can_run_beside_the_others(cpus, gpus, shards):
    """All encoders and all tasks of every other stage fit the cluster together, so none waits for ever."""
    pool = plan_pool({"cpus": cpus, "gpus": gpus, "largest_node_cpus": cpus}, 1, 0, shards)
    together = (
        pool.encoders * pool.encoder_cpus + pool.decoders * pool.decoder_cpus + 3 * pool.feeders * pool.feeder_cpus
    )

    assert together <= cpus
    assert pool.encoders * pool.encoder_gpus <= gpus
