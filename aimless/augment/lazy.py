"""Stems on their way through effects: linear ones wait and are then applied together.

    gain, pan, swap, fader  -> a matrix of channels and a curve over time:  one pass
    filters, echoes, rooms  -> multiplications between one FFT and its inverse

Neighbours are joined where that is exact: gains with gains; filters with filters, and with a
matrix between them, which does not change over time. A curve over time and a filter do not
commute and stay in their order. Whatever is no linear effect lets those that wait go first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimless.augment.spectral import filtered, tail_class
from aimless.transforms import at_least_float32, no_autocast

__all__ = ["Curve", "LazyStems", "Settings", "mix_channels", "on_device"]

Settings = dict[str, NDArray[Any]]

#: What a filter does to spectra (stems, channels, frames, bins) with its settings (stems) and
#: an FFT of so many samples.
Respond = Callable[[Tensor, Settings, int], Tensor]


class Curve(NamedTuple):
    """A level in decibels that moves along straight lines.

    Attributes:
        ends: samples at which lines begin and end, ascending (lines + 1).
        levels: in dB, there (lines + 1).
    """

    ends: NDArray[np.int64]
    levels: NDArray[np.float64]


class _Gain(NamedTuple):
    matrix: NDArray[np.float64] | None  # (channels, channels)
    curves: tuple[Curve, ...] = ()


class _Part(NamedTuple):
    """A filter, and the matrix of channels before it."""

    before: NDArray[np.float64] | None
    order: int  # of the effect, the same for all its stems
    respond: Respond
    settings: dict[str, Any]
    tail: int


_Filter = tuple[_Part, ...]


class LazyStems:
    """Stems that effects are applied to, by index into (batch * sources).

    Args:
        stems: (batch, sources, channels, samples); never written to.
    """

    def __init__(self, stems: Tensor) -> None:
        self._given = stems
        self._flat = stems.flatten(0, 1)
        self._owned = False
        self._waiting: dict[int, list[_Gain | _Filter]] = {}
        self._orders = itertools.count()
        self.channels, self.samples = stems.shape[-2:]
        #: indices of the stems that an effect was applied to
        self.changed: set[int] = set()

    def gain(
        self,
        chosen: NDArray[np.int64],
        matrices: Sequence[NDArray[np.float64] | None],
        curves: Sequence[Curve] | None = None,
    ) -> None:
        """Multiply stems by a (channels, channels) matrix and by a curve over time, each its own.

        Matrices that are None stand for one.
        """
        for row, stem in enumerate(chosen):
            stages = self._stages(stem)
            new = _Gain(matrices[row], (curves[row],) if curves else ())
            if stages and isinstance(stages[-1], _Gain):
                before = stages.pop()
                assert isinstance(before, _Gain)
                new = _Gain(_product(new.matrix, before.matrix), before.curves + new.curves)
            stages.append(new)

    def filter(
        self,
        chosen: NDArray[np.int64],
        respond: Respond,
        settings: Settings,
        tails: NDArray[np.int64],
    ) -> None:
        """Filter stems.

        Args:
            chosen: indices (stems).
            respond: multiplies spectra (stems, channels, frames, bins) by the response.
            settings: what `respond` gets, (stems) of each.
            tails: samples after which the impulse responses are over, (stems).
        """
        order = next(self._orders)
        for row, stem in enumerate(chosen):
            stages = self._stages(stem)
            matrix = None
            if stages and isinstance(stages[-1], _Gain) and not stages[-1].curves:
                matrix = stages.pop().matrix  # type: ignore[union-attr]
            own = {name: values[row] for name, values in settings.items()}
            part = _Part(matrix, order, respond, own, int(tails[row]))
            if stages and not isinstance(stages[-1], _Gain):
                stages[-1] = (*stages[-1], part)
            else:
                stages.append((part,))

    def replace(self, chosen: NDArray[np.int64], function: Callable[[Tensor], Tensor]) -> None:
        """Put function(stems), of the same shape (stems, channels, samples), in their place."""
        self._settle(chosen)
        self.changed.update(int(stem) for stem in chosen)
        self._replace(chosen, function)

    def result(self) -> Tensor:
        """The stems as all effects leave them; what was given where there were none."""
        self._settle(np.array(sorted(self._waiting), np.int64))
        if not self._owned:
            return self._given
        return self._flat.to(self._given.dtype).view(self._given.shape)

    def _stages(self, stem: np.int64) -> list[_Gain | _Filter]:
        self.changed.add(int(stem))
        return self._waiting.setdefault(int(stem), [])

    def _replace(self, chosen: NDArray[np.int64], function: Callable[[Tensor], Tensor]) -> None:
        if not self._owned:
            # in single precision until the end; a conversion makes the copy
            wider = at_least_float32(self._flat)
            self._flat = wider.clone() if wider is self._flat else wider
            self._owned = True
        index = on_device(chosen, self._flat)
        with no_autocast(self._flat):
            changed = function(self._flat.index_select(0, index))
        self._flat.index_copy_(0, index, changed)

    def _settle(self, chosen: NDArray[np.int64]) -> None:
        """Apply what waits, first stages first, those of the same kind together."""
        while queued := [int(stem) for stem in chosen if self._waiting.get(int(stem))]:
            gains: dict[int, _Gain] = {}
            filters: dict[int, dict[int, _Filter]] = {}
            for stem in queued:
                stage = self._waiting[stem].pop(0)
                if isinstance(stage, _Gain):
                    gains[stem] = stage
                else:
                    tail = tail_class(sum(part.tail for part in stage))
                    filters.setdefault(tail, {})[stem] = stage
            if gains:
                self._apply_gains(gains)
            for tail, stages in filters.items():
                self._apply_filters(stages, tail)
        for stem in chosen:
            self._waiting.pop(int(stem), None)

    def _apply_gains(self, gains: dict[int, _Gain]) -> None:
        one = np.eye(self.channels)
        matrices = np.stack([one if g.matrix is None else g.matrix for g in gains.values()])
        curves = [gain.curves for gain in gains.values()]

        def apply(x: Tensor) -> Tensor:
            x = mix_channels(x, matrices)
            return x * _fader(curves, x) if any(curves) else x

        self._replace(np.array(list(gains)), apply)

    def _apply_filters(self, stages: dict[int, _Filter], tail: int) -> None:
        parts: dict[int, dict[int, _Part]] = {}
        for row, stage in enumerate(stages.values()):
            for part in stage:
                parts.setdefault(part.order, {})[row] = part

        def respond(spectra: Tensor, n_fft: int) -> Tensor:
            for order in sorted(parts):
                rows = list(parts[order])
                if len(rows) == len(spectra):
                    spectra = _apply_part(spectra, list(parts[order].values()), n_fft)
                else:
                    index = on_device(np.array(rows), spectra)
                    some = spectra.index_select(0, index)
                    some = _apply_part(some, list(parts[order].values()), n_fft)
                    spectra = spectra.index_copy(0, index, some)
            return spectra

        self._replace(np.array(list(stages)), lambda x: filtered(x, tail, respond))


def _apply_part(spectra: Tensor, parts: list[_Part], n_fft: int) -> Tensor:
    """One effect on the spectra of its stems."""
    if any(part.before is not None for part in parts):
        one = np.eye(spectra.shape[1])
        matrices = np.stack([one if part.before is None else part.before for part in parts])
        spectra = mix_channels(spectra, matrices)
    settings = {
        name: np.array([part.settings[name] for part in parts]) for name in parts[0].settings
    }
    return parts[0].respond(spectra, settings, n_fft)


def _product(
    late: NDArray[np.float64] | None, early: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    if late is None or early is None:
        return early if late is None else late
    return late @ early


def on_device(values: NDArray[Any], like: Tensor) -> Tensor:
    """Numbers on the device of `like` without waiting for it, real ones in its real precision."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if tensor.is_floating_point():
        tensor = tensor.to(like.real.dtype if like.is_complex() else like.dtype)
    return tensor.to(like.device, non_blocking=True)


