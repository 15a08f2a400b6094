"""A network on a device: precision, and what to do when its memory is full."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from aimless.errors import ConfigError

__all__ = ["PRECISIONS", "Runner", "pick_device"]

logger = logging.getLogger(__name__)

#: What autocast computes in; None: no autocast.
PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


class Runner:
    """Runs a network on batches of any size, on its device.

    Where the device's memory is full, the batch is halved, which is said once each time, and
    the work goes on.

    Args:
        network: (batch, channels, samples) -> (batch, sources, channels, samples or fewer); is
            moved to the device.
        device: `auto` for the best there is, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: `32`, or `bf16` or `16` for autocast to bfloat16 or float16.
        batch_size: segments that the network gets at once, at most.
        compile: the network, with `torch.compile`; needs a C++ compiler (CPU) or Triton (GPU).

    Raises:
        ConfigError: a device that is not there, or an unknown precision; while running, no
            memory for a single segment.
    """

    def __init__(
        self,
        network: nn.Module,
        device: str | torch.device = "auto",
        precision: str | int = "32",
        batch_size: int = 1,
        compile: bool = False,
    ) -> None:
        if str(precision) not in PRECISIONS:
            raise ConfigError(f"precision: '{precision}'; must be one of {', '.join(PRECISIONS)}")
        self.device = pick_device(device)
        self.dtype = PRECISIONS[str(precision)]
        self.batch_size = batch_size
        self.network = network.to(self.device).eval()
        self.compiled = compile
        if compile:
            # the part in the middle: spectra are complex, which the compiler leaves alone anyway
            getattr(network, "model", network).compile()

    def __call__(self, segments: Tensor) -> Tensor:
        """Segments (batch, channels, samples) -> (batch, sources, channels, samples or fewer)."""
        outputs: list[Tensor] = []
        done = 0
        while done < len(segments):
            piece = segments[done : done + self.batch_size]
            output = self._try(piece)
            if output is None:
                self._halve(len(piece), segments.shape[-1])
                continue
            outputs.append(output)
            done += len(piece)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _try(self, piece: Tensor) -> Tensor | None:
        """None where the memory is full."""
        try:
            with torch.autocast(
                self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None
            ):
                return self.network(piece.to(self.device)).float()
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if self.compiled and type(error).__module__.startswith(("torch._dynamo", "torch._ind")):
                cause = str(error).strip().splitlines()[0]
                raise ConfigError(f"compile: torch.compile fails, leave it out: {cause}") from error
            if not _is_out_of_memory(error):
                raise
        return None

    def _halve(self, tried: int, samples: int) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            raise ConfigError(
                f"{self.device}: out of memory for one segment of {samples} samples; "
                "choose a shorter segment, a lower precision or device cpu"
            )
        self.batch_size = tried // 2
        logger.warning(
            "%s: out of memory with %d segments at once; going on with %d",
            *(self.device, tried, self.batch_size),
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)  # MPS and the CPU's allocator have no class for it
    return "out of memory" in text or "can't allocate memory" in text


def pick_device(name: str | torch.device) -> torch.device:
    """The device of that name; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: it is not there.
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())] + there
    wanted = there[0] if str(name) == "auto" else str(name)
    full = "cuda:0" if wanted == "cuda" else "mps" if wanted == "mps:0" else wanted
    if full not in there:
        raise ConfigError(f"device: '{name}' is not available; choose auto, {', '.join(there)}")
    return torch.device(full)
