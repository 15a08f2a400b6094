"""Time of every network: forward, and forward with backward, at the published sizes.

A stereo segment, batch 1, in training mode on a CPU. HDemucs takes turns with torchaudio's in the
same process, with the same weights, where torchaudio is installed. Prints medians.

    python benchmarks/models.py
    python benchmarks/models.py --models HDemucs --set channels=64 --seconds 10 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import yaml
from torch import Tensor, nn

from aimless import models
from aimless.memory import keep_freed_memory
from aimless.sources import MDX_SOURCES
from aimless.transforms import STFT

SAMPLE_RATE = 44100
# name -> arguments of the published runs
SIZES = {
    "X_UMX": {"n_fft": 4096, "hidden_channels": 512, "max_bins": 1487},
    "BandSplitRNN": {"n_fft": 4096},
    "DemucsSplit": {"channels": 48},
    "HDemucs": {"sources": list(MDX_SOURCES), "channels": 48},
    "RelTDemucs": {"nhead": 8},
}
ON_SPECTROGRAMS = ("X_UMX", "BandSplitRNN")
ROW = "{:30s}{:>12s}{:>9s}{:>12s}{:>21s}"


def make_networks(name: str, arguments: dict) -> dict[str, nn.Module]:
    """The network, and torchaudio's version of it if there is one."""
    torch.manual_seed(0)
    networks = {name: getattr(models, name)(**arguments)}
    if name == "HDemucs":
        try:
            from torchaudio.models import HDemucs
        except ImportError:
            return networks
        reference = HDemucs(**{k: v for k, v in arguments.items() if k != "checkpoint_gradients"})
        reference.load_state_dict(networks[name].state_dict())
        networks["torchaudio's HDemucs"] = reference
    return networks


def make_input(name: str, arguments: dict, seconds: float) -> Tensor:
    """Noise, as waveform or as magnitude spectrogram."""
    channels = next((v for k, v in arguments.items() if k.endswith("_channels")), 2)
    if name == "X_UMX":
        channels = arguments.get("nb_channels", 2)
    noise = 0.1 * torch.randn(1, channels, round(seconds * SAMPLE_RATE))
    if name in ON_SPECTROGRAMS:
        n_fft = arguments["n_fft"]
        return STFT(n_fft, n_fft // 4)(noise).abs()
    return noise


def forward(network: nn.Module, x: Tensor) -> None:
    """One pass without gradients."""
    with torch.no_grad():
        network(x)


def step(network: nn.Module, x: Tensor) -> None:
    """One pass with the gradients of all parameters."""
    network.zero_grad()
    network(x).abs().mean().backward()


def timed(
    call: Callable[[nn.Module, Tensor], None],
    networks: dict[str, nn.Module],
    x: Tensor,
    repeats: int,
) -> dict[str, float]:
    """Median milliseconds per network; the networks take turns, the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for repeat in range(repeats + 1):
        for name, network in networks.items():
            began = time.perf_counter()
            call(network, x)
            if repeat:
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(name: str, options: argparse.Namespace) -> None:
    """Print the rows of one network."""
    arguments = {**SIZES[name], **dict(options.set)}
    networks = make_networks(name, arguments)
    x = make_input(name, arguments, options.seconds)
    for threads in options.threads:
        torch.set_num_threads(threads)
        alone = timed(forward, networks, x, options.repeats)
        both = timed(step, networks, x, options.repeats)
        for label, network in networks.items():
            millions = f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}"
            figures = (str(threads), f"{alone[label]:.0f}", f"{both[label]:.0f}")
            print(ROW.format(label, millions, *figures), flush=True)
        ours, *others = networks
        for other in others:
            ratios = f"{alone[other] / alone[ours]:.2f}", f"{both[other] / both[ours]:.2f}"
            print(ROW.format(f"  {other} / ours", "", str(threads), *ratios), flush=True)


def setting(text: str) -> tuple[str, object]:
    """`name=value` of a constructor argument, the value as in YAML."""
    name, _, value = text.partition("=")
    return name, yaml.safe_load(value)


def main() -> None:
    """Measure the chosen networks, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES), metavar="NAME")
    parser.add_argument(
        "--set", nargs="+", type=setting, default=[], metavar="ARG=VALUE", help="another size"
    )
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    keep_freed_memory()
    print(ROW.format("network", "parameters M", "threads", "forward ms", "forward+backward ms"))
    for name in options.models:
        measure(name, options)


if __name__ == "__main__":
    main()
