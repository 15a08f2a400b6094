"""Many visitors of the running server, who speak its protocol and need no browser."""

from __future__ import annotations

import http.client
import io
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless import Separator
from tests.web.conftest import RATE, song_bytes
from tests.web.running import Server, memory_of, start_server, wait_for
from tests.web.visitor import Visitor

pytestmark = pytest.mark.slow

VISITORS = 5


def tone(frequency: float, seconds: float = 4.0) -> bytes:
    """A song that nobody else has."""
    time = np.arange(round(seconds * RATE)) / RATE
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * frequency * time), RATE, format="FLAC")
    return buffer.getvalue()


def test_visitors_at_once_get_their_own_stems(server, models):
    songs = [tone(100 * (index + 1)) for index in range(VISITORS)]

    def visit(song: bytes) -> np.ndarray:
        with Visitor(server.url) as visitor:
            visitor.upload("song.flac", song)
            visitor.press("Split")
            visitor.wait(visitor.mixer)
            assert visitor.download("piece/1/0").startswith(b"fLaC")
            stem = visitor.download("stem/2/wav-float")
            return soundfile.read(io.BytesIO(stem), dtype="float32", always_2d=True)[0]

    with ThreadPoolExecutor(VISITORS) as threads:
        found = list(threads.map(visit, songs))
    assert memory_of(server.process.pid, peak=True) < 400 << 20
    wait_for(lambda: not server.files())  # all have left
    separator = Separator.load(models / "small.safetensors")
    for song, bass in zip(songs, found):
        mixture, rate = soundfile.read(io.BytesIO(song), dtype="float32", always_2d=True)
        np.testing.assert_allclose(bass.T, separator.separate(mixture.T, rate)["bass"], atol=1e-6)


def test_who_waits_asks_less_often(server):
    with Visitor(server.url) as first, Visitor(server.url) as second:
        for visitor in (first, second):
            visitor.upload("long.flac", song_bytes(200, rate=8000, channels=1, format="FLAC"))
        first.press("Split")
        second.press("Split")
        assert "1 song before yours" in second.text()
        assert second.intervals() == [1.0]
        first.wait(lambda: first.intervals() == [0.5])
        first.press("Cancel")
        second.wait(lambda: second.intervals() == [0.5] or second.mixer())


def test_a_download_that_stalls_does_not_keep_the_server_running(models, tmp_path):
    server = start_server(models, tmp_path)
    with Visitor(server.url) as visitor, socket.socket() as reader:
        visitor.upload("song.flac", tone(440, seconds=30))
        visitor.press("Split")
        address = visitor.wait(visitor.mixer)["address"]
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        reader.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        request = f"GET {address}/stems/wav-float HTTP/1.1\r\nHost: localhost\r\n\r\n"
        reader.sendall(request.encode())
        assert reader.recv(12) == b"HTTP/1.1 200"  # and no more of its 42 MB
        server.stop()
    assert not server.files()


def files_without_name(server: Server) -> int:
    """Bytes of temporary files that the server holds open."""
    sizes = []
    for handle in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            if handle.readlink().name.endswith(" (deleted)"):
                sizes.append(handle.stat().st_size)
        except FileNotFoundError:  # closed meanwhile
            continue
    return sum(sizes)


def test_an_endless_upload_without_a_length_is_refused(server):
    before = memory_of(server.process.pid)
    with Visitor(server.url) as visitor:
        for _ in range(3):
            status, sent = send_in_chunks(visitor, 1 << 30)
            assert status == 413
            assert sent < 200 << 20  # 51 MB, and what is on its way
        wait_for(lambda: files_without_name(server) < 1 << 20)
        assert memory_of(server.process.pid, peak=True) - before < 60 << 20
        visitor.upload("song.flac", tone(440))  # the same page goes on
        visitor.wait(lambda: visitor.has_button("Split"))


def send_in_chunks(visitor: Visitor, size: int) -> tuple[int, int]:
    """Send a file of so many bytes without telling how many; status, and how many went out."""
    host = visitor.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.putrequest("PUT", visitor.upload_address("song.wav").upload_url)
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.web.cookies.items())
    headers = {
        **visitor.token(),
        "Cookie": cookies,
        "Transfer-Encoding": "chunked",
        "Content-Type": "multipart/form-data; boundary=edge",
    }
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="song.wav"\r\n\r\n'
    sent = 0
    try:
        connection.send(b"%x\r\n%s\r\n" % (len(head), head))
        while sent < size:
            connection.send(b"100000\r\n%s\r\n" % bytes(1 << 20))
            sent += 1 << 20
    except (BrokenPipeError, ConnectionResetError):  # the server has stopped listening
        pass
    status = connection.getresponse().status
    connection.close()
    return status, sent