def mix_channels(x: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """Multiply stems (stems, channels, ...) by matrices (stems, channels, channels).

    Diagonal after diagonal, leaving out those that are zero: a gain is one pass. Not by a
    matrix product, whose precision on a GPU a user may have lowered.
    """
    channels = np.arange(x.shape[1])
    trailing = (1,) * (x.dim() - 2)
    total = None
    for shift in range(len(channels)):
        diagonal = matrices[:, channels, (channels + shift) % len(channels)]
        if not diagonal.any():
            continue
        factors = on_device(diagonal, x).view(*diagonal.shape, *trailing)
        term = (x.roll(-shift, 1) if shift else x) * factors
        total = term if total is None else total + term
    return torch.zeros_like(x) if total is None else total


def _fader(curves: list[tuple[Curve, ...]], like: Tensor) -> Tensor:
    """Gain of curves in series, (stems, 1, samples)."""
    lines = [[_lines(curve) for curve in own] for own in curves]
    count = max(sum(len(curve) for curve in own) for own in lines)
    table = np.zeros((len(curves), count, 3))
    table[..., 1] = 1
    start = np.zeros((len(curves), 1))
    for row, own in enumerate(lines):
        if own:
            joined = np.concatenate(own)
            table[row, : len(joined)] = joined
            start[row] = sum(curve.levels[0] for curve in curves[row])
    time = torch.arange(like.shape[-1], dtype=like.dtype, device=like.device)
    begin, width, rise = on_device(table, like)[..., None].unbind(2)  # (stems, lines, 1) each
    level = on_device(start, like)
    for line in range(count):
        level = level + rise[:, line] * ((time - begin[:, line]) / width[:, line]).clamp(0, 1)
    return (level * (np.log(10) / 20)).exp().unsqueeze(1).expand(-1, 1, len(time))


def _lines(curve: Curve) -> NDArray[np.float64]:
    """(lines, 3): first sample, length, and rise in dB of each; a line of no length is a step."""
    lengths = np.diff(curve.ends)
    begin = curve.ends[:-1] - (lengths == 0)
    return np.stack([begin, np.maximum(lengths, 1), np.diff(curve.levels)], axis=1)
