"""Reading audio: exact frames, every encoding, and errors that name the file."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset

from aimless.draws import generator
from aimless.errors import DataError
from data import audio
from data.audio import AudioReadError
from data.files.riff import find_data
from tests.audio_parts import forget_length

RATE = 44100
FRAMES = 4000

# format, subtype, largest error against the float64 original
ENCODINGS = {
    "pcm16": ("WAV", "PCM_16", 2**-15),
    "pcm24": ("WAV", "PCM_24", 2**-23),
    "pcm32": ("WAV", "PCM_32", 2**-23),
    "float": ("WAV", "FLOAT", 2**-23),
    "double": ("WAV", "DOUBLE", 2**-23),
    "u8": ("WAV", "PCM_U8", 2**-7),
    "mulaw": ("WAV", "ULAW", 2**-7),
    "extensible": ("WAVEX", "PCM_24", 2**-23),
    "rf64": ("RF64", "PCM_16", 2**-15),
    "flac16": ("FLAC", "PCM_16", 2**-15),
    "flac24": ("FLAC", "PCM_24", 2**-23),
}


def noise(frames: int = FRAMES, channels: int = 2) -> np.ndarray:
    """Below a quarter of full scale, where half a step of mu-law is less than 2**-7."""
    return generator("audio test", frames, channels).uniform(-0.24, 0.24, (channels, frames))


def write(path: Path, samples: np.ndarray, format: str = "WAV", subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples.T, RATE, format=format, subtype=subtype)
    return path


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_read_to_one_value(tmp_path: Path, name: str) -> None:
    format, subtype, tolerance = ENCODINGS[name]
    expected = noise()
    path = write(tmp_path / "a.wav", expected, format, subtype)
    got = audio.read(path, 1000, 2000)
    assert got.dtype == np.float32
    assert got.shape == (2, 2000)
    assert np.abs(got - expected[:, 1000:3000]).max() <= tolerance
    whole, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(whole[1000:3000].T, got)


@pytest.mark.parametrize("name", ENCODINGS)
def test_info_matches_what_was_written(tmp_path: Path, name: str) -> None:
    format, subtype, _ = ENCODINGS[name]
    path = write(tmp_path / "a.wav", noise(), format, subtype)
    info = audio.info(path)
    assert (info.frames, info.rate, info.channels) == (FRAMES, RATE, 2)
    assert info.subtype == subtype


def test_16_bit_values_are_exact(tmp_path: Path) -> None:
    integers = np.array([[-32768, -1, 0, 1, 32767]], np.int16)
    soundfile.write(tmp_path / "a.wav", integers.T, RATE)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", 0, 5), integers / 32768)


def test_float_above_full_scale_is_not_clipped(tmp_path: Path) -> None:
    samples = np.array([[2.0, -2.0, 0.5], [1.5, 0.0, -1.25]])
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(path, 0, 3), samples)


def test_read_into_a_buffer(tmp_path: Path) -> None:
    stereo = write(tmp_path / "stereo.wav", noise())
    mono = write(tmp_path / "mono.wav", noise(channels=1), subtype="FLOAT")
    buffer = np.full((2, 120), 7, np.float32)
    audio.read(stereo, 5, 100, out=buffer[:, :100])
    np.testing.assert_array_equal(buffer[:, :100], audio.read(stereo, 5, 100))
    assert (buffer[:, 100:] == 7).all()
    audio.read(mono, 5, 120, out=buffer)
    np.testing.assert_array_equal(buffer, np.repeat(audio.read(mono, 5, 120), 2, axis=0))


@pytest.mark.parametrize(
    ("start", "frames"), [(0, FRAMES + 1), (FRAMES - 1, 2), (FRAMES + 10, 5), (-1, 5)]
)
def test_reads_past_the_file_are_errors(tmp_path: Path, start: int, frames: int) -> None:
    path = write(tmp_path / "a.wav", noise())
    with pytest.raises(AudioReadError) as error:
        audio.read(path, start, frames)
    message = str(error.value)
    assert str(path) in message
    assert f"wanted {frames} frames from frame {start}" in message
    assert "\n" not in message


def test_wrong_channels_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(channels=3))
    with pytest.raises(AudioReadError, match="found 3 channels, wanted 2"):
        audio.read(path, 0, 10, out=np.empty((2, 10), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1234, FRAMES - 1])
def test_non_finite_samples_are_named(tmp_path: Path, value: float, position: int) -> None:
    samples = noise()
    samples[1, position] = value
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(AudioReadError, match=f"frame {position} is not finite") as error:
        audio.read(path, 0, FRAMES)
    assert str(path) in str(error.value)
    if position > 0:
        assert np.isfinite(audio.read(path, 0, position)).all()


def test_deleted_and_shortened_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise())
    write(path, noise(100))
    with pytest.raises(AudioReadError, match="wanted 10 frames from frame 95: got 5"):
        audio.read(path, 95, 10)
    path.unlink()
    with pytest.raises(AudioReadError, match=r"a\.wav: no such file"):
        audio.read(path, 0, 10)


@pytest.mark.parametrize("format", ["WAV", "RF64", "WAVEX"])
@pytest.mark.parametrize("kept", ["header only", 0.01, 0.5, 0.99, "all but a byte"])
def test_cut_wav_is_found(tmp_path: Path, format: str, kept: str | float) -> None:
    path = write(tmp_path / "a.wav", noise(), format)
    content = path.read_bytes()
    start = len(content) - FRAMES * 4
    lengths = {"header only": start, "all but a byte": len(content) - 1}
    present = lengths.get(str(kept)) or start + int(float(kept) * FRAMES * 4)
    path.write_bytes(content[:present])
    with pytest.raises(AudioReadError) as error:
        audio.info(path)
    message = str(error.value)
    assert str(path) in message
    assert str(FRAMES * 4) in message
    assert str(present - start) in message


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_cut_flac_is_found(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "a.flac", noise(RATE), "FLAC")
    assert audio.info(path).frames == RATE
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(AudioReadError, match=r"a\.flac"):
        audio.info(path)


def test_a_flac_file_without_a_length_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(RATE), "FLAC")
    forget_length(path)
    with pytest.raises(AudioReadError, match=r"a\.flac: its header tells no length"):
        audio.info(path)


def test_extra_chunks_and_odd_sizes_are_no_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(101, 1).T, RATE, subtype="PCM_U8")  # 101 bytes and a pad byte
    content = path.read_bytes()
    extra = b"LIST" + (5).to_bytes(4, "little") + b"hello\0"
    path.write_bytes(content[:12] + extra + content[12:] + extra)
    with open(path, "rb") as file:
        chunk = find_data(file)
    assert chunk is not None
    assert chunk.promised == 101
    assert chunk.present >= 101
    raw = path.read_bytes()[chunk.offset : chunk.offset + 101]
    np.testing.assert_array_equal(
        (np.frombuffer(raw, np.uint8) - 128.0) / 128, audio.read(path, 0, 101)[0]
    )
    assert audio.info(path).frames == 101


def test_streamed_wav_without_a_size_is_accepted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise())
    content = bytearray(path.read_bytes())
    start = len(content) - FRAMES * 4
    content[4:8] = content[start - 4 : start] = b"\xff" * 4
    path.write_bytes(content)
    with open(path, "rb") as file:
        assert find_data(file) is None
    assert audio.info(path).frames == FRAMES


def make_bad_file(folder: Path, kind: str) -> Path:
    path = folder / "bad.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is no audio.\n" * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(folder / "nowhere.wav")
    elif kind == "no frames":
        write(path, np.empty((2, 0)))
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "folder", "link", "no frames"])
def test_what_is_no_audio_says_so(tmp_path: Path, kind: str) -> None:
    path = make_bad_file(tmp_path, kind)
    with pytest.raises(DataError) as error:
        audio.info(path)
    reasons = {
        "missing": "no such file",
        "empty": "0 bytes",
        "text": "not readable audio",
        "folder": "directory",
        "link": "link to nowhere",
        "no frames": "holds no audio",
    }
    assert reasons[kind] in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        with open(name, "wb") as file:
            soundfile.write(file, noise().T, RATE, format="WAV")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    path = Path(os.fsdecode(name))
    assert audio.info(path).frames == FRAMES
    assert audio.read(path, 0, FRAMES).shape == (2, FRAMES)
    with pytest.raises(AudioReadError) as error:
        audio.read(path, FRAMES, 1)
    assert r"caf\xe9.wav" in str(error.value).encode("utf-8").decode()


class _Broken(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(audio.read("/nowhere/song.wav", index, 10))


def test_error_stays_one_line_through_workers() -> None:
    error = AudioReadError("a.wav: no such file")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    with pytest.raises(AudioReadError) as caught:
        next(iter(DataLoader(_Broken(), num_workers=1)))
    assert str(caught.value) == "/nowhere/song.wav: no such file"


def test_data_imports_without_optional_packages() -> None:
    program = (
        "import sys\n"
        "for name in ('torchaudio', 'musdb', 'stempeg', 'av', 'scipy', 'pyloudnorm'):\n"
        "    sys.modules[name] = None\n"
        "import data.audio, data.tracks, data.sampling, data.loudness, data.augment, data.dataset\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
