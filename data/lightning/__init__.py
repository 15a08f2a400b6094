"""Lightning data modules, chosen by class path in a config."""

from data.lightning.audio_files import AudioFiles
from data.lightning.base import BaseDataModule
from data.lightning.dnr import DnR
from data.lightning.musdb import MUSDB
from data.lightning.sdx23 import Bleed, LabelNoise
from data.lightning.speech import SpeechNoise
from data.lightning.stems import StemFiles

__all__ = [
    "MUSDB",
    "AudioFiles",
    "BaseDataModule",
    "Bleed",
    "DnR",
    "LabelNoise",
    "SpeechNoise",
    "StemFiles",
]
