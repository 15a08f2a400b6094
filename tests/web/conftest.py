"""Parts of the tests of the web app: a small model, songs, a server, a browser."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("streamlit", reason="the extra `web` is not installed")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))  # where `streamlit run scripts/webapp.py` finds the package

from web.house import House  # noqa: E402
from web.options import parse  # noqa: E402

from aimless.checkpoint import export  # noqa: E402
from aimless.models import HDemucs  # noqa: E402
from aimless.network import WaveformNetwork  # noqa: E402
from aimless.sources import MDX_SOURCES  # noqa: E402
from tests.conftest import synthesise_stem  # noqa: E402
from tests.web.running import Server, start_server, wait_for  # noqa: E402

RATE = 44100
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit makes its page the main module, which processes of other tests would start."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def song_bytes(seconds: float = 3.0, rate: int = RATE, channels: int = 2, **how: Any) -> bytes:
    """A synthetic song as a file."""
    frames = round(seconds * rate)
    samples = sum(synthesise_stem(name, frames, rate, channels) for name in MDX_SOURCES)
    if how.get("format") == "M4A":
        return m4a_bytes(np.asarray(samples, np.float32), rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.asarray(samples).T, rate, **{"format": "WAV", **how})
    return buffer.getvalue()


def m4a_bytes(samples: np.ndarray, rate: int) -> bytes:
    """Two channels (2, samples) as AAC, which only FFmpeg writes and reads."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout="stereo"
        )
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with one network that separates in a moment, and its licence."""
    folder = tmp_path_factory.mktemp("models")
    settings = {"sources": list(MDX_SOURCES), "channels": 4, "depth": 4, "nfft": 1024}
    torch.manual_seed(0)
    network = WaveformNetwork(
        HDemucs(**settings),
        MDX_SOURCES,
        sample_rate=RATE,
        class_path="aimless.models.HDemucs",
        init_args=settings,
    )
    export(network, folder / "small.safetensors")
    (folder / "small.licence.txt").write_text("CC0, for tests\n")
    return folder


@pytest.fixture(scope="session")
def house(models, tmp_path_factory) -> Iterator[House]:
    """What a server process holds, without the server."""
    work = tmp_path_factory.mktemp("work")
    made = House(parse(["--models", str(models), "--published", "--work", str(work)]))
    assert made.catalogue.wait(60)
    yield made
    made.close()


@pytest.fixture
def visit(house):
    """A visitor who stays."""
    visit = house.welcome(lambda: True)
    yield visit
    visit.close()


@pytest.fixture(scope="module")
def server(models, tmp_path_factory) -> Iterator[Server]:
    """The app."""
    server = start_server(models, tmp_path_factory.mktemp("server"), "--keep-seconds", "1")
    yield server
    server.stop()
    assert not server.files()  # it tidies up


@pytest.fixture(scope="module")
def browser():
    """Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """The app in a browser; faults in its scripts fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(90_000)  # two busy cores may need a minute to look at the models
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(server.url)
    page.get_by_text("1. Choose a song").wait_for()
    yield page
    context.close()
    assert not faults


def upload(page, name: str, content: bytes) -> None:
    """Give the page a song."""
    # a file that was refused leaves its field on the page for a moment
    wait_for(lambda: page.locator('input[type="file"]').count() == 1)
    page.locator('input[type="file"]').set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


def split(page, name: str, content: bytes) -> None:
    """Give the page a song, and wait for the mixer."""
    upload(page, name, content)
    page.get_by_role("button", name="Split", exact=True).click()
    page.get_by_role("button", name="Mute drums").wait_for()  # its script has run
