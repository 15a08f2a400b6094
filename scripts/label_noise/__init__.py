"""Which stems of a data set are not what their labels say; see `scripts/find_label_noise.py`."""
