"""Data sets: a checked index of tracks, and the items made from it."""

from data.dataset.base import Item, SegmentDataset, collate

__all__ = ["Item", "SegmentDataset", "collate"]
