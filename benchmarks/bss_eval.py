"""BSSEval v4 of four stereo sources against museval's: time, and the largest difference.

The sources are the piece of music that comes with stempeg (which museval needs), repeated to the
wanted length, rounded to 16 bits; the estimates are the sources filtered, with leakage of the
others and noise. The forms take turns in one process. museval takes about half a minute per minute
of music, hence few repeats.

    python benchmarks/bss_eval.py
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import av
import museval
import numpy as np
import torch
from torch import Tensor
from turns import in_turns, options, report

from aimless.evaluate import bss_eval

RATE = 44100
SECONDS = 60


def song() -> Tensor:
    """Stems (4, 2, samples), float64."""
    package = find_spec("stempeg")
    if package is None or package.origin is None:
        raise SystemExit("needs stempeg: pip install 'aimless[eval]'")
    path = Path(package.origin).parent / "data" / "The Easton Ellises - Falcon 69.stem.mp4"
    stems = []
    for index in range(1, 5):  # stream 0 is the mixture
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=index)]
        stems.append(np.concatenate(frames, axis=1))
    samples = min(stem.shape[1] for stem in stems)
    once = torch.from_numpy(np.stack([stem[:, :samples] for stem in stems])).double()
    repeated = once.repeat(1, 1, -(-SECONDS * RATE // samples))[..., : SECONDS * RATE]
    return (repeated.clamp(-1, 1) * 32767).round() / 32767


def estimate(references: Tensor) -> Tensor:
    """Each source with an echo, a tenth of the mixture, and noise at about -50 dB."""
    noise = 0.003 * torch.randn(references.shape, dtype=torch.float64)
    return references + 0.3 * references.roll(5, -1) + 0.1 * references.sum(0) + noise


def main() -> None:
    """Time both, and compare every frame."""
    parsed = options(__doc__, repeats=2)
    references = song()
    estimates = estimate(references)
    arrays = [x.transpose(1, 2).numpy() for x in (references, estimates)]
    results = {}

    def ours() -> None:
        results["aimless"] = [x.numpy() for x in bss_eval(references, estimates, RATE, RATE)]

    def theirs() -> None:
        results["museval"] = museval.metrics.bss_eval(*arrays, window=RATE, hop=RATE)[:4]

    medians = in_turns({"museval": theirs, "aimless": ours}, parsed.repeats)
    report(f"BSSEval v4, {SECONDS} s, 4 stereo sources", parsed.threads, medians, "museval")
    pairs = zip(("SDR", "ISR", "SIR", "SAR"), results["aimless"], results["museval"])
    largest = {name: float(np.abs(a - b).max()) for name, a, b in pairs}
    print("largest difference in dB:", ", ".join(f"{n} {d:.1e}" for n, d in largest.items()))


if __name__ == "__main__":
    main()
