"""Songs from files of all kinds, and from memory."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from aimless.errors import DataError
from aimless.songs.audio_paths import find_songs
from aimless.songs.song import Song
from tests.aimless.engine_parts import encode, noise, write
from tests.audio_parts import forget_length


def samples_of(song):
    blocks = list(song.blocks())
    assert all(block.dtype == torch.float32 for block in blocks)
    return torch.cat(blocks, -1).numpy()


def offset(audio, decoded, most=3000):
    """Samples by which the decoded audio is late."""
    piece = audio[0, 20_000:50_000]
    scores = [
        float(np.dot(piece, decoded[0, 20_000 + d : 50_000 + d])) for d in range(-most, most + 1)
    ]
    return int(np.argmax(scores)) - most


FORMATS = {
    "wav": {},
    "flac": {},
    "aiff": {},
    "ogg": {},
    "mp3": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "w64": {},
    "caf": {},
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_of_libsndfile(suffix, tmp_path):
    rate = 48_000 if suffix == "opus" else 44_100
    audio = noise(100_001)
    path = write(tmp_path / f"song.{suffix}", audio, rate, **FORMATS[suffix])
    song = Song.open(path)
    decoded = samples_of(song)
    assert (song.rate, song.channels, song.frames) == (rate, 2, 100_001)
    assert decoded.shape == audio.shape
    assert offset(audio, decoded) == 0
    if suffix not in ("ogg", "mp3", "opus"):
        assert np.abs(decoded - audio).max() < 2**-14


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "late"),
    [
        ("m4a", "aac", 44_100, 0),
        ("mp4", "aac", 44_100, 0),
        ("webm", "libopus", 48_000, 0),
        ("aac", "aac", 44_100, 1024),  # a bare stream does not tell its encoder's delay
    ],
)
def test_formats_of_ffmpeg(suffix, codec, rate, late, tmp_path):
    audio = noise(100_001)
    song = Song.open(encode(tmp_path / f"song.{suffix}", audio, codec, rate))
    decoded = samples_of(song)
    assert (song.rate, song.channels) == (rate, 2)
    assert song.seconds == pytest.approx(100_001 / rate, rel=0.1)
    assert audio.shape[1] <= decoded.shape[1] <= audio.shape[1] + 2 * 1024
    assert offset(audio, decoded) == late


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac", "wav"])
def test_blocks_are_the_file_as_it_is_read_whole(suffix, tmp_path):
    """A tone, of which an MP3 encoder saves bits for later frames."""
    path = tmp_path / f"tone.{suffix}"
    tone = 0.5 * np.sin(2 * np.pi * 220.5 * np.arange(6 * 44100) / 44100)
    soundfile.write(path, tone, 44100)
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_allclose(samples_of(Song.open(path)), whole.T, atol=1e-7)


def test_a_song_can_be_read_twice(tmp_path):
    song = Song.open(write(tmp_path / "song.wav", noise(1000)))
    np.testing.assert_array_equal(samples_of(song), samples_of(song))


def test_float_files_are_not_clipped(tmp_path):
    audio = noise(1000, peak=3.0)
    np.testing.assert_array_equal(samples_of(Song.open(write(tmp_path / "song.wav", audio))), audio)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.int32])
def test_arrays_of_floats_and_integers(dtype):
    audio = noise(100)
    scale = 1 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    song = Song.from_array((audio * scale).astype(dtype), 8000)
    assert np.abs(samples_of(song) - audio).max() < 1e-4
    assert samples_of(Song.from_array(audio[0], 8000)).shape == (1, 100)


@pytest.mark.parametrize("shape", [(2, 0), (0, 10), (0,), (1, 2, 10)])
def test_arrays_of_other_shapes(shape):
    with pytest.raises(DataError, match="not empty"):
        Song.from_array(np.zeros(shape), 8000)


@pytest.mark.parametrize("rate", [0, 3999, 384_001])
def test_rates_out_of_range(rate):
    with pytest.raises(DataError, match=rf"{rate} Hz; must be 4000 to 384000 Hz"):
        Song.from_array(noise(10), rate)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("position", [0, 70_000, 99_999])
def test_samples_that_are_not_finite(value, position, tmp_path, caplog):
    audio = noise(100_000)
    audio[1, position] = value
    path = write(tmp_path / "song.wav", audio, 44_100)
    for song in (Song.open(path), Song.from_array(audio, 44_100)):
        with pytest.raises(DataError, match=rf"frame {position} \(.*\), channel 2 is"):
            samples_of(song)
    fixed = samples_of(Song.open(path, fix_nonfinite=True))
    audio[1, position] = 0
    np.testing.assert_array_equal(fixed, audio)
    assert "1 samples that were not finite are now 0" in caplog.text


@pytest.mark.parametrize("suffix", ["wav", "aiff", "mp3"])
def test_a_file_that_was_cut_off_gives_what_is_there_and_says_so(suffix, tmp_path, caplog):
    path = write(tmp_path / f"song.{suffix}", noise(200_000), 44_100)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    decoded = samples_of(Song.open(path))
    assert 90_000 < decoded.shape[1] < 101_000
    assert "cut off: the header promises" in caplog.text


def test_a_damaged_flac_file_is_an_error(tmp_path):
    path = write(tmp_path / "song.flac", noise(200_000), 44_100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"song\.flac: cut off or damaged after \d\.\d s"):
        samples_of(Song.open(path))


def test_a_flac_file_without_a_length_is_read_to_its_end(tmp_path, caplog):
    path = write(tmp_path / "song.flac", noise(200_000), 44_100)
    whole = samples_of(Song.open(path))
    forget_length(path)
    song = Song.open(path)
    assert song.frames == 0
    np.testing.assert_array_equal(samples_of(song), whole)
    assert not caplog.text


def test_whole_files_are_not_called_cut_off(tmp_path, caplog):
    for suffix in ("wav", "aiff", "mp3", "ogg", "flac"):
        samples_of(Song.open(write(tmp_path / f"song.{suffix}", noise(50_000), 44_100)))
    assert caplog.text == ""


def test_playlists_and_folders_are_no_songs(tmp_path):
    write(tmp_path / "secret.wav", noise(1000))
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nsecret.wav\n")
    with pytest.raises(DataError, match=r"list\.m3u8: not readable audio"):
        Song.open(playlist)
    with pytest.raises(DataError, match="is a folder"):
        Song.open(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        Song.open(tmp_path / "nothing.wav")


def test_a_picture_is_no_song(tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match=r"picture\.png: not readable audio"):
        Song.open(picture)


def test_files_folders_and_patterns(tmp_path):
    for name in ("b.wav", "a.flac", "album/c.mp3", "album/.hidden.wav", ".trash/d.wav"):
        write(tmp_path / name, noise(100))
    (tmp_path / "notes.txt").write_text("no audio")

    def found(*given, **settings):
        return [str(p.relative_to(tmp_path)) for p in find_songs(given, **settings)]

    assert found(tmp_path) == ["a.flac", "b.wav", "album/c.mp3"]
    assert found(tmp_path, recursive=False) == ["a.flac", "b.wav"]
    assert found(tmp_path / "b.wav", tmp_path) == ["b.wav", "a.flac", "album/c.mp3"]
    assert found(str(tmp_path / "*.wav")) == ["b.wav"]
    assert found(str(tmp_path / "**" / "*")) == ["a.flac", "album/c.mp3", "b.wav"]
    assert found(tmp_path / "notes.txt") == ["notes.txt"]  # named itself: tried
    for missing in ("nothing.wav", "nothing*"):
        with pytest.raises(DataError, match="no such file"):
            find_songs([str(tmp_path / missing)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no audio in it"):
        find_songs([tmp_path / "empty"])


def test_a_file_whose_name_is_a_pattern(tmp_path):
    path = write(tmp_path / "song [live].wav", noise(100))
    assert find_songs([str(path)]) == [path]


def test_names_that_are_not_unicode(tmp_path):
    name = tmp_path / b"s\xffng.wav".decode("utf-8", "surrogateescape")
    write(tmp_path / "song.wav", noise(100)).rename(name)
    song = Song.open(name)
    assert song.name.endswith(r"s\xffng.wav")
    assert samples_of(song).shape == (2, 100)
    assert soundfile.info(bytes(name)).frames == 100
