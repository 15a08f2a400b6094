"""Lightning data modules, chosen by class path in a config."""

from data.lightning.audio_files import AudioFiles
from data.lightning.base import BaseDataModule
from data.lightning.musdb import MUSDB

__all__ = ["MUSDB", "AudioFiles", "BaseDataModule"]
