"""`from aimless import Separator`: songs in, stems out, from Python."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from aimless import Separator, StemFormat, Stems
from aimless.errors import ConfigError, DataError
from aimless.models import DemucsSplit
from aimless.network import WaveformNetwork
from tests.aimless.engine_parts import (
    ENVIRONMENT,
    RATE,
    exported,
    listing,
    network,
    noise,
    read,
    write,
)


@pytest.fixture
def separator():
    return Separator(network(), device="cpu", segment=1.0)


def test_a_file_becomes_named_stems(separator, tmp_path):
    audio = noise(30_001)
    stems = separator.separate(write(tmp_path / "song.wav", audio))
    assert isinstance(stems, Stems)
    assert list(stems) == ["drums", "vocals"]
    assert stems.sample_rate == RATE
    np.testing.assert_allclose(stems["drums"], 0.75 * audio, atol=1e-6)
    np.testing.assert_allclose(stems["vocals"], 0.25 * audio, atol=1e-6)
    assert "vocals (2, 30001)" in repr(stems)
    assert stems["vocals"].dtype == torch.float32
    stems["vocals"].mul_(2).requires_grad_()  # plain tensors: they can be changed and trained on


@pytest.mark.parametrize("convert", [torch.from_numpy, np.asarray, lambda a: a.astype(np.float64)])
def test_arrays_and_tensors(separator, convert):
    audio = noise(9001)
    stems = separator.separate(convert(audio), RATE)
    np.testing.assert_allclose(stems["drums"], 0.75 * audio, atol=1e-6)
    with pytest.raises(ConfigError, match="sample_rate: needed"):
        separator.separate(convert(audio))


def test_a_mono_array_is_one_channel(separator):
    assert separator.separate(noise(500, 1)[0], RATE)["drums"].shape == (1, 500)


def test_files_and_memory_give_the_same(separator, tmp_path):
    audio = noise(30_001)
    song = write(tmp_path / "in" / "song.wav", audio, 11_025)
    written = separator.separate_files(song, tmp_path / "out")
    assert written == {
        song: {name: tmp_path / "out" / "song" / f"{name}.wav" for name in separator.stems}
    }
    in_memory = separator.separate(audio, 11_025)
    for name, path in written[song].items():
        np.testing.assert_array_equal(read(path), in_memory[name])
        assert soundfile.info(path).samplerate == 11_025


def test_derived_stems_sum_to_the_mixture():
    audio = noise(30_001)
    net = network(levels=(0.5, 0.1))
    two = Separator(net, device="cpu", two_stems="vocals").separate(audio, 11_025)
    assert list(two) == ["vocals", "no_vocals"]
    rest = Separator(net, device="cpu", residual=True).separate(audio, 11_025)
    assert list(rest) == ["drums", "vocals", "residual"]
    whole = Separator(net, device="cpu", mixture_consistency=True).separate(audio, 11_025)
    assert list(whole) == ["drums", "vocals"]
    for stems in (two, rest, whole):
        assert abs(sum(stems.values()).numpy() - audio).max() < 1e-6


def test_a_network_with_its_own_length(tmp_path):
    """Demucs gives less than it gets; no sample is lost at any length."""
    torch.manual_seed(0)
    model = DemucsSplit(channels=4, depth=3, nb_sources=2)
    demucs = WaveformNetwork(model, ["drums", "vocals"], sample_rate=RATE).eval()
    separator = Separator(demucs, device="cpu", segment=2.0)
    for samples in (1, 2, 100, 4410, 4411, 16_000 - 1, 16_000, 16_001, 48_007):
        stems = separator.separate(noise(samples), RATE)
        assert {stem.shape for stem in stems.values()} == {(2, samples)}
        assert all(stem.isfinite().all() for stem in stems.values())


def test_settings_come_from_the_caller_then_the_recipe_then_the_defaults():
    net = network()
    net.engine = {"overlap": 0.5, "segment": 3.0, "tta": ["polarity"]}
    settings = Separator(net, device="cpu", segment=4.0).overlap_add
    assert (settings.segment, settings.overlap, settings.tta) == (4.0, 0.5, ("polarity",))
    assert Separator(network(), device="cpu").overlap_add.overlap == 0.25
    net.engine = {"hop": 1}
    with pytest.raises(ConfigError, match="engine: unknown setting 'hop'; known: segment, overlap"):
        Separator(net, device="cpu")


@pytest.mark.parametrize(
    "settings",
    [{"segment": 0}, {"tta": ["flip"]}, {"two_stems": "guitar"}, {"device": "tpu"}],
    ids=str,
)
def test_wrong_settings_are_found_at_once(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Separator(network(), **{"device": "cpu", **settings})


def test_loading(tmp_path):
    path = exported(tmp_path / "model.safetensors")
    separator = Separator.load(path, trusted=["tests"], device="cpu", two_stems="drums")
    assert separator.sources == ("drums", "vocals")
    assert separator.stems == ("drums", "no_drums")
    assert separator.device == torch.device("cpu")
    with pytest.raises(DataError, match="not of aimless"):
        Separator.load(path)


def test_progress_in_seconds(separator, tmp_path):
    song = write(tmp_path / "song.wav", noise(5 * RATE))
    alone, of_files = [], []
    separator.separate(song, progress=lambda *at: alone.append(at))
    separator.separate_files([song], tmp_path, progress=lambda *at: of_files.append(at))
    assert alone[-1] == (5.0, 5.0)
    assert of_files == [(song, *at) for at in alone]


def test_an_error_in_the_callback_leaves_nothing(separator, tmp_path):
    class CancelError(Exception):
        pass

    def cancel(song, done, seconds):
        if done > 2:
            raise CancelError

    song = write(tmp_path / "song.wav", noise(5 * RATE))
    with pytest.raises(CancelError):
        separator.separate_files([song], tmp_path / "out", progress=cancel)
    assert listing(tmp_path) == ["song.wav"]


def test_many_go_on_after_a_bad_one_if_wanted(separator, tmp_path):
    good = [write(tmp_path / "in" / f"{name}.wav", noise(500)) for name in ("a", "c")]
    bad = tmp_path / "in" / "b.wav"
    bad.write_text("no audio")
    with pytest.raises(DataError, match=r"b\.wav"):
        separator.separate_files(tmp_path / "in", tmp_path / "one")
    assert listing(tmp_path / "one") == ["a", "a/drums.wav", "a/vocals.wav"]
    failed, done = [], []
    written = separator.separate_files(
        tmp_path / "in",
        tmp_path / "two",
        on_error=lambda song, error: failed.append((song, error.exit_code)),
        on_done=lambda song, stems: done.append(song),
        format=StemFormat("flac", "16"),
        template="{stem}/{song}",
    )
    assert failed == [(bad, 3)]
    assert done == good == list(written)
    assert listing(tmp_path / "two")[1:3] == ["drums/a.flac", "drums/c.flac"]


def test_a_song_that_is_not_finite(tmp_path):
    audio = noise(500)
    audio[0, 7] = np.nan
    with pytest.raises(DataError, match="frame 7"):
        Separator(network(), device="cpu").separate(audio, RATE)
    stems = Separator(network(), device="cpu", fix_nonfinite=True).separate(audio, RATE)
    assert stems["drums"][0, 7] == 0


def test_importing_and_using_it_needs_no_lightning(tmp_path):
    exported(tmp_path / "model.safetensors")
    write(tmp_path / "song.wav", noise(500))
    code = f"""
import sys, aimless
print('torch' in sys.modules)
separator = aimless.Separator.load({str(tmp_path / "model.safetensors")!r}, trusted=['tests'])
print(separator.separate({str(tmp_path / "song.wav")!r})['drums'].shape)
print([n for n in ('lightning', 'torchmetrics', 'torchaudio', 'data') if n in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.splitlines() == ["False", "torch.Size([2, 500])", "[]"], done.stderr


def test_what_the_package_does_not_have():
    import aimless

    assert {"Separator", "Stems", "StemFormat"} <= set(dir(aimless))
    with pytest.raises(AttributeError, match="no attribute 'Seperator'"):
        aimless.Seperator  # noqa: B018
