"""aimless: train and run audio source separation."""

from aimless.version import __version__

__all__ = ["__version__"]
