"""The web app: upload a song, split it, listen, take the stems away."""
