"""A sound file that is read from its beginning to its end."""

from __future__ import annotations

import soundfile

__all__ = ["SoundStream", "told_frames"]

#: What libsndfile says of a FLAC file without a length, as encoders write into a pipe.
_UNKNOWN = 2**63 - 1


class SoundStream(soundfile.SoundFile):
    """A file that is never sought.

    soundfile seeks after each read of a file that can be sought. An MP3 decoder loses the bits
    that frames borrow from those before them by that, and the next thousands of samples are wrong.
    """

    def seekable(self) -> bool:
        """It can only be read on."""
        return False


def told_frames(file: soundfile.SoundFile) -> int:
    """How many frames the header promises; 0 if it does not tell."""
    return 0 if file.frames == _UNKNOWN else file.frames
