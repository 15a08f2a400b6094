"""Uploads are treated as hostile: no crash, no other file read, bounded time and memory."""

from __future__ import annotations

import io
import json
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from web import child, decode
from web.child import Children
from web.visit import write

from aimless.draws import generator
from aimless.errors import DataError
from tests.web.conftest import SCRIPTS, song_bytes

KINDS = ("WAV", "FLAC", "MP3", "OGG", "M4A")
NAMES = (
    *("../../etc/passwd", "nul\0byte.wav", "x" * 300 + ".wav", "<script>alert(1)</script>.wav"),
    *("..", ".hidden", 'quote".wav', "line\r\nbreak.wav"),
)


def refused(visit, content: bytes) -> str:
    """The message with which a file is refused, within the time that it may take."""
    began = cpu_of_children()
    with pytest.raises(DataError) as error:
        visit.receive("song.wav", io.BytesIO(content))
    message = str(error.value)
    assert "\n" not in message
    assert "/" not in message.replace("-bit", "")  # no path of the server
    assert not any(path.is_file() for path in visit.folder.rglob("*"))
    assert cpu_of_children() - began < 2  # as long as it takes alone on a machine
    return message


def cpu_of_children() -> float:
    """Seconds of a core that processes took which this one started and which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("song.wav", bytes(1 << 24))
    return buffer.getvalue()


NO_SONGS = {
    "nothing": b"",
    "text": b"words " * 1000,
    "png": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "zip bomb": zipped(),
    "program": b"\x7fELF" + bytes(1000),
    "windows program": b"MZ" + bytes(1000),
    "html": b"<script>alert(1)</script>",
    "pickle": b"\x80\x04cos\nsystem\n",
    "avi": b"RIFF\x00\x00\x00\x00AVI " + bytes(1000),
    "matroska": b"\x1aE\xdf\xa3" + bytes(1000),
    "zeros": bytes(5000),
    "one byte": b"R",
}


@pytest.mark.parametrize("kind", NO_SONGS)
def test_what_is_no_song_is_refused_by_its_first_bytes(visit, kind):
    assert re.search("no audio file that can be read here|empty", refused(visit, NO_SONGS[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_songs_are_read_or_refused_but_never_crash(visit, kind):
    whole = song_bytes(1.0, format=kind)
    rng = generator("fuzz", kind)
    cuts = [whole[: int(len(whole) * share)] for share in (0.0005, 0.01, 0.3, 0.9)]
    noisy, messages = [], []
    for _ in range(6):
        content = bytearray(whole)
        for place in rng.integers(4, len(content), 200):
            content[place] = rng.integers(256)
        noisy.append(bytes(content))
    for content in [*cuts, *noisy]:
        try:
            song = visit.receive("song", io.BytesIO(content))
        except DataError as error:
            messages.append(str(error))
        else:
            assert 0 < song.frames <= 2 * 44100
            assert np.isfinite(soundfile.read(song.path)[0]).all()
    assert not [message for message in messages if "/" in message or "\n" in message]


def playlists(secret: Path, port: int) -> dict[str, str]:
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
    return {
        "hls, absolute": hls.format(secret),
        "hls, relative": hls.format(secret.name),
        "hls, http": hls.format(f"http://127.0.0.1:{port}/a.wav"),
        "ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
        f"<BaseURL>http://127.0.0.1:{port}/</BaseURL></Period></MPD>",
        "subfile": f"#EXTM3U\nsubfile,,start,0,end,0,,:{secret}\n",
    }


GUISES = (b"", b"ID3\x04\x00\x00\x00\x00\x00\x00", b"fLaC", b"\0\0\0\x14ftypM4A \0\0\0\0M4A ")


@pytest.mark.parametrize("guise", GUISES, ids=["plain", "mp3", "flac", "m4a"])
def test_playlists_are_not_followed(tmp_path, guise):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(song_bytes(1.0))
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        for name, text in playlists(secret, listener.getsockname()[1]).items():
            upload = tmp_path / "upload"
            upload.write_bytes(guise + text.encode())
            with pytest.raises(DataError):
                decode.work(str(upload), str(tmp_path / "decoded.wav"), 600, 1 << 28)
            try:
                listener.accept()
                asked.append(name)
            except TimeoutError:
                pass
        assert not asked


def silence(seconds: int, rate: int = 8000, channels: int = 1) -> bytes:
    """Much time in few bytes."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, format="FLAC", subtype="PCM_16") as file:
        for _ in range(0, seconds, 60):
            file.write(np.zeros((60 * rate, channels), np.int16))
    return buffer.getvalue()


