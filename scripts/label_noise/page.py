"""The page to listen and decide: the most suspicious stems first, with buttons for a verdict."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from aimless.evaluation.style import STYLE
from aimless.version import __version__
from label_noise.excerpts import Excerpt
from label_noise.page_parts import PAGE_STYLE, SCRIPT, curve_plot
from label_noise.scores import STRETCH, StemScore, Thresholds
from label_noise.tables import by_song

__all__ = ["html_text"]

_CHOICES = ("clean", "bleeding", "wrong label")
_HOW = {
    "hearing": "A separator was given the stems and the mixtures. The share is the part of a "
    "stem's energy that it assigns to the stem's label, loud seconds counting more; suspicion is "
    "by how much that lies below the median of the label in this set.",
    "training": "A network that was trained on this set separated its mixtures. Suspicion is by "
    "how many spreads the SDR of its estimate, over that of the mixture, lies below the median of "
    "the label in this set.",
}


def html_text(
    scores: Sequence[StemScore],
    excerpts: Mapping[tuple[str, str], Excerpt],
    failed: Mapping[str, str],
    mode: str,
    thresholds: Thresholds,
    folder: str,
    title: str,
) -> str:
    """The page; it loads nothing but the files in `folder` beside it.

    Args:
        scores: of all stems, the most suspicious first.
        excerpts: (song, stem) -> files, of the stems that are listed.
        failed: song -> why it was not measured.
        mode: of `label_noise.scores.MODES`.
        thresholds: of the suggested verdicts.
        folder: name of the folder with the excerpts.
        title: what was measured.
    """
    listed = [score for score in scores if (score.song, score.stem) in excerpts]
    sections = [
        _section(index, score, excerpts[score.song, score.stem], folder, mode)
        for index, score in enumerate(listed)
    ]
    body = "\n".join(
        [
            f"<h1>Label noise: {_text(title)}</h1>",
            _introduction(scores, len(listed), mode, thresholds),
            _failures(failed),
            *sections,
            _all_stems(scores),
            _bar(),
            f"<footer>aimless {__version__}</footer>",
        ]
    )
    data = _embedded({"songs": _songs(scores, failed), "listed": [_key(s) for s in listed]})
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Label noise: {_text(title)}</title>\n<style>{STYLE}{PAGE_STYLE}</style>\n"
        f"</head>\n<body>\n<main>\n{body}\n</main>\n"
        f'<script type="application/json" id="data">{data}</script>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _introduction(
    scores: Sequence[StemScore], listed: int, mode: str, thresholds: Thresholds
) -> str:
    begins = {
        "hearing": f"Bleeding is suggested from a suspicion of {thresholds.bleeding:g}",
        "training": f"Bleeding is suggested from a suspicion of {thresholds.outlier:g}",
    }
    return (
        f"<p>{_HOW[mode]}</p><p>{begins[mode]}, and a wrong label where besides another source "
        f"wins in {100 * thresholds.wrong:g} % of the time in which the stem sounds.</p>"
        f"<p>The {listed} most suspicious of {len(scores)} stems in "
        f"{len(by_song(scores))} songs: listen, and choose. What is not chosen keeps the suggested "
        f"verdict. Excerpts are the worst {STRETCH} s, made equally loud.</p>"
    )


def _failures(failed: Mapping[str, str]) -> str:
    lines = "".join(
        f"<li><strong>{_text(name)}</strong> was not measured: {_text(reason)}</li>"
        for name, reason in failed.items()
    )
    return f'<ul class="notes">{lines}</ul>' if lines else ""


def _section(index: int, score: StemScore, files: Excerpt, folder: str, mode: str) -> str:
    place = quote(folder)
    players = "".join(
        f'<label>{name}<audio controls preload="none" src="{place}/{quote(file)}"></audio></label>'
        for name, file in (("stem", files.stem), ("mixture", files.mixture))
    )
    buttons = "".join(
        f'<label><input type="radio" name="choice-{index}" value="{choice}"> {choice}</label>'
        for choice in _CHOICES
    )
    minutes, seconds = divmod(int(score.start), 60)
    return (
        f'<section class="excerpt" id="stem-{index}">'
        f"<h4>{_text(score.stem)}: {_text(score.song)}</h4>"
        f"<p>Suggested: <strong>{score.verdict}</strong>; {_numbers(score)}</p>"
        f"{curve_plot(score.curve, mode, score.start, STRETCH)}"
        f'<div class="players">{players}</div>'
        f'<img loading="lazy" src="{place}/{quote(files.picture)}" '
        f'alt="spectrograms of {_text(score.stem)} and of the mixture, from '
        f'{minutes}:{seconds:02d}">'
        f"<fieldset><legend>from {minutes}:{seconds:02d}, this is</legend>{buttons}</fieldset>"
        "</section>"
    )


def _numbers(score: StemScore) -> str:
    parts = [
        f"suspicion {_number(score.suspicion)}",
        f"{_percent(score.share)} {_text(score.stem)}",
        f"{_percent(score.other_share)} {_text(score.other)}",
        f"another source wins {_percent(score.other_time)} of the time",
    ]
    if math.isfinite(score.improvement):
        parts.append(f"SDR {score.improvement:+.1f} dB over the mixture's")
    return "; ".join(parts)


def _all_stems(scores: Sequence[StemScore]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(s.song)}</th><td class="word">{_text(s.stem)}</td>'
        f'<td class="word">{s.verdict}</td><td>{_number(s.suspicion)}</td>'
        f'<td>{_percent(s.share)}</td><td class="word">{_text(s.other)}</td>'
        f"<td>{_percent(s.other_share)}</td><td>{_percent(s.other_time)}</td></tr>\n"
        for s in scores
    )
    head = ("song", "stem", "suggested", "suspicion", "share", "other", "share", "wins")
    cells = "".join(f'<th scope="col">{name}</th>' for name in head)
    return (
        "<details><summary>All stems</summary>\n"
        f'<div class="wide"><table><thead><tr>{cells}</tr></thead>\n<tbody>{rows}</tbody></table>'
        "</div></details>"
    )


def _bar() -> str:
    return (
        '<details><summary>label_noise.csv as it would be saved</summary><pre id="preview"></pre>'
        '</details><div class="save"><span id="count"></span>'
        '<button type="button" id="save-labels">Save label_noise.csv</button>'
        '<button type="button" id="save-choices">Save the choices</button></div>'
    )


def _songs(scores: Sequence[StemScore], failed: Mapping[str, str]) -> list[dict[str, object]]:
    """What the script of the page needs to write the labels, in their order."""
    songs = by_song(scores)
    return [
        {
            "id": name,
            "failed": failed.get(name, ""),
            "stems": [
                {"stem": s.stem, "verdict": s.verdict, "other": s.other}
                for s in songs.get(name, ())
            ],
        }
        for name in sorted({*songs, *failed})
    ]


def _key(score: StemScore) -> list[str]:
    return [score.song, score.stem]


def _embedded(value: object) -> str:
    """JSON within a script element, which `</script>` in a name must not end."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "–"
