"""Fetched files are whole and have their checksum, whatever a server does; servers here are on loopback."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.cli import main
from raybench.errors import DataError, RaybenchError, RequestError, StorageError, WorkError
from raybench.fetch import command, published
from raybench.fetch.connection import Limits
from raybench.fetch.items import Checksum, Item, Size, below, check_url, name_of, safe_name
from raybench.fetch.lists import read_list

PIECE = 64 << 10
QUICK = Limits(connect_s=2, read_s=0.3, tries=3, backoff_s=0.01, piece_bytes=PIECE)
CONTENT = np.random.default_rng(7).bytes(10 * PIECE + 1234)
pytestmark = pytest.mark.timeout(40)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Site(ThreadingHTTPServer):
    """A server whose addresses are /MODE/NAME; a mode says how it misbehaves, `times` how often."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server_port}"
        self.asked = []  # (mode, start, stop), of a whole file start is None
        self.times = {}
        self.content = CONTENT
        self.gate = threading.Event()
        self.stall_s = 3
        self.open_now = self.open_most = 0
        self.lock = threading.Lock()

    def url(self, mode, name="base.bin"):
        """The address of a name in a mode."""
        return f"{self.base}/{mode}/{name}"

    def turn(self, mode):
        """Whether the mode still misbehaves, counting down."""
        with self.lock:
            left = self.times.get(mode, 10**9)
            self.times[mode] = left - 1
            return left > 0

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Site

    def log_message(self, *_):
        """Nothing is printed."""

    def do_GET(self):
        """Count the connections that are being answered."""
        site, mode = self.server, self.path.split("/")[1]
        with site.lock:
            site.open_now += 1
            site.open_most = max(site.open_most, site.open_now)
        try:
            self._serve(site, mode)
        finally:
            with site.lock:
                site.open_now -= 1

    def _serve(self, site, mode):  # noqa: PLR0912 (one branch for each way to misbehave)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(match[1]), int(match[2]) + 1) if match else (None, None)
        site.asked.append((mode, start, stop))
        content = site.content
        statuses = {"busy": 503, "missing": 404, "forbidden": 403}
        if mode in statuses and site.turn(mode):
            self._head(statuses[mode], 0)
            return
        if mode in ("moved", "away"):
            self.send_response(302)
            self.send_header("Location", site.url("plain") if mode == "moved" else "file:///etc/passwd")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        ranged = match is not None and mode not in ("noranges", "short", "endless", "chunked", "torn")
        if ranged and start >= len(content):
            self._head(416, 0)
            return
        body = content[start:stop] if ranged else content
        if mode == "corrupt" and site.turn(mode):
            body = bytes([body[0] ^ 1]) + body[1:]
        if mode == "short":
            body = body[: len(body) // 2]
        if mode in ("chunked", "torn"):
            self._chunks(body, torn=mode == "torn" and site.turn(mode))
            return
        extra = {}
        if ranged:
            shift = 1 if mode == "shifted" else 0
            extra["Content-Range"] = f"bytes {start + shift}-{start + shift + len(body) - 1}/{len(content)}"
        if mode == "zipped":
            extra["Content-Encoding"] = "gzip"
        if mode != "untagged":
            tag = hashlib.sha256(content).hexdigest()[:16]
            extra["ETag"] = f'"{tag}"' if mode != "changing" else f'"{time.monotonic_ns()}"'
        self._head(206 if ranged else 200, None if mode == "endless" else len(body), **extra)
        if mode == "endless":
            self.close_connection = True
        if mode == "gate" and start is not None and start >= 5 * PIECE and not site.gate.is_set():
            self.wfile.write(body[:1000])
            site.gate.wait(20)
            self.close_connection = True
        elif mode == "stall" and site.turn(mode):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            site.gate.wait(site.stall_s)
            self.close_connection = True
        elif mode == "truncate" and site.turn(mode):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif mode == "drip":
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(0.02)
        else:
            if mode == "slow":
                time.sleep(0.05)
            self.wfile.write(body)

    def _head(self, status, length, **extra):
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _chunks(self, body, *, torn):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(body), 100_000):
            chunk = body[at : at + 100_000]
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            if torn:
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def site(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.gate.set()
        server.shutdown()


def item(*urls, name="base.bin", md5=MD5, size=None):
    return Item(name, urls, Checksum("md5", md5) if md5 else None, size)


def get(folder, *items, jobs=2, limits=QUICK):
    return command.fetch_all(items, folder, jobs, lambda _: None, lambda _: None, limits)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("mode", "times"),
    [
        ("plain", 0), ("noranges", 0), ("endless", 0), ("chunked", 0), ("torn", 1), ("moved", 0), ("untagged", 0),
        ("stall", 2), ("truncate", 3), ("busy", 2), ("corrupt", 1), ("changing", 0),
    ],
)  # fmt: skip
def test_the_bytes_are_those_of_the_server(site, tmp_path, mode, times):
    """However often it stalls, hangs up, is busy or gives one wrong byte: the file is whole, and nothing else is left."""
    site.times[mode] = times

    (outcome,) = get(tmp_path, item(site.url(mode)))

    assert (tmp_path / "base.bin").read_bytes() == CONTENT
    assert names(tmp_path) == (["base.bin", "base.bin.bad"] if mode == "corrupt" else ["base.bin"])
    assert (outcome.state, outcome.size_bytes, outcome.wrong) == ("fetched", len(CONTENT), int(mode == "corrupt"))
    assert (outcome.retries > 0) == (mode in ("torn", "stall", "truncate", "busy"))


