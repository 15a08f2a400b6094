"""The numbers that decide what mixes are like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from aimless.errors import ConfigError
from aimless.sources import SDX_SOURCES

__all__ = ["KINDS", "SPLITS", "Kind", "Settings"]

KINDS = SDX_SOURCES
SPLITS = ("tr", "cv", "tt")


@dataclass(frozen=True)
class Kind:
    """What the segments of a kind of sound are like.

    Args:
        count: parameter of the zero-truncated Poisson distribution of their number in a mix.
        lufs: loudness that they vary about, in LUFS.
        seconds: a file up to the second number is used whole; of a longer one, a random part
            between the two.
        fill: least and largest share of the mix that they have together; if they are longer,
            the longest are shortened to one length.
        fade: length in seconds of the fades where a part is cut out of a file.
        overlap: share of the shorter one that two neighbours have in common at most, from 0 to
            0.5, so that no more than two sound at a time.
    """

    count: float
    lufs: float
    seconds: tuple[float, float]
    fill: tuple[float, float]
    fade: float
    overlap: float


@dataclass(frozen=True)
class Settings:
    """All that decides what the mixes are, but for the source files.

    Args:
        kinds: by name.
        mixes: how many, of all splits.
        shares: of mixes and of source files in `tr`, `cv` and `tt`; they need not add up to 1.
        group: `file` divides the source files one by one; `folder` keeps together what is below
            one folder of a collection, such as a speaker or an album.
        seconds: length of a mix.
        sample_rate: of the mixes in Hz.
        channels: of the mixes, 1 or 2.
        bits: of the samples: `16`, `24` or `float`.
        master_lufs: loudness of the mixes, in LUFS.
        mix_range: dB up and down by which the loudness of a kind, and of the master, varies from
            mix to mix.
        clip_range: dB up and down by which the loudness of a segment varies in its mix.
        peak_db: of mixes and stems at most, in dB of full scale; goes before `master_lufs`.
        quietest: parts of files that are quieter, in LUFS, are drawn again.
        seed: of all draws.

    Raises:
        ConfigError: a range whose ends are the wrong way round, no share above 0, or fewer mixes
            than splits.
    """

    kinds: Mapping[str, Kind] = field(
        default_factory=lambda: {
            "music": Kind(7, -24, (4, 30), (0.6, 1), fade=1, overlap=0),
            "sfx": Kind(12, -21, (0.5, 10), (0.4, 0.9), fade=0.02, overlap=0.5),
            "speech": Kind(8, -17, (1, 20), (0.4, 0.9), fade=0.02, overlap=0),
        }
    )
    mixes: int = 1000
    shares: tuple[float, float, float] = (70, 10, 20)
    group: str = "file"
    seconds: float = 60
    sample_rate: int = 44100
    channels: int = 1
    bits: str = "float"
    master_lufs: float = -27
    mix_range: float = 2
    clip_range: float = 1
    peak_db: float = -0.5
    quietest: float = -60
    seed: int = 0

    def __post_init__(self) -> None:
        for kind, style in self.kinds.items():
            for name, (low, high) in (("seconds", style.seconds), ("fill", style.fill)):
                if low > high:
                    text = f"{kind}-{name}: {low:g} {high:g}; the first must not be the larger"
                    raise ConfigError(text)
        if not sum(self.shares) > 0:
            raise ConfigError(f"shares: {self.shares}; one at least must be above 0")
        if self.mixes < sum(share > 0 for share in self.shares):
            raise ConfigError(f"mixes: {self.mixes}; must be one for each split at least")

    @property
    def frames(self) -> int:
        """Samples per channel of a mix."""
        return round(self.seconds * self.sample_rate)

    @property
    def splits(self) -> dict[str, int]:
        """How many mixes each split has, those without left out; one at least, else by shares."""
        wanted = {split: share for split, share in zip(SPLITS, self.shares) if share > 0}
        counts = dict.fromkeys(wanted, 1)
        for _ in range(self.mixes - len(counts)):
            poorest = min(wanted, key=lambda split: (counts[split] + 0.5) / wanted[split])
            counts[poorest] += 1
        return counts

    def to_json(self) -> dict[str, Any]:
        """All numbers by name, as JSON gives them back."""
        values = asdict(self)
        kinds = values.pop("kinds")
        values |= {f"{kind}_{name}": v for kind in KINDS for name, v in kinds[kind].items()}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
