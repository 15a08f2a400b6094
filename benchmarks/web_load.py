"""Many visitors of the web app at once: do all get their own stems, and what does it take?

    python benchmarks/web_load.py --visitors 20 --seconds 5
    python benchmarks/web_load.py --visitors 20 --seconds 5 --pages

Runs the app as a user does, with an untrained network of two million weights, so that the figures
are about the server. All visitors come at once: each uploads a song of its own, presses Split,
presses again when the queue is full, plays the first piece, and takes the stems away; these are
then compared with what the engine makes of that song. Visitors speak Streamlit's protocol
themselves, or, with `--pages`, are pages of one Chromium, which needs more of the machine than the
server does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import re
import statistics
import sys
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aimless import Separator
from aimless.checkpoint import export
from aimless.models import HDemucs
from aimless.network import WaveformNetwork
from aimless.sources import MDX_SOURCES
from tests.web.running import Server, Use, start_server
from tests.web.visitor import Visitor

RATE = 44100
CHROMIUM = "/usr/bin/chromium"
FULL = "Please try again"
#: Seconds that a visitor waits before pressing again.
PAUSE = 5.0


@dataclass
class Story:
    """What one visitor lived through, in seconds since all came."""

    song: bytes
    uploaded: float = 0.0
    first_sound: float = 0.0
    finished: float = 0.0
    refused: int = 0
    fault: str = ""
    stems: dict[str, bytes] = field(default_factory=dict)


def make_model(folder: Path) -> Path:
    """A Hybrid Demucs of the usual depth, a fifth as wide."""
    settings: dict[str, Any] = {"sources": list(MDX_SOURCES), "channels": 10}
    torch.manual_seed(0)
    network = WaveformNetwork(
        HDemucs(**settings),
        MDX_SOURCES,
        sample_rate=RATE,
        class_path="aimless.models.HDemucs",
        init_args=settings,
    )
    folder.mkdir()
    export(network, folder / "model.safetensors")
    return folder


def song(index: int, seconds: float) -> bytes:
    """A tone that is each visitor's own, in noise."""
    rng = np.random.default_rng(index)
    time_axis = np.arange(round(seconds * RATE))[:, None] / RATE
    sound = 0.2 * np.sin(2 * np.pi * 100 * (index + 1) * time_axis) + 0.05 * rng.standard_normal(
        (len(time_axis), 2)
    )
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format="FLAC")
    return buffer.getvalue()


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The files of a ZIP archive, whose sums are checked."""
    with zipfile.ZipFile(io.BytesIO(archive)) as stems:
        return {Path(name).stem: stems.read(name) for name in stems.namelist()}


def visit(url: str, story: Story, began: float, patience: float) -> None:
    """From the upload to the archive of stems, by the protocol alone."""
    try:
        with Visitor(url, patience) as visitor:
            visitor.upload("song.flac", story.song)
            visitor.wait(lambda: visitor.has_button("Split"))
            story.uploaded = time.monotonic() - began
            visitor.press("Split")
            while FULL in visitor.text():
                story.refused += 1
                time.sleep(PAUSE)
                visitor.press("Split")
            visitor.wait(visitor.mixer)
            visitor.download("piece/1/0")
            story.first_sound = time.monotonic() - began
            story.stems = unpacked(visitor.download("stems/wav-float"))
    except Exception as error:
        story.fault = repr(error)
    story.finished = time.monotonic() - began


async def visit_by_page(
    browser: Any, url: str, story: Story, began: float, patience: float
) -> None:
    """The same in a browser."""
    context = await browser.new_context(viewport={"width": 800, "height": 600})
    context.set_default_timeout(1000 * patience)
    try:
        page = await context.new_page()
        await page.goto(url)
        file = {"name": "song.flac", "mimeType": "audio/flac", "buffer": story.song}
        await page.locator('input[type="file"]').set_input_files(file)
        await page.get_by_role("button", name="Split", exact=True).wait_for()
        story.uploaded = time.monotonic() - began
        await press_until_taken(page, story)
        await page.get_by_role("button", name="Mute drums").wait_for()  # the mixer's script has run
        await page.get_by_role("button", name="Play").click()
        await page.get_by_role("button", name="Pause").wait_for()
        story.first_sound = time.monotonic() - began
        async with page.expect_download() as download:
            await page.get_by_role("link", name="All stems (ZIP)", exact=True).click()
        story.stems = unpacked(Path(await (await download.value).path()).read_bytes())
    except Exception as error:
        story.fault = repr(error)
    story.finished = time.monotonic() - began
    await context.close()


async def press_until_taken(page: Any, story: Story) -> None:
    """Press Split, again and again while the queue is full."""
    from playwright.async_api import TimeoutError as NotThere

    full = page.get_by_text(FULL)
    taken = page.get_by_role("button", name=re.compile("Cancel|Mute drums"))
    while True:
        with contextlib.suppress(NotThere):  # the press before was taken meanwhile
            await page.get_by_role("button", name="Split", exact=True).click(timeout=5000)
        await asyncio.sleep(PAUSE)
        await taken.or_(full).first.wait_for()
        if not await full.count():
            return
        story.refused += 1


def visit_all(options: argparse.Namespace, url: str, stories: list[Story]) -> threading.Thread:
    """Let all come at once; gives the thread that ends when the last has left."""
    began = time.monotonic()

    def by_protocol() -> None:
        with ThreadPoolExecutor(len(stories)) as threads:
            for story in stories:
                threads.submit(visit, url, story, began, options.patience)

    async def by_pages() -> None:
        from playwright.async_api import async_playwright

        async with async_playwright() as started:
            sound = "--autoplay-policy=no-user-gesture-required"
            browser = await started.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", sound]
            )
            await asyncio.gather(
                *(visit_by_page(browser, url, story, began, options.patience) for story in stories)
            )
            await browser.close()

    run = (lambda: asyncio.run(by_pages())) if options.pages else by_protocol
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def main() -> None:
    """Print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a song (5)")
    parser.add_argument("--pages", action="store_true", help="pages of a real browser")
    parser.add_argument("--waiting", type=int, default=5, help="jobs that may wait (5)")
    parser.add_argument("--patience", type=float, default=600.0, help="of a visitor, in s (600)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    stories = [Story(song(index, options.seconds)) for index in range(options.visitors)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = make_model(folder / "models")
        words = ("--waiting", str(options.waiting), "--keep-seconds", "1")
        server = start_server(models, folder, *words)
        try:
            use = measure(server, options, stories)
        finally:
            server.stop()
        compare(stories, models / "model.safetensors")
    report(stories, options, use, load)
    sys.exit(any(story.fault for story in stories))


def measure(server: Server, options: argparse.Namespace, stories: list[Story]) -> Use:
    """Let all visitors come and go; gives what the server took."""
    with Visitor(server.url) as first:  # the model has been looked at when all come
        first.upload("song.flac", song(0, 1.0))
        first.wait(lambda: first.has_button("Split"))
    use = Use(server)
    thread = visit_all(options, server.url, stories)
    while thread.is_alive():
        use.look()
        time.sleep(0.5)
    use.finish()
    return use


def compare(stories: list[Story], model: Path) -> None:
    """Whether each has the stems of the own song, as the engine makes them."""
    separator = Separator.load(model)
    for story in stories:
        if story.fault:
            continue
        mixture, rate = soundfile.read(io.BytesIO(story.song), dtype="float32")
        expected = separator.separate(mixture.T, rate)
        if set(story.stems) != set(expected):
            story.fault = f"stems {sorted(story.stems)}"
            continue
        for name, stem in expected.items():
            found, _ = soundfile.read(io.BytesIO(story.stems[name]), dtype="float32")
            if not np.allclose(found, stem.numpy().T, atol=1e-5):
                story.fault = f"{name} is not what the engine makes of this song"


def report(stories: list[Story], options: argparse.Namespace, use: Use, load: float) -> None:
    """Figures as a table."""
    good = [story for story in stories if not story.fault]
    kind = "pages of Chromium" if options.pages else "by Streamlit's protocol"
    print(f"visitors at once        {len(stories)}, {options.seconds:g} s songs, {kind}")
    print(f"with their own stems    {len(good)}")
    print(f"asked to come back      {sum(story.refused > 0 for story in stories)}")
    for label, values in (
        ("ready to split", [story.uploaded for story in good]),
        ("first sound", [story.first_sound for story in good]),
    ):
        if good:
            print(f"{label:<23} {min(values):.1f} to {max(values):.1f} s, ", end="")
            print(f"median {statistics.median(values):.1f} s")
    print(f"all done after          {max(story.finished for story in stories):.1f} s")
    print(f"server's own CPU time   {use.cpu_seconds:.1f} s")
    for name, label in (
        ("server", "memory of the server"),
        ("worker", "memory of the worker"),
        ("all", "memory of all processes"),
        ("disk", "disk"),
    ):
        print(f"{label:<23} {use.peaks[name] >> 20} MiB at most, {use.before[name] >> 20} before")
    print(f"disk afterwards         {use.disk_left >> 20} MiB")
    print(f"load of the machine     {load:.1f} before, on {os.cpu_count()} cores")
    for story in stories:
        if story.fault:
            print("fault:", story.fault)


if __name__ == "__main__":
    main()
