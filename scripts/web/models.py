"""Which models the page offers, and what it says about them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aimless.published import PUBLISHED
from web.child import ENVIRONMENT, python

__all__ = ["Catalogue", "Model", "find_checkpoints", "title_of"]

_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".th")
#: Beside a checkpoint; its first line is shown.
_LICENCE_FILES = ("{stem}.licence.txt", "LICENCE", "LICENSE", "LICENCE.txt", "LICENSE.txt")
_UNSTATED = "licence not stated; ask whoever runs this server"


@dataclass(frozen=True)
class Model:
    """A model as the page shows it.

    Args:
        source: what `aimless.checkpoint.load` takes.
        title: its name on the page.
        licence: in a line.
        training: what it was trained on, where that is known.
        state: `looking`, `ready` or `missing`.
        reason: why it is missing.
        sources: of a model that is ready.
        bytes: of the weights in memory.
    """

    source: str
    title: str
    licence: str
    training: str = ""
    state: str = "looking"
    reason: str = ""
    sources: tuple[str, ...] = ()
    bytes: int = 0

    @property
    def details(self) -> str:
        """Sources, size and licence in a line."""
        parts = [", ".join(self.sources), f"{self.bytes / 1e6:.1f} MB", self.licence]
        if self.training:
            parts.insert(2, f"trained on {self.training}")
        return " · ".join(parts)


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, and folders of runs in it, in the order of their names."""
    found = []
    # a run's root folder has its runs one level further down
    for path in sorted([*folder.iterdir(), *folder.glob("lightning_logs/*")]):
        run = path.is_dir() and any(
            inner.suffix in _SUFFIXES for inner in [*path.glob("*"), *path.glob("checkpoints/*")]
        )
        if path.name[0] != "." and (run or path.suffix in _SUFFIXES):
            found.append(path)
    return found


class Catalogue:
    """Knows the models; a child process looks at them one after the other.

    Args:
        folder: of checkpoints; None for none.
        published: names of published weights, which are downloaded where they are not there yet.
    """

    def __init__(self, folder: Path | None, published: Sequence[str]) -> None:
        models = [_from_file(path) for path in (find_checkpoints(folder) if folder else [])]
        models += [_from_published(name) for name in published]
        self._models = {model.source: model for model in models}
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._look, name="models", daemon=True)
        self._thread.start()

    def models(self, state: str) -> list[Model]:
        """Those in a state: `looking`, `ready` or `missing`."""
        return [model for model in self._models.values() if model.state == state]

    def wait(self, seconds: float) -> bool:
        """Wait until all are looked at, or for so long; whether all are."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Look no further."""
        if self._process is not None:
            self._process.kill()
        self._thread.join()

    def _look(self) -> None:
        if not self._models:
            return
        try:
            self._ask_child()
        except OSError as error:
            sys.stderr.write(f"the models could not be looked at: {error}\n")
        for model in self.models("looking"):  # the child broke off
            self._note({"source": model.source, "error": "it could not be looked at"})

    def _ask_child(self) -> None:
        lines = "".join(json.dumps(source) + "\n" for source in self._models)
        self._process = subprocess.Popen(
            python("describe"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(lines)
        self._process.stdin.close()
        for line in self._process.stdout:
            self._note(json.loads(line))
        self._process.wait()

    def _note(self, found: Mapping[str, Any]) -> None:
        model = self._models[found["source"]]
        if "error" in found:
            sys.stderr.write(f"model left out: {found['error']}\n")
            reason = "it cannot be downloaded now" if model.training else "it cannot be read"
            self._models[model.source] = replace(model, state="missing", reason=reason)
            return
        self._models[model.source] = replace(
            model, state="ready", sources=tuple(found["sources"]), bytes=found["bytes"]
        )


def title_of(path: Path) -> str:
    """The name of a file or folder; a run's folder says little without that of all its runs."""
    if not path.is_dir():
        return path.stem
    runs = path.resolve().parent
    if runs.name == "lightning_logs":
        return f"{runs.parent.name}, {path.name.replace('_', ' ')}"
    return path.name


def _from_file(path: Path) -> Model:
    folder = path if path.is_dir() else path.parent
    for name in _LICENCE_FILES:
        file = folder / name.format(stem=path.stem)
        if file.is_file():
            first = file.read_text(errors="replace").strip().partition("\n")[0]
            return Model(str(path), title_of(path), first[:200] or _UNSTATED)
    return Model(str(path), title_of(path), _UNSTATED)


def _from_published(name: str) -> Model:
    weights = PUBLISHED[name]
    return Model(name, weights.title.partition(":")[0], weights.licence, weights.training)
