"""Folders of songs in, scores out: SDR and SI-SDR by definition, baselines, and bad input."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import soundfile
import torch

from aimless.errors import ConfigError, DataError
from aimless.evaluate import (
    FolderEstimates,
    IdealMaskEstimates,
    MixtureEstimates,
    NetworkEstimates,
    evaluate,
)
from aimless.evaluation.ideal_mask import ideal_masks
from aimless.evaluation.ratios import EnergyRatios
from aimless.evaluation.stems import ArrayStem
from aimless.metrics import si_sdr
from aimless.sources import MDX_SOURCES
from aimless.transforms import STFT

SONGS = ("First Song", "Second Song")


@pytest.fixture
def references(tmp_path, write_song):
    for seed, name in enumerate(SONGS):
        write_song(tmp_path / "songs" / "test" / name, seconds=2.3, seed=seed)
    return tmp_path / "songs"


@pytest.fixture
def estimates(references, tmp_path):
    """Each reference with noise; 32-bit files without the folder `test`."""
    for seed, name in enumerate(SONGS):
        rng = np.random.default_rng(seed)
        (tmp_path / "separated" / name).mkdir(parents=True)
        for source in MDX_SOURCES:
            audio, rate = soundfile.read(references / "test" / name / f"{source}.wav")
            noisy = 0.7 * audio + 0.01 * rng.standard_normal(audio.shape)
            path = tmp_path / "separated" / name / f"{source}.wav"
            soundfile.write(path, noisy, rate, subtype="FLOAT")
    return tmp_path / "separated"


def stem(*path):
    audio, _ = soundfile.read(path[0].joinpath(*path[1:]).with_suffix(".wav"))
    return torch.from_numpy(audio.T)


def test_scores_are_those_of_the_whole_song(references, estimates):
    result = evaluate(references, estimates)
    assert result.sources == sorted(MDX_SOURCES)
    assert list(result.songs) == list(SONGS)
    assert not result.failed
    for name in SONGS:
        for source in MDX_SOURCES:
            ref, est = stem(references, "test", name, source), stem(estimates, name, source)
            signal, error = float((ref**2).sum()), float(((ref - est) ** 2).sum())
            expected = 10 * math.log10((signal + 1e-7) / (error + 1e-7))
            scores = result.songs[name].values[source]
            assert scores["sdr"] == pytest.approx(expected, abs=1e-9)
            assert scores["si_sdr"] == pytest.approx(float(si_sdr(est[None], ref[None])), abs=1e-9)


@pytest.mark.parametrize("error", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("scale", [1.0, -0.3, 5.0])
def test_sums_over_blocks_lose_nothing(error, scale):
    """A block of silence and blocks of very different level in between."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((2, 6000)) * np.repeat([1, 0, 1e-3, 3, 1, 1e-6], 1000)
    estimate = scale * reference + error * rng.standard_normal(reference.shape)
    ratios = EnergyRatios()
    for start in range(0, 6000, 700):
        ratios.add(reference[:, start : start + 700], estimate[:, start : start + 700])
    expected = si_sdr(*(torch.from_numpy(x)[None] for x in (estimate, reference)))
    assert ratios.si_sdr == pytest.approx(min(float(expected), 100), abs=1e-8)
    distortion = float(((reference - estimate) ** 2).sum())
    assert ratios.distortion == pytest.approx(distortion, rel=1e-12)


def test_perfect_silent_and_scaled_estimates():
    reference = np.random.default_rng(0).standard_normal((2, 1000))
    perfect, silent, scaled, unheard = (EnergyRatios() for _ in range(4))
    perfect.add(reference, reference)
    silent.add(reference, 0 * reference)
    scaled.add(reference, 0.5 * reference)
    unheard.add(0 * reference, reference)
    assert perfect.si_sdr == 100
    assert perfect.sdr == pytest.approx(10 * math.log10(perfect.signal / 1e-7), abs=1e-6)
    assert silent.si_sdr == -100
    assert silent.sdr == pytest.approx(0)
    assert scaled.si_sdr == 100
    assert scaled.sdr == pytest.approx(10 * math.log10(4), abs=1e-6)
    assert math.isnan(unheard.sdr)
    assert math.isnan(unheard.si_sdr)


