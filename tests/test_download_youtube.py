"""Downloads from a server of our own that fails in the ways in which servers fail."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile

from aimless.checkpoint import export
from aimless.draws import generator
from aimless.models import HDemucs
from aimless.network import WaveformNetwork
from tests.helpers import REPOSITORY, SOURCES

sys.path.insert(1, str(REPOSITORY / "scripts"))
import download_youtube
from downloads.shelf import safe_name

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("yt_dlp") is None, reason="yt-dlp is an optional extra"
)

RATE = 8000
SECONDS = 2.5
KINDS = {".mp3": "audio/mpeg", ".wav": "audio/wav", ".rss": "text/xml"}


def sound(kind: str, seed: int = 0, seconds: float = SECONDS) -> bytes:
    rng = generator("download", seed)
    noise = 0.1 * rng.standard_normal((round(seconds * RATE), 2))
    file = io.BytesIO()
    soundfile.write(file, noise, RATE, format=kind)
    return file.getvalue()


class Server:
    """Serves `files` by path; counts requests, and misbehaves where `faults` says so."""

    def __init__(self) -> None:
        self.files = {
            "/song.mp3": sound("MP3", 1),
            "/second song.wav": sound("WAV", 2),
            "/text.mp3": b"this is no audio\n" * 500,
            "/cut.wav": sound("WAV", 3)[:20000],
            "/long.wav": sound("WAV", 4, 60),
        }
        #: path -> what happens to its first so many requests
        self.faults: dict[str, list[str]] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.slow = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *words: object) -> None:
                """Keep the terminal clean."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.replace("%20", " ").partition("?")[0]
        self.requests[path] += 1
        waiting = self.faults.get(path) or [""]
        fault = waiting.pop(0)
        if path not in self.files or fault.isdigit():
            request.send_error(int(fault or 404))
            return
        content = self.files[path]
        first = 0
        if asked := request.headers.get("Range"):
            first = int(asked.removeprefix("bytes=").partition("-")[0])
            self.ranges.append(asked)
        part = content[first:]
        request.send_response(206 if asked else 200)
        request.send_header("Content-Type", KINDS[Path(path).suffix])
        request.send_header("Content-Length", str(len(part)))
        if asked:
            last = len(content) - 1
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        request.end_headers()
        self.send(request, part[: len(part) // 2] if fault == "cut" else part)

    def send(self, request: BaseHTTPRequestHandler, part: bytes) -> None:
        try:
            for start in range(0, len(part), 1 << 15):
                request.wfile.write(part[start : start + (1 << 15)])
                time.sleep(self.slow)
        except OSError:
            self.requests["gone"] += 1  # the other side was killed


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "demucs.safetensors"
    arguments = {"sources": SOURCES, "channels": 4}
    network = WaveformNetwork(
        HDemucs(**arguments), SOURCES, RATE, "aimless.models.HDemucs", arguments
    )
    export(network, path)
    return str(path)


@pytest.fixture
def download(server, tmp_path):
    def call(*words: str, only: bool = True) -> int:
        given = [word.replace("@", server.address) for word in words]
        more = ["--only-download"] if only else []
        return download_youtube.main(
            ["-o", str(tmp_path / "out"), "--back-off", "0", *more, *given]
        )

    return call


def folders(root: Path) -> dict[str, Path]:
    """The songs' folders by the names of their titles."""
    found = {json.loads(p.read_text())["title"]: p.parent for p in root.glob("*/song.json")}
    hidden = [path.name for path in root.iterdir() if path not in found.values()]
    assert not hidden
    return found


def test_songs_are_kept_as_they_are_served(server, download, tmp_path, capsys):
    assert download("@/song.mp3", "@/second%20song.wav") == 0
    songs = folders(tmp_path / "out")
    assert sorted(songs) == ["second song", "song"]
    assert (songs["song"] / "audio.mp3").read_bytes() == server.files["/song.mp3"]
    assert (songs["second song"] / "audio.wav").read_bytes() == server.files["/second song.wav"]
    description = json.loads((songs["second song"] / "song.json").read_text())
    assert description["seconds"] == SECONDS
    assert (description["sample_rate"], description["channels"]) == (RATE, 2)
    assert description["address"] == f"{server.address}/second%20song.wav"
    assert {"uploader", "chapters", "webpage_url", "license"} <= description.keys()
    assert songs["song"].name.startswith("song-")
    assert f"{server.address}/song.mp3 -> " in capsys.readouterr().out


def test_what_is_there_is_not_asked_for_again(server, download, capsys):
    assert download("@/song.mp3", "@/song.mp3") == 0
    before = dict(server.requests)
    assert download("@/song.mp3") == 0
    assert server.requests == before
    assert "is there" in capsys.readouterr().out


def test_the_others_are_downloaded_where_some_fail(server, download, tmp_path, capsys):
    paths = ["@/missing.mp3", "@/text.mp3", "@/cut.wav", "@/song.mp3"]
    assert download(*paths, "--retries", "2") == 3
    assert list(folders(tmp_path / "out")) == ["song"]
    last = capsys.readouterr().err.partition("3 left out:")[2].splitlines()
    assert f"{server.address}/missing.mp3: " in last[1]
    assert "404" in last[1]
    assert f"{server.address}/text.mp3: not readable audio" in last[2]
    assert f"{server.address}/cut.wav: cut off: the header promises" in last[3]
    assert len(last) == 4
    assert server.requests["/missing.mp3"] == 1  # a 404 does not pass


def test_what_may_pass_is_tried_again(server, download, tmp_path):
    server.faults = {"/song.mp3": ["503", "429", ""], "/second song.wav": ["", "", "cut"]}
    assert download("@/song.mp3", "@/second%20song.wav") == 0
    songs = folders(tmp_path / "out")
    assert (songs["song"] / "audio.mp3").read_bytes() == server.files["/song.mp3"]
    assert (songs["second song"] / "audio.wav").read_bytes() == server.files["/second song.wav"]
    assert server.ranges  # the cut one was gone on with, not begun anew


def test_what_does_not_pass_fails_in_the_end(server, download, tmp_path, capsys):
    server.faults = {"/song.mp3": ["503"] * 9}
    assert download("@/song.mp3", "--retries", "1") == 3
    assert server.requests["/song.mp3"] == 2
    assert "503" in capsys.readouterr().err
    server.faults = {"/song.mp3": ["", "", "cut", "cut", "cut"]}
    assert download("@/song.mp3", "--retries", "1") == 3
    assert "more expected" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*/song.json"))
    assert download("@/song.mp3") == 0
    song = folders(tmp_path / "out")["song"]
    assert (song / "audio.mp3").read_bytes() == server.files["/song.mp3"]


def test_songs_are_separated_with_the_options_of_separate(download, model, tmp_path, capsys):
    words = ("-m", model, "--separate", "--device", "cpu", "--format", "flac")
    assert download("@/song.mp3", *words, "--two-stems", "vocals", only=False) == 0
    song = folders(tmp_path / "out")["song"]
    names = ["no_vocals.flac", "separation.json", "vocals.flac"]
    assert sorted(path.name for path in (song / "stems").iterdir()) == names
    audio = soundfile.info(song / "stems" / "vocals.flac")
    described = json.loads((song / "song.json").read_text())
    assert (audio.samplerate, audio.channels) == (RATE, 2)
    assert audio.duration == described["seconds"]
    assert json.loads((song / "stems" / "separation.json").read_text())["two_stems"] == "vocals"

    before = (song / "stems" / "vocals.flac").stat().st_mtime_ns
    assert download("@/song.mp3", *words, only=False) == 0
    assert (song / "stems" / "vocals.flac").stat().st_mtime_ns == before
    assert download("@/song.mp3", *words, "--overwrite", only=False) == 0
    names = sorted(path.name for path in (song / "stems").glob("*.flac"))
    assert names == sorted(f"{source}.flac" for source in SOURCES)
    assert "drums, bass, other, vocals" in capsys.readouterr().out


def test_a_download_is_separated_later(download, model, tmp_path, server):
    assert download("@/song.mp3") == 0
    asked = server.requests["/song.mp3"]
    assert download("@/song.mp3", "-m", model, "--separate", "--device", "cpu", only=False) == 0
    assert len(list((folders(tmp_path / "out")["song"] / "stems").glob("*.wav"))) == 4
    assert server.requests["/song.mp3"] == asked


def test_a_dry_run_writes_nothing(download, tmp_path, capsys):
    listed = tmp_path / "list.txt"
    listed.write_text("# songs\n\nhttp://127.0.0.1:9/closed.mp3\n")
    assert download("@/song.mp3", "--list", str(listed), "--dry-run", "--retries", "0") == 3
    assert not (tmp_path / "out").exists()
    text = capsys.readouterr()
    assert "song.mp3: would be downloaded: song-" in text.out
    assert "http://127.0.0.1:9/closed.mp3: " in text.err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "no address; give some"),
        (["file:///etc/passwd"], 2, "not an address; must begin with http"),
        (["--list", "nowhere.txt"], 3, "nowhere.txt: cannot be read: No such file"),
    ],
)
def test_mistakes_end_in_one_line(download, capsys, words, status, message):
    assert download(*words) == status
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_wrong_model_is_found_before_the_downloads(server, download, capsys):
    assert download("@/song.mp3", only=False) == 2
    assert "--model: name what separates" in capsys.readouterr().err
    assert download("@/song.mp3", "-m", "missing.ckpt", only=False) == 3
    assert "missing.ckpt: no such file" in capsys.readouterr().err
    assert not server.requests


