"""Mix own collections of music, speech and sound effects as Divide and Remaster lays them out.

What is made is what `data.lightning.DnR` reads, `OUTPUT/{tr,cv,tt}/<number>/{mix,music,sfx,speech}
.wav`, with `annots.csv` and `levels.json` beside them, and `statistics.json` and `statistics.png`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from prepare.command import add_common_options, folder, make_parser, number, positive, run, seed
from prepare.dnr.picture import draw
from prepare.dnr.plan import make_plan, mixes_of
from prepare.dnr.render import Mix, make_mix
from prepare.dnr.settings import KINDS, SPLITS, Kind, Settings
from prepare.dnr.statistics import describe_mix, summarise
from prepare.output import Output, to_json, write_file
from prepare.sounds import BITS
from prepare.work import do_all

from data.audio import printable

COMMAND = "convert_to_dnr"
_EXAMPLES = """\
  python scripts/convert_to_dnr.py --music fma --speech librispeech --sfx fsd50k data/dnr
  python scripts/convert_to_dnr.py --music m --speech s --sfx e data/dnr --mixes 4866 --workers 8
  python scripts/convert_to_dnr.py --music m --speech s --sfx e data/dnr --group folder --seed 7
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser(), _convert, words)


def _convert(options: argparse.Namespace) -> list[str]:
    """All of it; returns a line for each bad file that was left out."""
    settings = _settings(options)
    roots = {kind: getattr(options, kind) for kind in KINDS}
    output = Output(options.output, settings.splits, roots.values())
    stored = output.stored_plan(COMMAND, settings.to_json()) if options.dry_run else None
    if options.dry_run:
        plan = stored or make_plan(settings, roots, options.workers, options.on_bad)
        _report(plan, settings, f"{printable(options.output)}, not made: ")
        return plan["skipped"]
    with output.writing():
        plan = output.plan(
            COMMAND,
            settings.to_json(),
            lambda: make_plan(settings, roots, options.workers, options.on_bad),
        )
        failures = _make_mixes(options, settings, roots, plan)
        _write_statistics(options.output, settings)
    _report(plan, settings, f"{printable(options.output)}: ")
    return plan["skipped"] + failures


def _make_mixes(
    options: argparse.Namespace,
    settings: Settings,
    roots: Mapping[str, Path],
    plan: Mapping[str, Any],
) -> list[str]:
    """Make the mixes that are not there yet; returns what is wrong with those that fail."""
    mixes = [
        Mix(options.output / split / f"{index:05}", (split, index), files, roots, settings)
        for split, index, files in mixes_of(plan)
    ]
    left = [mix for mix in mixes if not mix.place.is_dir()]
    notes, failures = do_all(left, make_mix, options.workers, "mixes", options.on_bad)
    for note in (note for of_mix in notes for note in of_mix):
        print(note)
    return failures


def _write_statistics(root: Path, settings: Settings) -> None:
    mixes = {
        split: [
            describe_mix(place, settings.seconds)
            for place in sorted((root / split).iterdir())
            if not place.name.startswith(".")
        ]
        for split in settings.splits
    }
    everything = [mix for of_split in mixes.values() for mix in of_split]
    if everything:
        write_file(root / "statistics.png", draw(settings, everything))
        write_file(root / "statistics.json", to_json(summarise(settings, mixes)))


def _report(plan: Mapping[str, Any], settings: Settings, start: str) -> None:
    counts = ", ".join(f"{split} {count}" for split, count in settings.splits.items())
    print(f"{start}{settings.mixes} mixes of {settings.seconds:g} s ({counts})")
    for kind in KINDS:
        files = ", ".join(f"{split} {len(f)}" for split, f in plan["files"][kind].items())
        print(f"  {kind} from files of their own: {files}")
    for line in plan["copies"]:
        print(f"  {line}")


def _settings(options: argparse.Namespace) -> Settings:
    kinds = {
        kind: Kind(**{f.name: getattr(options, f"{kind}_{f.name}") for f in fields(Kind)})
        for kind in KINDS
    }
    names = [f.name for f in fields(Settings) if f.name != "kinds"]
    return Settings(kinds, **{name: getattr(options, name) for name in names})


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__ or "", _EXAMPLES)
    parser.add_argument("output", type=folder, metavar="OUTPUT", help="folder of the data set")
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}",
            type=folder,
            required=True,
            metavar="DIR",
            help=f"folder with {kind}: files of any format and rate, in folders of any depth",
        )
    _add_mix_options(parser.add_argument_group("the mixes"))
    for kind, style in Settings().kinds.items():
        _add_kind_options(parser.add_argument_group(f"the segments of {kind}"), kind, style)
    add_common_options(parser)
    return parser


def _add_mix_options(group: Any) -> None:
    default = Settings()

    def add(name: str, type: Any, help: str, **more: Any) -> None:
        value = getattr(default, name)
        more.setdefault("metavar", None if "choices" in more else "N")
        shown = " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else value
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, type=type, default=value, help=f"{help} ({shown})", **more)

    add("mixes", positive, "how many, of all splits")
    add("shares", number(0, 1e9), "of mixes and of files in each split", nargs=3, metavar=SPLITS)
    add(
        *("group", str, "divide file by file, or keep together each folder directly below DIR"),
        choices=("file", "folder"),
    )
    add("seconds", number(1, 3600), "length of a mix")
    add("sample_rate", positive, "in Hz")
    add("channels", positive, "of the mixes", choices=(1, 2))
    add("bits", str, "of a sample", choices=BITS)
    add("master_lufs", number(-60, 0), "loudness of a mix")
    add("mix_range", number(0, 30), "dB up and down that loudness varies by from mix to mix")
    add("clip_range", number(0, 30), "dB up and down that it varies by from segment to segment")
    add("peak_db", number(-60, 0), "highest peak in dB of full scale")
    add("quietest", number(-70, 0), "parts of files below so many LUFS are not used")
    add("seed", seed, "of all draws")


def _add_kind_options(group: Any, kind: str, style: Kind) -> None:
    def add(name: str, type: Any, help: str, **more: Any) -> None:
        value = getattr(style, name)
        shown = " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else f"{value:g}"
        more.setdefault("metavar", "N")
        group.add_argument(
            f"--{kind}-{name}", type=type, default=value, help=f"{help} ({shown})", **more
        )

    ends = ("LOW", "HIGH")
    add("count", number(0.01, 1000), "parameter of the zero-truncated Poisson distribution")
    add("lufs", number(-60, 0), "loudness")
    add("seconds", number(0.01, 3600), "length of parts of longer files", nargs=2, metavar=ends)
    add("fill", number(0.01, 1), "share of the mix that they have together", nargs=2, metavar=ends)
    add("fade", number(0, 60), "seconds of the fades where a file is cut")
    add("overlap", number(0, 0.5), "share that neighbours may have in common")


if __name__ == "__main__":
    sys.exit(main())
