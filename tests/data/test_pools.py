"""Pools: what is drawn how often, from where, and how loud."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aimless.draws import generator
from data.audio import AudioFile
from data.dataset.excerpts import Excerpt, Pool
from data.pools import FilePool, MixupPool, PresencePool, TogetherPool, WeightedPool
from data.tracks import Track

DRAWS = 4000


def audio_file(name: str, frames: int = 1000) -> AudioFile:
    return AudioFile(name, frames, 44100, 2, "WAV", "PCM_16", 0, 0, 44)


def pool(*names: str, frames: int = 1000) -> FilePool:
    return FilePool([audio_file(name, frames) for name in names])


def draw(source: Pool, length: int = 100, count: int = DRAWS) -> list[list[Excerpt]]:
    return [source.draw(length, generator("pool", index)) for index in range(count)]


def bound(probability: float, count: int = DRAWS) -> float:
    """Five standard deviations of a share."""
    return 5 * float(np.sqrt(probability * (1 - probability) / count))


def shares(drawn: list[list[Excerpt]]) -> dict[str, float]:
    counts = Counter(excerpts[0].file.path.name for excerpts in drawn if excerpts)
    return {name: count / len(drawn) for name, count in counts.items()}


def test_files_and_places_are_drawn_evenly() -> None:
    drawn = draw(pool("a", "b", "c", "d"))
    assert all(len(excerpts) == 1 for excerpts in drawn)
    assert shares(drawn) == pytest.approx(dict.fromkeys("abcd", 0.25), abs=bound(0.25))
    starts = np.array([excerpts[0].start for excerpts in drawn])
    assert (starts.min(), starts.max()) == (0, 900)
    assert starts.mean() == pytest.approx(450, abs=5 * 260 / DRAWS**0.5)
    assert {excerpts[0].frames for excerpts in drawn} == {100}


@pytest.mark.parametrize("frames", [1, 99, 100])
def test_short_files_are_taken_whole(frames: int) -> None:
    (excerpt,) = pool("a", frames=frames).draw(100, generator("short"))
    assert excerpt[1:] == (0, frames, 1.0)


def test_weights_are_respected() -> None:
    mixed = WeightedPool([pool("a"), pool("b", "c"), pool("d")], [1, 6, 3])
    assert shares(draw(mixed)) == pytest.approx(
        {"a": 0.1, "b": 0.3, "c": 0.3, "d": 0.3}, abs=bound(0.3)
    )


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_presence(probability: float) -> None:
    drawn = draw(PresencePool(pool("a"), probability))
    there = np.mean([bool(excerpts) for excerpts in drawn])
    assert there == pytest.approx(probability, abs=bound(probability))


def test_mixup_adds_with_its_probabilities_and_gains() -> None:
    mixed = MixupPool(pool("a", "b"), [0.2, 0.1], (-6, 3))
    drawn = draw(mixed)
    counts = Counter(len(excerpts) for excerpts in drawn)
    assert {n: count / DRAWS for n, count in counts.items()} == pytest.approx(
        {1: 0.7, 2: 0.2, 3: 0.1}, abs=bound(0.2)
    )
    assert all(excerpts[0].gain == 1 for excerpts in drawn)
    gains = 20 * np.log10([excerpt.gain for excerpts in drawn for excerpt in excerpts[1:]])
    assert -6 <= gains.min() < -5.9
    assert 2.9 < gains.max() <= 3
    assert gains.mean() == pytest.approx(-1.5, abs=5 * 2.6 / len(gains) ** 0.5)


def test_mixup_leaves_silence_alone_and_keeps_gains_within() -> None:
    assert not any(draw(MixupPool(PresencePool(pool("a"), 0.0), [1.0], (0, 0)), count=100))
    twice = MixupPool(MixupPool(pool("a"), [1.0], (6, 6)), [1.0], (-6, -6))
    (excerpts,) = draw(twice, count=1)
    assert [20 * np.log10(excerpt.gain) for excerpt in excerpts] == pytest.approx([0, 6, -6, 0])


def track(name: str, frames: int, *sources: str) -> Track:
    stems = {source: audio_file(f"{name}/{source}", frames) for source in sources}
    return Track(name, Path(name), stems, None, frames, 2, 44100)


def test_stems_drawn_together_are_of_one_track_and_place() -> None:
    folders = [
        [track("a", 1000, "kick", "snare"), track("b", 50, "kick")],
        [track("c", 200, "kick", "snare", "rest")],
    ]
    together = TogetherPool(folders, [3, 1])
    names = Counter()
    for index in range(DRAWS):
        drawn = together.draw(100, generator("together", index))
        places = {(e.file.path.parent.name, e.start, e.frames) for (e,) in drawn.values()}
        assert len(places) == 1
        name, start, frames = places.pop()
        assert {"a": 2, "b": 1, "c": 3}[name] == len(drawn)
        assert start + frames <= {"a": 1000, "b": 50, "c": 200}[name]
        names[name] += 1
    expected = {"a": 0.375, "b": 0.375, "c": 0.25}
    assert {n: count / DRAWS for n, count in names.items()} == pytest.approx(
        expected, abs=bound(0.375)
    )
