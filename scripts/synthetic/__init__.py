"""Music, speech and effects without recordings; see `scripts/make_synthetic_dataset.py`.

From a number to a song: `styles` says what a kind of music may consist of, `form` in which
sections, `drums`, `bass`, `chords` and `melody` write the notes, and `song` puts them together.
`soundfont` or `plain` play them, `voice` sings, `speech` speaks, `effects` makes noises, `mixing`
turns parts into stems. `scene` does for DnR what `song` does for music; `planted` puts errors into
stems; `layouts` says where everything lies and `production` makes it, in several processes.
"""
