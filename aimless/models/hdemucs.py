"""Hybrid Demucs: one U-Net on the spectrogram and one on the waveform that meet at the bottom.

Défossez, "Hybrid spectrogram and waveform source separation" (MDX workshop at ISMIR 2021). Takes
the arguments and the weights of `torchaudio.models.HDemucs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimless.errors import ConfigError
from aimless.models.blocks import (
    check_positive,
    check_sources,
    check_waveform,
    mean_and_std,
    recompute,
    rescale_convolutions,
)
from aimless.models.hdemucs_layers import DecoderLayer, EncoderLayer, Strides
from aimless.sources import MDX_SOURCES
from aimless.transforms import at_least_float32, no_autocast

__all__ = ["HDemucs"]

_EPS = 1e-5  # added to a deviation before something is divided by it
_RESCALE = 0.1


class HDemucs(nn.Module):
    """Waveforms of all sources from the mixture's waveform, which it also sees as a spectrogram.

    The spectral branch convolves over bins, the temporal branch over time, until one bin is
    left; from there both are one. Each branch estimates the sources, and the estimates are added.
    Any length of at least one sample goes in and comes out.

    Args:
        sources: names of the sources, in output order; in a config they follow the targets.
        audio_channels: channels of the audio.
        channels: width of the first layer.
        growth: each layer is wider than the one before by this factor.
        nfft: FFT length in samples, a multiple of 8; the hop is a quarter of it.
        depth: layers of the encoder and of the decoder.
        freq_emb: weight of the learned embedding of the bins after the first layer; 0: none.
        emb_scale: the embedding's weights are multiplied by this, and so their learning rate.
        emb_smooth: let the embedding start as a walk over the bins, not as noise.
        kernel_size: taps of each layer's strided convolution.
        time_stride: stride of the layers below the meeting point, even.
        stride: stride of the other layers.
        context: taps to each side of the decoder's gates.
        context_enc: taps to each side of the encoder's gates.
        norm_starts: first layer with group normalisation.
        norm_groups: groups of the group normalisation.
        dconv_depth: residual branches per layer; negative: without dilation.
        dconv_comp: the branches are narrower than their layer by this factor.
        dconv_attn: first layer with attention in its branches.
        dconv_lstm: first layer with LSTMs in its branches.
        dconv_init: weight of the branches at the start.
        checkpoint_gradients: compute each layer again for its gradient instead of keeping what
            lies inside: less memory, more time, the same result.

    Shape:
        mixture (batch, channels, samples) -> stems (batch, sources, channels, samples)

    Raises:
        ConfigError: an argument is out of range, or sizes do not fit each other.
    """

    window: Tensor

    def __init__(
        self,
        sources: Sequence[str] = MDX_SOURCES,
        audio_channels: int = 2,
        channels: int = 48,
        growth: int = 2,
        nfft: int = 4096,
        depth: int = 6,
        freq_emb: float = 0.2,
        emb_scale: int = 10,
        emb_smooth: bool = True,
        kernel_size: int = 8,
        time_stride: int = 2,
        stride: int = 4,
        context: int = 1,
        context_enc: int = 0,
        norm_starts: int = 4,
        norm_groups: int = 4,
        dconv_depth: int = 2,
        dconv_comp: int = 4,
        dconv_attn: int = 4,
        dconv_lstm: int = 4,
        dconv_init: float = 1e-4,
        checkpoint_gradients: bool = False,
    ) -> None:
        super().__init__()
        check_positive(
            audio_channels=audio_channels,
            channels=channels,
            growth=growth,
            nfft=nfft,
            depth=depth,
            emb_scale=emb_scale,
            kernel_size=kernel_size,
            time_stride=time_stride,
            stride=stride,
            norm_groups=norm_groups,
            dconv_comp=dconv_comp,
        )
        if min(context, context_enc) < 0:
            raise ConfigError(f"context: {context} and context_enc: {context_enc} must not be < 0")
        self.sources = check_sources(sources)
        self.audio_channels = audio_channels
        self.nfft = nfft
        self.checkpoint_gradients = checkpoint_gradients
        self.register_buffer("window", torch.hann_window(nfft), persistent=False)
        levels = _plan_levels(nfft, depth, kernel_size, stride, time_stride)
        widths = [channels]
        for _ in levels[1:]:
            widths.append(int(growth * widths[-1]))

        self.freq_encoder = nn.ModuleList()
        self.freq_decoder = nn.ModuleList()
        self.time_encoder = nn.ModuleList()
        self.time_decoder = nn.ModuleList()
        for index, level in enumerate(levels):
            groups = norm_groups if index >= norm_starts else None
            dconv = {
                "compress": dconv_comp,
                "depth": dconv_depth,
                "init": dconv_init,
                "attention": index >= dconv_attn,
                "lstm": index >= dconv_lstm,
            }
            here = widths[max(0, index - 1) : index + 1]
            self._add_layers(level, here, groups, context_enc, context, dconv)
        self.freq_emb = None
        if freq_emb:
            self.freq_emb = _BinEmbedding(levels[0].bins, channels, emb_scale, emb_smooth)
            self.freq_emb_scale = freq_emb
        rescale_convolutions(self, _RESCALE)

    def _add_layers(
        self,
        level: _Level,
        widths: list[int],
        groups: int | None,
        context_enc: int,
        context: int,
        dconv: dict[str, Any],
    ) -> None:
        """Encoder and decoder layers of one level; `widths` are those above and at it."""
        width, first = widths[-1], len(widths) == 1
        inputs = self.audio_channels if first else widths[0]
        outputs = inputs * len(self.sources) if first else inputs
        if groups and (width % groups or outputs % groups):
            raise ConfigError(
                f"norm_groups: {groups} does not divide the widths {width} and {outputs} of a layer"
            )
        # the channels of a spectrum are real and imaginary parts
        parts = 2 if first else 1
        branches = [(self.freq_encoder, self.freq_decoder, level.main, parts, False)]
        if level.time is not None:
            branches.append((self.time_encoder, self.time_decoder, level.time, 1, level.meeting))
        for encoder, decoder, strides, parts, bare in branches:
            encoder.append(
                EncoderLayer(parts * inputs, width, strides, groups, context_enc, bare, **dconv)
            )
            decoder.insert(
                0, DecoderLayer(width, parts * outputs, strides, groups, context, first, bare)
            )

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate; raises ValueError where the channels are not the network's."""
        check_waveform(mixture, self.audio_channels)
        samples = mixture.shape[-1]
        with no_autocast(mixture):
            wave = at_least_float32(mixture)
            spectrum = self._spectrum(wave)
            spectrum_mean, spectrum_std = mean_and_std(spectrum)
            wave_mean, wave_std = mean_and_std(wave)
            spectrum = (spectrum - spectrum_mean) / (spectrum_std + _EPS)
            wave = (wave - wave_mean) / (wave_std + _EPS)
        # (B,2C,F,T), (B,C,L) -> (B,S*2C,F,T), (B,S*C,L)
        spectrum, wave = self._decode(*self._encode(spectrum, wave))
        with no_autocast(mixture):
            spectrum = torch.addcmul(spectrum_mean, at_least_float32(spectrum), spectrum_std)
            wave = torch.addcmul(wave_mean, at_least_float32(wave), wave_std)
            # (B,S*C,L) -> (B,S,C,L)
            stems = self._waveform(spectrum, samples) + wave
            return stems.unflatten(1, (len(self.sources), self.audio_channels))

    def _encode(self, x: Tensor, xt: Tensor) -> tuple[list[Tensor], list[Tensor], list[int]]:
        """Outputs of both branches' layers, and the lengths that went into the temporal ones."""
        skips, time_skips, lengths = [], [], []
        for index, encode in enumerate(self.freq_encoder):
            inject = None
            if index < len(self.time_encoder):
                lengths.append(xt.shape[-1])
                time_encode = self.time_encoder[index]
                xt = recompute(self.checkpoint_gradients, time_encode, xt)
                if time_encode.bare:
                    inject = xt
                else:
                    time_skips.append(xt)
            else:
                lengths.append(x.shape[-1])
            x = recompute(self.checkpoint_gradients, encode, x, inject)
            if index == 0 and self.freq_emb is not None:
                x = x + self.freq_emb_scale * self.freq_emb()
            skips.append(x)
        return skips, time_skips, lengths

    def _decode(
        self, skips: list[Tensor], time_skips: list[Tensor], lengths: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Spectra and waveforms of all sources."""
        x: Tensor | None = None
        xt: Tensor | None = None
        split = len(self.freq_decoder) - len(self.time_decoder)
        for index, decode in enumerate(self.freq_decoder):
            length = lengths.pop()
            gated = recompute(self.checkpoint_gradients, decode.gate, x, skips.pop())
            x = recompute(self.checkpoint_gradients, decode.expand, gated, length)
            if index < split:
                continue
            time_decode = self.time_decoder[index - split]
            if time_decode.bare:
                gated = gated[:, :, 0]  # the one bin
            else:
                gated = recompute(self.checkpoint_gradients, time_decode.gate, xt, time_skips.pop())
            xt = recompute(self.checkpoint_gradients, time_decode.expand, gated, length)
        assert x is not None
        assert xt is not None
        return x, xt

    def _spectrum(self, x: Tensor) -> Tensor:
        """(B,C,L) -> (B,2C,F,T), real and imaginary parts of ceil(L / hop) frames.

        Frame t is centred between t and t + 1 hops, so that frames line up with what a
        convolution of stride hop gives; the bin at half the sample rate is left out.
        """
        hop, samples = self.nfft // 4, x.shape[-1]
        left = hop // 2 * 3
        right = left + -samples % hop
        # the signal is reflected at its ends; one too short for that is followed by zeros
        missing = right - samples + 1
        if missing > 0:
            x = F.pad(x, (0, missing))
            right = samples - 1
        x = F.pad(x, (left, right), "reflect")
        spectrum = torch.stft(
            x.flatten(0, 1),
            self.nfft,
            hop,
            window=self._window_like(x),
            center=False,
            normalized=True,
            return_complex=True,
        )
        # (B*C,F,T) -> (B,C,F,T,2) -> (B,C,2,F,T) -> (B,2C,F,T)
        parts = torch.view_as_real(spectrum[:, :-1]).unflatten(0, x.shape[:2])
        return parts.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def _waveform(self, spectrum: Tensor, samples: int) -> Tensor:
        """The inverse of `_spectrum`, (B,2C,F,T) -> (B,C,L)."""
        hop = self.nfft // 4
        offset = hop // 2 * 3
        # two frames of silence on each side, and the bin at half the sample rate
        parts = F.pad(spectrum, (2, 2, 0, 1)).unflatten(1, (-1, 2))
        x = torch.istft(
            torch.complex(parts[:, :, 0], parts[:, :, 1]).flatten(0, 1),
            self.nfft,
            hop,
            window=self._window_like(spectrum),
            normalized=True,
            length=offset + samples,
        )
        return x[:, offset:].unflatten(0, parts.shape[:2])

    def _window_like(self, x: Tensor) -> Tensor:
        if x.dtype == self.window.dtype:
            return self.window
        # computed anew, so that float64 gets a window of its own precision
        return torch.hann_window(self.nfft, dtype=x.dtype, device=x.device)


class _BinEmbedding(nn.Module):
    """A learned vector per bin, which tells the convolutions where they are."""

    def __init__(self, bins: int, channels: int, scale: float, smooth: bool) -> None:
        super().__init__()
        self.scale = scale
        self.embedding = nn.Embedding(bins, channels)
        with torch.no_grad():
            weight = self.embedding.weight
            if smooth:
                # of n steps the sum deviates by sqrt(n)
                steps = torch.arange(1, bins + 1, device=weight.device)
                weight.copy_(weight.cumsum(0) / steps.sqrt()[:, None])
            weight /= scale

    def forward(self) -> Tensor:
        """(1, channels, bins, 1)."""
        return self.scale * self.embedding.weight.T[None, :, :, None]


@dataclass(frozen=True)
class _Level:
    """Sizes of the layers at one level.

    Args:
        main: of the spectral branch, or of the one branch that is left.
        time: of the temporal branch; None below the meeting point.
        bins: bins that are left after the level.
        meeting: the temporal branch ends here and is added to the spectral one.
    """

    main: Strides
    time: Strides | None
    bins: int
    meeting: bool = False


def _plan_levels(
    nfft: int, depth: int, kernel_size: int, stride: int, time_stride: int
) -> list[_Level]:
    levels: list[_Level] = []
    bins = nfft // 2
    for _ in range(depth):
        if bins == 1:
            level = _Level(Strides(2 * time_stride, time_stride, False), None, 1)
        elif bins > kernel_size:
            sizes = kernel_size, stride
            level = _Level(Strides(*sizes, True), Strides(*sizes, False), bins // stride)
        else:
            # The hop is half as many samples as there are bins, and so is what is left of it:
            # a convolution over time by this stride gives one value per frame.
            rest = bins // 2
            time = Strides(kernel_size if rest == stride else 2 * rest, rest, False)
            level = _Level(Strides(bins, stride, True, pad=False), time, 1, meeting=True)
        fits = bins % stride == 0 or bins <= kernel_size
        if (
            nfft % 8
            or not fits
            or not all(s is None or s.invertible for s in (level.main, level.time))
        ):
            raise ConfigError(
                f"nfft {nfft}, kernel_size {kernel_size}, stride {stride} and time_stride "
                f"{time_stride} do not fit each other; allowed are e.g. powers of two, nfft from "
                "8, strides from 2 and a kernel_size of twice the stride"
            )
        levels.append(level)
        bins = level.bins
    return levels
