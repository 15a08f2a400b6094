"""A separation recipe: a YAML file that says how trained networks work together.

    checkpoints:            # names for them; the paths may come from the command line
      hdemucs: null
    network:                # parts of `aimless.ensemble`; a name stands for its checkpoint
      class_path: aimless.ensemble.MidSide
      init_args: {network: hdemucs}
    engine:                 # settings of `aimless.overlap_add.OverlapAdd`, if any
      overlap: 0.5

Only parts of `aimless.ensemble` are built, so that a stranger's recipe runs nothing else; what
its checkpoints may hold is said in `aimless.checkpoint`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aimless import ensemble
from aimless.config import accepted_arguments, read_yaml
from aimless.errors import ConfigError
from aimless.network import AudioNetwork

__all__ = ["load_recipe"]

_PARTS = {
    f"aimless.ensemble.{name}": getattr(ensemble, name)
    for name in ensemble.__all__
    if name != "Ensemble"
}
_KEYS = ("checkpoints", "network", "engine")


def load_recipe(
    path: str | os.PathLike[str],
    checkpoints: Mapping[str, str | os.PathLike[str]] | None = None,
    trusted: Iterable[str] = (),
) -> AudioNetwork:
    """Build what a recipe describes, with all its checkpoints loaded.

    Args:
        path: the recipe.
        checkpoints: name -> file, folder or URL; adds to, and goes before, those in the recipe,
            which are relative to it.
        trusted: see `aimless.checkpoint.load`.

    Returns:
        A network (batch, channels, samples) -> (batch, sources, channels, samples or fewer), on
        the CPU in eval mode. Its attribute `engine` holds the recipe's settings.

    Raises:
        ConfigError: a key that is not known, a checkpoint that is not given, or parts that do
            not fit each other; one line with file and key.
        DataError: a checkpoint that cannot be loaded.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"network"} <= content.keys() <= set(_KEYS):
        raise ConfigError(f"{path}: a recipe has the keys {', '.join(_KEYS)}; network is needed")
    networks = _Checkpoints(path, content.get("checkpoints") or {}, checkpoints or {}, trusted)
    network = _build(content["network"], networks, "network")
    networks.refuse_unused()
    network.engine = dict(content.get("engine") or {})
    return network.eval()


class _Checkpoints:
    """The networks of a recipe by name, each loaded once."""

    def __init__(
        self,
        recipe: Path,
        own: Mapping[str, str | None],
        given: Mapping[str, str | os.PathLike[str]],
        trusted: Iterable[str],
    ) -> None:
        self.recipe = recipe
        unknown = sorted(given.keys() - own.keys())
        if unknown:
            known = ", ".join(own) or "none"
            raise ConfigError(f"{recipe}: checkpoints: no {', '.join(unknown)}; known: {known}")
        self.paths = {name: given.get(name) or self._beside(own[name]) for name in own}
        self.trusted = tuple(trusted)
        self.loaded: dict[str, Any] = {}

    def _beside(self, path: str | None) -> str | None:
        """A path in the recipe is relative to it."""
        if path is None or re.match(r"https?://", path):
            return path
        return str(self.recipe.parent / path)

    def __getitem__(self, name: str) -> Any:
        from aimless.checkpoint import load

        if name not in self.paths:
            known = ", ".join(self.paths) or "none"
            raise ConfigError(f"{self.recipe}: {name!r} is no name of a checkpoint; known: {known}")
        path = self.paths[name]
        if path is None:
            raise ConfigError(
                f"{self.recipe}: checkpoints.{name} is not given; add --checkpoint {name}=PATH"
            )
        if name not in self.loaded:
            self.loaded[name] = load(path, trusted=self.trusted)
        return self.loaded[name]

    def refuse_unused(self) -> None:
        """A checkpoint that no part names is a mistake in the recipe."""
        unused = sorted(self.paths.keys() - self.loaded.keys())
        if unused:
            raise ConfigError(f"{self.recipe}: checkpoints.{unused[0]}: no part of network uses it")


def _build(node: Any, networks: _Checkpoints, key: str) -> Any:
    """A part of the composition, from its description or the name of a checkpoint."""
    if isinstance(node, str):
        return networks[node]
    class_path = node.get("class_path") if isinstance(node, dict) else None
    if class_path not in _PARTS:
        known = ", ".join(sorted(_PARTS))
        raise ConfigError(f"{networks.recipe}: {key}.class_path: {class_path!r} is not of {known}")
    arguments = dict(node.get("init_args") or {})
    unknown = sorted(arguments.keys() - set(accepted_arguments(class_path)))
    if unknown:
        raise ConfigError(f"{networks.recipe}: {key}.init_args.{unknown[0]}: unknown argument")
    inner = f"{key}.init_args"
    if "network" in arguments:
        arguments["network"] = _build(arguments["network"], networks, f"{inner}.network")
    if isinstance(arguments.get("members"), list):
        arguments["members"] = [
            _build(member, networks, f"{inner}.members[{place}]")
            for place, member in enumerate(arguments["members"])
        ]
    try:
        return _PARTS[class_path](**arguments)
    except (TypeError, ConfigError) as error:
        raise ConfigError(f"{networks.recipe}: {key}: {error}") from error