def test_an_empty_file_is_a_file(site, tmp_path):
    """A file of no bytes, which has no range to ask for, is fetched like another."""
    site.content = b""

    get(tmp_path, item(site.url("plain"), md5=hashlib.md5(b"", usedforsecurity=False).hexdigest()))

    assert (tmp_path / "base.bin").read_bytes() == b""


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("stall", "stopped sending, 3 times"), ("busy", "answered 503, 3 times"), ("missing", "answered 404"),
        ("forbidden", "answered 403"), ("away", "not http"), ("shifted", "another range"), ("zipped", "compressed"),
        ("torn", "3 times"),
    ],
)  # fmt: skip
def test_what_never_comes_right_is_said(site, tmp_path, mode, reason):
    """Without another source the sentence names the file and what the source did, and there is no file."""
    if mode == "stall":
        site.content = CONTENT[:2]  # so that each try comes to the same byte
    with pytest.raises(WorkError, match=rf"base\.bin could not be fetched: .*{reason}"):
        get(tmp_path, item(site.url(mode)))

    assert "base.bin" not in names(tmp_path)


def test_a_source_that_refuses_is_asked_once(site, tmp_path):
    """404 and 403 go to the next source at once."""
    (outcome,) = get(tmp_path, item(site.url("missing"), site.url("forbidden"), site.url("plain")))

    assert outcome.source == site.url("plain")
    assert outcome.retries == 0
    assert [mode for mode, *_ in site.asked].count("missing") == 1
    assert [mode for mode, *_ in site.asked].count("forbidden") == 1


def test_a_source_that_breaks_hands_over_to_the_next(site, tmp_path):
    """A source that only drips is left after some tries, and the next one gives the file."""
    site.content = content = CONTENT[: 3 * PIECE]
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    (outcome,) = get(tmp_path, item(site.url("drip"), site.url("plain"), md5=md5), jobs=1)

    assert outcome.source == site.url("plain")
    assert (tmp_path / "base.bin").read_bytes() == content


def test_wrong_bytes_are_tried_from_the_next_source(site, tmp_path):
    """One corrupted byte: the wrong file is kept aside, and the next mirror gives the right one."""
    (outcome,) = get(tmp_path, item(site.url("corrupt"), site.url("plain")))

    assert (outcome.source, outcome.wrong) == (site.url("plain"), 1)
    bad = (tmp_path / "base.bin.bad").read_bytes()
    assert len(bad) == len(CONTENT)
    assert bad != CONTENT


@pytest.mark.parametrize("mode", ["corrupt", "short"])
def test_wrong_bytes_twice_end_the_work(site, tmp_path, mode):
    """A corrupted byte, or a length that is itself too short: the sentence has the file, expected and got."""
    with pytest.raises(
        WorkError, match=rf"base\.bin came with wrong bytes twice: expected md5 {MD5}, got [0-9a-f]{{32}}"
    ):
        get(tmp_path, item(site.url(mode)))

    assert names(tmp_path) == ["base.bin.bad"]


