"""Stems of downloaded songs, with the options of `aimless separate`."""

from __future__ import annotations

import argparse
import inspect
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prepare.output import making, to_json, write_file

from aimless import stopping
from aimless.commands import separate
from aimless.commands.models import model_options
from aimless.memory import keep_freed_memory
from aimless.songs.song_bar import SongBar
from aimless.songs.stem_format import StemFormat
from downloads.shelf import Item

if TYPE_CHECKING:
    from aimless.separator import Separator

__all__ = ["Stemmer", "separate_options"]


def separate_options(model: str, words: Sequence[str]) -> argparse.Namespace:
    """Parse options of `aimless separate`; a wrong one ends the process as it does there."""
    commands = argparse.ArgumentParser(prog="aimless").add_subparsers()
    separate.add_parser(commands)
    return commands.choices["separate"].parse_args(["SONG", "-m", model, "-o", ".", *words])


class Stemmer:
    """Separates songs with one network, which is loaded when the first song needs it.

    Args:
        options: from `separate_options`.

    Raises:
        ConfigError: formats that do not exist.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.format = StemFormat(options.format, options.bits, options.clip)
        self._separator: Separator | None = None

    @property
    def separator(self) -> Separator:
        """The separator.

        Raises:
            DataError: the checkpoint is missing or damaged.
            ConfigError: a setting out of range.
        """
        if self._separator is None:
            from aimless.separator import Separator

            keep_freed_memory()
            names = inspect.signature(Separator).parameters
            settings = {n: getattr(self.options, n) for n in names if hasattr(self.options, n)}
            model = model_options(self.options)
            self._separator = Separator.load(self.options.model, **model, **settings)
        return self._separator

    def wanted(self, item: Item) -> bool:
        """Whether a song has no stems yet, or they are to be replaced."""
        return self.options.overwrite or not item.stems.is_dir()

    def separate(self, item: Item, bar: SongBar) -> None:
        """Write `stems/<stem>.<suffix>`: all of them, or none.

        Raises:
            DataError: the song cannot be read, or the stems not be written.
        """

        def report(song: Path, done: float, seconds: float) -> None:
            stopping.check()
            bar(item.folder, done, seconds)

        with making(item.stems) as part:
            self.separator.separate_files(
                [item.audio], part, format=self.format, template="{stem}", progress=report
            )
            chosen = {"model": self.options.model, **self._chosen()}
            write_file(part / "separation.json", to_json(chosen))
            if item.stems.is_dir():
                shutil.rmtree(item.stems)

    def _chosen(self) -> dict[str, object]:
        """Settings, as far as they say how the stems were made."""
        names = ("segment", "overlap", "context", "shifts", "seed", "tta", "two_stems", "residual")
        more = ("mixture_consistency", "checkpoint")
        return {name: getattr(self.options, name) for name in (*names, *more)}
