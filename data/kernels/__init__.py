"""Compiled inner loops: filters and reverbs that recur from sample to sample.

Import the modules of this package where they are used, in the function: importing one loads
numba, which takes half a second.
"""
