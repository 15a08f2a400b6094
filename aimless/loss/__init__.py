"""Training losses; each returns the loss and a dict of parts to log."""

from aimless.loss.freq import CLoss
from aimless.loss.time import SDR, L1Loss, NegativeSDR, sdr

__all__ = ["SDR", "CLoss", "L1Loss", "NegativeSDR", "sdr"]
