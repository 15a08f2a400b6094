"""The script that fetches the labels of the label-noise set, against a server of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import shlex
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from data.lightning.sdx23 import FETCH, LABELS
from tests.helpers import REPOSITORY

CONTENT = b"ID,Clean,Notes\na1,Y,\nb2,,bleed\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()

spec = importlib.util.spec_from_file_location(
    "fetch_label_noise", REPOSITORY / "scripts" / "fetch_label_noise.py"
)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


class Server:
    """Serves `content` under any name that ends in .csv, and counts the requests."""

    def __init__(self) -> None:
        self.content, self.requests = CONTENT, 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests += 1
                self.send_response(200 if self.path.endswith(".csv") else 404)
                self.send_header("Content-Length", str(len(server.content)))
                self.end_headers()
                self.wfile.write(server.content)

            def log_message(self, *words: object) -> None:
                """Keep the terminal clean."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def fetch(server: Server, tmp_path: Path) -> Callable[..., int]:
    def call(name: str = "labels.csv", address: str = server.address) -> int:
        output = str(tmp_path / "out" / "labels.csv")
        words = ["--url", f"{address}/{name}", "--output", output, "--sha256", SHA256]
        return script.main(words)

    return call


def left_behind(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_file_is_fetched_once(
    server: Server, fetch: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch() == 0
    assert left_behind(tmp_path / "out") == [tmp_path / "out" / "labels.csv"]
    assert (tmp_path / "out" / "labels.csv").read_bytes() == CONTENT
    assert capsys.readouterr().out.endswith("labels.csv: fetched\n")
    assert fetch() == 0
    assert capsys.readouterr().out.endswith("labels.csv: is already there\n")
    assert server.requests == 1


def test_another_file_is_not_written_over(
    server: Server, fetch: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.csv").write_text("my own")
    assert fetch() == 3
    assert (tmp_path / "out" / "labels.csv").read_text() == "my own"
    assert "is there with other content" in capsys.readouterr().err
    assert server.requests == 0


@pytest.mark.parametrize(
    ("fault", "said"), [("hash", "has the SHA-256"), ("404", "404"), ("offline", "refused")]
)
def test_failures_are_one_line_and_leave_nothing(
    server: Server,
    fetch: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    said: str,
) -> None:
    if fault == "hash":
        server.content = b"ID,Clean,Notes\nz9,Y,\n"
    # Nothing listens on port 1 of this machine.
    address = "http://127.0.0.1:1" if fault == "offline" else server.address
    assert fetch("labels.txt" if fault == "404" else "labels.csv", address) == 3
    assert left_behind(tmp_path) == []
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_place_that_cannot_be_written_is_named(
    fetch: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file where a folder is wanted")
    assert fetch() == 3
    assert "labels.csv: cannot be written" in capsys.readouterr().err


def test_the_defaults_are_where_the_data_module_looks_and_what_is_published() -> None:
    assert script.OUTPUT == LABELS
    assert (REPOSITORY / shlex.split(FETCH)[1]).is_file()
    assert script.COMMIT in script.URL
    assert script.URL.endswith("data/lightning/label_noise.csv")
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "/" + LABELS.relative_to(REPOSITORY).as_posix() in ignored
