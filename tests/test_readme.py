"""Every command of the README and of the docs, run as it stands but for sizes and paths.

Those of the README in processes of their own, as a user runs them.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import aimless.cli
from tests.helpers import REPOSITORY, main

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
    run_here(shrink(shlex.split(command), folder))
    return next(folder.rglob("last.ckpt"))


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """What `model.safetensors` stands for."""
    path = tmp_path_factory.mktemp("readme") / "model.safetensors"
    run_here(["-m", "aimless.cli", "export", str(checkpoint), "-o", str(path)])
    return path


def shrink(words, folder):
    """The same command on a network and data set of test size, writing into a folder."""
    config = next((word for word in words if word in SMALL), None)
    if config is None:
        return words
    words = [*words, *SMALL[config], "--trainer.default_root_dir", str(folder)]
    if "data.lightning.AudioFiles" in words:
        return [*words, "--stems.output_dir", str(folder / "separated")]
    words += ["--data.init_args.seq_duration", "1", "--data.init_args.samples_per_track", "4"]
    return [*words, "--trainer.max_steps", "1"] if "fit" in words else words


def run_apart(words):
    done = subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def run_here(words):
    """The same without a process of its own, which would import for five seconds."""
    if words[0] == "main.py":
        command, rest = main, words[1:]
    elif words[:2] == ["-m", "aimless.cli"]:
        command, rest = (lambda *said: aimless.cli.main(said)), words[2:]
    else:
        return run_apart(words)
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(REPOSITORY)
        try:
            status = command(*rest)
        except SystemExit as left:  # after a help
            status = left.code or 0
    assert status == 0
    return output.getvalue()


@pytest.mark.parametrize("place", COMMANDS)
def test_command(place, files, tmp_path):
    run = run_apart if place.startswith("README.md") else run_here
    words = [files(word) for word in shlex.split(COMMANDS[place])]
    if words[0] == "make":
        check_make(words[1:])
    elif words[0] == "tensorboard":
        run(["-m", "tensorboard.main", "--version_tb"])
    elif words[0] == "aimless":
        check_aimless(run, words[1:], tmp_path)
    elif words[:3] == ["python", "-m", "data.check"]:
        assert "nothing found" in run(words[1:])
    elif words[0] == "python" and words[1].startswith("scripts/"):
        check_script(run, words[1:], tmp_path)
    else:
        assert words[:2] == ["python", "main.py"], f"no test knows how to run {words[0]}"
        check_main(run, words[1:], tmp_path)


@pytest.fixture
def files(request, musdb_root, tmp_path):
    """What the documents' placeholders stand for, made where they are needed."""

    def song():
        time = np.arange(44100) / 44100
        path = tmp_path / "song.mp3"
        soundfile.write(path, 0.1 * np.sin(2 * np.pi * 220 * np.stack([time, time], 1)), 44100)
        return path

    def lookup(word):
        if word.startswith("/path/to/musdb18hq"):
            return word.replace("/path/to/musdb18hq", str(musdb_root))
        if word == "song.mp3":
            return str(song())
        if word == "last.ckpt":
            return str(request.getfixturevalue("checkpoint"))
        if word == "model.safetensors":
            return str(request.getfixturevalue("exported"))
        return word

    return lookup


def check_make(words):
    text = (REPOSITORY / "Makefile").read_text()
    targets = [word for word in words if "=" not in word]
    assert targets
    assert all(re.search(rf"^{target}:", text, re.MULTILINE) for target in targets)


def check_script(run, words, folder):
    output = folder / "output"
    if words[0].endswith("make_synthetic_dataset.py"):
        sizes = ["--train", "1", "--validation", "1", "--test", "1", "--seconds", "3", "--plain"]
        run([words[0], str(output), *words[2:], *sizes])
        assert len(list(output.rglob("mixture.wav"))) == 3
    else:
        assert words[0].endswith("find_label_noise.py"), f"no test knows how to run {words[0]}"
        words[words.index("-o") + 1] = str(output)
        run(words)
        assert (output / "index.html").is_file()


def check_aimless(run, words, folder):
    output = folder / "output"
    for option in ("-o", "--html", "--json", "--csv"):
        if option in words:
            words[words.index(option) + 1] = str(output)
    printed = run(["-m", "aimless.cli", *words])
    if words[0] == "separate":
        assert len(list(output.rglob("*.wav"))) == 4
    elif words[0] == "info":
        assert "X_UMX" in printed
    elif words[0] == "evaluate":
        assert "vocals" in printed
        assert output.is_file() == ("--html" in words or "--json" in words or "--csv" in words)
    else:
        assert output.is_file()


def check_main(run, words, folder):
    output = run(shrink(words, folder))
    if "--print_config" in words:
        assert "class_path: aimless.lightning.freq_mask.MaskPredictor" in output
    elif {"--model.help", "--data.help"} & set(words):
        assert "default" in output
    elif "--preflight" in words:
        assert "largest batch" in output
        assert not list(folder.rglob("*.ckpt"))
    elif "fit" in words:
        assert list(folder.rglob("last.ckpt"))
    elif "test" in words:
        assert "test/sdr_vocals" in output
        assert "test/si_sdr_vocals" in output
    elif "predict" in words:
        stems = sorted(path.name for path in (folder / "separated" / "song").iterdir())
        assert stems == ["bass.wav", "drums.wav", "other.wav", "vocals.wav"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target
