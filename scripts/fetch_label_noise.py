"""Fetch the labels that say which songs of SDX23's label-noise set are clean.

The file belongs to the published system of the team aim-qmul and is no part of this
repository. It is checked against its known hash and appears only when it is whole.

    python scripts/fetch_label_noise.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from aimless.download import fetch, sha256_of
from aimless.errors import AimlessError, DataError

COMMIT = "878101248aeed466fe3a05d0645eab048b0fc393"
URL = (
    "https://raw.githubusercontent.com/aim-qmul/sdx23-aimless/"
    f"{COMMIT}/data/lightning/label_noise.csv"
)
SHA256 = "80abcc7b60df13e356be0990f5bc6214bca29ac989a5bb75f527e6fd035c8ea6"
#: Where `data.lightning.LabelNoise` looks.
OUTPUT = Path(__file__).resolve().parent.parent / "data" / "lightning" / "label_noise.csv"


def fetch_labels(url: str, output: Path, sha256: str) -> bool:
    """Bring the file to `output`, unless it is there.

    Returns:
        Whether it was fetched.

    Raises:
        DataError: another file is there, the server does not give the right one, or it cannot
            be written.
    """
    if output.exists():
        if sha256_of(output) == sha256:
            return False
        raise DataError(f"{output}: is there with other content; move it away, or name --output")
    _copy_whole(fetch(url, sha256), output)
    return True


def _copy_whole(source: Path, output: Path) -> None:
    """Copy under a temporary name in the same folder, then rename."""
    part = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, part)
            os.replace(part, output)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{output}: cannot be written: {error.strerror}") from error


def main(words: Sequence[str] | None = None) -> int:
    """Parse the options; an error ends in one line and a status that is not 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    parser.add_argument("--url", default=URL, help="default: %(default)s")
    parser.add_argument("--sha256", default=SHA256, help="what the file must hash to")
    options = parser.parse_args(words)
    try:
        fetched = fetch_labels(options.url, options.output, options.sha256.lower())
    except (AimlessError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", DataError.exit_code)
    print(f"{options.output}: {'fetched' if fetched else 'is already there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
