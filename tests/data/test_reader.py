"""The quick way to read: raw samples by their offset, and a storage that stumbles."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless.draws import generator
from data import audio
from data.audio import AudioFile, AudioReadError, NonFiniteError
from data.files import pcm, reader

RATE = 44100
FRAMES = 2500
RAW = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


def write(
    path: Path,
    channels: int = 2,
    frames: int = FRAMES,
    format: str = "WAV",
    subtype: str = "PCM_16",
) -> AudioFile:
    samples = generator("reader test", channels).uniform(-1, 1, (frames, channels))
    samples[:2] = [[-1.0], [1.0]]  # both ends of the scale
    soundfile.write(path, samples, RATE, format=format, subtype=subtype)
    return audio.info(path)


def by_libsndfile(file: AudioFile, start: int = 0, frames: int = -1) -> np.ndarray:
    return soundfile.read(file.path, frames, start, dtype="float32", always_2d=True)[0].T


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_BLOCK_FRAMES", 1000)


@pytest.fixture
def no_delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Delays are noted instead of waited for."""
    waited: list[float] = []
    monkeypatch.setattr(reader.time, "sleep", waited.append)
    return waited


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", RAW)
def test_raw_samples_are_those_of_libsndfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtype: str, format: str, channels: int
) -> None:
    file = write(tmp_path / "a.wav", channels, format=format, subtype=subtype)
    expected = {start: by_libsndfile(file, start, 2100) for start in (0, 1, 399)}
    monkeypatch.setattr(reader, "open_sound", None)  # nothing goes through libsndfile
    for start, samples in expected.items():
        np.testing.assert_array_equal(audio.read(file, start, 2100), samples)


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize(
    ("format", "subtype"),
    [("WAV", "ULAW"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16")],
)
def test_what_is_not_plain_goes_through_libsndfile(
    tmp_path: Path, format: str, subtype: str
) -> None:
    file = write(tmp_path / "a.wav", format=format, subtype=subtype)
    np.testing.assert_array_equal(audio.read(file, 3, 2222), by_libsndfile(file, 3, 2222))


def test_all_16_bit_values_of_both_channels_are_exact(tmp_path: Path) -> None:
    values = np.arange(-32768, 32768, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", np.stack([values, values[::-1]], 1), RATE)
    samples = audio.read(audio.info(tmp_path / "a.wav"), 0, 65536)
    np.testing.assert_array_equal(samples * 32768, [values, values[::-1]])


def test_samples_behind_other_chunks_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, subtype="PCM_24")
    content = path.read_bytes()
    path.write_bytes(content[:12] + b"LIST" + (5).to_bytes(4, "little") + b"hello\0" + content[12:])
    file = audio.info(path)
    assert file.data_offset == 58
    np.testing.assert_array_equal(audio.read(file, 7, 99), by_libsndfile(file, 7, 99))


def test_buffers_of_any_strides_and_mono_into_all_channels(tmp_path: Path) -> None:
    stereo = write(tmp_path / "stereo.wav")
    mono = write(tmp_path / "mono.wav", 1)
    wide = np.full((2, 500), 7, np.float32)
    audio.read(stereo, 5, 250, out=wide[:, ::2])
    np.testing.assert_array_equal(wide[:, ::2], by_libsndfile(stereo, 5, 250))
    assert (wide[:, 1::2] == 7).all()
    audio.read(stereo, 5, 250, out=wide[::-1, 100:350])
    np.testing.assert_array_equal(wide[::-1, 100:350], by_libsndfile(stereo, 5, 250))
    audio.read(mono, 0, 500, out=wide)
    np.testing.assert_array_equal(wide, np.repeat(by_libsndfile(mono, 0, 500), 2, axis=0))


@pytest.mark.parametrize(("start", "frames", "got"), [(-1, 5, 0), (2496, 5, 4), (2500, 1, 0)])
@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_frames_that_are_not_there(
    tmp_path: Path, format: str, start: int, frames: int, got: int
) -> None:
    file = write(tmp_path / "a.wav", format=format)
    with pytest.raises(
        AudioReadError, match=f"wanted {frames} frames from frame {start}: "
    ) as error:
        audio.read(file, start, frames)
    if format == "WAV":
        assert str(error.value).endswith(f"got {got}")


def test_wrong_channels(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", 3)
    with pytest.raises(AudioReadError, match="found 3 channels, wanted 2"):
        audio.read(file, 0, 10, out=np.empty((2, 10), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.usefixtures("short_blocks")
def test_frames_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    samples = np.zeros((FRAMES, 2))
    samples[1234, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="DOUBLE")
    file = audio.info(tmp_path / "a.wav")
    with pytest.raises(NonFiniteError, match=r"a\.wav: .*frame 1234 is not finite"):
        audio.read(file, 100, 2000)
    assert not audio.read(file, 0, 1234).any()


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_a_file_that_changed_is_refused(tmp_path: Path, format: str) -> None:
    file = write(tmp_path / "a.wav", format=format)
    os.utime(file.path, ns=(0, file.mtime_ns + 1))
    with pytest.raises(AudioReadError, match=r"a\.wav: changed since it was checked"):
        audio.read(file, 0, 10)
    write(tmp_path / "a.wav", frames=FRAMES + 1, format=format)
    with pytest.raises(AudioReadError, match=rf"changed .*was {file.size} bytes, is "):
        audio.read(file, 0, 10)
    file.path.unlink()
    with pytest.raises(AudioReadError, match=r"a\.wav: no such file"):
        audio.read(file, 0, 10)


def failing(monkeypatch: pytest.MonkeyPatch, outcomes: list[int]) -> None:
    """Reads fail with these error numbers one after the other; 0 is a read that works."""
    real = reader._read_into

    def read_into(file: object, view: memoryview) -> int:
        code = outcomes.pop(0) if outcomes else 0
        if code:
            raise OSError(code, os.strerror(code))
        return real(file, view)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "_read_into", read_into)


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_bad_moments_of_the_storage_pass(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    no_delays: list[float],
    code: int,
) -> None:
    file = write(tmp_path / "a.wav")
    failing(monkeypatch, [0, code, code, 0, code])
    np.testing.assert_array_equal(audio.read(file, 0, 2200), by_libsndfile(file, 0, 2200))
    assert no_delays == [0.05, 0.4, 2.0]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    first, last = caplog.messages[0], caplog.messages[-1]
    assert first.startswith(f"{file.path}: {os.strerror(code)}, reading again (1 of 3; ")
    counted = [int(line.rsplit("; ")[1].split()[0]) for line in (first, last)]
    assert counted[1] == counted[0] + 2


def test_a_storage_that_stays_bad_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_delays: list[float]
) -> None:
    file = write(tmp_path / "a.wav")
    failing(monkeypatch, [errno.EIO] * 4)
    with pytest.raises(AudioReadError, match=r"a\.wav: Input/output error \(4 attempts\)$"):
        audio.read(file, 0, 10)
    assert len(no_delays) == 3


def test_other_errors_are_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_delays: list[float]
) -> None:
    file = write(tmp_path / "a.wav")
    failing(monkeypatch, [errno.EACCES])
    with pytest.raises(AudioReadError, match=r"a\.wav: Permission denied$"):
        audio.read(file, 0, 10)
    assert not no_delays


def test_a_bad_moment_of_libsndfile_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_delays: list[float]
) -> None:
    file = write(tmp_path / "a.flac", format="FLAC")
    expected = by_libsndfile(file)
    real, failures = soundfile.SoundFile.read, [2]

    def read(self: soundfile.SoundFile, *args: object, **kwargs: object) -> np.ndarray:
        if failures:
            raise soundfile.LibsndfileError(failures.pop())
        return real(self, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    np.testing.assert_array_equal(audio.read(file, 0, FRAMES), expected)
    assert len(no_delays) == 1


@pytest.mark.usefixtures("no_delays")
def test_a_thousand_reads_where_one_in_a_hundred_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "a.wav")
    whole = by_libsndfile(file)
    dice = random.Random(4)
    outcomes = [errno.EIO if dice.random() < 0.01 else 0 for _ in range(1000)]
    failures = sum(map(bool, outcomes))
    failing(monkeypatch, outcomes)
    for start in range(1000):
        np.testing.assert_array_equal(audio.read(file, start, 50), whole[:, start : start + 50])
    assert len(caplog.records) == failures > 3


def test_encodings_with_and_without_a_width() -> None:
    assert {name: pcm.sample_bytes(name) for name in (*RAW, "ULAW", "VORBIS")} == {
        **dict(zip(RAW, (1, 2, 3, 4, 4, 8))),
        "ULAW": None,
        "VORBIS": None,
    }


def test_optimised_python_reads_and_refuses_the_same(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", subtype="FLOAT")
    program = (
        "import hashlib, sys\n"
        "from data import audio\n"
        "file = audio.info(sys.argv[1])\n"
        "print(hashlib.sha256(audio.read(file, 11, 2000).tobytes()).hexdigest())\n"
        "try:\n"
        "    audio.read(file, 600, 2000)\n"
        "except audio.AudioReadError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-O", "-c", program, str(file.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    digest, message = done.stdout.splitlines()
    expected = np.ascontiguousarray(by_libsndfile(file, 11, 2000))
    assert digest == hashlib.sha256(expected.tobytes()).hexdigest()
    assert message == f"{file.path}: wanted 2000 frames from frame 600: got 1900"
