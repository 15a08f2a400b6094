"""Instruments from recorded samples: a General MIDI sound font, played by FluidSynth."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aimless.errors import ConfigError, DataError
from synthetic.theory import Note

__all__ = ["INSTALL", "SYSTEM_FONTS", "FontSynth", "find_font"]

#: Where Debian's packages put sound fonts, in order of preference.
SYSTEM_FONTS = (
    Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),
    Path("/usr/share/sounds/sf2/default-GM.sf2"),
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
)
INSTALL = "apt-get install timgm6mb-soundfont libfluidsynth3 and pip install pyfluidsynth"

_BLOCK = 64  # frames; FluidSynth looks at events once per block
_POLYPHONY = 20  # voices; long releases would pile up without end
_GAIN = 0.4
_DRUM_CHANNEL, _DRUM_BANK = 9, 128
_LOG_LEVELS = 5


class _Event(NamedTuple):
    frame: int
    on: bool  # ends come first
    pitch: int
    velocity: int


def find_font(path: Path | None) -> tuple[Path | None, str]:
    """A font that can be played, and a line about it or about why there is none.

    Args:
        path: of the font; None looks for one where Debian has them, and does without.

    Raises:
        DataError: the font that was named is not there, or no sound font.
        ConfigError: it was named, but pyfluidsynth or FluidSynth's library is missing.
    """
    found = path or next((font for font in SYSTEM_FONTS if font.is_file()), None)
    if found is None:
        return None, f"no sound font found, using the plain synthesiser; better: {INSTALL}"
    try:
        _library()
    except ConfigError as error:
        if path is not None:
            raise
        return None, f"{error}; using the plain synthesiser"
    try:
        with open(found, "rb") as file:
            head = file.read(12)
    except OSError as error:
        raise DataError(f"{found}: cannot be read: {error.strerror}") from None
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise DataError(f"{found}: is no sound font (SF2 or SF3)")
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    return found, f"{found.name}, sha256 {digest[:16]}"


def _library() -> ModuleType:
    """The module fluidsynth, silent and with the call that gives floats.

    Raises:
        ConfigError: it or the library is not installed.
    """
    try:
        import fluidsynth
    except ImportError as error:
        raise ConfigError(f"sound fonts need FluidSynth ({error}): {INSTALL}") from None
    library = fluidsynth._fl
    for level in range(_LOG_LEVELS):
        library.fluid_set_log_function(level, None, None)
    side = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    library.fluid_synth_write_float.argtypes = [ctypes.c_void_p, ctypes.c_int, *side, *side]
    return fluidsynth


class FontSynth:
    """Plays parts with a sound font: the same notes give the same samples, always.

    Its reverberation and chorus are off; rooms are `mixing`'s business.

    Args:
        font: an SF2 or SF3 file.
        rate: in Hz.

    Raises:
        ConfigError: FluidSynth is missing.
        DataError: the font cannot be loaded.
    """

    def __init__(self, font: Path, rate: int) -> None:
        self.font, self.rate = font, rate
        self._module = _library()
        self._settings = {
            "synth.reverb.active": 0,
            "synth.chorus.active": 0,
            "synth.cpu-cores": 1,
            "synth.polyphony": _POLYPHONY,
        }

    def render(
        self, notes: tuple[Note, ...], program: int, frames: int, drums: bool = False
    ) -> NDArray[np.float32]:
        """Play notes from silence.

        Args:
            notes: in seconds, sorted.
            program: of General MIDI, counted from 0; with `drums` a kit.
            frames: length of the result.
            drums: play keys as the drums of a kit.

        Returns:
            (2, frames).

        Raises:
            DataError: the font has no such instrument.
        """
        out = np.zeros((2, -(-frames // _BLOCK) * _BLOCK), np.float32)
        # A synthesiser of its own, whose state nothing has touched.
        synth = self._module.Synth(_GAIN, float(self.rate), 16, **self._settings)
        try:
            channel = self._choose(synth, program, drums)
            at = 0
            for event in self._events(notes, out.shape[1]):
                at = self._write(synth, out, at, event.frame)
                if event.on:
                    synth.noteon(channel, event.pitch, event.velocity)
                else:
                    synth.noteoff(channel, event.pitch)
            self._write(synth, out, at, out.shape[1])
        finally:
            synth.delete()
        return out[:, :frames]

    def _choose(self, synth: Any, program: int, drums: bool) -> int:
        """Load the font and select the instrument; returns the channel."""
        font = synth.sfload(str(self.font))
        if font == -1:
            raise DataError(f"{self.font}: FluidSynth cannot load it")
        channel, bank = (_DRUM_CHANNEL, _DRUM_BANK) if drums else (0, 0)
        # General MIDI promises one kit; the others are extensions.
        for choice in (program, 0) if drums else (program,):
            if synth.program_select(channel, font, bank, choice) == 0:
                return channel
        raise DataError(f"{self.font}: has no preset {program} in bank {bank}, is it General MIDI?")

    def _events(self, notes: tuple[Note, ...], frames: int) -> Iterator[_Event]:
        """Beginnings and ends by block, none after the last frame."""
        events = []
        for note in notes:
            begin, end = (self._frame(time) for time in (note.start, note.start + note.length))
            events.append(_Event(begin, True, note.pitch, note.velocity))
            events.append(_Event(max(end, begin + _BLOCK), False, note.pitch, 0))
        return iter(sorted(event for event in events if event.frame < frames))

    def _frame(self, seconds: float) -> int:
        return round(seconds * self.rate / _BLOCK) * _BLOCK

    def _write(self, synth: Any, out: NDArray[np.float32], start: int, end: int) -> int:
        """Let the synthesiser play from one frame to another."""
        if end > start:
            width = out.itemsize
            left, right = (side.ctypes.data + width * start for side in out)
            self._module._fl.fluid_synth_write_float(
                synth.synth,
                end - start,
                left,
                0,
                1,
                right,
                0,
                1,
            )
        return end
