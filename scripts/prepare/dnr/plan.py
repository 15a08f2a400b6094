"""Which files go into which mix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aimless.draws import generator
from aimless.errors import DataError
from prepare.dnr.arrange import draw_count
from prepare.dnr.catalogue import Planned, divide, list_collection
from prepare.dnr.settings import KINDS, Settings

__all__ = ["make_plan", "mixes_of"]


def make_plan(
    settings: Settings, roots: Mapping[str, Path], workers: int, on_bad: str
) -> dict[str, Any]:
    """List the collections, divide them, and deal their files out to the mixes.

    Args:
        settings: that decide what is drawn.
        roots: of the collections, by kind.
        workers: processes that decode files.
        on_bad: `stop` or `skip`.

    Returns:
        `files`: kind -> split -> what is known of its files; `mixes`: split -> for each mix,
        kind -> numbers of its files; `skipped` and `copies`: a line for each file left out.

    Raises:
        DataError: bad files, those of all collections are named; or too few to divide.
    """
    files: dict[str, dict[str, list[Planned]]] = {}
    skipped: list[str] = []
    copies: list[str] = []
    errors: list[str] = []
    for kind in KINDS:
        try:
            found, faults, same = list_collection(roots[kind], workers, on_bad)
            files[kind] = divide(found, settings.shares, settings.group, settings.seed)
        except DataError as error:
            errors.append(f"{kind}: {error}")
            continue
        skipped += faults
        copies += same
    if errors:
        raise DataError("\n".join(errors))
    mixes = {
        split: _deal(settings, split, count, {kind: len(files[kind][split]) for kind in KINDS})
        for split, count in settings.splits.items()
    }
    return {"files": files, "mixes": mixes, "skipped": skipped, "copies": copies}


def mixes_of(plan: Mapping[str, Any]) -> Iterator[tuple[str, int, dict[str, list[Planned]]]]:
    """Split, number and files by kind of all mixes of a plan."""
    for split, mixes in plan["mixes"].items():
        for number, mix in enumerate(mixes):
            chosen = {
                kind: [plan["files"][kind][split][index] for index in mix[kind]] for kind in KINDS
            }
            yield split, number, chosen


def _deal(
    settings: Settings, split: str, mixes: int, available: Mapping[str, int]
) -> list[dict[str, list[int]]]:
    """Numbers of the files of each mix: all are used once before any is used again."""
    dealt: list[dict[str, list[int]]] = [{} for _ in range(mixes)]
    for kind in KINDS:
        cards = _shuffled(available[kind], "dnr order", settings.seed, split, kind)
        for number, mix in enumerate(dealt):
            rng = generator("dnr count", settings.seed, split, number, kind)
            count = draw_count(rng, settings.kinds[kind].count)
            mix[kind] = [next(cards) for _ in range(count)]
    return dealt


def _shuffled(count: int, *key: int | str) -> Iterator[int]:
    """All numbers below `count` in a random order, and again in another one, without end."""
    turn = 0
    while True:
        order: Sequence[int] = generator(*key, turn).permutation(count).tolist()
        yield from order
        turn += 1
