"""Image sets by name: their rows, their terms, and a token that one host sees and nobody else."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from raybench.cli import main
from raybench.errors import RequestError, WorkError
from raybench.fetch import command, datasets, published
from raybench.fetch.connection import Limits
from raybench.fetch.items import RECORD, Item
from raybench.sources import SOURCES

QUICK = Limits(connect_s=2, read_s=1, tries=2, backoff_s=0.01)
CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()
TOKEN = "hf_very-secret"  # noqa: S105 - a made one
pytestmark = pytest.mark.timeout(30)


class Host(ThreadingHTTPServer):
    """A server that keeps what it is asked with; `/away/NAME` redirects to another, `/closed/NAME` wants a login."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[tuple[str, str | None]] = []  # path, Authorization
        self.other = ""
        self.content = CONTENT


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Host

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        """Redirect, refuse or serve."""
        host, login = self.server, self.headers.get("Authorization")
        host.asked.append((self.path, login))
        if self.path.startswith("/away/"):
            self._answer(302, b"", Location=host.other + "/signed/" + self.path.rsplit("/", 1)[1])
        elif self.path.startswith("/closed/") and login != f"Bearer {TOKEN}":
            self._answer(401 if login is None else 403, b"")
        else:
            tag = hashlib.sha256(host.content).hexdigest()[:12]
            self._answer(200, host.content, ETag=f'"{tag}"')

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Host, Host]]:
    """A hub and the host that it redirects to."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", *datasets._TOKENS):
        monkeypatch.delenv(name, raising=False)
    with Host() as hub, Host() as store:
        hub.other = store.base
        for server in (hub, store):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield hub, store
        hub.shutdown()
        store.shutdown()


def run_cli(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    """Exit code, standard output and error of `raybench fetch`."""
    with pytest.raises(SystemExit) as stop:
        main(["fetch", *arguments])
    return stop.value.code, *capfd.readouterr()


def get(folder: Path, *items: Item, tokens: dict[str, str] | None = None) -> list[Any]:
    """The outcomes of some files."""
    return command.fetch_all(items, folder, 2, lambda _: None, lambda _: None, QUICK, tokens)


def test_the_rows_are_whole():
    """Each set has its files, those with a checksum a size; the source that a set names can read a folder of it."""
    counts = {name: len(datasets.items(name)) for name in datasets.IMAGE_SETS}
    assert counts == {
        "flickr30k": 2, "coco-karpathy": 2, "coco-2014": 3, "coco-2017": 3, "imagenet-1k": 308, "imagenet-1k-validation": 14
    }  # fmt: skip
    for name, one in datasets.IMAGE_SETS.items():
        items = datasets.items(name)
        assert len({item.name for item in items}) == len(items)
        assert all((item.size is None) == (item.checksum is None) for item in items)
        assert all(len(item.urls) == 1 and item.urls[0].endswith("/" + item.name) for item in items)
        assert all(bool(item.login) == bool(one.login) == name.startswith("imagenet") for item in items)
        assert all(item.urls[0].startswith("https://") for item in items if item.login or item.checksum is None)
        SOURCES.make(one.reads)
    names = [item.name for item in datasets.items("imagenet-1k")]
    assert names[0] == "train-00000-of-00294.parquet"
    assert names[293:295] == ["train-00293-of-00294.parquet", "validation-00000-of-00014.parquet"]
    by_name = {item.name: item for item in datasets.items("coco-2014")}
    assert by_name["val2014.zip"] == datasets.items("coco-karpathy")[0]
    sizes = [item.size.high for item in datasets.items("flickr30k") if item.size]
    assert sizes == [4_390_240_817, 12_896_305]


def test_a_name_is_a_set_or_one_file_of_it():
    """`coco-2014/val2014.zip` is one file; mirrors come first; two sets that share a file fetch it once."""
    [item] = command.resolve(["coco-2014/val2014.zip"], ["http://m.example/x"])
    assert item.urls == ("http://m.example/x/val2014.zip", "http://images.cocodataset.org/zips/val2014.zip")
    assert len(command.resolve(["coco-2014", "coco-karpathy"])) == 4
    with pytest.raises(RequestError, match="did you mean 'flickr30k'"):
        command.resolve(["flickr-30k"])
    with pytest.raises(RequestError, match="no published file or group"):
        command.resolve(["coco-2014/nothing.zip"])
    assert set(datasets.IMAGE_SETS).isdisjoint(published.groups())


def test_a_token_goes_to_its_origin_alone(hosts: tuple[Host, Host], tmp_path: Path):
    """The hub sees it on each request, the host that it redirects to never; a file of another host neither."""
    hub, store = hosts
    items = [Item("a.bin", (f"{hub.base}/away/a.bin",)), Item("b.bin", (f"{store.base}/plain/b.bin",))]

    get(tmp_path, *items, tokens={hub.base: TOKEN})

    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes() == CONTENT
    assert {login for _, login in hub.asked} == {f"Bearer {TOKEN}"}
    assert {path for path, _ in store.asked} == {"/signed/a.bin", "/plain/b.bin"}
    assert {login for _, login in store.asked} == {None}


@pytest.mark.parametrize("token", [None, "hf_other"])
def test_a_refused_login_says_where_the_terms_are(hosts: tuple[Host, Host], tmp_path: Path, token: str | None):
    """401 and 403 end with what to do and where, and never with the token."""
    hub, _ = hosts
    item = Item("a.bin", (f"{hub.base}/closed/a.bin",), login="accept the terms at https://hub.example/x")
    with pytest.raises(WorkError, match=r"answered 40[13]; accept the terms at https://hub\.example/x") as caught:
        get(tmp_path, item, tokens={hub.base: token} if token else None)
    assert token is None or token not in str(caught.value)
    get(tmp_path, item, tokens={hub.base: TOKEN})
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_what_has_no_checksum_is_recorded_and_held_against_it(hosts: tuple[Host, Host], tmp_path: Path):
    """`sha256sum -c` can read the record; a file that changed since is set aside and fetched again."""
    hub, _ = hosts
    items = [Item(name, (f"{hub.base}/plain/{name}",)) for name in ("a b.bin", "é.bin")]
    assert [(one.state, one.checksum) for one in get(tmp_path, *items)] == [("fetched", f"sha256 {SHA}")] * 2
    assert sorted((tmp_path / RECORD).read_text().splitlines()) == [f"{SHA}  a b.bin", f"{SHA}  é.bin"]
    asked = len(hub.asked)
    assert [one.state for one in get(tmp_path, *items)] == ["present"] * 2
    assert len(hub.asked) == asked

    (tmp_path / "a b.bin").write_bytes(CONTENT[:-1] + b"x")
    [outcome, _] = get(tmp_path, *items)
    assert (outcome.state, outcome.wrong, (tmp_path / "a b.bin").read_bytes()) == ("fetched", 1, CONTENT)
    assert (tmp_path / "a b.bin.bad").exists()

    hub.content = b"another version"
    (tmp_path / "a b.bin").unlink()
    get(tmp_path, items[0])
    [outcome] = get(tmp_path, items[0])
    assert (outcome.state, outcome.checksum) == ("present", f"sha256 {hashlib.sha256(hub.content).hexdigest()}")


def made_set(monkeypatch: pytest.MonkeyPatch, base: str, path: str) -> None:
    """`imagenet-1k` becomes one file at a host of ours, whose origin stands for the hub's."""
    hint = "accept the terms at https://hub.example/x"
    monkeypatch.setattr(datasets, "_HUB", base)
    monkeypatch.setattr(datasets, "_items", lambda _: (Item("a.bin", (f"{base}/{path}/a.bin",), login=hint),))


