"""Style, script and the plot of a stem's share over time, for the page of `label_noise.page`."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["PAGE_STYLE", "SCRIPT", "curve_plot"]

_HEIGHT = 40
_MOST_BARS = 600

PAGE_STYLE = """
.excerpt img { display: block; max-width: 100%; margin-top: .75rem; border-radius: .25rem; }
.excerpt svg.curve { padding: 0; height: 3rem; margin-bottom: .5rem; background: var(--paper); }
.excerpt[data-chosen] { outline: 2px solid var(--accent); }
svg .stretch { fill: var(--mark); fill-opacity: .18; }
svg .share { fill: var(--accent); }
fieldset { border: 0; padding: 0; margin: .75rem 0 0; display: flex; flex-wrap: wrap; gap: 1rem; }
legend { float: left; color: var(--faint); margin-right: 1rem; }
.save { position: sticky; bottom: 0; display: flex; flex-wrap: wrap; gap: .75rem;
  align-items: center; background: var(--paper); border-top: 1px solid var(--line);
  padding: .75rem 0; margin-top: 2rem; }
.save span { flex: 1 1 auto; color: var(--faint); }
button { font: inherit; padding: .35rem .9rem; color: var(--text); background: var(--panel);
  border: 1px solid var(--line); border-radius: .375rem; cursor: pointer; }
pre { overflow-x: auto; background: var(--panel); padding: .75rem; border-radius: .5rem; }
"""

#: Keeps the choices in the browser, and saves them as CSV.
SCRIPT = """
"use strict";
const { songs, listed } = JSON.parse(document.getElementById("data").textContent);
const store = "label-noise:" + location.pathname;
const keys = listed.map((key) => JSON.stringify(key));
const bad = ["bleeding", "wrong label"];
let choices = new Map();

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(store) || "[]");
    choices = new Map(kept.filter(([key]) => keys.includes(key)));
  } catch (error) {
    console.warn("choices are not kept when the page is closed", error);
  }
}

function keep() {
  try {
    localStorage.setItem(store, JSON.stringify([...choices]));
  } catch (error) {
    console.warn("choices are not kept when the page is closed", error);
  }
}

function cell(text) {
  return /[",\\r\\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function csv(rows) {
  return rows.map((row) => row.map(cell).join(",") + "\\n").join("");
}

function verdict(song, stem) {
  return choices.get(JSON.stringify([song.id, stem.stem])) || stem.verdict;
}

function note(song, stem) {
  const other = stem.other ? ` (${stem.other})` : "";
  return `${stem.stem}: ${verdict(song, stem)}${other}`;
}

function labels() {
  const rows = songs.map((song) => {
    const found = song.stems.filter((stem) => bad.includes(verdict(song, stem)));
    const clean = !song.failed && !found.length;
    const notes = song.failed || found.map((stem) => note(song, stem)).join("; ");
    return [song.id, clean ? "Y" : "", notes];
  });
  return csv([["ID", "Clean", "Notes"], ...rows]);
}

function decisions() {
  const rows = [...choices].map(([key, choice]) => [...JSON.parse(key), choice]);
  return csv([["song", "stem", "choice"], ...rows]);
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function show() {
  document.getElementById("preview").textContent = labels();
  document.getElementById("count").textContent = `${choices.size} of ${keys.length} chosen`;
  keys.forEach((key, index) => {
    const section = document.getElementById("stem-" + index);
    section.toggleAttribute("data-chosen", choices.has(key));
    for (const input of section.querySelectorAll("input"))
      input.checked = input.value === choices.get(key);
  });
}

document.addEventListener("change", (event) => {
  const section = event.target.closest("section[id^=stem-]");
  if (!section) return;
  choices.set(keys[Number(section.id.slice(5))], event.target.value);
  keep();
  show();
});
document.getElementById("save-labels").onclick = () => save("label_noise.csv", labels());
document.getElementById("save-choices").onclick = () => save("label_choices.csv", decisions());
recall();
show();
"""


def curve_plot(curve: Sequence[float], mode: str, start: float, stretch: float) -> str:
    """A bar for each window with the label's share, as SVG; the excerpt is marked.

    Args:
        curve: share from 0 to 1, or with `training` the SDR in dB, drawn from -10 to 20; NaN
            where the stem is silent.
        mode: `hearing` or `training`.
        start: of the excerpt, in windows.
        stretch: length of the excerpt, in windows.
    """
    low, high = (-10.0, 20.0) if mode == "training" else (0.0, 1.0)
    step = math.ceil(len(curve) / _MOST_BARS)
    bars = []
    for first in range(0, len(curve), step):
        heard = [value for value in curve[first : first + step] if math.isfinite(value)]
        if heard:
            mean = sum(heard) / len(heard)
            height = _HEIGHT * min(max((mean - low) / (high - low), 0.02), 1)
            bars.append(
                f'<rect class="share" x="{first}" y="{_HEIGHT - height:.1f}" '
                f'width="{0.9 * step:g}" height="{height:.1f}"/>'
            )
    what = "SDR of the estimate, -10 to 20 dB" if mode == "training" else "share of the label"
    return (
        f'<svg class="curve" viewBox="0 0 {max(len(curve), 1)} {_HEIGHT}" '
        f'preserveAspectRatio="none" role="img" aria-label="{what}, over time">'
        f"<title>{what}, over time</title>"
        f'<rect class="stretch" x="{start:g}" y="0" width="{min(stretch, len(curve)):g}" '
        f'height="{_HEIGHT}"/>' + "".join(bars) + "</svg>"
    )
