"""What is turned away before Streamlit sees it, and what Streamlit keeps of uploads."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route
from streamlit import config
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from web import guard, session
from web.guard import OriginGuard, UploadGuard

HEAD = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="song.wav"\r\n\r\n'
PATH = "/_stcore/upload_file/page/song"


async def keep(request):
    """Read an upload as Streamlit does."""
    await request.form()
    return Response(status_code=204)


def guarded(**more) -> Starlette:
    settings = {"most": 1, "largest": 50 << 20, "most_bytes": 1000, "held": lambda: 0}
    return Starlette(
        routes=[Route("/_stcore/upload_file/{session}/{file}", keep, methods=["PUT"])],
        middleware=[Middleware(UploadGuard, **{**settings, **more})],
    )


async def put(app, chunks: list[bytes], pause: float = 0.0) -> tuple[int, str, dict]:
    """Status, text and headers for an upload that comes so; without an end it stalls."""
    waiting, sent = iter(chunks), []

    async def receive():
        await asyncio.sleep(pause)
        chunk = next(waiting, None)
        if chunk is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": chunk, "more_body": chunk != b"--edge--\r\n"}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"multipart/form-data; boundary=edge")]
    scope = {"type": "http", "method": "PUT", "path": PATH, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode(), dict(sent[0]["headers"])


SLOW = {
    "stalls at once": ([], 0.0, "_LONGEST_PAUSE"),
    "stalls in the middle": ([HEAD, b"x"], 0.0, "_LONGEST_PAUSE"),
    "drips": ([HEAD, *[b"x"] * 10_000], 0.01, "_LONGEST"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_an_upload_that_does_not_come_frees_its_place(monkeypatch, kind):
    chunks, pause, limit = SLOW[kind]
    monkeypatch.setattr(guard, limit, 0.3)

    async def visitors() -> None:
        app = guarded()
        status, text, headers = await put(app, chunks, pause)
        assert (status, text) == (408, "The file came too slowly. Please try again.")
        assert headers[b"connection"] == b"close"
        monkeypatch.undo()
        status, _, _ = await put(app, [HEAD, b"x\r\n", b"--edge--\r\n"])
        assert status == 204

    asyncio.run(asyncio.wait_for(visitors(), 60))


def upload(file_id: str) -> UploadedFileRec:
    return UploadedFileRec(file_id, "song.wav", "audio/wav", bytes(100))


@pytest.fixture
def uploads(monkeypatch):
    """What Streamlit keeps."""
    manager = MemoryUploadedFileManager("/_stcore/upload_file")
    runtime = SimpleNamespace(uploaded_file_mgr=manager)
    known = SimpleNamespace(exists=lambda: True, instance=lambda: runtime)
    monkeypatch.setattr(session, "Runtime", known)
    return manager


def kept(manager, page: str) -> list[str]:
    files = manager.get_files(page, ["first", "song"])
    return [file.file_id for file in files]


def test_a_page_keeps_its_last_upload_only(uploads):
    uploads.add_file("page", upload("first"))
    uploads.add_file("other", upload("first"))
    app = guarded(arrived=session.forget_earlier_uploads)
    whole = [HEAD, b"x\r\n", b"--edge--\r\n"]
    asyncio.run(put(app, whole))  # not kept, as if Streamlit had refused it
    assert kept(uploads, "page") == ["first"]
    uploads.add_file("page", upload("song"))
    asyncio.run(put(app, whole))
    assert kept(uploads, "page") == ["song"]
    assert kept(uploads, "other") == ["first"]


def test_who_leaves_leaves_no_upload(uploads, monkeypatch, house):
    page = SimpleNamespace(session_id="page", uploaded_file_mgr=uploads)
    monkeypatch.setattr(session, "get_script_run_ctx", lambda: page)
    uploads.add_file("page", upload("first"))
    uploads.add_file("other", upload("first"))
    visit = house.welcome(lambda: True, session.upload_remover())
    visit.close()
    assert kept(uploads, "page") == []
    assert kept(uploads, "other") == ["first"]


def is_let_in(known, origin: str | None, host: str = "music.example:8501") -> bool:
    """Whether a WebSocket reaches the app."""
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope)

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/split/_stcore/stream", "headers": headers}
    asyncio.run(OriginGuard(app, known)(scope, None, send))
    assert reached or sent[0]["type"] == "websocket.close"
    return bool(reached)


@pytest.fixture
def options(monkeypatch):
    """Sets Streamlit's options for the test."""
    before = {}

    def set_one(name: str, value) -> None:
        before.setdefault(name, (config.get_option(name), config.get_where_defined(name)))
        config.set_option(name, value)

    yield set_one
    for name, (value, where) in before.items():
        config.set_option(name, value, where)


def test_pages_of_other_sites_are_refused_without_asking_the_internet(monkeypatch, options):
    def ask():
        raise AssertionError("this takes seconds, while all visitors wait")

    monkeypatch.setattr(session.net_util, "get_external_ip", ask)
    monkeypatch.setattr(session.net_util, "get_internal_ip", lambda: "192.168.7.7")
    options("server.corsAllowedOrigins", ["https://friend.example"])
    options("browser.serverAddress", "songs.example")
    known = session.known_hosts()
    for origin in (
        *(None, "http://music.example:8501", "https://music.example:8501"),
        *("http://localhost:3000", "http://127.0.0.1", "http://192.168.7.7:8501"),
        *("https://friend.example", "https://songs.example"),
    ):
        assert is_let_in(known, origin), origin
    for origin in (
        *("https://evil.example", "http://music.example.evil:8501", "null", "", "http://["),
        *("https://evil.example/music.example:8501", "https://localhost@evil.example"),
    ):
        assert not is_let_in(known, origin), origin
    assert not is_let_in(known, "https://music.example", "127.0.0.1:8501")  # as Streamlit would


def test_any_page_may_where_the_option_says_so(options):
    options("server.enableCORS", False)
    assert is_let_in(session.known_hosts(), "https://evil.example")


def test_pages_are_kept_as_long_as_stems(options):
    name = "server.disconnectedSessionTTL"
    options(name, 120)
    session.keep_sessions(60.0)
    assert config.get_option(name) == 120
    session.keep_sessions(300.5)
    assert config.get_option(name) == 301