def test_the_command_says_the_terms_and_wants_the_login_first(
    hosts: tuple[Host, Host], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Without a token: the terms, exit 2 and where to get one, nothing asked and nothing made. With it: the file."""
    hub, store = hosts
    made_set(monkeypatch, hub.base, "away")
    out = str(tmp_path / "data")

    code, _, err = run_cli(capfd, "imagenet-1k", "--out", out)
    assert (code, hub.asked, Path(out).exists()) == (2, [], False)
    assert "imagenet-1k: for non-commercial research" in err.splitlines()[0]
    assert re.search(r"wants a login: accept its terms at https://\S+/ILSVRC/imagenet-1k, .* set HF_TOKEN", err)

    for wrong in ("hf_a b", "hf_x\r\nHost: evil"):
        monkeypatch.setenv("HF_TOKEN", wrong)
        code, text, err = run_cli(capfd, "imagenet-1k", "--out", out)
        assert (code, hub.asked, "HF_TOKEN holds spaces" in err) == (2, [], True)
        assert "hf_" not in text + err

    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    code, text, err = run_cli(capfd, "imagenet-1k", "--out", out, "--json")
    assert (code, (Path(out) / "a.bin").read_bytes()) == (0, CONTENT)
    assert f'imagenet-1k is read by imagenet("{out}", split="all")' in text
    assert {login for _, login in hub.asked} == {f"Bearer {TOKEN}"}
    assert {login for _, login in store.asked} == {None}
    everything = text + err + "".join(path.read_text(errors="replace") for path in Path(out).iterdir())
    assert TOKEN not in everything

    monkeypatch.delenv("HF_TOKEN")
    code, _, err = run_cli(capfd, "imagenet-1k", "--out", out)  # all is there, so no login is needed
    assert (code, "is there, verified" in err) == (0, True)


def test_a_mirror_needs_no_login(
    hosts: tuple[Host, Host], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A mirror of one's own is asked first, and never with the token."""
    hub, store = hosts
    made_set(monkeypatch, hub.base, "closed")
    arguments = ("imagenet-1k", "--mirror", f"{store.base}/plain", "--out")
    assert run_cli(capfd, *arguments, str(tmp_path / "a"))[0] == 0
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", TOKEN)
    assert run_cli(capfd, *arguments, str(tmp_path / "b"))[0] == 0
    assert (hub.asked, {login for _, login in store.asked}) == ([], {None})


def test_the_list_says_what_is_known(capfd: pytest.CaptureFixture[str]):
    """A row for each set and group, terms included, and the same as JSON; without a name the list is pointed to."""
    code, out, _ = run_cli(capfd, "--list", "--json")
    rows = {row["name"]: row for row in json.loads(out.splitlines()[-1])["sets"]}

    assert code == 0
    assert list(rows) == [*datasets.IMAGE_SETS, *published.groups()]
    assert (rows["imagenet-1k"]["files"], rows["sisap2023"]["files"]) == (308, 45)
    assert "HF_TOKEN" in rows["imagenet-1k"]["login"]
    assert all(name in out.partition("{")[0] for name in rows)
    code, _, err = run_cli(capfd)
    assert (code, "--list" in err) == (2, True)
    code, _, err = run_cli(capfd, "flickr30k")
    assert (code, "--out" in err) == (2, True)
