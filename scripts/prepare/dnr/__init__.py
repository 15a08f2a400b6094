"""Own collections of music, speech and sound effects as Divide and Remaster.

`settings` has the numbers, `catalogue` the source files, `plan` which of them go into which mix,
`arrange` when they sound, `render` makes a mix and `statistics` looks at all of them.

The conventions are those of Petermann et al., "The Cocktail Fork Problem: Three-Stem Audio
Separation for Real-World Soundtracks", ICASSP 2022, as far as the numbers below give them.
"""
