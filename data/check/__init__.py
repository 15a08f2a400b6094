"""Every fault of a data set in one report: `python -m data.check ROOT`.

`layout` finds the splits, `measure` reads the samples, `findings` and `duplicates` judge, `survey`
does all of it, and `report` prints.
"""
