"""What the tests of synthetic data share: the scripts' modules, and small data sets."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path

from tests.helpers import REPOSITORY

SCRIPTS = REPOSITORY / "scripts"
if str(SCRIPTS) not in sys.path:  # as it is for a script that is run
    sys.path.append(str(SCRIPTS))

script = importlib.import_module("make_synthetic_dataset")


def make(root: Path, *words: object, status: int = 0, plain: bool = True) -> Path:
    """Run the command in this process; returns the folder."""
    quick = ["--plain"] if plain else []
    assert script.main([*map(str, (root, *words)), "--workers", "1", *quick]) == status
    return root


def tree(root: Path) -> dict[str, str]:
    """Hash of every file by its path in a folder."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