def test_the_library_is_only_needed_when_it_is_used(download, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    assert download("@/song.mp3") == 2
    assert "downloads need yt-dlp: pip install 'aimless[youtube]'" in capsys.readouterr().err


def test_playlists_are_taken_only_if_wanted(server, download, tmp_path, capsys):
    feed = "".join(
        f"<item><title>{name}</title><link>{server.address}/{name}</link></item>"
        for name in ("song.mp3", "second%20song.wav")
    )
    head = '<?xml version="1.0"?><rss version="2.0"><channel><title>x</title>'
    server.files["/feed.rss"] = f"{head}{feed}</channel></rss>".encode()
    assert download("@/feed.rss") == 3
    assert "a playlist of 2; --playlist takes them all" in capsys.readouterr().err
    assert download("@/feed.rss", "--playlist") == 0
    assert len(folders(tmp_path / "out")) == 2


def start(server, out: Path) -> subprocess.Popen:
    script = str(REPOSITORY / "scripts" / "download_youtube.py")
    words = [f"{server.address}/long.wav", "-o", str(out), "--only-download"]
    process = subprocess.Popen([sys.executable, script, *words], stderr=subprocess.DEVNULL)
    while not any(path.stat().st_size for path in out.rglob("audio.wav.part")):
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_run_that_was_stopped_goes_on(server, download, tmp_path, number, status):
    server.slow = 0.05  # 60 s of audio arrive in 3 s
    process = start(server, tmp_path / "out")
    os.kill(process.pid, number)
    assert process.wait(20) == status
    server.slow = 0
    assert not list((tmp_path / "out").glob("*/song.json"))
    assert download("@/long.wav") == 0
    song = folders(tmp_path / "out")["long"]
    assert (song / "audio.wav").read_bytes() == server.files["/long.wav"]
    assert [text for text in server.ranges if not text.startswith("bytes=0-")]


def test_names_suit_any_file_system():
    assert safe_name("a1", "Live: AC/DC <1990>?") == "a1 Live_ AC_DC _1990"
    assert safe_name("-x", "../../etc") == "-x .._.._etc"
    assert safe_name("", "\x00..") == "song"
    assert len(safe_name("id", "ü" * 300).encode()) <= 120
    assert safe_name("id", "Götterdämmerung  (Live)") == "id Götterdämmerung (Live)"