def test_a_file_of_another_size_is_not_fetched(site, tmp_path):
    """A size that cannot be the listed one is refused before its bytes come."""
    with pytest.raises(WorkError, match=r"has 656,594 bytes where 15G is listed"):
        get(tmp_path, item(site.url("plain"), size=Size.parse("15G")))

    assert len(site.asked) == 1


def test_what_is_there_is_checked_and_not_fetched(site, tmp_path):
    """The right file is left as it is; a wrong one is kept aside, counted and fetched."""
    (tmp_path / "base.bin").write_bytes(CONTENT)
    (outcome,) = get(tmp_path, item(site.url("plain")))
    assert (outcome.state, site.asked) == ("present", [])

    (tmp_path / "base.bin").write_bytes(b"mine")
    (outcome,) = get(tmp_path, item(site.url("plain")))
    assert (outcome.state, outcome.wrong) == ("fetched", 1)
    assert (tmp_path / "base.bin.bad").read_bytes() == b"mine"
    assert (tmp_path / "base.bin").read_bytes() == CONTENT


def test_a_killed_fetch_goes_on_with_what_is_missing(site, tmp_path):
    """After SIGKILL in the middle, the next run asks for the missing pieces, each once, and for nothing else."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom raybench.fetch.command import fetch_all\n"
        "from raybench.fetch.connection import Limits\nfrom raybench.fetch.items import Checksum, Item\n"
        f"item = Item('base.bin', (sys.argv[1],), Checksum('md5', '{MD5}'))\n"
        f"limits = Limits(read_s=30, piece_bytes={PIECE})\n"
        "fetch_all([item], Path(sys.argv[2]), 2, lambda _: None, lambda _: None, limits)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, site.url("gate"), str(tmp_path)])
    journal = tmp_path / "base.bin.part.pieces"
    try:
        deadline = time.monotonic() + 20
        while not (journal.exists() and journal.read_text().count("\n") == 6):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait(timeout=10)
    assert names(tmp_path) == ["base.bin.part", "base.bin.part.pieces"]
    assert command.plan([item(site.url("gate"))], str(tmp_path))[0].there_bytes == 5 * PIECE
    site.gate.set()
    site.asked.clear()

    (outcome,) = get(tmp_path, item(site.url("plain")))

    asked = sorted((start, stop) for _, start, stop in site.asked)
    assert asked == [(at, min(at + PIECE, len(CONTENT))) for at in range(5 * PIECE, len(CONTENT), PIECE)]
    assert outcome.fetched_bytes == len(CONTENT) - 5 * PIECE
    assert (tmp_path / "base.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["base.bin"]


def _left_by_an_earlier_try(site, folder, *, url=None, tail="", header=None):
    """Three pieces of a part, of which the first has wrong bytes, so that using them shows."""
    tag = hashlib.sha256(CONTENT).hexdigest()[:16]
    (folder / "base.bin.part").write_bytes(b"\1" * PIECE + CONTENT[PIECE : 3 * PIECE])
    facts = {"url": url, "size_bytes": len(CONTENT), "validator": f'"{tag}"', "piece_bytes": PIECE} | (header or {})
    (folder / "base.bin.part.pieces").write_text(json.dumps(facts) + "\n0\n1\n2" + tail)


def test_without_a_checksum_only_the_same_version_goes_on(site, tmp_path):
    """Where a mix of versions would show nowhere, pieces of another source, validator or size are fetched again."""
    for header in ({"validator": '"old"'}, {"validator": ""}, {"url": site.url("gate")}, {"size_bytes": 5}):
        _left_by_an_earlier_try(site, tmp_path, url=site.url("plain"), tail="\n", header=header)
        get(tmp_path, item(site.url("plain"), md5=None))
        assert (tmp_path / "base.bin").read_bytes() == CONTENT
        (tmp_path / "base.bin").unlink()
    _left_by_an_earlier_try(site, tmp_path, url=site.url("plain"), tail="\n")

    (outcome,) = get(tmp_path, item(site.url("plain"), md5=None))

    assert outcome.fetched_bytes == len(CONTENT) - 3 * PIECE


@pytest.mark.parametrize("md5", [MD5, None])
def test_a_part_of_a_longer_file_is_started_over(site, tmp_path, md5):
    """Where the source has fewer bytes than the part begins at, the part was of another file."""
    held = 20 * PIECE
    (tmp_path / "base.bin.part").write_bytes(b"\1" * held)
    facts = {"url": site.url("plain"), "size_bytes": 2 * held, "validator": '"x"', "piece_bytes": PIECE}
    pieces = "".join(f"{piece}\n" for piece in range(20))
    (tmp_path / "base.bin.part.pieces").write_text(json.dumps(facts) + "\n" + pieces)

    get(tmp_path, item(site.url("plain"), md5=md5))

    assert (tmp_path / "base.bin").read_bytes() == CONTENT


def test_a_journal_cut_off_or_broken_loses_only_what_it_cannot_say(site, tmp_path):
    """A last line without its end does not count; a journal that is no journal starts the file over."""
    _left_by_an_earlier_try(site, tmp_path, url=site.url("plain"), tail="")
    (outcome,) = get(tmp_path, item(site.url("plain"), md5=None))
    assert outcome.fetched_bytes == len(CONTENT) - 2 * PIECE
    (tmp_path / "base.bin").unlink()
    (tmp_path / "base.bin.part").write_bytes(b"\1" * PIECE)
    (tmp_path / "base.bin.part.pieces").write_text('{"piece_bytes": 0}\n0\n')

    (outcome,) = get(tmp_path, item(site.url("plain"), md5=None))

    assert (tmp_path / "base.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("mode", ["changing", "endless"])
def test_without_a_checksum_what_cannot_be_trusted_is_refused(site, tmp_path, mode):
    """A file that changes while it comes, or whose end is not known, is no file when no checksum can tell."""
    with pytest.raises(WorkError, match=r"changed the file|where the file ends"):
        get(tmp_path, item(site.url(mode), md5=None))


def test_two_processes_do_not_write_one_part(site, tmp_path):
    """A part that is held by another fetch is left alone."""
    first = threading.Thread(
        target=get, args=(tmp_path, item(site.url("gate"))), kwargs={"limits": Limits(piece_bytes=PIECE)}
    )
    first.start()
    while len(site.asked) < 7:
        time.sleep(0.01)
    try:
        with pytest.raises(WorkError, match="by another process"):
            get(tmp_path, item(site.url("plain")))
    finally:
        site.gate.set()
        first.join(timeout=20)
    assert (tmp_path / "base.bin").read_bytes() == CONTENT


def test_files_and_pieces_come_in_parallel_within_jobs(site, tmp_path):
    """Several connections at a time, never more than asked for; each file has its own bytes."""
    items = [item(site.url("slow", f"{number}.bin"), name=f"{number}.bin") for number in range(4)]

    outcomes = get(tmp_path, *items, jobs=3)

    assert [outcome.name for outcome in outcomes] == [f"{number}.bin" for number in range(4)]
    assert all((tmp_path / f"{number}.bin").read_bytes() == CONTENT for number in range(4))
    assert site.open_most >= 2
    # An answer whose body waits for its place is open beside those that are read, one for each file.
    assert site.open_most <= 6


def test_one_file_that_fails_does_not_stop_the_others(site, tmp_path):
    """All that can be fetched is there when the failure is said."""
    with pytest.raises(WorkError, match=r"a\.bin .*and 1 more files failed"):
        get(tmp_path, item(site.url("missing"), name="a.bin"), item(site.url("plain")), item(name="b.bin"), jobs=1)

    assert names(tmp_path) == ["base.bin"]


def test_no_room_is_said_before_and_during(site, tmp_path, monkeypatch):
    """Listed sizes are held against the free disk before anything starts, unknown ones when the server tells them."""
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    sized = item(site.url("plain"), size=Size.parse(str(len(CONTENT))))

    with pytest.raises(StorageError, match=r"656,594 bytes are missing .* 1,000 free"):
        command.check_room(command.plan([sized], str(tmp_path)), tmp_path)
    assert site.asked == []
    for mode in ("plain", "noranges"):
        with pytest.raises(WorkError, match=r"base.bin needs 656,594 more bytes, and .* has 1,000 free"):
            get(tmp_path, item(site.url(mode)))


def test_a_disk_that_fills_up_is_a_sentence(site, tmp_path, monkeypatch):
    """The system's refusal to write ends the file with what to do, and what came is kept."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(WorkError, match="No space left on device; make room and run again"):
        get(tmp_path, item(site.url("plain")))


