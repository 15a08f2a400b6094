"""Networks: one architecture per file."""

from aimless.models.band_split_rnn import BandSplitRNN, BandSplitRNNMulti
from aimless.models.demucs_split import DemucsSplit
from aimless.models.hdemucs import HDemucs
from aimless.models.rel_tdemucs import RelTDemucs
from aimless.models.xumx import X_UMX

__all__ = [
    "X_UMX",
    "BandSplitRNN",
    "BandSplitRNNMulti",
    "DemucsSplit",
    "HDemucs",
    "RelTDemucs",
]
