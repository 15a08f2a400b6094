"""Reading the settings of `StemFiles`: every message names the key as a config has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aimless.errors import ConfigError
from data.lightning.checks import check_share
from data.lightning.settings import check_choice, setting
from data.listing.roots import LAYOUTS, Root

__all__ = ["check_range", "check_sources", "parse_mixup", "parse_presence", "parse_roots"]


def check_sources(names: Sequence[str]) -> tuple[str, ...]:
    """Names of the stems, all different and none empty.

    Raises:
        ConfigError: otherwise.
    """
    if not names or not all(names) or len(set(names)) != len(names):
        raise ConfigError(
            f"{setting('sources')}: {list(names)}, wanted one or more different names"
        )
    return tuple(names)


def parse_roots(entries: str | Sequence[str | Mapping[str, Any]], base: Path) -> list[Root]:
    """The roots of `train`.

    Args:
        entries: a path, or a list of paths and `{path, weight, layout}`.
        base: what relative paths begin at.

    Raises:
        ConfigError: none, an unknown or missing key, or a value that is not allowed.
    """
    listed = [entries] if isinstance(entries, str) else list(entries)
    if not listed:
        raise ConfigError(f"{setting('train')}: none given; name folders or tables")
    return [_parse_root(f"train[{number}]", entry, base) for number, entry in enumerate(listed)]


def _parse_root(name: str, entry: str | Mapping[str, Any], base: Path) -> Root:
    given: dict[str, Any] = {"path": entry} if isinstance(entry, str) else dict(entry)
    unknown = sorted(given.keys() - {"path", "weight", "layout"})
    if unknown or not isinstance(given.get("path"), str):
        found = f"unknown {', '.join(map(repr, unknown))}" if unknown else "no path"
        raise ConfigError(f"{setting(name)}: {found}; wanted path, and perhaps weight and layout")
    path = base / given["path"]
    layout = given.get("layout", "csv" if path.suffix.lower() == ".csv" else "tracks")
    weight = given.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ConfigError(f"{setting(name + '.weight')}: {weight!r} is not a number above 0")
    return Root(path, float(weight), check_choice(f"{name}.layout", layout, LAYOUTS))


def parse_mixup(
    given: Sequence[float] | Mapping[str, Sequence[float]] | None, sources: Sequence[str]
) -> dict[str, Sequence[float]]:
    """Probabilities of one, two and so on more draws, by source; none are left out.

    Raises:
        ConfigError: an unknown source, or no probabilities.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        given = dict.fromkeys(sources, given)
    _check_names("mixup", given, sources)
    for source, chances in given.items():
        for chance in chances:
            check_share(f"mixup.{source}", chance)
        if sum(chances) > 1 + 1e-9:
            text = f"{list(chances)} sum to {sum(chances):g}, wanted at most 1"
            raise ConfigError(f"{setting('mixup')}: {text}")
    return {source: chances for source, chances in given.items() if chances}


def parse_presence(
    given: Mapping[str, float] | None, sources: Sequence[str]
) -> Mapping[str, float]:
    """Probabilities that stems are there, by source; those not given are left out.

    Raises:
        ConfigError: an unknown source, or no probability.
    """
    given = given or {}
    _check_names("presence", given, sources)
    for source, probability in given.items():
        check_share(f"presence.{source}", probability)
    return given


def _check_names(name: str, given: Mapping[str, object], sources: Sequence[str]) -> None:
    for source in given:
        if source not in sources:
            known = ", ".join(sources)
            raise ConfigError(f"{setting(name)}: unknown source {source!r}; known: {known}")


def check_range(name: str, limits: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest of something.

    Raises:
        ConfigError: not two finite numbers in order.
    """
    if len(limits) != 2 or not all(map(math.isfinite, limits)) or limits[0] > limits[1]:
        raise ConfigError(f"{setting(name)}: {list(limits)}, wanted [lowest, highest]")
    return limits[0], limits[1]
