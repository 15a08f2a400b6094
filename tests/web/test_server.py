"""The running server, without a browser."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re

import pytest

pytestmark = pytest.mark.slow


def test_an_upload_of_a_gigabyte_is_refused_without_being_kept(server):
    before = server.memory()
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest("PUT", "/_stcore/upload_file/session/file")
    connection.putheader("Content-Length", str(1 << 30))
    connection.endheaders()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is not read to its end
        for _ in range(1 << 10):
            connection.send(bytes(1 << 20))
    response = connection.getresponse()
    assert (response.status, response.read()) == (
        413,
        b"The file is too large; up to 50 MB are taken.",
    )
    assert server.memory() - before < 60 << 20
    assert server.alive()


def test_no_folder_of_the_server_is_served(server):
    for path in (
        *("/aimless-static/../routes.py", "/aimless-static/%2e%2e/routes.py"),
        *("/aimless-static/..%2froutes.py", "/app/static/webapp.py", "/media/../../etc/passwd"),
        *("/aimless/x/stems/flac", "/component/../page.py"),
    ):
        status, content = server.get(path)
        # Streamlit answers unknown paths with its page
        assert status in (400, 404) or b"<title>Streamlit</title>" in content, path
        assert b"import" not in content.partition(b"<script")[0]
    status, content = server.get("/aimless-static/mixer.js")
    assert status == 200
    assert b"export function mount" in content


def test_only_this_computer_is_listened_to(server):
    port = int(server.url.rpartition(":")[2])
    with open(f"/proc/{server.process.pid}/net/tcp") as file:
        listening = {
            address
            for address in re.findall(r"^ *\d+: ([0-9A-F:]+) \S+ 0A", file.read(), re.M)
            if int(address.rpartition(":")[2], 16) == port
        }
    assert listening == {f"0100007F:{port:04X}"}


def handshake(server, origin: str | None) -> int:
    """Status of the answer to a page that opens its WebSocket."""
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    headers = {
        **{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    connection.request(
        "GET", "/_stcore/stream", headers=headers | ({"Origin": origin} if origin else {})
    )
    status = connection.getresponse().status
    connection.close()
    return status


def test_pages_of_other_sites_are_not_talked_to(server):
    assert handshake(server, None) == 101
    assert handshake(server, server.url) == 101
    for origin in ("https://evil.example", "null", "http://["):
        assert handshake(server, origin) == 403


def test_a_wrong_upload_has_no_effect(server):
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("PUT", "/_stcore/upload_file/session/file", body=b"x" * 100)
    assert connection.getresponse().status in (400, 403)  # no session, no XSRF token
    assert server.alive()
