"""Jina CLIP v2: remote code only if asked for and pinned, the same vectors as its own methods, packages of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jina_models import DIM, code_files, jina_folder, text_repositories, wheel
from PIL import Image

from raybench import storage
from raybench.collection import open_collection
from raybench.encoders import ENCODERS, jina_files, packages
from raybench.encoders.jina_clip import PACKAGES, JinaClip
from raybench.encoders.model_files import folder_digest
from raybench.errors import RequestError, WorkError
from raybench.experiments import evaluation_file as files
from raybench.experiments.embedded import embed_images
from raybench.experiments.prepared import prepare
from raybench.experiments.reporting import Silent

COMMITS = {
    name: digit * 40
    for name, digit in zip(("revision", "code_revision", "text_revision", "text_code_revision"), "abcd", strict=True)
}
TEXTS = ["a red car", "the", "a big blue dog and a small green house on the left", ""]


def _pictures() -> list[Image.Image]:
    random = np.random.default_rng(3)
    return [
        Image.fromarray(random.integers(0, 255, (height, width, 3), np.uint8))
        for height, width in ((40, 60), (90, 35), (32, 32))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with its code beside it."""
    return jina_folder(tmp_path_factory.mktemp("jina") / "jina-tiny")


def _recipe(folder: Path, **changes: object) -> JinaClip:
    values = {"digest": folder_digest(folder), "remote_code": True, "dim": DIM, "packages": ()}
    return JinaClip(str(folder), **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [DIM, 6])
def test_vectors_are_those_of_its_own_methods(folder, dim):
    """Pictures and texts as `encode_image` and `encode_text` of the model's code give them, cut to the same dimensions."""
    from transformers import AutoModel

    recipe = _recipe(folder, dim=dim)
    encoder = recipe.load("cpu", 1)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    pixels = np.stack([recipe.preprocess().apply(one) for one in _pictures()])

    assert encoder.dim == dim
    assert np.abs(encoder.images(pixels) - model.encode_image(_pictures(), truncate_dim=dim)).max() < 1e-5
    assert np.abs(encoder.texts(TEXTS) - model.encode_text(TEXTS, truncate_dim=dim)).max() < 1e-5
    assert np.abs(encoder.texts(TEXTS[:1]) - encoder.texts(TEXTS)[:1]).max() < 1e-5
    assert encoder.facts["pins"]["digest"] == folder_digest(folder)
    assert encoder.facts["model_class"] == "JinaCLIPModel"


def test_an_instruction_of_the_model_is_said(tmp_path):
    """Where the model puts words before a text when no task is named, they are put there."""
    from transformers import AutoModel

    folder = jina_folder(tmp_path / "jina-said", instruction="the red ")
    said = _recipe(folder).load("cpu", 1).texts(TEXTS)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)

    assert np.abs(said - model.encode_text(TEXTS)).max() < 1e-5
    assert np.abs(said - _recipe(jina_folder(tmp_path / "jina-plain")).load("cpu", 1).texts(TEXTS)).max() > 0.01


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "jinaai/jina-clip-v2 runs code that comes with it; read that code, then add remote_code=True"),
        ({"remote_code": True}, "runs code of jinaai/jina-clip-v2, and revision=None does not pin it"),
        ({**COMMITS, "revision": "main", "remote_code": True}, "revision='main' does not pin it"),
        (
            {**COMMITS, "code_revision": None, "remote_code": True},
            "runs code of jinaai/jina-clip-implementation, and code_revision=None",
        ),
        (
            {**COMMITS, "text_code_revision": "a" * 39, "remote_code": True},
            "runs code of jinaai/xlm-roberta-flash-implementation",
        ),
        ({**COMMITS, "remote_code": True, "dim": 2000}, "dim=2000 must be from 1 to 1024"),
        ({**COMMITS, "remote_code": True, "digest": "x"}, "digest='x' is of a folder"),
        ({**COMMITS, "remote_code": True, "precision": "fp64"}, "precision='fp64' is not known"),
    ],
)
def test_code_runs_only_when_it_is_asked_for_and_pinned(values, words):
    """Every repository whose code or configuration takes part needs its commit."""
    with pytest.raises(RequestError) as caught:
        JinaClip("jinaai/jina-clip-v2", **values).check()
    assert words in str(caught.value)
    assert JinaClip("jinaai/jina-clip-v2", **COMMITS, remote_code=True).check() is None


