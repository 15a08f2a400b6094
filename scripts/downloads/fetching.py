"""From an address to a file of audio, with yt-dlp."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from aimless import stopping
from aimless.errors import ConfigError, DataError

__all__ = ["Fetcher", "Found"]

#: What is kept of what a page says of a song.
FIELDS = (
    *("title", "id", "extractor_key", "webpage_url", "uploader", "uploader_id", "channel"),
    *("channel_id", "artist", "track", "album", "upload_date", "release_date", "duration"),
    *("chapters", "description", "tags", "categories", "license", "language", "format_id"),
    *("ext", "acodec", "asr", "abr", "audio_channels"),
)
_PLAYLISTS = ("playlist", "multi_video")
_MAY_PASS = (408, 425, 429)  # of the statuses from 400 to 499
_ADVICE = re.compile(r"(?:If you believe this is an error, )?please report | \(caused by ")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Found:
    """A song behind an address.

    Attributes:
        address: at which it was found, of the entry if that is a playlist.
        identity: the same for all addresses of one song.
        id: of the song, unique on its site; elsewhere made so.
        title: as the page has it.
        info: what yt-dlp knows.
    """

    address: str
    identity: str
    id: str
    title: str
    info: Mapping[str, Any] = field(repr=False)

    def description(self) -> dict[str, Any]:
        """What is kept in `song.json`, beside the name of the audio file."""
        known = {name: self.info.get(name) for name in FIELDS}
        return {"address": self.address, "identity": self.identity, **known}


class Fetcher:
    """Looks addresses up and downloads them; what may pass is tried again.

    Args:
        playlists: take all entries of a playlist, instead of refusing it.
        retries: times that something is tried again.
        back_off: seconds before the first of them; doubled before each of the next.

    Raises:
        ConfigError: yt-dlp is not installed.
    """

    def __init__(self, playlists: bool = False, retries: int = 3, back_off: float = 2.0) -> None:
        try:
            import yt_dlp
        except ImportError:
            raise ConfigError("downloads need yt-dlp: pip install 'aimless[youtube]'") from None
        self._library = yt_dlp
        self.playlists, self.retries, self.back_off = playlists, retries, back_off

    def look_up(self, address: str) -> list[Found]:
        """The songs behind an address, one unless it is a playlist.

        Raises:
            DataError: the site does not give it.
            ConfigError: a playlist, which is not wanted.
        """
        return list(self._walk(address))

    def _walk(self, address: str) -> Iterator[Found]:
        settings = {"extract_flat": "in_playlist", "noplaylist": not self.playlists}
        with self._library.YoutubeDL({**_SETTINGS, **settings}) as downloader:
            info = self._persist(lambda: downloader.extract_info(address, download=False))
        if info.get("_type") not in _PLAYLISTS:
            yield _found(address, info)
            return
        entries = [entry["url"] for entry in info.get("entries") or () if entry.get("url")]
        if not self.playlists:
            raise ConfigError(f"a playlist of {len(entries)}; --playlist takes them all")
        for entry in entries:
            yield from self._walk(entry)

    def download(self, found: Found, folder: Path) -> Path:
        """Download the audio as it is served, going on with what is there of it.

        Args:
            found: the song.
            folder: gets `audio.<ext>`, and while it is not whole `audio.<ext>.part`.

        Raises:
            DataError: the site does not give it, or it cannot be written.
        """
        place = str(folder / "audio").replace("%", "%%")  # the name is a template
        settings: dict[str, Any] = {"outtmpl": {"default": f"{place}.%(ext)s"}}
        with _Bar(found.title) as bar:
            settings |= {"progress_hooks": [bar], "noplaylist": True}
            settings |= {"retries": self.retries, "fragment_retries": self.retries}
            settings["retry_sleep_functions"] = {"http": self._pause, "fragment": self._pause}
            with self._library.YoutubeDL({**_SETTINGS, **settings}) as downloader:
                info = self._persist(lambda: downloader.extract_info(found.address))
        for done in info.get("requested_downloads") or ():
            if (path := Path(done["filepath"])).is_file():
                return path
        raise DataError("nothing was downloaded")

    def _persist(self, attempt: Callable[[], Result]) -> Result:
        """Try again what may pass, after a while."""
        for tried in range(self.retries + 1):
            stopping.check()
            try:
                return attempt()
            except self._library.utils.YoutubeDLError as error:
                stopping.check()
                if tried == self.retries or not self._may_pass(error):
                    raise DataError(_one_line(error)) from None
                time.sleep(self._pause(tried))
        raise AssertionError("unreachable")

    def _pause(self, n: int) -> float:
        """Seconds to wait after so many retries."""
        return self.back_off * 2**n

    def _may_pass(self, error: BaseException) -> bool:
        """Whether it is the network's fault, or the server asks for patience."""
        http = self._library.networking.exceptions
        for cause in _causes(error):
            if isinstance(cause, http.HTTPError):
                return cause.status >= 500 or cause.status in _MAY_PASS
            if isinstance(cause, (http.TransportError, ConnectionError, TimeoutError)):
                return True
        return False


class _Bar:
    """Bytes of a download on the terminal."""

    def __init__(self, title: str) -> None:
        self._bar = tqdm(
            unit="B", unit_scale=True, desc=title[:40], leave=False, disable=None, file=sys.stderr
        )

    def __call__(self, state: Mapping[str, Any]) -> None:
        stopping.check()
        self._bar.total = state.get("total_bytes") or state.get("total_bytes_estimate")
        self._bar.update((state.get("downloaded_bytes") or 0) - self._bar.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *words: object) -> None:
        self._bar.close()


class _Silence:
    """What yt-dlp would print; errors come as exceptions."""

    def debug(self, message: str) -> None:
        """Nothing."""

    warning = error = debug


_SETTINGS: dict[str, Any] = {
    "format": "bestaudio/best",
    "logger": _Silence(),
    "noprogress": True,
    "extractor_retries": 0,  # `Fetcher` tries again, and sees why
    "skip_unavailable_fragments": False,  # a song without its middle is no song
    "socket_timeout": 30,
    "fixup": "never",  # the file is kept as it was served
    "cachedir": False,
    "updatetime": False,
}


def _found(address: str, info: Mapping[str, Any]) -> Found:
    site, name = str(info.get("extractor_key") or "Generic"), str(info.get("id") or "song")
    title = str(info.get("title") or name)
    if site == "Generic":  # its ids are names of files, of which many sites have the same
        address_hash = hashlib.sha256(address.encode()).hexdigest()[:8]
        name = f"{name}-{address_hash}"
    return Found(address, f"{site}:{name}", name, title, info)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what yt-dlp and Python know as its causes."""
    waiting, seen = [error], set()
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = getattr(cause, "exc_info", None) or (None, None, None)
        waiting += [inner[1], getattr(cause, "cause", None), cause.__cause__, cause.__context__]


def _one_line(error: BaseException) -> str:
    """What yt-dlp says, without colours, advice to its users and requests to report it."""
    text = _COLOURS.sub("", str(error)).replace("\r", "").removeprefix("ERROR: ")
    line = (text.strip().splitlines() or [type(error).__name__])[0].removeprefix("[download] ")
    return _ADVICE.split(line)[0].strip().rstrip(".;")
