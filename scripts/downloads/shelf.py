"""The folder of downloaded songs: what is there, and where a new one goes.

    <root>/<id> <title>/song.json     what the page says of it
    <root>/<id> <title>/audio.<ext>   the file as it was served
    <root>/<id> <title>/stems/        when it is separated
    <root>/.downloads/<key>/          a download that is not done; the next run goes on with it

A song's folder is renamed into its place when the audio and its description are in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepare.output import to_json, write_file

__all__ = ["Item", "Shelf", "safe_name"]

_UNFINISHED = ".downloads"
_MOST_BYTES = 120  # of a title; file systems take 255 for a name


@dataclass(frozen=True)
class Item:
    """A song that is there.

    Attributes:
        folder: of the song.
        description: content of its `song.json`.
    """

    folder: Path
    description: Mapping[str, Any]

    @property
    def audio(self) -> Path:
        """The file as it was served."""
        return self.folder / self.description["audio"]

    @property
    def stems(self) -> Path:
        """The folder of the stems, which is there when they are."""
        return self.folder / "stems"


class Shelf:
    """Songs in a folder, found by address or identity.

    Args:
        root: the folder; need not be there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_address: dict[str, Item] = {}
        self._by_identity: dict[str, Item] = {}
        for item in _items(root):
            self._remember(item)

    @property
    def names(self) -> list[str]:
        """Names of the songs' folders."""
        return sorted({item.folder.name for item in self._by_identity.values()})

    def find(self, address: str, identity: str | None = None) -> Item | None:
        """The song of an address, or of an identity such as `Youtube:<id>`; None if not there."""
        item = self._by_address.get(address)
        return item or (self._by_identity.get(identity) if identity else None)

    def place(self, identity: str) -> Path:
        """The folder to download into; what an earlier run left of this song is in it."""
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        folder = self.root / _UNFINISHED / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def add(self, folder: Path, name: str, description: Mapping[str, Any]) -> Item:
        """Describe a downloaded song and put its folder into place.

        Args:
            folder: from `place`, with the audio and nothing else.
            name: that the folder is to have.
            description: with `address`, `identity`, and the `audio` file's name.
        """
        write_file(folder / "song.json", to_json(description))
        target = self.root / name
        if target.exists():  # without a song.json: no song of ours
            target = self.root / f"{name} {folder.name}"
        os.rename(folder, target)
        item = Item(target, description)
        self._remember(item)
        return item

    def tidy(self) -> None:
        """Remove the folder of unfinished downloads if there are none."""
        folder = self.root / _UNFINISHED
        if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder)

    def _remember(self, item: Item) -> None:
        self._by_address[item.description["address"]] = item
        self._by_identity[item.description["identity"]] = item


def safe_name(identity: str, title: str) -> str:
    """A folder's name of a song's id and title, for any file system.

    >>> safe_name("a1", "Live: AC/DC <1990>?")
    'a1 Live_ AC_DC _1990'
    """
    words = unicodedata.normalize("NFC", f"{identity} {title}")
    plain = re.sub(r"[^\w .,()\[\]'&+!-]", "_", words)
    plain = re.sub(r"\s+", " ", plain).strip("._ ")
    return plain.encode()[:_MOST_BYTES].decode(errors="ignore").strip() or "song"


def _items(root: Path) -> Iterator[Item]:
    """Songs that are whole; folders of anything else are left alone."""
    for path in sorted(root.glob("*/song.json")):
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            item = Item(path.parent, description)
            known = {"address", "identity", "audio"} <= description.keys() and item.audio.is_file()
        except (ValueError, AttributeError, OSError):
            continue
        if known:
            yield item
