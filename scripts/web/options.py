"""What the person who runs the server decides: models, limits, folders."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aimless.errors import ConfigError
from aimless.published import PUBLISHED

__all__ = ["Limits", "Options", "parse"]

#: Published weights that are offered unless the options say otherwise.
_OFFERED = ("hdemucs_high_musdb_plus",)


@dataclass(frozen=True)
class Limits:
    """How much one song, and all of them, may take.

    Args:
        seconds: of audio, at most.
        pcm_bytes: of one song, decoded to 32-bit floats.
        memory_bytes: address space of a process that decodes or encodes.
        cpu_seconds: of such a process, for one file.
        children: such processes at once that decode, and as many that encode.
        uploads: that may be under way at once.
        upload_bytes: of all uploads that lie in memory.
        waiting: jobs behind the one that runs.
        disk_bytes: of all songs and stems together, beyond which no new song is taken.
        keep_seconds: that stems are kept after their page was closed, or lost its connection.

    Raises:
        ConfigError: a limit that is not above 0.
    """

    seconds: float = 600.0
    pcm_bytes: int = 256 << 20
    memory_bytes: int = 2 << 30
    cpu_seconds: int = 60
    children: int = 2
    uploads: int = 4
    upload_bytes: int = 400 << 20
    waiting: int = 5
    disk_bytes: int = 20 << 30
    keep_seconds: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"limits: {name} is {value}; must be above 0")

    @property
    def minutes(self) -> str:
        """The longest song, in words."""
        return f"{self.seconds / 60:g} minutes"


@dataclass(frozen=True)
class Options:
    """All of the server's own settings; Streamlit's are in its config.

    Args:
        models: folder of checkpoints to offer.
        published: names of `aimless.published` to offer.
        device: see `aimless.Separator`.
        work: folder below which songs and stems are kept while their visitors are there.
        limits: see there.
    """

    models: Path | None = None
    published: tuple[str, ...] = _OFFERED
    device: str = "auto"
    work: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    limits: Limits = field(default_factory=Limits)


def parse(words: Sequence[str]) -> Options:
    """Read the words after `--`.

    Raises:
        ConfigError: a folder that is not there, unknown weights, or a limit out of range.
    """
    options = _parser().parse_args(words)
    if options.models is not None and not options.models.is_dir():
        raise ConfigError(f"--models {options.models}: no such folder")
    for name in options.published:
        if name not in PUBLISHED:
            raise ConfigError(f"--published {name}: unknown; known: {', '.join(PUBLISHED)}")
    limits = Limits(
        seconds=60 * options.max_minutes,
        pcm_bytes=round(options.max_pcm_mib * 2**20),
        waiting=options.waiting,
        disk_bytes=round(options.max_disk_gib * 2**30),
        keep_seconds=options.keep_seconds,
    )
    return Options(options.models, tuple(options.published), options.device, options.work, limits)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamlit run scripts/webapp.py --",
        description="Split songs in the browser. Options of the server itself (port, address, "
        "upload size) are Streamlit's and stand before the --.",
    )
    usual = Options()
    add = parser.add_argument
    add("--models", type=Path, metavar="DIR", help="offer the checkpoints in this folder")
    add(
        "--published",
        nargs="*",
        default=list(_OFFERED),
        metavar="NAME",
        help=f"published weights to offer ({', '.join(_OFFERED)}); without a name: none; "
        f"known: {', '.join(PUBLISHED)}",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    add(
        "--work",
        type=Path,
        default=usual.work,
        metavar="DIR",
        help=f"where songs lie while they are worked on ({usual.work})",
    )
    limits = usual.limits
    add("--max-minutes", type=float, default=limits.seconds / 60, help="of a song (10)")
    add(
        "--max-pcm-mib",
        type=float,
        default=limits.pcm_bytes / 2**20,
        help="of a song, decoded to floats (256)",
    )
    add("--waiting", type=int, default=limits.waiting, help="jobs that may wait (5)")
    add("--max-disk-gib", type=float, default=limits.disk_bytes / 2**30, help="of all songs (20)")
    add(
        "--keep-seconds",
        type=float,
        default=limits.keep_seconds,
        help="that stems outlast their page, for connections that come back (120)",
    )
    return parser
