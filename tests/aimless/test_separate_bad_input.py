"""Bad input, row by row: the right stems or one line, through the command.

Each row says what the song is, and what comes of it: an exit status and words of the one line on
stderr, or stems as long as the song.
"""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from aimless import Separator
from aimless.checkpoint import export
from aimless.cli import main
from aimless.models import X_UMX, HDemucs
from aimless.network import MaskNetwork, WaveformNetwork
from tests.aimless.engine_parts import (
    ENVIRONMENT,
    encode,
    exported,
    listing,
    network,
    noise,
    read,
    write,
)

RATE = 44_100


@pytest.fixture
def separate(tmp_path, monkeypatch):
    """Run the command on a song: status, lines on stderr, and the stems."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "songs").mkdir()
    model = exported(tmp_path / "model.safetensors", rate=RATE)

    def run(song, *words, capsys, model=model):
        before = listing(tmp_path)
        options = ["-o", "out", "-m", str(model), "--trust", "tests", "--device", "cpu"]
        status = main(["separate", str(song), *options, *words])
        lines = capsys.readouterr().err.splitlines()
        if status:
            assert listing(tmp_path) == before
            assert len([line for line in lines if line.startswith("error: ")]) == 1
        stems = {path.stem: read(path) for path in (tmp_path / "out").rglob("*.wav")}
        return status, lines, stems

    return run


def nonfinite(value, place):
    audio = noise(3000)
    audio[0, {"first": 0, "middle": 1500, "last": 2999}[place]] = value
    return audio


#: name -> (file, its content, words of the error)
REFUSED = {
    "I1 zero bytes": ("song.wav", b"", "empty file"),
    "I1 text": ("song.wav", b"no audio at all\n" * 50, "not readable audio"),
    "I1 text as mp3": ("song.mp3", b"no audio at all\n" * 50, "not readable audio"),
    "I1 random bytes": ("song.m4a", noise(5000).tobytes(), "not readable audio"),
    "I1 header only": ("song.wav", np.zeros((2, 0), np.float32), "holds no audio"),
    "I7 nine channels": ("song.wav", noise(500, 9), "9 channels; must be 1 to 8"),
    "I7 1024 channels": ("song.wav", noise(5, 1024), "1024 channels"),
    "I6 2 kHz": ("song.wav", (noise(500), 2000), "2000 Hz; must be 4000 to 384000 Hz"),
    "I6 768 kHz": ("song.wav", (noise(500), 768_000), "768000 Hz"),
} | {
    f"I9 {value} {place}": ("song.wav", nonfinite(value, place), f"frame {frame} .*channel 1 is")
    for value in (np.nan, np.inf, -np.inf, 1e30)
    for place, frame in (("first", 0), ("middle", 1500), ("last", 2999))
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_in_one_line(row, separate, tmp_path, capsys):
    name, content, says = REFUSED[row]
    path = tmp_path / "songs" / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        audio, rate = content if isinstance(content, tuple) else (content, RATE)
        write(path, audio, rate)
    status, (line,), _ = separate(path, capsys=capsys)
    assert status == 3
    assert re.search(rf"{re.escape(name)}: .*{says}|{says}", line)
    assert name in line


LENGTHS = [1, 2, 100, 4410, 4411, RATE - 1, RATE, RATE + 1, 3 * RATE + 7]


def hdemucs():
    torch.manual_seed(0)
    args = {"sources": ["drums", "vocals"], "channels": 4, "nfft": 1024, "depth": 4}
    path = "aimless.models.HDemucs"
    return WaveformNetwork(HDemucs(**args), args["sources"], class_path=path, init_args=args)


def xumx():
    torch.manual_seed(0)
    args = {"n_fft": 512, "hidden_channels": 8, "nb_layers": 1, "sources": ["bass", "vocals"]}
    path = "aimless.models.X_UMX"
    sizes = {"n_fft": 512, "hop_length": 128}
    return MaskNetwork(X_UMX(**args), args["sources"], **sizes, class_path=path, init_args=args)


@pytest.mark.parametrize("samples", LENGTHS)
def test_i2_i3_identity_at_every_length(samples, separate, tmp_path, capsys):
    audio = noise(samples, peak=1.0)
    song = write(tmp_path / "songs" / "song.wav", audio, RATE)
    status, lines, stems = separate(song, "--segment", "1", capsys=capsys)
    assert (status, lines) == (0, [])
    assert np.abs(stems["drums"] + stems["vocals"] - audio).max() <= 1e-6


@pytest.mark.parametrize("make", [hdemucs, xumx])
def test_i2_i4_real_networks_at_every_length(make, separate, tmp_path, capsys):
    model = tmp_path / "real.safetensors"
    export(make().eval(), model)
    for samples in (1, 2, 100, 4410, 4411, RATE + 1, 2 * RATE + 7):
        song = write(tmp_path / "songs" / "song.wav", noise(samples), RATE)
        words = ["--segment", "1", "--overwrite"]
        status, lines, stems = separate(song, *words, capsys=capsys, model=model)
        assert (status, lines) == (0, [])
        assert {stem.shape for stem in stems.values()} == {(2, samples)}
        assert all(np.isfinite(stem).all() for stem in stems.values())


@pytest.mark.parametrize("rate", [8000, 11_025, 44_099, 48_000, 192_000])
def test_i6_any_rate(rate, separate, tmp_path, capsys):
    song = write(tmp_path / "songs" / "song.wav", noise(rate + 13), rate)
    status, lines, stems = separate(song, capsys=capsys)
    assert (status, lines) == (0, [])
    assert stems["drums"].shape == (2, rate + 13)
    assert {soundfile.info(path).samplerate for path in (tmp_path / "out").rglob("*.wav")} == {rate}


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_i7_any_channel_count_to_eight(channels, separate, tmp_path, capsys):
    audio = noise(5000, channels)
    song = write(tmp_path / "songs" / "song.wav", audio, RATE)
    status, _, stems = separate(song, capsys=capsys)
    assert status == 0
    np.testing.assert_allclose(stems["drums"], 0.75 * audio, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "opus", "m4a", "webm"])
def test_i8_formats(suffix, separate, tmp_path, capsys):
    audio = noise(50_000)
    path = tmp_path / "songs" / f"song.{suffix}"
    rate = 48_000 if suffix in ("opus", "webm") else RATE
    if suffix in ("m4a", "webm"):
        encode(path, audio, {"m4a": "aac", "webm": "libopus"}[suffix], rate)
    else:
        write(
            path, audio, rate, **({"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {})
        )
    status, lines, stems = separate(path, capsys=capsys)
    assert (status, lines) == (0, [])
    mixture = stems["drums"] + stems["vocals"]
    assert mixture.shape[1] == 50_000 if suffix != "m4a" else 0 <= mixture.shape[1] - 50_000 < 1024
    likeness = np.corrcoef(mixture[0, 10_000:40_000], audio[0, 10_000:40_000])[0, 1]
    assert likeness > 0.4  # of noise, of which a delay of one sample would leave 0.01


def test_i9_values_that_are_not_finite_can_be_replaced(separate, tmp_path, capsys, caplog):
    audio = nonfinite(np.nan, "middle")
    song = write(tmp_path / "songs" / "song.wav", audio, RATE)
    status, _, stems = separate(song, "--fix-nonfinite", capsys=capsys)
    assert status == 0
    np.testing.assert_allclose(stems["drums"], 0.75 * np.nan_to_num(audio), atol=1e-6)
    assert "1 samples that were not finite are now 0" in caplog.text


@pytest.mark.parametrize("samples", [1, 5000, 3 * RATE])
@pytest.mark.parametrize("make", [hdemucs, xumx])
def test_i10_silence_gives_silence(make, samples):
    stems = Separator(make().eval(), device="cpu", segment=1.0).separate(
        torch.zeros(2, samples), RATE
    )
    assert all(stem.abs().max() == 0 for stem in stems.values())


def test_i11_stems_sum_to_the_mixture_and_levels_stay(separate, tmp_path, capsys, caplog):
    audio = noise(RATE, peak=3.0)
    song = write(tmp_path / "songs" / "song.wav", audio, RATE)
    _, _, kept = separate(song, capsys=capsys)
    error = kept["drums"] + kept["vocals"] - audio
    assert (error**2).sum() <= 1e-9 * (audio**2).sum()  # -90 dB
    assert "peak of 2.250" in caplog.text
    _, _, scaled = separate(song, "--bits", "24", "--overwrite", capsys=capsys)
    levels = [np.sqrt((scaled[name] ** 2).mean() / (kept[name] ** 2).mean()) for name in kept]
    assert abs(20 * np.log10(levels[0] / levels[1])) < 0.01
    assert max(np.abs(stem).max() for stem in scaled.values()) <= 1


def test_i12_ogg_of_any_length(separate, tmp_path, capsys):
    song = write(tmp_path / "songs" / "song.flac", noise(600 * 8000, 1), 8000)
    model = exported(tmp_path / "mono.safetensors", rate=8000, audio_channels=1)
    status, lines, _ = separate(song, "--format", "ogg", capsys=capsys, model=model)
    assert (status, lines) == (0, [])
    assert soundfile.info("out/song/vocals.ogg").frames == 600 * 8000


@pytest.mark.parametrize("sources", [1, 2, 4])
def test_i13_any_number_of_sources(sources):
    names = ["drums", "bass", "other", "vocals"][:sources]
    net = network(levels=[1 / sources] * sources, names=names)
    stems = Separator(net, device="cpu").separate(noise(900), 8000)
    assert {name: stem.shape for name, stem in stems.items()} == dict.fromkeys(names, (2, 900))


def test_i14_output_that_must_not_be_touched(separate, tmp_path, capsys):
    song = write(tmp_path / "songs" / "song.wav", noise(500), RATE)
    assert separate(song, capsys=capsys)[0] == 0
    before = (tmp_path / "out" / "song" / "drums.wav").read_bytes()
    status, (line,), _ = separate(song, capsys=capsys)
    assert status == 2
    assert "already holds drums.wav, vocals.wav" in line
    assert (tmp_path / "out" / "song" / "drums.wav").read_bytes() == before

    (tmp_path / "file").write_text("not a folder")
    model = ["-m", str(tmp_path / "model.safetensors"), "--trust", "tests"]
    assert main(["separate", str(song), *model, "-o", str(tmp_path / "file")]) == 3
    assert "stems cannot be written" in capsys.readouterr().err

    stem = tmp_path / "out" / "song" / "drums.wav"  # of one run is the song of the next
    words = ["separate", str(stem), *model, "-o", "out/song", "--template", "{stem}", "--overwrite"]
    assert main(words) == 2
    assert "is a song to separate" in capsys.readouterr().err


def test_i14_names_of_a_stranger(separate, tmp_path, capsys):
    song = write(tmp_path / "songs" / "song.wav", noise(500), RATE)
    model = exported(tmp_path / "bad.safetensors", rate=RATE, names=("../../x", "vocals"))
    status, (line,), _ = separate(song, capsys=capsys, model=model)
    assert status == 2
    assert "stem name '../../x'" in line


@pytest.mark.parametrize("name", ["Ünïcödé 音楽 🎵", 'it\'s "quoted"', "-dash", "a.b.c", "x" * 200])
def test_odd_names(name, separate, tmp_path, capsys):
    song = write(tmp_path / "songs" / f"{name}.wav", noise(500), RATE)
    assert separate(song, capsys=capsys)[0] == 0
    assert (tmp_path / "out" / name / "vocals.wav").is_file()


def test_a_full_disk(separate, tmp_path):
    song = write(tmp_path / "songs" / "song.wav", noise(RATE * 4), RATE)
    before = listing(tmp_path)
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
from aimless.cli import main
sys.exit(main(["separate", {str(song)!r}, "-o", "out", "-m", "model.safetensors",
               "--trust", "tests", "--device", "cpu"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 3
    assert re.fullmatch(r"error: .*song: stems cannot be written: File too large\n", done.stderr)
    assert listing(tmp_path) == before
