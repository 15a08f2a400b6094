"""The command `aimless separate`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from aimless.cli import main
from tests.aimless.engine_parts import ENVIRONMENT, RATE, exported, listing, noise, read, write


@pytest.fixture
def separate(tmp_path, monkeypatch):
    """Run the command in a folder with a model of two stems, 0.75 and 0.25 of the mixture."""
    monkeypatch.chdir(tmp_path)
    model = exported(tmp_path / "model.safetensors")

    def run(*words, output="out"):
        common = ["-m", str(model), "--trust", "tests", "--device", "cpu"]
        return main(["separate", *map(str, words), "-o", output, *common])

    return run


def test_a_song(separate, tmp_path, capsys):
    write(tmp_path / "song.wav", noise(20_001), 11_025)
    assert separate("song.wav") == 0
    text = capsys.readouterr()
    assert text.out == f"song.wav -> {os.path.join('out', 'song')}: drums.wav, vocals.wav\n"
    assert text.err == ""
    for name, level in (("drums", 0.75), ("vocals", 0.25)):
        info = soundfile.info(f"out/song/{name}.wav")
        assert (info.samplerate, info.channels, info.frames) == (11_025, 2, 20_001)
        stem = read(tmp_path / "out" / "song" / f"{name}.wav")
        middle = slice(2000, -2000)  # away from the ends, where resampling rings
        quiet = np.abs(stem - level * noise(20_001))[:, middle].mean()
        assert quiet < 0.1  # noise above the network's 4 kHz is lost
    assert listing(tmp_path / "out") == ["song", "song/drums.wav", "song/vocals.wav"]


def test_every_option_reaches_the_engine(separate, tmp_path, capsys):
    write(tmp_path / "song.wav", noise(20_001))
    words = "--segment 1 --overlap 0.5 --context 0.1 --batch-size 3 --shifts 2 --seed 5"
    words += " --tta polarity --tta swap --precision 32 --format flac --bits 16 --clip clamp"
    words += " --template {stem}-of-{song} --two-stems vocals --quiet"
    assert separate("song.wav", *words.split()) == 0
    assert listing(tmp_path / "out") == ["no_vocals-of-song.flac", "vocals-of-song.flac"]
    vocals = read(tmp_path / "out" / "vocals-of-song.flac")
    assert np.abs(vocals - 0.25 * noise(20_001)).max() < 2**-15
    assert capsys.readouterr().out == ""


def test_residual_and_consistency(separate, tmp_path):
    write(tmp_path / "song.wav", noise(3000))
    assert separate("song.wav", "--residual") == 0
    assert np.abs(read(tmp_path / "out" / "song" / "residual.wav")).max() < 1e-6
    assert separate("song.wav", "--mixture-consistency", "--overwrite") == 0
    assert separate("song.wav", "--mixture-consistency", "--residual", "--overwrite") == 2


def test_folders_and_patterns_go_on_after_a_bad_file(separate, tmp_path, capsys):
    for name in ("a", "c"):
        write(tmp_path / "songs" / f"{name}.wav", noise(500))
    (tmp_path / "songs" / "b.wav").write_text("no audio")
    assert separate("songs") == 3
    text = capsys.readouterr()
    assert [line.split(" -> ")[0] for line in text.out.splitlines()] == [
        os.path.join("songs", f"{name}.wav") for name in ("a", "c")
    ]
    bad, summary = text.err.splitlines()
    assert bad.startswith(f"error: {os.path.join('songs', 'b.wav')}: not readable audio")
    assert summary == f"error: 2 of 3 songs done; failed: {os.path.join('songs', 'b.wav')}"
    assert [n for n in listing(tmp_path / "out") if "/" not in n] == ["a", "c"]
    assert separate("songs/[ac]*", output="two") == 0


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["nothing.wav"], 3, r"nothing\.wav: no such file"),
        (["song.wav", "--overlap", "1"], 2, r"overlap: 1\.0; must be"),
        (["song.wav", "--bits", "float", "--format", "flac"], 2, "bits: 'float'"),
        (["song.wav", "--template", "{song}"], 2, "template: "),
        (["song.wav", "--two-stems", "guitar"], 2, "'guitar' is not a stem; known: drums, vocals"),
        (["song.wav", "--device", "cuda:77"], 2, "device: 'cuda:77'"),
        (["song.wav", "--checkpoint", "x"], 2, "--checkpoint x: must be NAME=FILE"),
        (["song.wav", "-m", "nothing.safetensors"], 3, r"nothing\.safetensors: no such file"),
    ],
)
def test_mistakes_are_one_line(separate, tmp_path, capsys, words, status, says):
    write(tmp_path / "song.wav", noise(500))
    if "-m" in words or "--device" in words:
        model = [] if "-m" in words else ["-m", "model.safetensors"]
        assert main(["separate", *words, "-o", "out", "--trust", "tests", *model]) == status
    else:
        assert separate(*words) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line)
    assert line.startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_half_written_stem(number, tmp_path):
    exported(tmp_path / "model.safetensors")
    write(tmp_path / "song.wav", noise(RATE * 60))
    before = listing(tmp_path)
    words = ["separate", "song.wav", "-o", "out", "-m", "model.safetensors", "--trust", "tests"]
    words += ["--device", "cpu", "--segment", "0.02", "--overlap", "0.9", "--shifts", "9"]
    process = subprocess.Popen(
        [sys.executable, "-m", "aimless.cli", *words],
        cwd=tmp_path,
        env=ENVIRONMENT,
        # a shell's background jobs, and what they start, ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 100
        while not list(tmp_path.rglob("*.part")):
            assert process.poll() is None, "ended before it was stopped"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        status = process.wait(timeout=100)
    finally:
        process.kill()
    if number == signal.SIGKILL:
        assert not list((tmp_path / "out").rglob("*.wav"))
    else:
        assert status == 128 + number
        assert listing(tmp_path) == before


def test_help_answers_without_importing_torch():
    for words in (["--help"], ["separate", "--help"]):
        code = (
            "import sys; from aimless.cli import main\n"
            f"try: main({words!r})\n"
            "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.splitlines()[-1] == "0 False"
        assert "aimless separate song" in done.stdout


def test_the_bar_shows_seconds_and_speed_on_a_terminal(separate, tmp_path, capsys, monkeypatch):
    write(tmp_path / "song.wav", noise(RATE * 30))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert separate("song.wav", "--segment", "1") == 0
    bar = capsys.readouterr().err
    assert re.search(r"song\.wav: +\d+%.*/30 s .* x real time", bar)
    assert separate("song.wav", "--overwrite", "--quiet") == 0
    assert capsys.readouterr().err == ""