def test_published_files_are_those_of_the_lists():
    """45 files of 2023 and 11 of 2024; each has an MD5, and all but two an address, of which there are three bases."""
    rows = published.published()
    by_key = {(row.listing, row.name): row for row in rows}

    assert len(by_key) == len(rows) == 56
    assert sum(row.listing == "sisap2023" for row in rows) == 45
    assert all(re.fullmatch(r"[0-9a-f]{32}", row.md5) for row in rows)
    without = {row.name for row in rows if not row.bases}
    assert without == {"laion2B-en-clip768v2-n=1M.h5", "laion2B-en-clip768v2-n=3M.h5"}
    assert {row.name for row in rows if not row.size} == without
    assert len({base for row in rows for base in row.bases}) == 3
    assert {row.family for row in rows} == {"clip768v2", "hammingv2", "pca32v2", "pca96v2"}
    assert by_key["sisap2023", "laion2B-en-clip768v2-n=1M.h5"].md5 == "61dea2ae683636a248cb915391156435"
    assert by_key["sisap2024", "laion2B-en-clip768v2-n=1M.h5"].md5 == "47fe7d2da1644bffee684d3b17b7d404"
    assert by_key["sisap2023", "laion2B-en-hammingv2-n=30M.h5"].md5 == "9f438fd469e21313684f191d375c63ed"
    gold = by_key["sisap2023", "laion2B-en-private-gold-standard-v2-30M-F64-IEEE754.h5"]
    assert (gold.size, gold.md5, gold.note) == ("783K", "3b43d7b1251bd1387419a245bec8ba55", "only 10 deep")
    same = by_key["sisap2023", "private-queries-10k-clip768v2.h5"]
    assert same.md5 == by_key["sisap2024", "public-queries-2024-laion2B-en-clip768v2-n=10k.h5"].md5
    # 300,000 rows of 768 float16 lie within the size that the list gives, and so do 1,000 neighbours of 10,000 queries.
    assert Size.parse("440M").low <= 300_000 * 768 * 2 <= Size.parse("440M").high
    assert Size.parse("77M").low <= 10_000 * 1000 * 8 <= Size.parse("77M").high


