"""The queue, the worker process, visitors who come and go, and what a crash leaves behind."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import time

import numpy as np
import pytest
import soundfile
from web import workplace
from web.jobs import Busy
from web.workplace import Workplace

from aimless import Separator
from aimless.errors import ConfigError, DataError
from tests.web.conftest import RATE, song_bytes
from tests.web.running import start_server, wait_for


def tone(frequency: float, seconds: float = 5.0) -> io.BytesIO:
    buffer = io.BytesIO()
    time = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * frequency * time), RATE, format="WAV")
    buffer.seek(0)
    return buffer


def model(house) -> str:
    return house.catalogue.models("ready")[0].source


def finish(visit):
    wait_for(lambda: visit.job is None or visit.job.finished, 120)
    assert visit.job.state == "done", visit.job.error
    return visit.collect()


def test_models_are_described(house):
    (small,) = house.catalogue.models("ready")
    assert small.title == "small"
    assert small.sources == ("drums", "bass", "other", "vocals")
    assert "CC0, for tests" in small.details
    assert "MB" in small.details


def test_a_broken_checkpoint_is_left_out(models, tmp_path):
    from web.models import Catalogue

    (tmp_path / "good.safetensors").write_bytes((models / "small.safetensors").read_bytes())
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    (tmp_path / "notes.yaml").write_text("no: checkpoint\n")
    catalogue = Catalogue(tmp_path, [])
    assert catalogue.wait(60)
    assert [model.title for model in catalogue.models("ready")] == ["good"]
    (broken,) = catalogue.models("missing")
    assert (broken.title, broken.reason) == ("broken", "it cannot be read")


@pytest.mark.parametrize(
    ("kind", "how"), [("FLAC", {}), ("MP3", {}), ("OGG", {"subtype": "VORBIS"}), ("M4A", {})]
)
def test_every_kind_of_song_is_taken(visit, kind, how):
    content = song_bytes(1.0, format=kind, **how)
    song = visit.receive("song", io.BytesIO(content))
    assert song.kind == kind
    assert (song.rate, song.channels) == (RATE, 2)
    assert abs(song.seconds - 1) < 0.05


SETTINGS = {"overlap": 0.5, "shifts": 2, "mixture_consistency": True}


def test_stems_are_those_of_the_engine(house, visit, models, tmp_path):
    content = song_bytes(4.0)
    visit.receive("song", io.BytesIO(content))
    visit.split(model(house), SETTINGS, start=1.0, seconds=2.5)
    take = finish(visit)
    (tmp_path / "cut.wav").touch()
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    cut = samples[RATE : RATE + round(2.5 * RATE)]
    stems = Separator.load(models / "small.safetensors", **SETTINGS).separate(cut.T, rate)
    assert take.stems == tuple(stems)
    for index, stem in enumerate(stems.values(), 1):
        found, _ = soundfile.read(take.track(index), dtype="float32")
        np.testing.assert_allclose(found, stem.numpy().T, atol=1e-6)
    np.testing.assert_array_equal(soundfile.read(take.track(0), dtype="float32")[0], cut)
    with pytest.raises(IndexError):
        take.track(5)


def test_two_stems_of_a_mono_song_at_an_odd_rate(house, visit):
    visit.receive("song", io.BytesIO(song_bytes(1.5, rate=22050, channels=1, format="FLAC")))
    visit.split(model(house), {"two_stems": "vocals"})
    take = finish(visit)
    assert take.stems == ("vocals", "no_vocals")
    assert (take.rate, take.channels, take.frames) == (22050, 1, 33075)
    assert take.preview["rate"] == 22050


def test_an_impossible_setting_is_one_line(house, visit):
    visit.receive("song", io.BytesIO(song_bytes(0.5)))
    job = visit.split(model(house), {"two_stems": "flute"})
    wait_for(lambda: job.finished)
    assert job.state == "failed"
    assert "'flute' is not a stem" in job.error
    assert not job.folder.exists()


@pytest.mark.slow
def test_ten_visitors_at_once(house):
    visits = [house.welcome(lambda: True) for _ in range(10)]
    jobs, busy = [], []
    for index, visit in enumerate(visits):
        visit.receive(f"song {index}", tone(100 + 50 * index))
    for visit in visits:
        try:
            jobs.append((visit, visit.split(model(house), {})))
        except Busy as error:
            busy.append(str(error))
    assert (len(jobs), len(busy)) == (6, 4)
    assert all("try again" in message for message in busy)
    assert [house.queue.position(job) for _, job in jobs][1:] == [1, 2, 3, 4, 5]
    for visit, job in jobs:
        wait_for(lambda job=job: job.finished, 120)
        take = visit.collect()
        mixture, _ = soundfile.read(take.track(0))
        index = int(take.name.removeprefix("song "))
        own = soundfile.read(tone(100 + 50 * index))[0]
        digests = [hashlib.sha256(sound.tobytes()).hexdigest() for sound in (mixture, own)]
        assert digests[0] == digests[1]
    for visit in visits:
        visit.close()


def test_a_job_that_is_stopped_ends_after_its_segment(house, visit):
    visit.receive("song", tone(100, 90))
    job = visit.split(model(house), {"shifts": 3})
    wait_for(lambda: job.state == "separating")
    began = time.monotonic()
    visit.stop()
    wait_for(lambda: job.state == "stopped", 30)
    assert time.monotonic() - began < 10
    assert not job.folder.exists()


def test_a_waiting_job_can_be_stopped(house):
    first, second = house.welcome(lambda: True), house.welcome(lambda: True)
    for visit in (first, second):
        visit.receive("song", tone(100, 30))
        visit.split(model(house), {})
    waiting = second.job
    second.stop()
    assert waiting.state == "stopped"
    assert not waiting.folder.exists()
    first.close()
    second.close()


def test_a_dead_worker_fails_its_job_and_the_next_one_runs(house, visit):
    visit.receive("song", tone(100, 60))
    job = visit.split(model(house), {"shifts": 3})
    wait_for(lambda: job.state == "separating")
    os.kill(house.queue.process_id, signal.SIGSEGV)
    wait_for(lambda: job.finished)
    assert job.state == "failed"
    assert "Try again" in job.error
    visit.receive("song", tone(100, 0.5))
    visit.split(model(house), {})
    assert finish(visit).stems


def test_who_leaves_is_shown_out(house):
    there = [True]
    visit = house.welcome(lambda: there[0])
    visit.receive("song", tone(100, 60))
    job = visit.split(model(house), {"shifts": 3})
    wait_for(lambda: job.state == "separating")
    there[0] = False
    wait_for(lambda: job.finished and not visit.folder.exists(), 15)
    assert house.find(visit.token) is None


def test_secrets_are_long_and_different(house, visit):
    other = house.welcome(lambda: True)
    assert len(visit.token) >= 32
    assert visit.token != other.token
    assert house.find(visit.token) is visit
    assert house.find("") is None
    assert house.find("ä" * 32) is None
    other.close()


def test_a_full_disk_share_refuses_songs(tmp_path, house, visit, monkeypatch):
    visit.receive("song", tone(100, 0.5))
    monkeypatch.setattr(house.workplace, "most_bytes", 10)
    with pytest.raises(DataError, match="full"):
        visit.receive("song", tone(100, 0.5))
    with pytest.raises(DataError, match="full"):
        visit.split(model(house), {})


def test_abandoned_folders_are_removed_and_others_are_not(tmp_path):
    held = Workplace(tmp_path, 1)
    assert not os.listdir(held.folder)  # no lock file, which might be cleaned away
    gone = tmp_path / "aimless-web-0123"
    (gone / "visitor").mkdir(parents=True)
    (gone / "visitor" / "song.wav").write_bytes(b"x")
    foreign = tmp_path / "other"
    foreign.mkdir()
    second = Workplace(tmp_path, 1)
    assert not gone.exists()
    assert held.folder.exists()
    assert foreign.exists()
    assert held.folder.stat().st_mode & 0o077 == 0
    held.close()
    second.close()
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.parametrize("when", ["before its lock", "while it is locked", "after its lock"])
def test_a_folder_that_another_server_takes_away_is_made_again(tmp_path, monkeypatch, when):
    """It had no lock for a moment, as the folder of a server that is no more."""
    lock, taken = workplace._lock, []

    def late(folder):
        if taken:
            return lock(folder)
        taken.append(folder)
        handle = lock(folder)  # the other server's, or the own one of a folder that goes away
        if when == "while it is locked":
            lock(folder)
        folder.rmdir()
        if when == "after its lock":
            return handle
        os.close(handle)
        return lock(folder)

    monkeypatch.setattr(workplace, "_lock", late)
    made = Workplace(tmp_path, 1)
    assert made.folder not in taken
    assert made.folder.is_dir()
    with pytest.raises(BlockingIOError):
        lock(made.folder)
    made.close()
    assert not made.folder.exists()


def test_neither_files_nor_links_are_taken_for_abandoned_folders(tmp_path):
    (tmp_path / "aimless-web-file").write_bytes(b"x")
    (tmp_path / "precious").mkdir()
    (tmp_path / "aimless-web-link").symlink_to(tmp_path / "precious")
    Workplace(tmp_path, 1).close()
    assert sorted(os.listdir(tmp_path)) == ["aimless-web-file", "aimless-web-link", "precious"]


WORK = [(0.9, 5, False), (0.9, 2, False), (0.9, 1, True), (0.5, 5, True), (0.85, 2, False)]


@pytest.mark.parametrize(("overlap", "shifts", "taken"), WORK)
def test_settings_that_would_take_for_ever_are_refused(house, visit, overlap, shifts, taken):
    visit.receive("song", tone(100, 0.1))
    settings = {"overlap": overlap, "shifts": shifts}
    if taken:
        visit.split(model(house), settings)
        visit.stop()
        return
    with pytest.raises(ConfigError, match=f"Overlap of segments {overlap} with {shifts} passes"):
        visit.split(model(house), settings)


@pytest.mark.slow
def test_a_killed_server_leaves_nothing_to_the_next(models, tmp_path):
    server = start_server(models, tmp_path)
    (folder,) = server.work.glob("aimless-web-*")
    (folder / "visitor").mkdir()
    (folder / "visitor" / "song.wav").write_bytes(bytes(1000))
    server.process.kill()
    server.process.wait()
    assert server.files()
    after = start_server(models, tmp_path)
    assert not after.files()
    after.process.terminate()
    assert after.process.wait(30) is not None
    assert not list(server.work.iterdir())