def header_of(rate: int, channels: int, claimed: int, content: bytes = bytes(4000)) -> bytes:
    """A WAV file that claims to hold `claimed` bytes."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    head = b"RIFF" + struct.pack("<I", claimed & 0xFFFFFFFF) + b"WAVEfmt " + struct.pack("<I", 16)
    return head + form + b"data" + struct.pack("<I", claimed & 0xFFFFFFFF) + content


def unknown_length(flac: bytes) -> bytes:
    """A FLAC file whose header does not tell its length: 36 bits of STREAMINFO are 0."""
    content = bytearray(flac)
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def test_bombs_are_refused_while_they_are_decoded(visit):
    two_hours = silence(7200)
    assert len(two_hours) < 1 << 20
    assert "too long" in refused(visit, two_hours)
    assert "10 min 0 s" in refused(visit, unknown_length(two_hours))
    most_numbers = unknown_length(silence(120, 96_000, 8))
    assert "1 min 27 s" in refused(visit, most_numbers)  # all of 256 MiB were decoded
    assert "Hz" in refused(visit, header_of(655_350, 8, 4000))
    assert "9 channels" in refused(visit, header_of(44100, 9, 4000))
    assert visit.receive("claims 4 GB", io.BytesIO(header_of(44100, 2, 2**32 - 1))).frames == 1000
    assert visit.receive("coprime", io.BytesIO(header_of(44099, 2, 4000))).rate == 44099


def test_a_song_without_a_length_in_its_header_is_taken(visit):
    """As encoders write it that cannot go back to the header, into a pipe for example."""
    song = visit.receive("song", io.BytesIO(unknown_length(song_bytes(2.0, format="FLAC"))))
    assert song.frames == 2 * 44100


def test_a_header_that_claims_too_little_does_not_help(tmp_path, monkeypatch):
    upload, target = tmp_path / "upload", tmp_path / "song.wav"
    upload.write_bytes(silence(1200))
    opened = decode._open

    def lying(path):
        rate, channels, _, blocks = opened(path)
        return rate, channels, 0, blocks

    monkeypatch.setattr(decode, "_open", lying)
    for seconds, most in ((60, 1 << 28), (600, 1 << 20)):
        with pytest.raises(DataError, match="too long"):
            decode.work(str(upload), str(target), seconds, most)
        assert target.stat().st_size <= min(60 * 8000 * 4, most) + (1 << 18)


def test_decoding_stays_within_its_memory(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(silence(600))
    request = {
        **{"source": str(path), "target": str(tmp_path / "song.wav")},
        **{"max_seconds": 600, "max_bytes": 256 << 20},
    }
    script = (
        "import json, sys; from web.decode import work; work(**json.loads(sys.argv[1]));"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(request)],
        env=child.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) << 10 < 300 << 20
    assert soundfile.info(tmp_path / "song.wav").frames == 600 * 8000


def test_numbers_that_are_no_sound_are_refused(visit):
    buffer = io.BytesIO()
    samples = np.zeros((44100, 2), np.float32)
    samples[30000, 1] = np.nan
    soundfile.write(buffer, samples, 44100, format="WAV", subtype="FLOAT")
    assert "damaged" in refused(visit, buffer.getvalue())


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_never_paths(visit, name):
    song = visit.receive(name, io.BytesIO(song_bytes(0.1)))
    assert song.name == name  # kept as it is, to be shown as plain text
    assert re.fullmatch(r"[0-9a-f]{32}\.wav", song.path.name)
    assert song.path.parent == visit.folder


def test_the_same_file_twice_is_two_songs(house, visit):
    content = song_bytes(0.5)
    first = visit.receive("song.wav", io.BytesIO(content))
    other = house.welcome(lambda: True)
    others = other.receive("song.wav", io.BytesIO(content))
    second = visit.receive("song.wav", io.BytesIO(content))
    assert len({first.path, second.path, others.path}) == 3
    assert not first.path.exists()  # nothing of the song before is left
    other.close()
    assert second.path.exists()
    np.testing.assert_array_equal(
        soundfile.read(second.path)[0], soundfile.read(io.BytesIO(content))[0]
    )


def test_no_html_is_let_through():
    for path in [SCRIPTS / "webapp.py", *(SCRIPTS / "web").rglob("*.py")]:
        assert not re.search(r"unsafe_allow_html|st\.html|yaml", path.read_text()), path
    for path in (SCRIPTS / "web" / "static").glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", path.read_text())


def test_no_byte_of_an_upload_is_lost(tmp_path):
    rng = generator("sizes")
    for size in rng.integers(0, 20_000, 400):
        content = rng.bytes(int(size))
        write(io.BytesIO(content), tmp_path / "upload")
        assert (tmp_path / "upload").read_bytes() == content


CRASHES = {
    "abort": "import os; os.abort()",
    "memory": "from web.child import answer; answer(lambda **k: {'a': len(bytes(1 << 32))})",
    "time": "from web.child import answer; answer(lambda **k: [0 for _ in iter(int, 1)])",
    "disk": "from web.child import answer\n"
    "answer(lambda **k: {'a': open(k['target'], 'wb').write(bytes(1 << 20))})",
}


@pytest.mark.parametrize("kind", CRASHES)
def test_a_child_that_breaks_its_limits_ends_alone(visit, tmp_path, monkeypatch, kind):
    command = [sys.executable, "-c", CRASHES[kind]]
    monkeypatch.setattr(child, "python", lambda module: command)
    children = Children(1, 1 << 30, 1)
    with pytest.raises(DataError, match=r"cannot be worked on|more memory|too long"):
        children.run("decode", {"target": str(tmp_path / "file")}, 1000)
    monkeypatch.undo()
    assert visit.receive("next", io.BytesIO(song_bytes(0.1))).frames == 4410


def test_the_time_of_a_child_grows_with_its_files(monkeypatch):
    script = "import sys; print('{\"told\": ' + sys.stdin.readline() + '}')"
    monkeypatch.setattr(child, "python", lambda module: [sys.executable, "-c", script])
    children = Children(1, 1 << 30, 60)
    for files in (1, 8):
        told = children.run("encode", {}, 1, files=files)["told"]
        assert told["limits"]["RLIMIT_CPU"] == 60 * files


def test_a_child_that_cannot_be_started_is_one_line(monkeypatch):
    monkeypatch.setattr(child, "python", lambda module: ["/no/such/program"])
    with pytest.raises(DataError, match="too busy"):
        Children(1, 1 << 30, 1).run("decode", {}, 1)


def test_only_a_few_children_work_at_once(monkeypatch):
    command = [sys.executable, "-c", "import time; time.sleep(0.3); print('{}')"]
    monkeypatch.setattr(child, "python", lambda module: command)
    children = Children(1, 1 << 30, 10)
    began = time.monotonic()
    threads = [threading.Thread(target=children.run, args=("decode", {}, 1)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began > 0.9
