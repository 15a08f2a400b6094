"""How bytes of audio files become samples; `data.audio` is the front."""
