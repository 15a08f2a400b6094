"""How fast and in how much memory a song is separated, by a Hybrid Demucs of the published size.

48 channels, four sources, random weights, a 60 s stereo song at 44.1 kHz; separated from file to
files. With `--compare`, the engine takes turns with the bare network on as many segments of the
same lengths, which shows what all around the network costs.

    python benchmarks/separate.py
    python benchmarks/separate.py --seconds 60 --batch_size 4 --precision bf16 --device cuda
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from turns import in_turns

from aimless import Separator
from aimless.draws import generator
from aimless.memory import keep_freed_memory
from aimless.models import HDemucs
from aimless.network import WaveformNetwork
from aimless.sources import MDX_SOURCES

RATE = 44_100


def main() -> None:
    """Separate, and print real-time factor and memory."""
    options = parse()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    if not options.default_malloc:
        keep_freed_memory()
    model = HDemucs(list(MDX_SOURCES), channels=options.channels)
    separator = Separator(
        WaveformNetwork(model, MDX_SOURCES, RATE).eval(),
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        segment=options.segment,
        overlap=options.overlap,
        batch_size=options.batch_size,
    )
    with tempfile.TemporaryDirectory() as folder:
        song = write_song(Path(folder) / "song.wav", options.seconds)
        forms = {"separate": lambda: separate(separator, song, folder)}
        if options.compare:
            shapes: list[torch.Size] = []
            hook = model.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
            forms["separate"]()
            hook.remove()
            forms["network"] = lambda: run_network(model, shapes, separator.device)
        medians = in_turns(forms, options.repeats)
    print(
        f"{options.seconds:g} s song, segments of {options.segment:g} s, overlap "
        f"{options.overlap:g}, batch {options.batch_size}, {separator.device}, precision "
        f"{options.precision}, {options.threads} threads: {describe(medians, options.seconds)}"
    )


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the song")
    parser.add_argument("--channels", type=int, default=48, help="size of the network")
    parser.add_argument("--segment", type=float, default=10.0)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--default_malloc", action="store_true", help="leave malloc as it is")
    parser.add_argument("--compare", action="store_true", help="with the bare network")
    return parser.parse_args()


def write_song(path: Path, seconds: float) -> Path:
    """Noise that fades in and out."""
    samples = round(seconds * RATE)
    fade = np.sin(np.linspace(0, np.pi, samples, dtype=np.float32))
    drawn = generator("benchmark").standard_normal((samples, 2), dtype=np.float32)
    soundfile.write(path, 0.1 * fade[:, None] * drawn, RATE, subtype="FLOAT")
    return path


def separate(separator: Separator, song: Path, folder: str) -> None:
    """From file to files."""
    separator.separate_files(song, Path(folder) / "stems", overwrite=True)


@torch.inference_mode()
def run_network(model: HDemucs, shapes: list[torch.Size], device: torch.device) -> None:
    """The network alone, on random segments of these shapes."""
    for shape in shapes:
        model(torch.rand(shape, device=device)).cpu()


def describe(medians: dict[str, float], seconds: float) -> str:
    """Times against the song's length, and the peak of memory."""
    parts = [f"{n} {t:.1f} s, real-time factor {t / seconds:.3f}" for n, t in medians.items()]
    scale = 1024 if sys.platform == "linux" else 1024**2  # macOS counts bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    parts.append(f"peak memory {peak:.0f} MB")
    if torch.cuda.is_available():
        parts.append(f"on the GPU {torch.cuda.max_memory_allocated() / 2**20:.0f} MB")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
