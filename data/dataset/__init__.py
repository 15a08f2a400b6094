"""Data sets: a checked index of tracks, and the items made from it."""

from data.dataset.base import SegmentDataset
from data.dataset.items import Item, collate

__all__ = ["Item", "SegmentDataset", "collate"]
