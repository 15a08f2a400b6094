import pytest
import torch

from aimless.errors import ConfigError, DataError
from aimless.overlap_add import OverlapAdd
from aimless.separate import separate, write_stems

RATE = 100


def identity(mixture):
    return mixture[:, None]


def shortening(swallowed):
    """A network of strided convolutions: its output is shorter, and starts with its input."""

    def network(mixture):
        samples = (mixture.shape[-1] - swallowed) // 4 * 4
        return mixture[:, None, :, :samples]

    return network


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_identity_network_gives_the_input_back(overlap, batch_size):
    settings = OverlapAdd(segment=1.0, overlap=overlap, batch_size=batch_size)
    for samples in [1, 2, 7, 99, 100, 101, 150, 199, 200, 201, 777, 1000]:
        mixture = torch.randn(2, samples)
        estimate = settings(identity, mixture, RATE)
        assert estimate.shape == (1, 2, samples)
        assert (estimate[0] - mixture).abs().max() < 1e-5


@pytest.mark.parametrize("swallowed", [0, 1, 30, 90])
@pytest.mark.parametrize("samples", [1, 50, 100, 101, 333])
def test_a_network_that_shortens_gives_every_sample(swallowed, samples):
    mixture = torch.randn(2, samples)
    estimate = OverlapAdd(1.0, 0.25)(shortening(swallowed), mixture, RATE)
    assert (estimate[0] - mixture).abs().max() < 1e-5


def test_a_network_that_never_fills_a_segment_is_an_error():
    with pytest.raises(ConfigError, match="never reaches"):
        OverlapAdd(1.0)(lambda mixture: mixture[:, None, :, :10], torch.randn(2, 300), RATE)


def test_segments_are_never_silence_filled_and_all_are_of_one_length():
    lengths = []

    def network(mixture):
        lengths.append(mixture.shape[-1])
        assert mixture.abs().min() > 0
        return mixture[:, None]

    OverlapAdd(1.0, 0.25)(network, torch.ones(1, 777), RATE)
    assert set(lengths) == {100}


def test_seams_are_faded():
    """Segments that disagree meet in a ramp, not in a step."""
    level = iter(range(100))

    def network(mixture):
        return torch.full_like(mixture[:, None], next(level) % 2)

    estimate = OverlapAdd(1.0, 0.5)(network, torch.zeros(1, 1000), RATE)[0, 0]
    assert estimate.diff().abs().max() <= 1 / 50


def test_progress_reaches_the_end():
    seen = []
    OverlapAdd(1.0)(identity, torch.randn(1, 555), RATE, progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (555, 555)


@pytest.mark.parametrize(
    "settings",
    [{"segment": 0}, {"segment": -1}, {"overlap": 1}, {"overlap": -0.1}, {"batch_size": 0}],
)
def test_settings_out_of_range(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        OverlapAdd(**settings)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_stems_have_the_songs_rate_length_and_channels(rate, channels):
    time = torch.arange(rate * 2 + 7) / rate
    song = torch.stack([torch.sin(2 * torch.pi * (200 + 100 * c) * time) for c in range(channels)])
    stems = separate(lambda mixture: torch.stack([mixture, 0 * mixture], 1), song, rate, channels=2)
    assert stems.shape == (2, *song.shape)
    middle = slice(rate // 2, -rate // 2)
    tolerance = 1e-5 if rate == 44100 else 1e-3  # resampled twice
    assert (stems[0] - song)[:, middle].abs().max() < tolerance
    assert stems[1].abs().max() == 0


def test_a_mono_network_separates_each_channel():
    seen = []

    def network(mixture):
        seen.append(tuple(mixture.shape[:2]))
        return mixture[:, None]

    song = torch.randn(2, 4410)
    assert torch.allclose(separate(network, song, 44100, channels=1)[0], song, atol=1e-6)
    assert set(seen) == {(1, 1)}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("position", [0, 500, 999])
def test_samples_that_are_not_finite_are_refused_with_their_position(value, position):
    song = torch.zeros(2, 1000)
    song[1, position] = value
    with pytest.raises(DataError, match=f"the first at {position}"):
        separate(identity, song, 44100)


def test_empty_audio_is_refused():
    with pytest.raises(DataError, match="not empty"):
        separate(identity, torch.zeros(2, 0), 44100)


def test_stems_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    import soundfile

    stems = {"vocals": torch.randn(2, 50) * 3, "drums": torch.randn(2, 50)}
    paths = write_stems(tmp_path / "song", stems, 8000)
    samples, rate = soundfile.read(paths[0], dtype="float32", always_2d=True)
    assert rate == 8000
    assert torch.equal(torch.from_numpy(samples.T), stems["vocals"])  # not clipped

    real = soundfile.write

    def full_disk(file, *args, **kwargs):
        if "drums" in str(file):
            raise OSError(28, "No space left on device")
        real(file, *args, **kwargs)

    monkeypatch.setattr(soundfile, "write", full_disk)
    with pytest.raises(DataError, match="No space left"):
        write_stems(tmp_path / "other", stems, 8000)
    assert list((tmp_path / "other").iterdir()) == []
