"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, and rename it when it is whole.

    Raises:
        OSError: it cannot be written; an earlier file of that name is as it was.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with open(part, "xb") as file:
        try:
            file.write(content)
            file.close()
            os.replace(part, path)
        except BaseException:
            part.unlink()
            raise
