"""Downloads that are whole or not there."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import torch
from tqdm import tqdm

from aimless.errors import DataError

__all__ = ["fetch", "sha256_of"]

_BLOCK = 1 << 20


def fetch(url: str, sha256: str | None = None) -> Path:
    """Download a file once into the cache of torch.hub.

    It is written under a temporary name, an interrupted download goes on where it stopped, and
    the file gets its name only when it is whole and has the right hash.

    Args:
        url: http(s); may end in `#sha256=<hex digits>`.
        sha256: what the file must hash to; beats the one in the URL.

    Returns:
        The path in the cache.

    Raises:
        DataError: the server does not give the file, or it is another one.
    """
    address, _, fragment = url.partition("#")
    if sha256 is None and fragment.startswith("sha256="):
        sha256 = fragment.removeprefix("sha256=")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise DataError(f"{address}: '{sha256}' is not a SHA-256 of 64 hex digits")
    target = _cached_path(address)
    if target.is_file() and (sha256 is None or sha256_of(target) == sha256.lower()):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        _download(address, part)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DataError(f"{address}: cannot be downloaded: {error}") from error
    if sha256 is not None and (found := sha256_of(part)) != sha256.lower():
        part.unlink()
        raise DataError(f"{address}: has the SHA-256 {found}, wanted {sha256.lower()}")
    os.replace(part, target)
    return target


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _cached_path(address: str) -> Path:
    """A file of its own for each address, under the name that the address ends with."""
    name = Path(urllib.parse.urlparse(address).path).name or "file"
    key = hashlib.sha256(address.encode()).hexdigest()[:8]
    return Path(torch.hub.get_dir()) / "checkpoints" / f"{key}-{name}"


def _download(address: str, part: Path) -> None:
    """Fetch what is missing of a file."""
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "aimless"})
    if there:
        request.add_header("Range", f"bytes={there}-")
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and there:  # nothing is missing, or the file became shorter
            part.unlink()
            return _download(address, part)
        raise
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = int(length) + (there if resumed else 0) if length else None
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(
                total=total,
                initial=there if resumed else 0,
                unit="B",
                unit_scale=True,
                desc=part.name.removesuffix(".part"),
                disable=None,
            ) as bar,
        ):
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"got {part.stat().st_size} of {total} bytes; try again to go on")
