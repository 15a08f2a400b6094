"""What the server gives out besides the page: pieces of sound, pictures, downloads.

Addresses hold the visitor's secret and numbers, which are looked up; nothing of them becomes
part of a path.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from aimless.errors import AimlessError
from web.downloads import Download, TooMany
from web.files import picture_name, piece_name
from web.house import house
from web.visit import FORMATS, Take, Visit

__all__ = ["routes"]

STATIC = Path(__file__).resolve().parent / "static"
#: For answers that only one visitor may see.
_PRIVATE = {"Cache-Control": "private, max-age=3600", "Referrer-Policy": "no-referrer"}
_MOST_GAIN = 4.0
_GONE = "These stems are no longer here. Split the song again."


class Refused(Exception):
    """The request is answered with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def routes(base: str) -> list[BaseRoute]:
    """All routes, below a base path such as `` or `/split`."""
    take = base + "/aimless/{token}"
    return [
        Route(take + "/piece/{track:int}/{piece:int}", _answering(_piece)),
        Route(take + "/picture/{track:int}", _answering(_picture)),
        Route(take + "/stem/{track:int}/{format}", _answering(_stem)),
        Route(take + "/stems/{format}", _answering(_stems)),
        Route(take + "/mix/{format}", _answering(_mix)),
        Mount(base + "/aimless-static", StaticFiles(directory=STATIC)),
    ]


def _answering(handler: Any) -> Any:
    """A handler whose refusals are short texts, and which knows the visit and what it holds."""

    async def endpoint(request: Request) -> Response:
        try:
            visit = house().find(request.path_params["token"])
            if visit is None or visit.take is None:
                raise Refused(404, _GONE)
            return await handler(request, visit, visit.take)
        except Refused as refused:
            return PlainTextResponse(refused.text, refused.status)
        except FileNotFoundError:  # they were removed meanwhile
            return PlainTextResponse(_GONE, 404)
        except TooMany as error:
            return PlainTextResponse(str(error), 429)
        except AimlessError as error:
            return PlainTextResponse(str(error), 503)

    return endpoint


async def _piece(request: Request, visit: Visit, take: Take) -> Response:
    name = piece_name(request.path_params["track"], request.path_params["piece"])
    return _given(take.preview_folder / name, "audio/flac")


async def _picture(request: Request, visit: Visit, take: Take) -> Response:
    return _given(take.preview_folder / picture_name(request.path_params["track"]), "image/png")


def _given(path: Path, kind: str) -> Response:
    if not path.is_file():
        raise Refused(404, "There is no such part.")
    return FileResponse(path, media_type=kind, headers=_PRIVATE)


async def _stem(request: Request, visit: Visit, take: Take) -> Response:
    track = _track(take, request.path_params["track"])
    name = f"{take.name} - {_track_name(take, track)}"
    fit = track == 0  # the song's peak has nothing to do with those of the stems
    return await _made(request, visit, take, [(name, {track: 1.0})], fit=fit)


async def _stems(request: Request, visit: Visit, take: Take) -> Response:
    stems = [(_track_name(take, track), {track: 1.0}) for track in range(1, len(take.stems) + 1)]
    return await _made(request, visit, take, stems, archive=f"{take.name} - stems")


async def _mix(request: Request, visit: Visit, take: Take) -> Response:
    gains = _gains(take, request.query_params.get("gains", ""))
    name = f"{take.name} - mix"
    return await _made(request, visit, take, [(name, gains)], fit=True)


def _track(take: Take, track: int) -> int:
    if not 0 <= track <= len(take.stems):
        raise Refused(404, "There is no such stem.")
    return track


def _track_name(take: Take, track: int) -> str:
    return take.stems[track - 1] if track else "mixture"


def _gains(take: Take, text: str) -> dict[int, float]:
    """Gains of all tracks, with commas between; tracks with gain 0 are left out."""
    words = text.split(",")
    if len(words) != len(take.stems) + 1 or not all(
        re.fullmatch(r"-?\d(\.\d{1,6})?", word) for word in words
    ):
        raise Refused(400, "The levels of this mix cannot be read.")
    gains = {track: float(word) for track, word in enumerate(words) if float(word)}
    if not gains:
        raise Refused(400, "Everything is muted: there is nothing to download.")
    if any(abs(gain) > _MOST_GAIN for gain in gains.values()):
        raise Refused(400, f"The levels of a mix go up to {_MOST_GAIN:g}.")
    return gains


async def _made(
    request: Request,
    visit: Visit,
    take: Take,
    files: Sequence[tuple[str, Mapping[int, float]]],
    archive: str | None = None,
    fit: bool = False,
) -> Response:
    """Files that are made now, and removed when they are sent.

    Args:
        request: names the format.
        visit: whose it is.
        take: what it is made of.
        files: name without suffix, and gains of tracks.
        archive: name of a ZIP file for them, without suffix.
        fit: give each file a gain of its own that makes it fit into full scale; otherwise all
            stems of a song have one, so that they keep their levels against each other.
    """
    key = request.path_params["format"]
    if key not in take.formats():
        known = ", ".join(take.formats())
        raise Refused(404, f"This song cannot be had in that format; there are: {known}.")
    _, form, bits = FORMATS[key]
    folder = take.folder / uuid.uuid4().hex
    gain = None if fit else _common_gain(take, form, bits)
    wanted = [
        {
            "target": str(folder / f"{index}.{form}"),
            "name": f"{name}.{form}",
            "inputs": [[str(take.track(track)), level] for track, level in gains.items()],
            "gain": gain,
        }
        for index, (name, gains) in enumerate(files)
    ]
    packed = folder / "all.zip"
    work = {"files": wanted, "format": form, "bits": bits, "archive": str(packed)}
    if archive is None:
        work["archive"] = None
    most = len(files) * (take.frames * take.channels * 4 + (1 << 20))
    path = packed if archive else Path(str(wanted[0]["target"]))
    name = f"{archive}.zip" if archive else str(wanted[0]["name"])
    visit.downloads.enter()
    try:
        async with visit.downloads.turn:
            await house().maker.make(folder, work, most)
        return Download(path, _safe(name), visit.downloads)
    except BaseException:
        visit.downloads.leave()
        raise


def _common_gain(take: Take, form: str, bits: str | None) -> float:
    if form == "wav" and bits == "float":
        return 1.0
    return min(1.0, 32767 / 32768 / max(*take.preview["peaks"][1:], 1e-9))


def _safe(name: str) -> str:
    """A name for the visitor's disk: no separators, nothing that is no character."""
    kept = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]+', "_", name).lstrip(".")
    return kept[-200:]
