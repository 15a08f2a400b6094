"""Training losses; each returns the loss and a dict of parts to log."""

from aimless.loss.freq import CLoss, MDLoss, bce_loss
from aimless.loss.time import SDR, CL1Loss, L1Loss, NegativeSDR, sdr

__all__ = ["SDR", "CL1Loss", "CLoss", "L1Loss", "MDLoss", "NegativeSDR", "bce_loss", "sdr"]