def test_a_folder_is_pinned_by_its_content(folder, tmp_path):
    """A changed line of code is another digest, and code of another repository is none that a digest pins."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    pinned = _recipe(copy)
    pinned.check()
    (copy / "modeling_clip.py").write_text((copy / "modeling_clip.py").read_text() + "\n# changed\n")
    with pytest.raises(RequestError, match="does not pin it; read its code"):
        pinned.load("cpu", 1)
    elsewhere = jina_folder(tmp_path / "elsewhere", code="someone/else")
    with pytest.raises(RequestError, match="takes code from another repository"):
        _recipe(elsewhere).check()
    with pytest.raises(RequestError, match="means nothing for the folder"):
        _recipe(folder, revision="a" * 40).check()
    with pytest.raises(RequestError, match="has 16 dimensions; ask for fewer"):
        _recipe(folder, dim=17).load("cpu", 1)


def test_a_weight_that_is_missing_is_an_error(tmp_path):
    """Transformers would make it up."""
    from safetensors.torch import load_file, save_file

    folder = jina_folder(tmp_path / "jina-gap")
    weights = load_file(folder / "model.safetensors")
    del weights["vision_model.bias"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RequestError, match=r"missing keys: vision_model\.bias"):
        _recipe(folder).load("cpu", 1)


def test_another_version_of_a_package_is_refused_in_this_process(folder):
    """`--local` has the packages that are installed, and says which one does not fit."""
    with pytest.raises(RequestError, match=r"needs transformers==4\.57\.6, and this process has .*; run it on Ray"):
        _recipe(folder, packages=PACKAGES).load("cpu", 1)


def test_the_key_follows_pins_and_dimensions(folder):
    """What decides the vectors decides the fingerprint: commits, dimensions, packages; and the spec prints back."""
    recipe = JinaClip("jinaai/jina-clip-v2", **COMMITS, remote_code=True)
    others = [
        JinaClip("jinaai/jina-clip-v2", **(COMMITS | change), **more)
        for change, more in (
            ({"text_code_revision": "e" * 40}, {"remote_code": True}), ({}, {"remote_code": True, "dim": 64}),
            ({}, {"remote_code": True, "packages": ("einops==0.8.1",)}),
        )
    ]  # fmt: skip

    assert len({one.fingerprint() for one in (recipe, *others, _recipe(folder))}) == 5
    spec = f'jina_clip("jinaai/jina-clip-v2", remote_code=True, packages=["einops"], {", ".join(f"{k}={v!r}" for k, v in COMMITS.items())})'
    assert ENCODERS.make(spec) == JinaClip("jinaai/jina-clip-v2", **COMMITS, remote_code=True, packages=("einops",))


_LOAD = """
import json, sys
from raybench.encoders.jina_clip import JinaClip
encoder = JinaClip("jinaai/jina-clip-v2", **json.loads(sys.argv[1])).load("cpu", 1)
print(json.dumps([encoder.texts(["a red car"]).tolist(), encoder.facts["model_class"]]))
"""


def test_four_repositories_load_at_their_commits(tmp_path, monkeypatch):
    """From a cache as the hub's library leaves it: the code that asks for `main` of two more repositories gets the pinned ones."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    names = (
        "jinaai/jina-clip-v2",
        "jinaai/jina-clip-implementation",
        "jinaai/jina-embeddings-v3",
        "jinaai/xlm-roberta-flash-implementation",
    )
    commits = dict(zip(names, COMMITS.values(), strict=True))
    hub = jina_files.cache(commits) / "hub"
    model, code, text, text_code = (
        hub / f"models--{name.replace('/', '--')}" / "snapshots" / commit for name, commit in commits.items()
    )
    jina_folder(model, code=names[1])
    code_files(code, nested='AutoConfig.from_pretrained("jinaai/jina-embeddings-v3", trust_remote_code=True).scale')
    text_repositories(text, text_code, 2.5)
    settings = json.dumps({**COMMITS, "remote_code": True, "dim": DIM, "packages": []})
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(packages.__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, settings], capture_output=True, text=True, env=environment, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    vectors, kind = json.loads(done.stdout.splitlines()[-1])
    plain = _recipe(jina_folder(tmp_path / "plain", nested="2.5")).load("cpu", 1).texts(["a red car"])
    assert kind == "JinaCLIPModel"
    assert np.abs(np.array(vectors) - plain).max() < 1e-6


