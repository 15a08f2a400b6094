"""Parts of `scripts/soak.py`: a training run, what is done to it, and what it must survive."""
