"""Addresses of the app: files that are made on demand, and what nobody else gets."""

from __future__ import annotations

import asyncio
import io
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import uvicorn
import web.house
import web.routes
from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from web import downloads
from web.downloads import Downloads, Maker
from web.files import PREVIEW, STEMS
from web.guard import AsIs, SafeHeaders, UploadGuard
from web.routes import routes
from web.visit import Take

from tests.web.conftest import song_bytes
from tests.web.running import wait_for

FORMATS = {"wav-float": 1e-7, "wav-24": 2**-22, "wav-16": 2**-14, "flac": 2**-22, "mp3": None}


@pytest.fixture(scope="module")
def address(house):
    """The routes alone, without pages."""
    app = Starlette(routes=routes(""), middleware=[Middleware(SafeHeaders)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    web.house._house = house
    thread.start()
    wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    web.house._house = None


@pytest.fixture(scope="module")
def take(house):
    """A visitor's finished stems."""
    visit = house.welcome(lambda: True)
    visit.receive("Größe/.wav", io.BytesIO(song_bytes(7.0)))
    visit.split(house.catalogue.models("ready")[0].source, {})
    wait_for(lambda: visit.job.finished, 60)
    assert visit.collect()
    yield visit
    visit.close()


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, str]:
    """Status, content, and name of the file."""
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read(), response.headers.get_filename() or ""
    except urllib.error.HTTPError as error:
        return error.code, error.read(), ""


def made(visit) -> list[str]:
    """Folders of downloads that are not removed yet."""
    here = {path.name for path in visit.take.folder.iterdir() if path.is_dir()}
    return sorted(here - {STEMS, PREVIEW})


@pytest.fixture
def under_way(take, monkeypatch) -> Downloads:
    """Downloads of the visitor, without those of tests before, which may just end."""
    monkeypatch.setattr(take, "downloads", Downloads())
    wait_for(lambda: not made(take))
    return take.downloads


def samples(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]


def track(visit, index: int) -> np.ndarray:
    return soundfile.read(visit.take.track(index), dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize("key", FORMATS)
def test_a_stem_in_every_format(address, take, key):
    status, content, name = get(f"{address}/aimless/{take.token}/stem/4/{key}")
    assert status == 200
    assert urllib.parse.unquote(name) == f"Größe_.wav - vocals.{key.partition('-')[0]}"
    found, expected = samples(content), track(take, 4)
    assert found.shape == expected.shape
    if FORMATS[key] is not None:
        np.testing.assert_allclose(found, expected, atol=FORMATS[key])
    else:  # lossy, but at the same place
        assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.95
    info = soundfile.info(io.BytesIO(content))
    assert info.samplerate == 44100
    if key.startswith("wav"):
        assert info.subtype == {"float": "FLOAT", "24": "PCM_24", "16": "PCM_16"}[key[4:]]


def test_all_stems_in_one_archive(address, take):
    status, content, name = get(f"{address}/aimless/{take.token}/stems/flac")
    assert status == 200
    assert urllib.parse.unquote(name).endswith(" - stems.zip")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        for index, stem in enumerate(take.take.stems, 1):
            found = samples(archive.read(f"{stem}.flac"))
            np.testing.assert_allclose(found, track(take, index), atol=2**-22)


def test_a_mix_is_the_sum_of_its_levels(address, take):
    url = f"{address}/aimless/{take.token}/mix/wav-float?gains="
    _, content, _ = get(url + "0,1,0.5,0,0.25")
    mix = track(take, 1) + 0.5 * track(take, 2) + 0.25 * track(take, 4)
    np.testing.assert_allclose(samples(content), mix, atol=1e-7)
    _, content, _ = get(url + "1,-1,-1,-1,-1")
    rest = track(take, 0) - sum(track(take, index) for index in range(1, 5))
    np.testing.assert_allclose(samples(content), rest, atol=1e-6)


def test_a_loud_mix_is_scaled_into_full_scale(address, take):
    path = f"/aimless/{take.token}/mix/wav-24?gains=4,0,0,0,0"
    found, whole = samples(get(address + path)[1]), track(take, 0)
    assert np.abs(4 * whole).max() > 1
    assert 0.999 < np.abs(found).max() < 1
    np.testing.assert_allclose(found / np.abs(found).max(), whole / np.abs(whole).max(), atol=1e-5)


@pytest.mark.parametrize(("key", "most"), [("wav-16", 2**-14), ("flac", 2**-22)])
def test_a_song_louder_than_its_stems_is_scaled_by_its_own_peak(address, visit, key, most):
    sounds = {"mixture": 1.1, "stems/drums": 0.6, "stems/rest": 0.5}
    wave = np.sin(np.arange(4410) / 10).astype(np.float32)
    folder = visit.folder / "take"
    (folder / "stems").mkdir(parents=True)
    for name, peak in sounds.items():
        soundfile.write(folder / f"{name}.wav", peak * wave, 44100, subtype="FLOAT")
    stems, peaks = ("drums", "rest"), list(sounds.values())
    visit.take = Take(folder, "loud", stems, 44100, 1, len(wave), {"peaks": peaks})
    for index, scale in enumerate([1 / 1.1, 1, 1]):  # the stems still fit as they are
        _, content, _ = get(f"{address}/aimless/{visit.token}/stem/{index}/{key}")
        expected = scale * track(visit, index)
        np.testing.assert_allclose(samples(content), expected, atol=most + 2**-14)


@pytest.mark.parametrize(
    "gains", ["", "1", "1,1,1,1,1,1", "x,1,1,1,1", "nan,1,1,1,1", "9,1,1,1,1", "0,0,0,0,0", "1e9,1"]
)
def test_levels_that_are_none(address, take, gains):
    status, content, _ = get(f"{address}/aimless/{take.token}/mix/flac?gains={gains}")
    assert status == 400
    assert b"Traceback" not in content


def test_pieces_follow_each_other_without_a_gap(address, take):
    base = f"{address}/aimless/{take.token}"
    for index in range(5):
        pieces = [samples(get(f"{base}/piece/{index}/{piece}")[1]) for piece in range(2)]
        assert len(pieces[0]) == take.take.preview["piece"]
        np.testing.assert_allclose(np.concatenate(pieces), track(take, index), atol=2**-15)
        assert get(f"{base}/picture/{index}")[1].startswith(b"\x89PNG")


WRONG = (
    *("piece/0/2", "piece/5/0", "piece/0/-1", "picture/9", "stem/5/flac", "stem/-1/flac"),
    *("stem/1/aiff", "stem/1/..%2f..%2fsong.wav", "stem/..%2fstems%2fdrums.wav/flac"),
    *("piece/..%2f..%2f..%2fetc%2fpasswd/0", "../../../etc/passwd", "stems/%00", "", "song.wav"),
)


@pytest.mark.parametrize("path", WRONG)
def test_nothing_else_is_given_out(address, take, path):
    status, content, _ = get(f"{address}/aimless/{take.token}/{path}")
    assert status in (400, 404)
    assert len(content) < 200


def test_only_the_visitor_gets_the_stems(address, take, visit):
    for token in (visit.token, take.token[:-1], take.token + "x", "x", "%00", ".."):
        for path in ("piece/0/0", "picture/0", "stem/1/flac", "stems/flac", "mix/flac"):
            assert get(f"{address}/aimless/{token}/{path}")[0] == 404


def test_what_was_made_is_removed_when_it_is_sent(address, take):
    get(f"{address}/aimless/{take.token}/stems/wav-16")
    wait_for(lambda: not made(take))


def test_parts_of_downloads_and_heads_are_given(address, take, under_way):
    url = f"{address}/aimless/{take.token}/stem/1/wav-16"
    whole = get(url)[1]
    assert get(url, Range="bytes=100-199")[:2] == (206, whole[100:200])
    assert get(url, "HEAD")[:2] == (200, b"")
    assert get(url, Range="bytes=99999999-")[0] == 416
    wait_for(lambda: not made(take))
    assert under_way._count == 0


class Encoders:
    """Stands in for processes: makes files when it is let, and knows how many at once."""

    def __init__(self) -> None:
        self.go, self.running, self.most = threading.Event(), 0, 0
        self._lock = threading.Lock()

    def run(self, module, work, file_bytes, files):
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert files == len(work["files"])
        assert self.go.wait(60)
        for file in work["files"]:
            Path(file["target"]).write_bytes(b"sound")
        with self._lock:
            self.running -= 1
        return {}


def test_downloads_of_a_visitor_wait_for_each_other(address, take, house, under_way, monkeypatch):
    encoders = Encoders()
    monkeypatch.setattr(house.maker, "encoders", encoders)
    monkeypatch.setattr(downloads, "_MOST", 4)
    base = f"{address}/aimless/{take.token}"
    with ThreadPoolExecutor(4) as browser:
        paths = [f"{base}/stem/{index}/flac" for index in range(1, 5)]
        answers = [browser.submit(get, path) for path in paths]
        wait_for(lambda: under_way._count == 4 and encoders.running)
        status, text, _ = get(f"{base}/stems/flac")
        assert (status, text) == (
            429,
            b"4 downloads are under way. Please wait for one of them.",
        )
        assert get(f"{base}/piece/0/0")[0] == 200  # all else goes on
        encoders.go.set()
        assert [answer.result()[:2] for answer in answers] == [(200, b"sound")] * 4
    assert encoders.most == 1
    wait_for(lambda: under_way._count == 0)
    assert get(f"{base}/stem/1/flac")[0] == 200


def test_encoding_leaves_the_threads_of_other_requests_alone(house, tmp_path):
    encoders = Encoders()
    maker = Maker(house.workplace, encoders, at_once=2)

    async def visitors() -> None:
        work = {"files": []}
        made = [asyncio.create_task(maker.make(tmp_path / str(i), work, 1)) for i in range(6)]
        while encoders.running < 2:
            await asyncio.sleep(0.01)
        assert to_thread.current_default_thread_limiter().borrowed_tokens == 0
        encoders.go.set()
        await asyncio.gather(*made)

    asyncio.run(visitors())
    assert encoders.most == 2


def test_nothing_is_made_on_a_full_disk(address, take, house, under_way, monkeypatch):
    monkeypatch.setattr(house.workplace, "most_bytes", 10)
    status, text, _ = get(f"{address}/aimless/{take.token}/stems/flac")
    assert (status, b"full" in text) == (503, True)
    assert not made(take)
    assert under_way._count == 0


def test_stems_that_go_away_meanwhile_are_told(address, take, under_way, monkeypatch):
    monkeypatch.setattr(web.routes.uuid, "uuid4", lambda: type("Id", (), {"hex": "no/such"}))
    status, text, _ = get(f"{address}/aimless/{take.token}/stem/1/flac")
    assert (status, b"no longer here" in text) == (404, True)
    assert under_way._count == 0


async def ask(app, path: str, size: int | None, method: str = "PUT") -> tuple[int, str]:
    """Status and text of an answer of an ASGI app."""
    headers = [] if size is None else [(b"content-length", str(size).encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


def test_uploads_wait_for_their_turn_and_have_limits():
    at_once, most, held = 0, 0, 0

    async def slow(scope, receive, send):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def visitors() -> None:
        nonlocal held
        guard = UploadGuard(slow, most=2, largest=50 << 20, most_bytes=1000, held=lambda: held)
        path = "/_stcore/upload_file/session/file"
        answers = await asyncio.gather(*[ask(guard, path, 100) for _ in range(8)])
        assert [status for status, _ in answers] == [204] * 8
        status, text = await ask(guard, path, 1 << 30)
        assert (status, text) == (413, "The file is too large; up to 50 MB are taken.")
        held = 2000
        status, text = await ask(guard, path, 100)
        assert status == 503
        assert "Too many uploads" in text
        assert (await ask(guard, "/other", 1 << 30))[0] == 204

    asyncio.run(visitors())
    assert most == 2


def test_sound_is_not_compressed_again():
    seen = []

    async def app(scope, receive, send):
        seen.append([name for name, _ in scope["headers"]])

    async def visit() -> None:
        headers = [(b"accept-encoding", b"gzip"), (b"range", b"bytes=0-")]
        for path in ("/aimless/x/piece/0/0", "/other"):
            await AsIs(app, "/aimless/")({"type": "http", "path": path, "headers": headers}, 0, 0)

    asyncio.run(visit())
    assert seen == [[b"range"], [b"accept-encoding", b"range"]]
