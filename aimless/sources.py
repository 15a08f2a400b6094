"""Lists of sources, and the one place that knows their order.

Everything in the system that has a source axis (stems, masks, estimates, output files)
keeps the order of the source list, whatever the order in which targets are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aimless.errors import ConfigError

__all__ = ["MDX_SOURCES", "SDX_SOURCES", "SE_SOURCES", "SOURCE_LISTS", "resolve_targets"]

MDX_SOURCES = ("drums", "bass", "other", "vocals")
SDX_SOURCES = ("music", "sfx", "speech")
SE_SOURCES = ("speech", "noise")

SOURCE_LISTS: dict[str, tuple[str, ...]] = {
    "mdx": MDX_SOURCES,
    "sdx": SDX_SOURCES,
    "se": SE_SOURCES,
}


def resolve_targets(
    targets: Iterable[str] | Mapping[str, object] | None,
    target_track: str | Sequence[str] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the source list and the targets in its order.

    Args:
        targets: names of the sources that a model predicts, in any order; a mapping counts
            by its keys, so that `{vocals, drums}` works in YAML.
        target_track: a key of `SOURCE_LISTS`, or the sources themselves. None takes the
            one known list that holds all targets.

    Returns:
        (sources, targets), both in source order.

    Raises:
        ConfigError: no target, an unknown name, a name twice, or no single list fits.
    """
    names = list(targets or ())
    if not names:
        raise ConfigError("targets: none given; name at least one source, e.g. [vocals, drums]")
    sources = _find_sources(names, target_track)
    for name in names:
        if name not in sources:
            raise ConfigError(f"targets: unknown target '{name}'; known: {', '.join(sources)}")
    if len(set(names)) != len(names):
        raise ConfigError(f"targets: a source is named twice in {', '.join(names)}")
    return sources, tuple(source for source in sources if source in names)


def _find_sources(
    targets: Sequence[str], target_track: str | Sequence[str] | None
) -> tuple[str, ...]:
    if isinstance(target_track, str):
        if target_track not in SOURCE_LISTS:
            known = ", ".join(SOURCE_LISTS)
            raise ConfigError(f"target_track: unknown list '{target_track}'; known: {known}")
        return SOURCE_LISTS[target_track]
    if target_track is not None:
        sources = tuple(target_track)
        if not sources or len(set(sources)) != len(sources):
            raise ConfigError(f"target_track: needs different source names, got {list(sources)}")
        return sources
    fitting = [names for names in SOURCE_LISTS.values() if set(targets) <= set(names)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        keys = [key for key, names in SOURCE_LISTS.items() if names in fitting]
        raise ConfigError(
            f"target_track: {', '.join(targets)} stands in several source lists; "
            f"set target_track to one of {', '.join(keys)}"
        )
    nearest = max(SOURCE_LISTS.values(), key=lambda names: len(set(targets) & set(names)))
    unknown = next(name for name in targets if name not in nearest)
    known = "; ".join(f"{key}: {', '.join(names)}" for key, names in SOURCE_LISTS.items())
    raise ConfigError(f"targets: unknown target '{unknown}'; known: {known}")
