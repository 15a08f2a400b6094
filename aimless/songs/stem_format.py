"""In which kind of file stems are written."""

from __future__ import annotations

from dataclasses import dataclass

from aimless.errors import ConfigError

__all__ = ["BITS", "CLIP", "FORMATS", "StemFormat"]

#: Format -> bits it can have, the first is the default; none where it is not made of samples.
FORMATS: dict[str, tuple[str, ...]] = {
    "wav": ("float", "24", "16"),
    "flac": ("24", "16"),
    "mp3": (),
    "ogg": (),
}
BITS = ("16", "24", "float")
CLIP = ("keep", "rescale", "clamp")

_SUBTYPES = {
    "16": "PCM_16",
    "24": "PCM_24",
    "float": "FLOAT",
    "mp3": "MPEG_LAYER_III",
    "ogg": "VORBIS",
}
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MAX_CHANNELS = {"mp3": 2}
_MAX_RATE = {"ogg": 200_000}  # beyond it libvorbis fails, and libsndfile crashes
#: Bytes that a WAV file can hold, with some room for its header.
_MAX_WAV = 2**32 - 2**20


@dataclass(frozen=True)
class StemFormat:
    """Kind of file, size of its samples, and what happens beyond full scale.

    Args:
        format: `wav` (RF64 from 4 GiB on), `flac`, `mp3` (about 250 kbit/s, variable) or `ogg`
            (Vorbis, about 300 kbit/s at full level).
        bits: of a sample: `16`, `24` or, for WAV, `float`; None is float for WAV, 24 for FLAC.
        clip: what happens where stems pass full scale, which is always said. `keep` leaves
            them, in float alone; `rescale` multiplies all stems of a song by one factor, so that
            their relative levels stay; `clamp` cuts the peaks off. None is `keep` for float,
            otherwise `rescale`.

    Raises:
        ConfigError: an unknown word, or a combination that does not exist.
    """

    format: str = "wav"
    bits: str | None = None
    clip: str | None = None

    def __post_init__(self) -> None:
        known = {"format": tuple(FORMATS), "bits": BITS, "clip": CLIP}
        for name, words in known.items():
            value = getattr(self, name)
            if value not in words and (value is not None or name == "format"):
                raise ConfigError(f"{name}: '{value}'; must be one of {', '.join(words)}")
        if self.bits is not None and self.bits not in FORMATS[self.format]:
            choice = " or ".join(FORMATS[self.format]) or "none to choose"
            raise ConfigError(f"bits: '{self.bits}' with format {self.format}, which has {choice}")
        if self.clip == "keep" and not self.is_float:
            raise ConfigError("clip: 'keep' needs format wav with bits float; use rescale or clamp")

    @property
    def is_float(self) -> bool:
        """Whether samples may pass full scale."""
        return self.format == "wav" and self.bits in (None, "float")

    @property
    def clipping(self) -> str:
        """`clip`, or its default for the format."""
        return self.clip or ("keep" if self.is_float else "rescale")

    @property
    def suffix(self) -> str:
        """Of the file's name, with its dot."""
        return f".{self.format}"

    def sound_file(self, rate: int, channels: int, frames: int) -> dict[str, object]:
        """Arguments of `soundfile.SoundFile` for a file of about so many frames.

        Raises:
            ConfigError: the format cannot hold that rate or number of channels.
        """
        self._check(rate, channels)
        bits = self.bits or next(iter(FORMATS[self.format]), None)
        kind = self.format.upper()
        if self.format == "wav":
            size = frames * channels * {"16": 2, "24": 3, "float": 4}[str(bits)]
            kind = "RF64" if size > _MAX_WAV else "WAV"
        arguments = {
            "samplerate": rate,
            "channels": channels,
            "format": kind,
            "subtype": _SUBTYPES[bits or self.format],
        }
        if self.format == "mp3":
            arguments |= {"compression_level": 0.0, "bitrate_mode": "VARIABLE"}
        elif self.format == "ogg":
            arguments["compression_level"] = 0.2
        return arguments

    def _check(self, rate: int, channels: int) -> None:
        most = _MAX_CHANNELS.get(self.format, channels)
        if channels > most:
            raise ConfigError(
                f"format: {self.format} holds {most} channels at most, the song has {channels}; "
                "choose wav or flac"
            )
        too_high = rate > _MAX_RATE.get(self.format, rate)
        if too_high or (self.format == "mp3" and rate not in _MP3_RATES):
            raise ConfigError(f"format: {self.format} has no rate of {rate} Hz; choose wav or flac")
