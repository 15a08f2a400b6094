"""Songs as files: found, read and resampled block by block, and stems written the same way."""
