"""Many visitors of the web app at once: do all get their stems, and what does it take?

    python benchmarks/web_load.py --visitors 20 --seconds 5

Starts the app's own parts without pages (a visitor here is a thread that uploads, splits, asks
again when the queue is full, plays the first piece and downloads all stems), with an untrained
network of two million weights, so that the figures are about the server.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch
import uvicorn
from starlette.applications import Starlette

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from web.house import House, close_house, open_house
from web.jobs import Busy
from web.options import parse
from web.routes import routes

from aimless.checkpoint import export
from aimless.models import HDemucs
from aimless.network import WaveformNetwork
from aimless.sources import MDX_SOURCES

RATE = 44100


@dataclass
class Story:
    """What one visitor lived through, in seconds."""

    first_sound: float = 0.0
    finished: float = 0.0
    refused: int = 0
    fault: str = ""


@dataclass
class Memory:
    """Peak of the resident memory, in bytes, of the server and of all its processes."""

    peaks: dict[str, int] = field(default_factory=lambda: {"server": 0, "worker": 0})

    def look(self, house: House) -> None:
        """Note what is used now."""
        self._note("server", "self")
        if house.queue.process_id is not None:
            self._note("worker", str(house.queue.process_id))

    def _note(self, name: str, pid: str) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        used = int(status.partition("VmHWM:")[2].split()[0]) << 10
        self.peaks[name] = max(self.peaks[name], used)


def make_model(folder: Path) -> None:
    """A Hybrid Demucs of the usual depth, a fifth as wide."""
    settings = {"sources": list(MDX_SOURCES), "channels": 10}
    torch.manual_seed(0)
    network = WaveformNetwork(
        HDemucs(**settings),
        MDX_SOURCES,
        sample_rate=RATE,
        class_path="aimless.models.HDemucs",
        init_args=settings,
    )
    export(network, folder / "model.safetensors")


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


def visit(house: House, address: str, index: int, seconds: float, story: Story) -> None:
    """From the upload to the archive of stems."""
    content = song(index, seconds)
    guest = house.welcome(lambda: True)
    began = time.monotonic()
    try:
        guest.receive(f"song {index}", io.BytesIO(content))
        job = None
        while job is None:
            try:
                job = guest.split(house.catalogue.models("ready")[0].source, {})
            except Busy:
                story.refused += 1
                time.sleep(1)
        while not job.finished:
            time.sleep(0.1)
        take = guest.collect()
        if take is None:
            raise RuntimeError(job.error)
        base = f"{address}/aimless/{guest.token}"
        urllib.request.urlopen(f"{base}/piece/1/0").read()
        story.first_sound = time.monotonic() - began
        archive = urllib.request.urlopen(f"{base}/stems/flac").read()
        with zipfile.ZipFile(io.BytesIO(archive)) as stems:
            if len(stems.namelist()) != len(MDX_SOURCES) or stems.testzip():
                raise RuntimeError("the archive is not whole")
        mixture, _ = soundfile.read(take.track(0), dtype="float32")
        if not np.array_equal(mixture, soundfile.read(io.BytesIO(content), dtype="float32")[0]):
            raise RuntimeError("another visitor's song")
    except Exception as error:
        story.fault = repr(error)
    story.finished = time.monotonic() - began
    guest.close()


def serve() -> tuple[uvicorn.Server, str]:
    """The app's addresses."""
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes("")), port=0, log_level="warning", lifespan="off")
    )
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def main() -> None:
    """Print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a song (5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        house = open_house(parse(["--models", folder, "--published", "--work", folder]))
        house.catalogue.wait(120)
        server, address = serve()
        stories = [Story() for _ in range(options.visitors)]
        threads = [
            threading.Thread(target=visit, args=(house, address, i, options.seconds, story))
            for i, story in enumerate(stories)
        ]
        memory, disk = Memory(), 0
        memory.look(house)
        before = dict(memory.peaks)
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.look(house)
            disk = max(disk, house.workplace.used())
            time.sleep(0.2)
        left = house.workplace.used()
        server.should_exit = True
        close_house()
    report(stories, options.seconds, before, memory.peaks, disk, left)


def report(
    stories: list[Story],
    seconds: float,
    before: dict[str, int],
    peaks: dict[str, int],
    disk: int,
    left: int,
) -> None:
    """Figures as a table."""
    faults = [story.fault for story in stories if story.fault]
    sounds = [story.first_sound for story in stories if not story.fault]
    print(f"visitors at once        {len(stories)}, {seconds:g} s songs")
    print(f"served                  {len(stories) - len(faults)}")
    print(f"asked to come back      {sum(story.refused > 0 for story in stories)}")
    if sounds:
        print(
            f"first sound             {min(sounds):.1f} s, median {statistics.median(sounds):.1f} s"
        )
    print(f"all done after          {max(story.finished for story in stories):.1f} s")
    for name, peak in peaks.items():
        print(f"memory of the {name:<9} {peak / 2**20:.0f} MiB, {before[name] / 2**20:.0f} before")
    print(f"disk                    {disk / 2**20:.0f} MiB at most, {left / 2**20:.0f} afterwards")
    for fault in faults:
        print("fault:", fault)


if __name__ == "__main__":
    main()
