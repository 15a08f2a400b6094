"""Download songs by their addresses, and separate them into stems.

Takes addresses of YouTube and of the other sites that yt-dlp knows, or of audio files. Each song
gets a folder OUTPUT/<id> <title> with the audio file as it was served, what its page says of it
(`song.json`: title, uploader, chapters, ...), and its stems.

Download only what you may: what is yours, in the public domain, or under a licence that allows it,
and what the site's terms allow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from downloads.fetching import Fetcher, Found
from downloads.separating import Stemmer, separate_options
from downloads.shelf import Item, Shelf, safe_name
from prepare.command import folder, make_parser, number, run, seed
from prepare.output import Output

from aimless.errors import AimlessError, ConfigError, DataError
from aimless.songs.audio_paths import printable
from aimless.songs.song_bar import SongBar

_EXAMPLES = """\
  python scripts/download_youtube.py ADDRESS ADDRESS -m model.safetensors -o songs
  python scripts/download_youtube.py --list addresses.txt -o songs --only-download
  python scripts/download_youtube.py ADDRESS -m model.ckpt -o songs --separate --two-stems vocals
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser(), _download_all, words)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__ or "", _EXAMPLES)
    parser.add_argument("addresses", nargs="*", metavar="ADDRESS", help="http(s)://...")
    parser.add_argument(
        "--list",
        action="append",
        type=folder,
        default=[],
        metavar="FILE",
        help="text with an address per line; lines that begin with # are left out",
    )
    parser.add_argument("-o", "--output", type=folder, required=True, help="folder for the songs")
    parser.add_argument(
        "-m",
        "--model",
        help="checkpoint, folder of a run, recipe, URL, or name of published weights",
    )
    parser.add_argument("--only-download", action="store_true", help="do not separate")
    parser.add_argument(
        "--playlist", action="store_true", help="take all songs of a playlist, channel or album"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="look the songs up and say what would be done"
    )
    parser.add_argument(
        "--retries", type=seed, default=3, metavar="N", help="after faults of the network (3)"
    )
    parser.add_argument(
        "--back-off",
        type=number(0, 600),
        default=2.0,
        metavar="S",
        help="seconds before the first retry, doubled before each of the next (2)",
    )
    parser.add_argument(
        "--separate",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="OPTION",
        help="all that follows are options of `aimless separate`, such as --format flac",
    )
    return parser


def _download_all(options: argparse.Namespace) -> list[str]:
    """Download, then separate; returns a line for each song that failed."""
    addresses = _addresses(options)
    if options.only_download or options.dry_run:
        stemmer = None
    elif options.model is None:
        raise ConfigError("--model: name what separates the songs, or give --only-download")
    else:
        stemmer = Stemmer(separate_options(options.model, options.separate))
        stemmer.separator  # noqa: B018  # a wrong checkpoint is an error before the downloads
    fetcher = Fetcher(options.playlist, options.retries, options.back_off)
    shelf = Shelf(options.output)
    failures: list[str] = []
    if options.dry_run:
        for item, found in _look_up(addresses, shelf, fetcher, failures):
            name = safe_name(found.id, found.title)
            print(f"{found.address}: {'is there' if item else 'would be downloaded'}: {name}")
        return failures
    with Output(options.output, shelf.names, []).writing():
        items = list(_download(addresses, shelf, fetcher, failures))
        shelf.tidy()
        if stemmer:
            _separate(items, stemmer, failures)
    return failures


def _addresses(options: argparse.Namespace) -> list[str]:
    """The addresses given and listed, each once, in their order."""
    addresses = list(options.addresses)
    for path in options.list:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text in UTF-8"
            raise DataError(f"{printable(path)}: cannot be read: {reason}") from None
        addresses += [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
    if not addresses:
        raise ConfigError("no address; give some, or a --list of them")
    for address in addresses:
        if not address.lower().startswith(("http://", "https://")):
            raise ConfigError(f"{address}: not an address; must begin with http:// or https://")
    return list(dict.fromkeys(addresses))


def _look_up(
    addresses: Sequence[str], shelf: Shelf, fetcher: Fetcher, failures: list[str]
) -> Iterator[tuple[Item | None, Found]]:
    """The songs of all addresses that are not there, each once; says which are."""
    seen: set[str] = set()
    for address in addresses:
        if item := shelf.find(address):
            print(f"{address}: is there: {printable(item.folder)}")
            continue
        try:
            songs = fetcher.look_up(address)
        except AimlessError as error:
            _fail(f"{address}: {error}", failures)
            continue
        for found in songs:
            if found.identity not in seen:
                seen.add(found.identity)
                yield shelf.find(found.address, found.identity), found


def _download(
    addresses: Sequence[str], shelf: Shelf, fetcher: Fetcher, failures: list[str]
) -> Iterator[Item]:
    """All songs that are there in the end."""
    yield from filter(None, map(shelf.find, addresses))
    for item, found in _look_up(addresses, shelf, fetcher, failures):
        if item:
            print(f"{found.address}: is there: {printable(item.folder)}")
            yield item
            continue
        try:
            place = shelf.place(found.identity)
            audio = fetcher.download(found, place)
            description = {**found.description(), "audio": audio.name, **_check(audio, found)}
        except AimlessError as error:
            _fail(f"{found.address}: {error}", failures)
            continue
        item = shelf.add(place, safe_name(found.id, found.title), description)
        print(f"{found.address} -> {printable(item.folder)}", flush=True)
        yield item


def _check(audio: Path, found: Found) -> dict[str, float]:
    """Decode all of a download; what is no audio, or not all of it, is removed.

    Raises:
        DataError: says why it cannot be used.
    """
    from aimless.songs.song import Song
    from data.audio import info
    from data.listing.folders import SUFFIXES

    try:
        if audio.suffix.lower() in SUFFIXES:
            info(audio)  # knows from the header where it should end
        song = Song.open(audio)
        seconds = sum(block.shape[-1] for block in song.blocks()) / song.rate
        promised = found.info.get("duration")
        if promised and seconds < 0.98 * promised - 2:
            raise DataError(f"cut off: {seconds:.1f} s of {promised:.1f} s")
    except DataError as error:
        audio.unlink()
        raise DataError(str(error).replace(f"{printable(audio)}: ", "")) from None
    return {"seconds": round(seconds, 3), "sample_rate": song.rate, "channels": song.channels}


def _separate(items: Sequence[Item], stemmer: Stemmer, failures: list[str]) -> None:
    with SongBar(hidden=stemmer.options.quiet) as bar:
        for item in items:
            if not stemmer.wanted(item):
                continue
            try:
                stemmer.separate(item, bar)
            except AimlessError as error:
                _fail(f"{item.description['address']}: {error}", failures)
                continue
            bar.close()
            print(f"{printable(item.folder)}: {', '.join(stemmer.separator.stems)}", flush=True)


def _fail(line: str, failures: list[str]) -> None:
    """Say at once what goes wrong; all of it is said again at the end."""
    failures.append(line)
    print(f"error: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
