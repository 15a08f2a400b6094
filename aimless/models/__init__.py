"""Networks: one architecture per file."""

from aimless.models.demucs_split import DemucsSplit
from aimless.models.hdemucs import HDemucs
from aimless.models.xumx import X_UMX

__all__ = ["X_UMX", "DemucsSplit", "HDemucs"]