def test_the_worst_stretch_is_where_the_error_is():
    rng = np.random.default_rng(0)
    ratios = EnergyRatios()
    for block in range(30):
        reference = rng.standard_normal((2, 100)) * (block >= 5)  # silent at first
        error = 1.0 if block in (17, 18) or block < 4 else 0.1
        ratios.add(reference, reference + error * rng.standard_normal((2, 100)))
    assert ratios.worst_stretch(2) == 17
    assert ratios.worst_stretch(50) == 0


def test_masks_beat_the_mixture_and_powers_beat_magnitudes(references):
    means = [
        evaluate(references, kind).summary()["all"]["sdr"].mean
        for kind in (MixtureEstimates(), IdealMaskEstimates(1), IdealMaskEstimates(2))
    ]
    assert means[0] < 0
    assert means[0] + 10 < means[1] < means[2]


@pytest.mark.parametrize("alpha", [1, 2])
def test_a_mask_read_in_pieces_is_that_of_the_whole_song(alpha):
    rng = torch.Generator().manual_seed(0)
    stems = torch.randn(3, 2, 50_001, generator=rng, dtype=torch.float64)
    named = {name: ArrayStem(x.numpy(), 44100, name) for name, x in zip("abc", stems)}
    mixture = stems.sum(0)
    masked = ideal_masks(named, ArrayStem(mixture.numpy(), 44100, "mixture"), alpha)
    stft = STFT(4096, 1024)
    power = stft(stems).abs() ** alpha
    whole = stft.inverse(stft(mixture) * power / power.sum(0), 50_001).numpy()
    for index, name in enumerate("abc"):
        for start, stop in ((0, 50_001), (0, 1), (7000, 9001), (20_480, 30_720), (49_000, 50_001)):
            piece = masked[name].read(start, stop)
            np.testing.assert_allclose(piece, whole[index][:, start:stop], atol=1e-12)


def test_silent_references_are_left_out_of_the_means(references, estimates):
    path = references / "test" / SONGS[0] / "vocals.wav"
    audio, rate = soundfile.read(path)
    soundfile.write(path, 0 * audio, rate)
    result = evaluate(references, estimates, metrics=["sdr", "si_sdr", "bss_eval"])
    assert all(math.isnan(value) for value in result.songs[SONGS[0]].values["vocals"].values())
    assert all(math.isfinite(v) for v in result.songs[SONGS[0]].values["drums"].values())
    vocals = result.summary()["vocals"]["sdr"]
    assert vocals.songs == 1
    assert vocals.mean == result.songs[SONGS[1]].values["vocals"]["sdr"]


def test_processes_score_as_one_does(references, estimates):
    one = evaluate(references, estimates, metrics=["sdr"])
    two = evaluate(references, estimates, metrics=["sdr"], workers=2)
    assert list(one.songs) == list(two.songs)
    assert [song.values for song in one.songs.values()] == [s.values for s in two.songs.values()]


def test_only_the_estimated_sources_are_scored(references, estimates):
    for name in SONGS:
        for source in ("drums", "bass", "other"):
            (estimates / name / f"{source}.wav").unlink()
        shutil.copy(estimates / name / "vocals.wav", estimates / name / "no_vocals.wav")
    result = evaluate(references, estimates, metrics=["sdr", "bss_eval"])
    assert result.sources == ["vocals"]
    assert math.isfinite(result.songs[SONGS[0]].values["vocals"]["bss_sir"])
    assert "bass, drums, other" in result.notes[0]
    assert "no_vocals" in result.notes[1]


def test_without_a_recorded_mixture_it_is_the_sum_of_the_stems(references):
    before = evaluate(references, MixtureEstimates())
    for name in SONGS:
        (references / "test" / name / "mixture.wav").unlink()
    after = evaluate(references, MixtureEstimates())
    for name in SONGS:
        for source in MDX_SOURCES:
            expected = before.songs[name].values[source]["sdr"]
            assert after.songs[name].values[source]["sdr"] == pytest.approx(expected, abs=1e-6)


class HalfMixture:
    """Separates into halves of the mixture, and into a stem that has no reference."""

    stems = ("vocals", "noise", "bass")

    def separate(self, mixture, sample_rate):
        assert sample_rate == 44100
        return dict.fromkeys(self.stems, torch.from_numpy(mixture) / 2)


