"""Stems on disk: kinds of files, clipping, names, and nothing half-written."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from aimless.errors import ConfigError, DataError
from aimless.songs import stem_format
from aimless.songs.stem_files import StemFiles, write_stems
from aimless.songs.stem_format import StemFormat
from aimless.songs.stem_paths import plan_stems
from tests.aimless.engine_parts import listing, noise, read


def paths(folder, suffix=".wav"):
    return {name: folder / "song" / f"{name}{suffix}" for name in ("drums", "vocals")}


def write(folder, form, loud=0.5, rate=44_100, samples=100_001, channels=2, **settings):
    """Two stems, the second half as loud, in uneven blocks."""
    audio = torch.from_numpy(noise(samples, channels, peak=loud))
    stems = torch.stack([audio, audio / 2])
    where = paths(folder, form.suffix)
    with StemFiles(where, rate, channels, samples, form, **settings) as files:
        for block in stems.split(30_000, -1):
            files.write(block)
    return stems.numpy(), [read(path) for path in where.values()], where


KINDS = [("wav", "float", 0), ("wav", "24", 2**-23), ("wav", "16", 2**-15)]
KINDS += [("flac", "24", 2**-23), ("flac", "16", 2**-15)]


@pytest.mark.parametrize(("name", "bits", "error"), KINDS)
@pytest.mark.parametrize("clip", [None, "clamp"])
def test_samples_are_written_to_the_last_bit(name, bits, error, clip, tmp_path):
    form = StemFormat(name, bits, clip)
    stems, written, where = write(tmp_path, form)
    for stem, copy in zip(stems, written):
        assert copy.shape == stem.shape
        assert np.abs(copy - stem).max() <= error
    subtype = {"float": "FLOAT", "16": "PCM_16", "24": "PCM_24"}[bits]
    assert {soundfile.info(path).subtype for path in where.values()} == {subtype}
    assert len(listing(tmp_path)) == 3


@pytest.mark.parametrize("name", ["mp3", "ogg"])
def test_compressed_stems_keep_their_length(name, tmp_path):
    stems, written, _ = write(tmp_path, StemFormat(name))
    for stem, copy in zip(stems, written):
        assert copy.shape == stem.shape
        assert np.corrcoef(stem.ravel(), copy.ravel())[0, 1] > 0.9
    assert len(listing(tmp_path)) == 3


def test_defaults_of_the_formats():
    assert soundfile.check_format("WAV", "FLOAT")
    assert StemFormat().sound_file(8000, 2, 10)["subtype"] == "FLOAT"
    assert StemFormat("flac").sound_file(8000, 2, 10)["subtype"] == "PCM_24"
    assert StemFormat().clipping == "keep"
    assert {StemFormat(name).clipping for name in ("flac", "mp3", "ogg")} == {"rescale"}
    assert StemFormat("wav", "16").clipping == "rescale"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("aiff",), "format: 'aiff'"),
        (("wav", "32"), "bits: '32'"),
        (("flac", "float"), "bits: 'float' with format flac, which has 24 or 16"),
        (("mp3", "16"), "none to choose"),
        (("wav", "16", "keep"), "clip: 'keep' needs format wav"),
        (("wav", None, "soft"), "clip: 'soft'"),
    ],
)
def test_kinds_that_do_not_exist(words, says):
    with pytest.raises(ConfigError, match=says):
        StemFormat(*words)


@pytest.mark.parametrize(
    ("form", "rate", "channels"),
    [("mp3", 96_000, 2), ("mp3", 44_100, 6), ("ogg", 384_000, 2), ("mp3", 44_099, 1)],
)
def test_songs_that_a_format_cannot_hold(form, rate, channels, tmp_path):
    with pytest.raises(ConfigError, match=f"format: {form} .*choose wav or flac"):
        write(tmp_path, StemFormat(form), rate=rate, channels=channels)
    assert listing(tmp_path) == []


def test_peaks_are_kept_in_float_and_said(tmp_path, caplog):
    stems, written, _ = write(tmp_path, StemFormat(), loud=2.0)
    np.testing.assert_array_equal(written, stems)
    assert "peak of 2.000 (+6.02 dBFS): kept" in caplog.text


@pytest.mark.parametrize(("name", "bits"), [("wav", "float"), ("wav", "16"), ("flac", "24")])
def test_rescaling_keeps_relative_levels(name, bits, tmp_path, caplog):
    stems, written, _ = write(tmp_path, StemFormat(name, bits, "rescale"), loud=2.0)
    gain = 32767 / 32768 / np.abs(stems).max()
    for stem, copy in zip(stems, written):
        level = np.sqrt((copy**2).mean() / (stem**2).mean())
        assert abs(20 * np.log10(level / gain)) < 0.01
        assert np.abs(copy - gain * stem).max() < 2**-15
    assert np.abs(written[0]).max() <= 1
    assert "all stems scaled by 0.5" in caplog.text
    assert len(listing(tmp_path)) == 3


def test_clamping_cuts_peaks_alone(tmp_path, caplog):
    stems, written, _ = write(tmp_path, StemFormat("wav", "16", "clamp"), loud=2.0)
    assert np.abs(written - stems.clip(-1, 1)).max() < 2**-14
    assert "clipped to full scale" in caplog.text


def test_nothing_is_said_below_full_scale(tmp_path, caplog):
    for form in (StemFormat(), StemFormat("flac"), StemFormat("wav", "16", "clamp")):
        write(tmp_path, form, overwrite=True)
    assert caplog.text == ""


def test_files_beyond_four_gigabytes_are_rf64(tmp_path, monkeypatch):
    assert StemFormat().sound_file(44_100, 2, 3 * 3600 * 44_100)["format"] == "WAV"  # 3.8 GB
    assert StemFormat().sound_file(44_100, 2, 4 * 3600 * 44_100)["format"] == "RF64"
    assert StemFormat("wav", "16").sound_file(44_100, 2, 4 * 3600 * 44_100)["format"] == "WAV"
    monkeypatch.setattr(stem_format, "_MAX_WAV", 500_000)
    stems, written, where = write(tmp_path, StemFormat())
    np.testing.assert_array_equal(written, stems)
    assert {path.read_bytes()[:4] for path in where.values()} == {b"RF64"}


def test_what_is_there_is_replaced_only_if_wanted(tmp_path):
    write(tmp_path, StemFormat())
    before = {path: path.read_bytes() for path in paths(tmp_path).values()}
    with pytest.raises(ConfigError, match=r"song already holds drums\.wav, vocals\.wav"):
        write(tmp_path, StemFormat(), loud=0.1)
    assert {path: path.read_bytes() for path in before} == before
    stems, written, _ = write(tmp_path, StemFormat(), loud=0.1, overwrite=True)
    np.testing.assert_array_equal(written, stems)


def interrupted(where, form, error):
    before = [path.exists() for path in where.values()]
    with StemFiles(where, 8000, 2, 1000, form, overwrite=True) as files:
        files.write(torch.zeros(2, 2, 1000))
        assert [path.exists() for path in where.values()] == before
        raise error


@pytest.mark.parametrize("form", [StemFormat(), StemFormat("flac"), StemFormat("ogg")], ids=str)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interruption_leaves_nothing(form, error, tmp_path):
    with pytest.raises(error):
        interrupted(paths(tmp_path, form.suffix), form, error)
    assert listing(tmp_path) == []


def test_an_interruption_keeps_what_was_there(tmp_path):
    write(tmp_path, StemFormat())
    before = {path: path.read_bytes() for path in paths(tmp_path).values()}
    with pytest.raises(KeyboardInterrupt):
        interrupted(paths(tmp_path), StemFormat(), KeyboardInterrupt)
    assert {path: path.read_bytes() for path in before} == before
    assert len(listing(tmp_path)) == 3


@pytest.fixture
def full_disk():
    """No file of this process may pass 200 kB; what is written beyond fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("name", ["wav", "flac"])
