"""aimless: train and run audio source separation.

`Separator`, `Stems` and `StemFormat` are here; asking for them imports PyTorch, `import aimless`
does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aimless.version import __version__

if TYPE_CHECKING:
    from aimless.separator import Separator, Stems
    from aimless.songs.stem_format import StemFormat

__all__ = ["Separator", "StemFormat", "Stems", "__version__"]

_HOME = {
    "Separator": "aimless.separator",
    "StemFormat": "aimless.songs.stem_format",
    "Stems": "aimless.separator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'aimless' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