def test_a_network_is_scored_on_the_mixture(references):
    result = evaluate(references, NetworkEstimates(HalfMixture(), "half"))
    assert (result.label, result.sources) == ("half", ["bass", "vocals"])
    mixture = stem(references, "test", SONGS[0], "mixture")
    bass = stem(references, "test", SONGS[0], "bass")
    error = float(((bass - mixture / 2) ** 2).sum())
    expected = 10 * math.log10(float((bass**2).sum()) / error)
    assert result.songs[SONGS[0]].values["bass"]["sdr"] == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ConfigError, match="workers: 2"):
        evaluate(references, NetworkEstimates(HalfMixture()), workers=2)


def rewrite(path, change, rate=44100):
    audio, _ = soundfile.read(path, always_2d=True)
    soundfile.write(path, change(audio), rate, subtype="FLOAT")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "no file of vocals"),
        (lambda path: path.write_bytes(b"no audio"), "vocals.wav: cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:44]), "vocals.wav"),
        (lambda path: shutil.rmtree(path.parent), "no folder 'First Song'"),
        (lambda path: rewrite(path, lambda x: x[:-4500]), "up to 0.1 s"),
        (lambda path: rewrite(path, lambda x: x[:, :1]), "1 channels"),
        (lambda path: rewrite(path, lambda x: x, 48000), "48000 Hz"),
        (lambda path: rewrite(path, lambda x: np.where(x == x[7], np.nan, x)), "sample 7"),
    ],
    ids=["missing", "text", "empty", "no folder", "short", "mono", "rate", "nan"],
)
def test_a_bad_song_is_told_and_the_others_are_scored(references, estimates, damage, words):
    damage(estimates / SONGS[0] / "vocals.wav")
    seen = []
    result = evaluate(references, estimates, progress=lambda *args: seen.append(args))
    assert list(result.songs) == [SONGS[1]]
    assert words in result.failed[SONGS[0]]
    assert "\n" not in result.failed[SONGS[0]]
    assert seen == [
        (0, 2, "", None),
        (1, 2, SONGS[0], result.failed[SONGS[0]]),
        (2, 2, SONGS[1], None),
    ]


def test_up_to_a_tenth_of_a_second_may_be_missing(references, estimates):
    rewrite(estimates / SONGS[0] / "vocals.wav", lambda x: x[:-4000])
    result = evaluate(references, estimates)
    assert not result.failed
    ref = stem(references, "test", SONGS[0], "bass")[:, :-4000]
    est = stem(estimates, SONGS[0], "bass")[:, :-4000]
    expected = 10 * math.log10(float((ref**2).sum() / ((ref - est) ** 2).sum()))
    assert result.songs[SONGS[0]].values["bass"]["sdr"] == pytest.approx(expected, abs=1e-6)


def test_settings_that_are_refused(references, estimates, tmp_path):
    for settings, words in (
        ({"metrics": ["pesq"]}, "metrics: 'pesq'"),
        ({"metrics": []}, "metrics: none"),
        ({"engine": "matlab"}, "engine: 'matlab'"),
        ({"sources": ["piano"]}, "sources: 'piano'"),
        ({"workers": 0}, "workers: 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            evaluate(references, estimates, **settings)
    with pytest.raises(ConfigError, match="alpha: 3"):
        IdealMaskEstimates(3)
    with pytest.raises(DataError, match="no such folder"):
        evaluate(references, tmp_path / "nowhere")
    with pytest.raises(DataError, match="no songs"):
        FolderEstimates(references / "test" / SONGS[0])
    (tmp_path / "piano" / "song").mkdir(parents=True)
    shutil.copy(estimates / SONGS[0] / "bass.wav", tmp_path / "piano" / "song" / "piano.wav")
    with pytest.raises(DataError, match="estimates of piano"):
        evaluate(references, tmp_path / "piano")
    shutil.copytree(estimates, tmp_path / "others")
    for name in SONGS:
        (tmp_path / "others" / name).rename(tmp_path / "others" / f"not {name}")
    with pytest.raises(DataError, match="none of 2 songs"):
        evaluate(references, tmp_path / "others")