def test_a_full_disk_is_one_line_and_leaves_nothing(name, tmp_path):
    with pytest.raises(DataError, match=r"song: stems cannot be written: File too large$"):
        write(tmp_path, StemFormat(name))
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "song").write_text("a file")
    with pytest.raises(DataError, match="stems cannot be written: "):
        write(tmp_path, StemFormat())
    assert listing(tmp_path) == ["song"]


def test_ten_minutes_of_ogg(tmp_path):
    block = torch.from_numpy(noise(8000 * 100, 1))
    where = {"vocals": tmp_path / "vocals.ogg"}
    with StemFiles(where, 8000, 1, 8000 * 600, StemFormat("ogg", clip="clamp")) as files:
        for _ in range(6):
            files.write(block[None])
    assert soundfile.info(where["vocals"]).frames == 8000 * 600


def test_writing_stems_from_memory(tmp_path):
    stems = {"vocals": torch.randn(2, 50) * 3, "drums": torch.randn(2, 50)}
    for _ in range(2):  # replaces
        written = write_stems(tmp_path / "song", stems, 8000)
        assert written == [tmp_path / "song" / "vocals.wav", tmp_path / "song" / "drums.wav"]
        np.testing.assert_array_equal(read(written[0]), stems["vocals"])


def plan(*songs, stems=("drums", "vocals"), **settings):
    return plan_stems([Path(song) for song in songs], stems, Path("out"), **settings)


def test_names_of_files():
    (one,) = plan("a/song.mp3")
    assert one == {n: Path(f"out/song/{n}.wav") for n in ("drums", "vocals")}
    (one,) = plan("song.mp3", template="{stem}/{song} ({stem})", suffix=".flac")
    assert one["drums"] == Path("out/drums/song (drums).flac")
    for name in ("...wav", "..hidden.wav", ".wav"):
        (one,) = plan(name)
        assert os.path.normpath(one["drums"]).startswith("out" + os.sep)
        assert not any(part.startswith(".") for part in one["drums"].parts)


def test_two_songs_of_one_name():
    for songs in (("a/x.wav", "b/x.flac"), ("b/x.flac", "a/x.wav")):
        with pytest.raises(ConfigError, match=re.escape(f"{songs[0]} and {songs[1]} would both")):
            plan(*songs)
    with pytest.raises(ConfigError, match="would both be written to"):
        plan("a/x.wav", "a/X.flac")
    with pytest.raises(ConfigError, match="would both be written to"):
        plan("a.wav", "b.wav", template="{stem}")


def test_a_stem_never_replaces_a_song():
    with pytest.raises(ConfigError, match=r"out/x/drums\.wav: is a song to separate"):
        plan("x.wav", "out/x/drums.wav")


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "", ".", "..", ".x", "a\nb", "x" * 101])
def test_stem_names_of_a_stranger(name):
    with pytest.raises(ConfigError, match="stem name"):
        plan("song.wav", stems=("drums", name))


@pytest.mark.parametrize(
    "template",
    [
        *("{song}", "", "{stem}/", "../{stem}", "/{stem}", "{stem}/../../{song}", "{stem:>9}"),
        *("{song.x}/{stem}", "{0}{stem}", "{}{stem}", "{title}/{stem}", "{stem!r}", "{stem"),
    ],
)
def test_templates_that_lead_nowhere(template):
    with pytest.raises(ConfigError, match="template: "):
        plan("song.wav", template=template)
