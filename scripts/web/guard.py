"""Uploads: only a few at once, and only so many bytes in memory; headers on every answer.

Other sites' WebSockets are refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

__all__ = ["AsIs", "OriginGuard", "SafeHeaders", "UploadGuard"]

_UPLOAD = "/_stcore/upload_file/"
#: Seconds that an upload waits for its turn.
_PATIENCE = 60.0
#: Seconds without a byte of an upload, and of the whole of it, after which it is given up.
_LONGEST_PAUSE, _LONGEST = 30.0, 600.0
#: Bytes of the form around a file, at most.
_FORM = 1 << 20
_BUSY = PlainTextResponse(
    "Too many uploads at once. Please try again in a minute.", 503, headers={"Retry-After": "60"}
)
_SLOW = PlainTextResponse("The file came too slowly. Please try again.", 408)


class _TooSlow(Exception):
    """The bytes of an upload do not come."""


class UploadGuard:
    """Lets uploads wait for their turn before any byte of them is read.

    Args:
        app: that takes them.
        most: uploads at once.
        largest: bytes of one, beyond which it is refused by its header; Streamlit counts as well.
        most_bytes: in memory, beyond which an upload is refused.
        held: bytes of uploads in memory.
        arrived: called with the session and the file's key after each.
    """

    def __init__(
        self,
        app: ASGIApp,
        most: int,
        largest: int,
        most_bytes: int,
        held: Callable[[], int],
        arrived: Callable[[str, str], None] = lambda session, file: None,
    ) -> None:
        self.app, self.largest, self.most_bytes, self.held = app, largest, most_bytes, held
        self.arrived = arrived
        self._places = asyncio.Semaphore(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] != "PUT" or _UPLOAD not in scope["path"]:
            await self.app(scope, receive, send)
            return
        await self._upload(scope, receive, _closing(send))

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = Headers(scope=scope).get("content-length", "")
        if size.isdecimal() and int(size) > self.largest + _FORM:
            text = f"The file is too large; up to {self.largest >> 20} MB are taken."
            await PlainTextResponse(text, 413)(scope, receive, send)
            return
        try:
            await asyncio.wait_for(self._places.acquire(), _PATIENCE)
        except asyncio.TimeoutError:
            await _BUSY(scope, receive, send)
            return
        try:
            if self.held() > self.most_bytes:
                await _BUSY(scope, receive, send)
            else:
                await self.app(scope, _hurrying(receive), send)
                self.arrived(*scope["path"].split("/")[-2:])
        except _TooSlow:  # Streamlit answers after the last byte only
            await _SLOW(scope, receive, send)
        finally:
            self._places.release()


def _hurrying(receive: Receive) -> Receive:
    """Gives up a body that stalls or drips: it would keep its place for ever."""
    end = time.monotonic() + _LONGEST
    more = True

    async def receive_more() -> Message:
        nonlocal more
        if not more:
            return await receive()
        try:
            left = min(_LONGEST_PAUSE, end - time.monotonic())
            message = await asyncio.wait_for(receive(), left)
        except asyncio.TimeoutError:
            raise _TooSlow from None
        more = message.get("more_body", False)
        return message

    return receive_more


def _closing(send: Send) -> Send:
    """Ends the connection after a refusal, instead of reading on what nobody wants."""

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            MutableHeaders(scope=message)["Connection"] = "close"
        await send(message)

    return send_more


class OriginGuard:
    """Refuses WebSockets that another site's page opens.

    Args:
        app: that answers.
        known: hosts of pages that may, besides the one that is asked; None for all.
    """

    def __init__(self, app: ASGIApp, known: Container[str] | None) -> None:
        self.app, self.known = app, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket" and not self._may(Headers(scope=scope)):
            await WebSocketClose(1008)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _may(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or self.known is None:
            return True
        try:
            page = urlsplit(origin)
            return page.netloc == headers.get("host") or page.hostname in self.known
        except ValueError:  # no address
            return False


class SafeHeaders:
    """Asks browsers not to guess types, and not to show the page within another's.

    Args:
        app: that answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "SAMEORIGIN"
                headers.setdefault("Referrer-Policy", "same-origin")
            await send(message)

        await self.app(scope, receive, send_more)


class AsIs:
    """Keeps answers from being compressed: sound is already, and files have lengths to show.

    Args:
        app: that answers.
        prefix: of the paths that it is for.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app, self.prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"].startswith(self.prefix):
            headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
            scope = {**scope, "headers": headers}
        await self.app(scope, receive, send)
