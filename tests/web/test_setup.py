"""What the person who runs the server sets, and weights that do not arrive."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request

import pytest
import torch
from web import describe
from web.models import find_checkpoints, title_of
from web.options import Limits, parse
from web.pictures import Outline, spectrogram

from aimless.errors import ConfigError
from aimless.published import PUBLISHED
from tests.web.conftest import SCRIPTS
from tests.web.running import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def test_streamlit_is_set_up_to_be_careful():
    config = tomllib.loads((SCRIPTS / ".streamlit" / "config.toml").read_text())
    server = config["server"]
    assert server["address"] == "127.0.0.1"
    assert server["maxUploadSize"] == 50
    assert server["enableXsrfProtection"] is True
    assert server["enableCORS"] is True
    assert server["enableStaticServing"] is False
    assert server["disconnectedSessionTTL"] == Limits().keep_seconds
    assert config["client"]["showErrorDetails"] == "none"
    assert config["browser"]["gatherUsageStats"] is False


def test_usual_limits():
    limits = Limits()
    assert (limits.seconds, limits.pcm_bytes, limits.waiting) == (600, 256 << 20, 5)
    assert (limits.memory_bytes, limits.cpu_seconds) == (2 << 30, 60)
    assert (limits.uploads, limits.upload_bytes) == (4, 400 << 20)


def test_options_are_read(tmp_path):
    words = ["--models", str(tmp_path), "--max-minutes", "20", "--waiting", "9", "--published"]
    options = parse([*words, "hdemucs_high_musdb", "--keep-seconds", "5"])
    assert (options.models, options.published) == (tmp_path, ("hdemucs_high_musdb",))
    assert (options.limits.seconds, options.limits.waiting) == (1200, 9)
    assert options.limits.keep_seconds == 5
    assert parse([]).published
    assert parse(["--published"]).published == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "/no/such"], "--models /no/such: no such folder"),
        (["--published", "x"], "--published x: unknown; known: "),
        (["--max-minutes", "0"], "seconds is 0"),
        (["--waiting", "-1"], "waiting is -1"),
    ],
)
def test_wrong_options_are_one_line(words, message):
    with pytest.raises(ConfigError, match=message):
        parse(words)


class Answers(http.server.BaseHTTPRequestHandler):
    """A server of weights, with good and bad days."""

    day = "500"
    weights = b""

    def do_GET(self):
        if self.day == "500":
            self.send_error(500)
            return
        content = b"<html>not here</html>" if self.day == "wrong" else self.weights
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.day == "truncated" else content)

    def log_message(self, *words):
        """Silence."""


@pytest.fixture
def weights_server(monkeypatch, models, tmp_path):
    """`hdemucs_high_musdb` comes from here, into a cache of the test's own."""
    torch.hub.set_dir(str(tmp_path))
    Answers.weights = (models / "small.safetensors").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/weights.safetensors"
        published = dataclasses.replace(PUBLISHED["hdemucs_high_musdb"], url=url)
        for module in ("aimless.checkpoint", "web.describe"):
            monkeypatch.setitem(sys.modules[module].PUBLISHED, "hdemucs_high_musdb", published)
        yield
        server.shutdown()
    monkeypatch.setattr(torch.hub, "_hub_dir", None)


@pytest.mark.parametrize(
    ("day", "message"), [("500", "500"), ("truncated", "bytes"), ("wrong", "no network")]
)
def test_weights_that_do_not_arrive_are_told_and_tried_again(weights_server, day, message):
    Answers.day = day
    assert message in describe.describe("hdemucs_high_musdb")["error"]
    Answers.day = "good"
    found = describe.describe("hdemucs_high_musdb")
    assert found["sources"] == ["drums", "bass", "other", "vocals"]


def test_a_wrong_option_ends_the_server_with_one_line():
    done = subprocess.run(
        [sys.executable, "scripts/webapp.py", "--models", "/no/such"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == "error: --models /no/such: no such folder"


def test_the_outline_holds_every_peak():
    generator = torch.Generator().manual_seed(0)
    sound = torch.randn(10_007, 2, generator=generator).numpy()
    for columns in (1, 100, 10_007, 50_000):
        outline = Outline(len(sound), columns)
        for start in range(0, len(sound), 999):
            outline.add(sound[start : start + 999])
        index = [min(i * outline.columns // len(sound), outline.columns - 1) for i in range(10_007)]
        for part in {0, outline.columns // 2, outline.columns - 1}:
            inside = [sound[i] for i, place in enumerate(index) if place == part]
            assert outline.high[part] == max(0, max(frame.max() for frame in inside))
            assert outline.low[part] == min(0, min(frame.min() for frame in inside))


def test_a_tone_is_where_its_frequency_is(tmp_path):
    import numpy as np
    import soundfile

    time = np.arange(44100) / 44100
    for frequency in (100, 1000, 10_000):
        soundfile.write(tmp_path / "tone.wav", np.sin(2 * np.pi * frequency * time), 44100)
        picture = spectrogram(tmp_path / "tone.wav")
        rows, columns = picture.shape
        loudest = rows - 1 - picture[:, columns // 2].argmax()
        expected = np.log(frequency / 40) / np.log(22050 / 40) * rows
        assert abs(loudest - expected) < 4
        assert abs(picture.max()) < 0.5  # a sine of amplitude 1 has 0 dB


def test_the_image_is_built_of_what_is_there():
    """Every file that the Dockerfile copies exists, and is let through to the build."""
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    let_through = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {"aimless", "scripts", "constraints.txt"} <= set(copied)
    for name in copied:
        assert (REPOSITORY / name).exists(), name
        assert "!" + name in let_through
    assert not [line for line in lines if line.startswith("USER root")]
    assert any(line.startswith("USER ") for line in lines)


@pytest.mark.parametrize(
    ("base", "path"), [(None, ""), ("", ""), ("split", "split/"), ("/a/b/", "a/b/")]
)
def test_the_image_is_well_below_a_path_too(monkeypatch, base, path):
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", "")
    command = json.loads(re.search(r"^HEALTHCHECK .*?CMD (.*)$", text, re.M)[1])
    assert command[:2] == ["python", "-c"]
    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: asked.append(url))
    monkeypatch.delenv("STREAMLIT_SERVER_BASE_URL_PATH", raising=False)
    if base is not None:
        monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", base)
    exec(command[2], {})
    assert asked == [f"http://127.0.0.1:8501/{path}_stcore/health"]


def test_the_guide_says_how_to_keep_weights_and_hosts():
    guide = (REPOSITORY / "docs" / "web.md").read_text()
    assert "proxy_set_header Host $http_host;" in guide
    folder = "/home/app/.cache/torch"
    assert f":{folder} " in guide
    assert folder in (REPOSITORY / "Dockerfile").read_text().partition("USER 1000")[0]


def test_the_dockerfile_passes_its_linter():
    linter = shutil.which("hadolint", path=os.path.dirname(sys.executable)) or shutil.which(
        "hadolint"
    )
    if linter is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [linter, str(REPOSITORY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_models_are_found_in_the_root_folder_of_a_run(tmp_path):
    checkpoint = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert find_checkpoints(tmp_path) == [tmp_path / "lightning_logs" / "version_0"]
    assert find_checkpoints(tmp_path / "lightning_logs") == find_checkpoints(tmp_path)
    (run,) = find_checkpoints(tmp_path)
    assert title_of(run) == f"{tmp_path.name}, version 0"
    assert title_of(checkpoint) == "last"
