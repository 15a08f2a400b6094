"""Downloads from a server of the test's own."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest
import torch

from aimless.download import fetch
from aimless.errors import DataError

CONTENT = bytes(range(256)) * 5000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file, with ranges, and fails as told."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers.get("Range"))
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/broken"):
            self.send_error(500)
            return
        start = 0
        if (wanted := self.headers.get("Range")) and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        body = CONTENT[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut] if server.cut else body)

    def log_message(self, *args):
        """Silence."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.cut, server.ranges = [], None, True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
        server.shutdown()


def test_a_file_is_fetched_once(server):
    for address in (f"{server.url}/a.bin#sha256={SHA}", f"{server.url}/a.bin"):
        assert fetch(address).read_bytes() == CONTENT
    assert server.requests == [None]
    assert fetch(f"{server.url}/other/a.bin", SHA).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, ranges):
    server.ranges, server.cut = ranges, 300_000
    with pytest.raises(DataError, match=r"got 300000 of 1280000|IncompleteRead"):
        fetch(f"{server.url}/a.bin", SHA)
    server.cut = None
    assert fetch(f"{server.url}/a.bin", SHA).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-"]


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(DataError, match="has the SHA-256"):
        fetch(f"{server.url}/a.bin", "0" * 64)
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.is_file()]


def test_a_tampered_cache_is_fetched_anew(server):
    path = fetch(f"{server.url}/a.bin", SHA)
    path.write_bytes(b"tampered")
    assert fetch(f"{server.url}/a.bin", SHA).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server):
    path = fetch(f"{server.url}/a.bin", SHA)
    path.rename(path.with_name(path.name + ".part"))
    assert fetch(f"{server.url}/a.bin", SHA).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["missing", "broken"])
def test_errors_of_the_server(server, name):
    with pytest.raises(DataError, match=f"/{name}.bin: cannot be downloaded"):
        fetch(f"{server.url}/{name}.bin")


def test_a_hash_that_is_none(server):
    with pytest.raises(DataError, match="64 hex digits"):
        fetch(f"{server.url}/a.bin", "abc")
    assert server.requests == []
