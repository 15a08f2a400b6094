"""One HTML page with everything in it: tables, plots, and the worst excerpts to listen to."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aimless.evaluation.plots import distribution_plot
from aimless.evaluation.scores import EXCERPT_SECONDS
from aimless.evaluation.statistics import OVERALL, paired
from aimless.evaluation.style import STYLE
from aimless.evaluation.tables import TITLES, Comparison
from aimless.version import __version__

if TYPE_CHECKING:
    from aimless.evaluate import Evaluation
    from aimless.evaluation.scores import Excerpt

__all__ = ["html_text"]

_HOW = {
    "sdr": "SDR: 10 log10((signal + 1e-7) / (error + 1e-7)), energies over all channels and "
    "samples of a song, as in the Sound Demixing Challenge 2023.",
    "si_sdr": "SI-SDR: the same after scaling the reference to fit the estimate, cut to ±100 dB.",
    "bss_sdr": "BSS: BSSEval version 4 of source images, frames of 1 s, distortion filters of 512 "
    "samples fitted to the whole song; median over frames. The usual figure over songs is the "
    "median.",
}
_SILENT = "References with an RMS below -60 dB of full scale have no SDR and no SI-SDR."


def html_text(
    evaluation: Evaluation,
    other: Evaluation | None = None,
    comparison: Comparison | None = None,
    worst: int = 2,
) -> str:
    """The report as one page that needs nothing else, in the reader's light or dark colours.

    Args:
        evaluation: scores; with excerpts, if there is to be something to listen to.
        other: scores of another model on the same songs.
        comparison: differences to it, as `aimless.evaluate.compare` gives them.
        worst: songs per source to listen to.
    """
    title = f"Separation scores: {evaluation.label}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p>Songs: {len(evaluation.songs)}; sources: {len(evaluation.sources)}. All in dB; higher "
        "is better.</p>",
        _messages(evaluation),
        _summary(evaluation),
        *(_distribution(evaluation, column) for column in evaluation.columns),
    ]
    if other is not None and comparison is not None:
        parts += [_summary(other), _comparison(evaluation, other, comparison)]
    parts += [_worst(evaluation, worst), _songs(evaluation), _how(evaluation)]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _cell(value: float, sign: bool = False) -> str:
    if not math.isfinite(value):
        return "<td>–</td>"
    return f"<td>{value:+.2f}</td>" if sign else f"<td>{value:.2f}</td>"


def _table(head: Iterable[str], rows: Iterable[str], group: str = "") -> str:
    cells = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead>{group}<tr>{cells}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _messages(evaluation: Evaluation) -> str:
    lines = [f"<li>{_text(note)}</li>" for note in evaluation.notes]
    lines += [
        f"<li><strong>{_text(name)}</strong> was not scored: {_text(reason)}</li>"
        for name, reason in evaluation.failed.items()
    ]
    return f'<ul class="notes">{"".join(lines)}</ul>' if lines else ""


def _summary(evaluation: Evaluation) -> str:
    names = "".join(
        f'<th colspan="2" scope="colgroup">{TITLES[column]}</th>' for column in evaluation.columns
    )
    rows = []
    for source, cells in evaluation.summary().items():
        values = "".join(_cell(cell.mean) + _cell(cell.median) for cell in cells.values())
        count = max(cell.songs for cell in cells.values())
        rows.append(f'<th scope="row">{_text(source)}</th>{values}<td>{count}</td>')
    head = ["source", *["mean", "median"] * len(evaluation.columns), "songs"]
    table = _table(head, rows, f"<tr><td></td>{names}<td></td></tr>")
    return f"<h2>{_text(evaluation.label)}</h2>\n{table}"


def _distribution(evaluation: Evaluation, column: str) -> str:
    rows = {
        source: {
            name: song.values[source][column]
            for name, song in evaluation.songs.items()
            if source in song.values
        }
        for source in evaluation.sources
    }
    return (
        f"<h3>{TITLES[column]}</h3>\n<figure>{distribution_plot(rows)}<figcaption>A dot is a song; "
        "the box goes from the first to the third quartile, its bar is the median.</figcaption>"
        "</figure>"
    )


def _comparison(evaluation: Evaluation, other: Evaluation, comparison: Comparison) -> str:
    parts = [
        f"<h2>{_text(evaluation.label)} minus {_text(other.label)}</h2>",
        "<p>Differences of the same song, so that hard songs count as much for both. The interval "
        "covers the mean with 95 % (bootstrap over songs); where it leaves out zero, the models "
        "differ by more than the choice of songs explains.</p>",
    ]
    pair = evaluation.songs, other.songs, evaluation.sources
    for column in evaluation.columns:
        cells = {source: comparison[source][column] for source in comparison}
        points = {source: paired(*pair, source, column) for source in cells}
        rows = [
            f'<th scope="row">{_text(source)}</th>{_cell(cell.mean, True)}{_cell(cell.low, True)}'
            f"{_cell(cell.high, True)}<td>{cell.songs}</td>"
            for source, cell in cells.items()
        ]
        parts.append(f"<h3>{TITLES[column]}</h3>")
        parts.append(f"<figure>{distribution_plot(points, cells)}</figure>")
        parts.append(_table(["source", "mean", "from", "to", "songs"], rows))
    return "\n".join(parts)


def _worst(evaluation: Evaluation, worst: int) -> str:
    column = evaluation.columns[0]
    parts = []
    for source in evaluation.sources:
        scored = {
            name: song.values[source][column]
            for name, song in evaluation.songs.items()
            if source in song.excerpts and math.isfinite(song.values[source][column])
        }
        for name in sorted(scored, key=scored.__getitem__)[:worst]:
            excerpt = evaluation.songs[name].excerpts[source]
            parts.append(_player(source, name, f"{TITLES[column]} {scored[name]:.2f} dB", excerpt))
    if not parts:
        return ""
    return (
        f"<h2>Worst songs</h2>\n<p>The {EXCERPT_SECONDS} s with the lowest SDR of the {worst} "
        f"songs with the lowest {TITLES[column]} of each source.</p>\n" + "\n".join(parts)
    )


def _player(source: str, name: str, score: str, excerpt: Excerpt) -> str:
    minutes, seconds = divmod(int(excerpt.start), 60)
    gain = f", both played at {20 * math.log10(excerpt.gain):.1f} dB" if excerpt.gain < 1 else ""
    players = "".join(
        f"<label>{label}<audio controls preload='none' src='data:audio/flac;base64,"
        f"{base64.b64encode(file).decode()}'></audio></label>"
        for label, file in (("reference", excerpt.reference), ("estimate", excerpt.estimate))
    )
    return (
        f'<section class="excerpt"><h4>{_text(source)}: {_text(name)}</h4>'
        f"<p>{score}; from {minutes}:{seconds:02d}{gain}</p>"
        f'<div class="players">{players}</div></section>'
    )


def _songs(evaluation: Evaluation) -> str:
    rows = [
        f'<th scope="row">{_text(name)}</th><td class="word">{_text(source)}</td>'
        + "".join(_cell(values[column]) for column in evaluation.columns)
        for name, song in evaluation.songs.items()
        for source, values in song.values.items()
    ]
    head = ["song", "source", *(TITLES[column] for column in evaluation.columns)]
    return f"<details><summary>All songs</summary>\n{_table(head, rows)}</details>"


def _how(evaluation: Evaluation) -> str:
    lines = [how for column, how in _HOW.items() if column in evaluation.columns]
    if set(evaluation.columns) & {"sdr", "si_sdr"}:
        lines.append(_SILENT)
    items = "".join(f"<li>{line}</li>" for line in lines)
    return (
        f"<h2>How it was measured</h2>\n<ul>{items}<li>The row “{OVERALL}” is the mean over "
        f"sources.</li></ul>\n<footer>aimless {__version__}</footer>"
    )
