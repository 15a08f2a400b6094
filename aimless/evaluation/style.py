"""The style sheet of reports: system fonts, light and dark, narrow screens and paper."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --faint: #60646c; --line: #d9d9e0;
  --paper: #ffffff; --panel: #f5f6f8; --accent: #2563a8; --mark: #b3470f; }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --faint: #b0b4ba; --line: #43484e;
  --paper: #16181b; --panel: #212427; --accent: #7db4ec; --mark: #ffa057; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
h4 { font-size: 1rem; margin: 0; }
p, figcaption, footer { color: var(--faint); }
figcaption { font-size: .875rem; }
figure { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; overflow-wrap: normal; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; }
th[scope=row] { min-width: 5rem; max-width: 24rem; overflow-wrap: break-word; }
th[scope=row], .word, thead tr:last-child th:first-child { text-align: left; white-space: normal; }
thead th[colspan] { text-align: center; }
tbody tr:last-child > * { border-bottom: 0; }
svg { display: block; width: 100%; height: auto; background: var(--panel); border-radius: .5rem;
  padding: .75rem .5rem 0; }
svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
svg .name, svg .unit { text-anchor: end; }
svg .unit { fill: var(--faint); font-size: 12px; }
svg .tick { fill: var(--faint); font-size: 12px; text-anchor: middle; }
svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--faint); stroke-width: 2; }
svg .dot { fill: var(--accent); fill-opacity: .55; }
svg .box { fill: none; stroke: var(--text); stroke-width: 1.25; }
svg .mark { stroke: var(--mark); stroke-width: 3; }
.notes { background: var(--panel); border-left: 4px solid var(--mark); border-radius: .25rem;
  padding: .75rem .75rem .75rem 2rem; }
.excerpt { background: var(--panel); border-radius: .5rem; padding: .75rem 1rem;
  margin: .75rem 0; }
.excerpt p { margin: 0 0 .5rem; }
.players { display: flex; flex-wrap: wrap; gap: 1rem; }
.players label { flex: 1 1 16rem; font-size: .875rem; color: var(--faint); }
audio { display: block; width: 100%; margin-top: .25rem; }
details { margin-top: 2rem; }
summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 2rem; font-size: .875rem; }
@media print { .excerpt { break-inside: avoid; } audio { display: none; } }
"""