def test_packages_come_first_and_once(tmp_path, monkeypatch):
    """An overlay is installed whole, found first, and used again; a package that cannot be had is one sentence."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    own = (str(wheel(tmp_path, "raybench_overlaid", "1.5")),)
    packages.activate(own)
    import raybench_overlaid

    assert raybench_overlaid.VERSION == "1.5"
    assert packages.check_installed(("raybench_overlaid==1.5",), "it") is None
    with pytest.raises(RequestError, match=r"needs raybench_overlaid==2, and this process has 1\.5"):
        packages.check_installed(("raybench_overlaid==2",), "it")
    monkeypatch.setattr(packages, "_install", None)  # it is there already
    packages.activate(own)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(WorkError, match="this process has imported raybench_overlaid already"):
        packages.activate((str(wheel(tmp_path, "raybench_overlaid", "2.0")),))
    with pytest.raises(WorkError, match=r"could not be installed: .*; every node needs a package index"):
        packages.activate((str(tmp_path / "missing-1.0-py3-none-any.whl"),))
    assert not [
        path for path in (tmp_path / "cache" / "raybench" / "packages").iterdir() if path.is_dir() and "." in path.name
    ]
    del sys.modules["raybench_overlaid"]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:The maximum number of concurrent tasks")
def test_actors_get_packages_of_their_own(tmp_path, ray_cluster, monkeypatch):
    """On Ray the model's code imports a package that this process lacks, and the vectors are those of one that has it."""
    from raybench.distributed.backend import ray_backend

    own = wheel(tmp_path, "raybench_probe", "3.25")
    folder = jina_folder(tmp_path / "jina-probe", probe="raybench_probe", nested="float(raybench_probe.VERSION)")
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(_pictures()):
        picture.save(tmp_path / "pictures" / f"{number}.png")
    spec = f'jina_clip("{folder}", digest="{folder_digest(folder)}", remote_code=True, dim={DIM}, packages=["{own}"])'
    content = {"name": "probe", "images": f'folder("{tmp_path}/pictures")', "encoders": [spec], "embed": {"workers": 1}}
    prepared = prepare(files.parse(json.dumps(content), "test"), str(tmp_path / "out"))
    try:
        with ray_backend() as backend:
            made = embed_images(prepared, backend, Silent())
    finally:
        for path in packages.root().glob(f"{packages.key([str(own)])}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    stored = open_collection(storage.join(made.out, made.artifacts[0]["uri"])).load().matrix_ND
    with pytest.raises(RequestError, match="raybench_probe"):
        _recipe(folder).load("cpu", 1)
    monkeypatch.syspath_prepend(str(own))
    encoder = _recipe(folder).load("cpu", 1)
    pixels = np.stack([_recipe(folder).preprocess().apply(one) for one in _pictures()])

    assert made.artifacts[0]["encoder_facts"]["packages"] == [str(own)]
    assert np.abs(np.asarray(stored, np.float64) - encoder.images(pixels)).max() < 1e-3
