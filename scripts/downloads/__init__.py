"""Songs from the web, kept whole and separated; see `scripts/download_youtube.py`."""
