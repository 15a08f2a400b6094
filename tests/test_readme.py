"""Every command of the README and of the docs, run as it stands but for sizes and paths."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

SMALL = {
    "cfg/xumx.yaml": ["--model.init_args.model.init_args.hidden_channels", "8"],
    "cfg/demucs.yaml": [
        *("--model.init_args.model.init_args.channels", "2"),
        *("--model.init_args.model.init_args.depth", "4"),
    ],
    "cfg/demo.yaml": ["--model.init_args.model.init_args.hidden_channels", "8"],
}


def commands():
    """Lines of the documents' shell blocks: (document:line, command)."""
    for document in DOCUMENTS:
        text = document.read_text()
        for block in re.finditer(r"```sh\n(.*?)```", text, re.DOTALL):
            first = text[: block.start()].count("\n") + 2
            for offset, line in enumerate(block[1].splitlines()):
                if line.strip():
                    yield f"{document.name}:{first + offset}", line


COMMANDS = dict(commands())


def test_there_are_commands():
    assert len(COMMANDS) >= 8
    assert any("main.py fit" in command for command in COMMANDS.values())
    assert any("main.py predict" in command for command in COMMANDS.values())


@pytest.fixture(scope="module")
def checkpoint(musdb_root, tmp_path_factory):
    """What `last.ckpt` in the README stands for."""
    folder = tmp_path_factory.mktemp("readme")
    command = f"main.py fit --config cfg/xumx.yaml --data.init_args.root {musdb_root}"
    run(shrink(shlex.split(command), folder), folder)
    return next(folder.rglob("last.ckpt"))


def shrink(words, folder):
    """The same command on a network and data set of test size, writing into a folder."""
    config = next((word for word in words if word in SMALL), None)
    if config is None or "--model.help" in words:
        return words
    words = [*words, *SMALL[config], "--trainer.default_root_dir", str(folder)]
    if "data.lightning.AudioFiles" in words:
        return [*words, "--stems.output_dir", str(folder / "separated")]
    words += ["--data.init_args.seq_duration", "1", "--data.init_args.samples_per_track", "4"]
    return [*words, "--trainer.max_steps", "1"] if "fit" in words else words


def run(words, folder):
    done = subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("place", COMMANDS)
def test_command(place, musdb_root, tmp_path, request):
    words = shlex.split(COMMANDS[place])
    if words[0] == "make":
        text = (REPOSITORY / "Makefile").read_text()
        assert all(re.search(rf"^{target}:", text, re.MULTILINE) for target in words[1:])
        return
    if words[0] == "tensorboard":
        run(["-m", "tensorboard.main", "--version_tb"], tmp_path)
        return
    if words[0] == "aimless":
        words[2] = str(request.getfixturevalue("checkpoint"))
        if "-o" in words:
            words[words.index("-o") + 1] = str(tmp_path / "model.safetensors")
        output = run(["-m", "aimless.cli", *words[1:]], tmp_path)
        assert "X_UMX" in output or (tmp_path / "model.safetensors").is_file()
        return
    assert words[:2] == ["python", "main.py"], f"no test knows how to run {words[0]}"
    if "--ckpt_path" in words:
        words[words.index("--ckpt_path") + 1] = str(request.getfixturevalue("checkpoint"))
    if "song.mp3" in words:
        song = tmp_path / "song.mp3"
        time = np.arange(44100) / 44100
        soundfile.write(song, 0.1 * np.sin(2 * np.pi * 220 * np.stack([time, time], 1)), 44100)
        words[words.index("song.mp3")] = str(song)
    words = [str(musdb_root) if word == "/path/to/musdb18hq" else word for word in words]
    output = run(shrink(words[1:], tmp_path), tmp_path)

    if "--print_config" in words:
        assert "class_path: aimless.lightning.freq_mask.MaskPredictor" in output
    elif "fit" in words and "--model.help" not in words:
        assert list(tmp_path.rglob("last.ckpt"))
    elif "test" in words:
        assert "test/sdr_vocals" in output
    elif "predict" in words:
        stems = sorted(path.name for path in (tmp_path / "separated" / "song").iterdir())
        assert stems == ["bass.wav", "drums.wav", "other.wav", "vocals.wav"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target
