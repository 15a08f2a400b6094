"""From a mixture to stems: what a network needs around it, in training and in use.

`WaveformPipeline` and `MaskPipeline` say how a mixture's waveform becomes the stems'
waveforms. The separators of `aimless.lightning` train through them, and `SeparationNetwork`
is what a checkpoint gives back: the same computation, ready to use, without Lightning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from aimless.errors import ConfigError
from aimless.transforms import STFT
from aimless.wiener import MWF

__all__ = [
    "AudioNetwork",
    "MaskNetwork",
    "MaskPipeline",
    "SeparationNetwork",
    "WaveformNetwork",
    "WaveformPipeline",
]


def name_outputs(model: nn.Module, targets: Sequence[str]) -> None:
    """Tell a network that lists its sources in which order it gives them.

    Output i of a network is the i-th target in source order, whatever order its own list has:
    the published runs list vocals first and yet emit drums first.

    Raises:
        ConfigError: the network's list names other sources than the targets.
    """
    listed = getattr(model, "sources", None)
    if not isinstance(listed, (list, tuple)) or not all(isinstance(n, str) for n in listed):
        return
    if sorted(listed) != sorted(targets):
        raise ConfigError(
            f"{type(model).__name__}.sources: {', '.join(listed)} are not the targets "
            f"{', '.join(targets)}"
        )
    model.sources = type(listed)(targets)  # type: ignore[assignment]


def audio_channels(model: nn.Module) -> int | None:
    """Audio channels of a network; None if its class does not say."""
    for name in ("audio_channels", "nb_channels", "in_channels"):
        if isinstance(value := getattr(model, name, None), int):
            return value
    return None


class WaveformPipeline:
    """A network on waveforms. To be mixed into a module with `model` and `targets`."""

    model: nn.Module
    targets: tuple[str, ...]
    #: Axes of what the network returns, source axis included.
    estimate_ndim = 4

    def forward(self, mixture: Tensor) -> Tensor:
        """Mixture (batch, channels, samples) -> (batch, targets, channels, samples or fewer)."""
        return self.check_estimates(self.model(mixture))

    def check_estimates(self, estimates: Tensor) -> Tensor:
        """Give one target its source axis, and refuse another number of sources than targets.

        Shape:
            - estimates: (batch, targets, ...), or (batch, ...) without it where there is one

        Raises:
            ConfigError: names the shape and the targets.
        """
        if len(self.targets) == 1 and estimates.ndim == self.estimate_ndim - 1:
            estimates = estimates.unsqueeze(1)
        if estimates.ndim != self.estimate_ndim or estimates.shape[1] != len(self.targets):
            raise ConfigError(
                f"{type(self.model).__name__} gives a tensor of shape {tuple(estimates.shape)}, "
                f"but there are {len(self.targets)} targets: {', '.join(self.targets)}"
            )
        return estimates


class MaskPipeline(WaveformPipeline):
    """A network on magnitude spectrograms, its masks refined by a Wiener filter."""

    estimate_ndim = 5
    spec: STFT
    filter: MWF

    def forward(self, mixture: Tensor) -> Tensor:
        """Mixture (batch, channels, samples) -> (batch, targets, channels, samples)."""
        spectrogram = self.spec(mixture)  # (B, C, F, T)
        return self.apply_masks(self.masks(spectrogram), spectrogram, mixture.shape[-1])

    def masks(self, spectrogram: Tensor) -> Tensor:
        """Complex (batch, channels, bins, frames) -> (batch, targets, channels, bins, frames)."""
        return self.check_estimates(self.model(spectrogram.abs()))

    def apply_masks(self, masks: Tensor, spectrogram: Tensor, samples: int) -> Tensor:
        """Masks and mixture spectrogram -> (batch, targets, channels, samples)."""
        filtered = self.filter(masks, spectrogram)[:, : len(self.targets)]  # without residual
        return self.spec.inverse(filtered, samples)


class AudioNetwork(nn.Module):
    """What can separate: mixture (batch, channels, samples) -> stems (batch, sources, ...).

    Attributes:
        targets: names of the stems, in the order of the output's source axis.
        sample_rate: of the audio, in Hz.
        channels: audio channels; None if it takes any.
        class_path: of the network inside, if it is a single one.
        init_args: arguments of that class.
        engine: settings of `aimless.overlap_add.OverlapAdd` that suit it.
    """

    targets: tuple[str, ...]
    sample_rate: int
    channels: int | None
    class_path: str | None = None
    init_args: Mapping[str, Any] = {}
    engine: Mapping[str, Any] = {}

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems, in the order of the output's source axis."""
        return self.targets


class SeparationNetwork(AudioNetwork):
    """A single network that is ready to separate.

    Args:
        model: the network itself.
        targets: names of its outputs, in their order.
        sample_rate: of the audio it was trained on, in Hz.
        class_path: of `model`, for export; None if it is not known.
        init_args: arguments that `model` was built with, for export.

    Attributes:
        channels: audio channels of the network; None if it takes any.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Sequence[str],
        sample_rate: int = 44100,
        class_path: str | None = None,
        init_args: dict | None = None,
    ) -> None:
        super().__init__()
        self.targets = tuple(targets)
        name_outputs(model, self.targets)
        self.model = model
        self.sample_rate = sample_rate
        self.channels = audio_channels(model)
        self.class_path = class_path
        self.init_args = dict(init_args or {})

    def pipeline_args(self) -> dict:
        """Arguments beside those of `SeparationNetwork`, plain values."""
        return {}


class WaveformNetwork(WaveformPipeline, SeparationNetwork):
    """A network on waveforms, ready to separate; see `SeparationNetwork`."""


class MaskNetwork(MaskPipeline, SeparationNetwork):
    """A network on spectrograms, ready to separate; see `SeparationNetwork`.

    Args:
        model: the network itself.
        targets: names of its outputs, in their order.
        n_fft: FFT length in samples.
        hop_length: samples between frames.
        residual_model: see `aimless.wiener.MWF`.
        softmask: see `aimless.wiener.MWF`.
        alpha: see `aimless.wiener.MWF`.
        n_iter: see `aimless.wiener.MWF`.
        **kwargs: those of `SeparationNetwork`.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Sequence[str],
        n_fft: int = 4096,
        hop_length: int = 1024,
        residual_model: bool = False,
        softmask: bool = False,
        alpha: float = 1.0,
        n_iter: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, targets, **kwargs)
        self._args = {
            "n_fft": n_fft,
            "hop_length": hop_length,
            "residual_model": residual_model,
            "softmask": softmask,
            "alpha": alpha,
            "n_iter": n_iter,
        }
        self.spec = STFT(n_fft, hop_length)
        self.filter = MWF(residual_model, softmask, alpha, n_iter)

    def pipeline_args(self) -> dict:
        """STFT sizes and filter settings."""
        return dict(self._args)