def test_names_stand_for_groups_and_files():
    """A group is vectors, public queries and float64 gold; a name of two different files must say which."""
    for size, listed in (("300K", "440M"), ("10M", "15G"), ("100M", "147G")):
        corpus, queries, gold = published.find(f"sisap-{size}")
        assert (corpus.name, corpus.size) == (f"laion2B-en-clip768v2-n={size}.h5", listed)
        assert queries.md5 == "257b9eb3f7f25776e0d33b22451b7b32"
        assert gold.name == f"laion2B-en-public-gold-standard-v2-{size}-F64-IEEE754.h5"
        projected = published.find(f"sisap-{size}-projections")
        assert [row.family for row in projected] == ["pca32v2"] * 2 + ["pca96v2"] * 2 + ["hammingv2"] * 2
        assert [row.kind for row in projected] == ["corpus", "queries"] * 3
    (one,) = published.items("sisap2024/laion2B-en-clip768v2-n=1M.h5", ["http://m.example/x/"])
    assert one.urls[0] == "http://m.example/x/laion2B-en-clip768v2-n%3D1M.h5"
    assert one.urls[1].endswith("/SISAP23-Challenge/laion2B-en-clip768v2-n%3D1M.h5")
    with pytest.raises(RequestError, match=r"different file in each list; write sisap2023/.* or sisap2024/"):
        published.find("laion2B-en-clip768v2-n=1M.h5")
    with pytest.raises(RequestError, match="did you mean 'sisap-300K'"):
        published.find("sisap-300k")
    with pytest.raises(
        RequestError, match=r"known are: coco-2014, .*, imagenet-1k, .*, sisap-100M, sisap-100M-projections, sisap-10M,"
    ):
        published.find("???")
    with pytest.raises(RequestError, match="no published address; give --mirror"):
        published.items("laion2B-en-clip768v2-n=3M.h5")
    merged = command.resolve(["sisap-300K", "sisap2024/laion2B-en-clip768v2-n=300K.h5"])
    assert len(merged) == 3
    assert len(command.resolve(["sisap2023", "sisap2024"])) == 45 + 11 - 4


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 1 << 48))
def test_a_listed_size_bounds_the_real_one(size_bytes):
    """Sizes as `ls -h` shows them, computed here by its rule (round up; one decimal below 10), hold the real size."""
    unit = min(int(math.log2(size_bytes)) // 10, 4)
    tenths = -(-size_bytes * 10 // 1024**unit)
    shown = f"{tenths / 10:.1f}" if tenths < 100 else str(-(-size_bytes // 1024**unit))
    text = shown + "KMGT"[unit - 1] if unit else str(size_bytes)

    size = Size.parse(text)

    assert size.low <= size_bytes <= size.high
    assert size.high <= size_bytes * 1.12 + 1


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40))
def test_a_name_survives_its_address_or_is_refused(name):
    """Any name comes back from its address below a base, unless it could leave its folder."""
    try:
        safe_name(name)
        address = below("https://h.example/a=b/", name)
    except (RequestError, UnicodeEncodeError):
        odd = (
            not name
            or name in (".", "..")
            or re.search(r"[/\\\x00-\x1f\x7f]|\.part$|\.pieces$|\.bad$|^fetched\.sha256$", name)
        )
        assert odd or any(0xD800 <= ord(letter) < 0xE000 for letter in name)
    else:
        assert name_of(address) == name
        assert "/" not in name
        assert "=" not in address.removeprefix("https://h.example/a=b/")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "http:///x", "http://u:p@h/x", "http://h/a b", "x"])
