"""Separated stems against references: scores, their statistics, tables and reports.

`aimless.evaluate` is the front; each file here holds one step of the way.
"""
