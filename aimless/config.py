"""Experiment files: strict YAML, and settings that are stated once.

A config names classes by `class_path` and their arguments by `init_args`. Some settings are
needed in several places: the STFT sizes by the separator, the network and the loss, the
sources by the separator and the network, the sample rate and channels by the data and the
network. `share_settings` copies each to wherever it was left out and refuses a config that
states two different values.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from aimless.errors import ConfigError
from aimless.sources import resolve_targets

__all__ = ["accepted_arguments", "import_class", "parse_yaml", "read_yaml", "share_settings"]


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML keeps the last of two equal keys without a word; this loader refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ConfigError(
                    f"key '{key.value}' stands twice, in lines {lines[key.value]} and {line}"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep=deep)


# PyYAML follows YAML 1.1, where 1e-4 is a word; in an experiment it is a learning rate.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Parse YAML as experiments use it: keys stand once, `1e-4` is a number.

    Class paths of the `pytorch_lightning` package are read as `lightning.pytorch`, the name
    under which the same classes are installed here, so that published configs keep working.

    Raises:
        ConfigError: not YAML, or a key stands twice; names the lines.
    """
    try:
        return _modernise(yaml.load(text, Loader=_StrictLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"not valid YAML: {where}{problem}") from error


def read_yaml(path: str | Path) -> Any:
    """`parse_yaml` of a file; errors begin with its path."""
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _modernise(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _modernise(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_modernise(value) for value in node]
    if isinstance(node, str) and node.startswith("pytorch_lightning."):
        return "lightning.pytorch." + node.removeprefix("pytorch_lightning.")
    return node


def import_class(class_path: str) -> type:
    """The class behind a dotted path.

    Raises:
        ConfigError: the module or the class does not exist.
    """
    module_name, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"unknown class path '{class_path}': {error}") from error
    if not isinstance(found, type):
        raise ConfigError(f"class path '{class_path}' is not a class")
    return found


@cache
def accepted_arguments(class_path: str) -> frozenset[str]:
    """Names of the constructor arguments, those passed on to base classes included."""
    names: set[str] = set()
    for cls in import_class(class_path).__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return frozenset(names - {"self"})


def share_settings(config: dict[str, Any]) -> None:
    """Copy settings that belong together to where they were left out, in place.

    Args:
        config: the explicitly given part of an experiment, with `model` (the separator) and
            perhaps `data`, each {class_path, init_args}.

    Raises:
        ConfigError: a setting is stated twice with different values; names both keys.
    """
    separator = _Node.of(config, "model")
    if separator is None:
        return
    data = _Node.of(config, "data")
    network = separator.child("model")
    inner = [node for node in (separator, network, separator.child("criterion")) if node]
    _agree("n_fft", [(node, name) for node in inner for name in ("n_fft", "nfft")])
    _agree("hop_length", [(node, "hop_length") for node in inner])

    outer = [node for node in (separator, network, data) if node]
    effects = [*separator.children("transforms"), *(data.children("transforms") if data else [])]
    rates = [(node, name) for node in outer + effects for name in ("sample_rate", "orig_freq")]
    _agree("sample_rate", rates)
    if data and network:
        channels = [(data, "channels")]
        channels += [(network, name) for name in ("nb_channels", "audio_channels", "in_channels")]
        _agree("channels", channels)
    if network:
        _share_sources(separator, network)


def _share_sources(separator: _Node, network: _Node) -> None:
    """A network that is told its sources gets the separator's targets, in source order."""
    given = separator.init_args.get("targets")
    if not given:
        return
    _, targets = resolve_targets(given, separator.init_args.get("target_track"))
    for name, value in (
        ("sources", list(targets)),
        ("nb_sources", len(targets)),
        ("num_sources", len(targets)),
        ("n_sources", len(targets)),
    ):
        if not network.accepts(name):
            continue
        stated = network.init_args.setdefault(name, value)
        if isinstance(value, list) and sorted(stated) == sorted(value):
            network.init_args[name] = value  # output i is the i-th target
        elif stated != value:
            raise ConfigError(
                f"{network.key}.init_args.{name}: {stated} does not fit the targets "
                f"{', '.join(targets)}; leave it out, or name the same sources"
            )


def _agree(setting: str, places: list[tuple[_Node, str]]) -> None:
    """Find the one stated value among the places that take the setting; fill the others."""
    places = [(node, name) for node, name in places if node.accepts(name)]
    stated = [(node, name) for node, name in places if name in node.init_args]
    if not stated:
        return
    first, first_name = stated[0]
    value = first.init_args[first_name]
    for node, name in stated[1:]:
        if node.init_args[name] != value:
            raise ConfigError(
                f"{setting} is stated twice: {first.key}.init_args.{first_name} is {value}, "
                f"but {node.key}.init_args.{name} is {node.init_args[name]}"
            )
    for node, name in places:
        node.init_args.setdefault(name, value)


class _Node:
    """One {class_path, init_args} of a config, with its key."""

    def __init__(self, key: str, entry: dict[str, Any]) -> None:
        self.key = key
        self.class_path: str = entry["class_path"]
        if not isinstance(entry.get("init_args"), dict):
            entry["init_args"] = {}
        self.init_args: dict[str, Any] = entry["init_args"]

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str, prefix: str = "") -> _Node | None:
        entry = config.get(name)
        if isinstance(entry, dict) and "class_path" in entry:
            return cls(prefix + name, entry)
        return None

    def accepts(self, name: str) -> bool:
        return name in accepted_arguments(self.class_path)

    def child(self, name: str) -> _Node | None:
        return self.of(self.init_args, name, f"{self.key}.init_args.")

    def children(self, name: str) -> Iterator[_Node]:
        for index, entry in enumerate(self.init_args.get(name) or []):
            if isinstance(entry, dict) and "class_path" in entry:
                yield _Node(f"{self.key}.init_args.{name}[{index}]", entry)