def test_addresses_are_http(url):
    """Nothing but http and https with a host is asked, and passwords have no place in an address."""
    with pytest.raises(RequestError, match="not an address to fetch from"):
        check_url(url)


def test_lists_are_read(tmp_path):
    """aria2's input file, one line a file, and CSV give the same files; mirrors come first."""
    sha = "ab" * 32
    texts = {
        "a.txt": f"# two\nhttp://a.example/x%3D1.bin\thttp://b.example/y\n  out=x=1.bin\n  checksum=sha-256={sha.upper()}\n\nhttp://a.example/z\n",
        "b.csv": f"url,checksum,name\nhttp://a.example/x%3D1.bin\thttp://b.example/y,sha256:{sha},x=1.bin\nhttp://a.example/z\n",
    }
    urls = ("http://m.example/d/x%3D1.bin", "http://a.example/x%3D1.bin", "http://b.example/y")
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert read_list(str(tmp_path / name), ["http://m.example/d"]) == [
            Item("x=1.bin", urls, Checksum("sha256", sha)),
            Item("z", ("http://m.example/d/z", "http://a.example/z")),
        ]
    (tmp_path / "c.txt").write_text(f"http://a.example/z md5:{MD5} 1234\n")
    assert read_list(str(tmp_path / "c.txt")) == [
        Item("z", ("http://a.example/z",), Checksum("md5", MD5), Size(1234, 1234, "1234"))
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no file"), ("http://a/..", "no file name"), ("http://a/%2e%2e%2fx", "no file name"),
        ("http://a/x\n out=../x", "line 1: '../x' is no file name"), ("http://a/x\n dir=/etc", "option 'dir'"),
        ("http://a/x md5:12", "32 hexadecimal"), ("http://a/x crc:12", "'crc' is not known"),
        ("http://a/x md5", "not read"), (" out=x", "before any address"), ("file:///etc/passwd", "not an address"),
        ("url,colour\nhttp://a/x,red", "columns"), ("url\nhttp://a/x,red", "2 cells"), ("http://a/x.part", "ends like"),
        ("http://a/x 1e9", "not read"), (b"\xff\xfe", "not UTF-8"), ("http://a/" + "x" * 300, "too long"),
    ],
)  # fmt: skip
def test_lists_that_break_a_rule_are_refused(tmp_path, text, reason):
    """A line that is not understood, or whose name would leave the folder, is refused with its number."""
    (tmp_path / "l.txt").write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(DataError, match=re.escape(reason)):
        read_list(str(tmp_path / "l.txt"))


def test_two_files_of_one_name_are_refused(tmp_path):
    """One folder has one file of a name; the same file from two lists is one file with both addresses."""
    (tmp_path / "a").write_text(f"http://a/x md5:{MD5}\n")
    (tmp_path / "b").write_text(f"http://b/x md5:{MD5}\n")
    (tmp_path / "c").write_text("http://c/x\n")
    a, b, c = (str(tmp_path / name) for name in "abc")

    assert command.resolve([a, b]) == [item("http://a/x", "http://b/x", name="x")]
    with pytest.raises(RequestError, match="two different files are called 'x'"):
        command.resolve([a, c])


def run_cli(capfd, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["fetch", *arguments])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def test_the_command_fetches_a_list(site, tmp_path, capfd):
    """`raybench fetch list.txt`: the plan with --dry-run, the files without, and a JSON line in both."""
    (tmp_path / "l.txt").write_text(f"{site.url('missing')} md5:{MD5} {len(CONTENT)}\n")
    arguments = (str(tmp_path / "l.txt"), "--out", str(tmp_path / "data"), "--mirror", f"{site.base}/plain", "--json")

    code, out, _ = run_cli(capfd, *arguments, "--dry-run")
    assert (code, site.asked) == (0, [])
    assert not (tmp_path / "data").exists()
    assert json.loads(out.splitlines()[-1])["missing_bytes"] == len(CONTENT)
    assert f"from {site.url('plain')}, {site.url('missing')}" in out

    code, out, err = run_cli(capfd, *arguments)
    facts = json.loads(out.splitlines()[-1])
    assert code == 0
    assert (facts["ok"], facts["fetched_bytes"], facts["files"][0]["state"]) == (True, len(CONTENT), "fetched")
    assert "base.bin: fetched" in err
    assert (tmp_path / "data" / "base.bin").read_bytes() == CONTENT

    code, out, err = run_cli(capfd, *arguments)
    assert (code, json.loads(out.splitlines()[-1])["fetched_bytes"]) == (0, 0)
    assert "is there, verified" in err


def test_an_interrupt_ends_the_command_and_the_next_goes_on(site, tmp_path):
    """Ctrl-C ends a fetch that waits for a silent server, with 130 and a sentence; a later one finishes the file."""
    (tmp_path / "l.txt").write_text(f"{site.url('stall')} md5:{MD5}\n")
    command_line = [sys.executable, "-m", "raybench", "fetch", str(tmp_path / "l.txt"), "--out", str(tmp_path / "data")]
    site.stall_s = 60
    # A program that a shell starts in the background ignores interrupts, and so would what it starts.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True, **heeding) as process:
        try:
            while not site.asked:
                assert process.poll() is None
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=25)  # shorter than the silence that the command would wait for
        finally:
            process.kill()
    assert process.returncode == 130
    assert "run the same command again" in err
    assert "Traceback" not in err
    site.gate.set()
    site.times["stall"] = 0

    (outcome,) = get(tmp_path / "data", item(site.url("stall")))

    assert outcome.state == "fetched"


def test_the_command_refuses_in_a_sentence(tmp_path, capfd):
    """Unknown names, object stores and bad mirrors exit with 2; nothing is made."""
    out = str(tmp_path / "data")
    for arguments, reason in (
        (("sisap-30OK", "--out", out), "did you mean 'sisap-300K'"),
        (("sisap-300K", "--out", "s3://bucket/x"), "local folder"),
        (("sisap-300K", "--out", out, "--mirror", "file:///tmp"), "not an address"),
        (("sisap-300K", "--out", out, "--jobs", "0"), "--jobs"),
    ):
        code, _, err = run_cli(capfd, *arguments)
        assert (code, reason in err) == (2, True)
    code, text, _ = run_cli(capfd, "sisap2023", "--out", out, "--dry-run", "--json")
    facts = json.loads(text.splitlines()[-1])
    assert code == 0
    assert len(facts["files"]) == 45
    assert [file["name"] for file in facts["files"] if file["state"] == "no_address"] == [
        "laion2B-en-clip768v2-n=1M.h5",
        "laion2B-en-clip768v2-n=3M.h5",
    ]
    assert not Path(out).exists()
    assert issubclass(WorkError, RaybenchError)
