"""What all augmentations on the training device share: draws, grouping, the new mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimless import draws
from aimless.errors import ConfigError
from aimless.transforms import at_least_float32, no_autocast

__all__ = ["CudaBase"]

# Which stems get which choice: the choice -> indices into the flattened (batch, sources)
Plan = dict[Any, list[int]]


class CudaBase(nn.Module):
    """Augmentation of a batch of stems, each stem drawn independently.

    A subclass says what its choices are and what `transform` does with one. The draws
    are made on the host, so that nothing waits for the device; stems with the same choice
    are transformed together; a stem that is not drawn, or draws a choice that changes
    nothing, costs nothing and keeps its bits. Works on any device, the name is historical.

    Args:
        choices: values to draw from, with equal probability each; a value named twice counts
            twice.
        p: probability that a stem is drawn, 0 to 1.

    Raises:
        ConfigError: there are no choices or p is out of range.
    """

    def __init__(self, choices: Sequence[Any], p: float) -> None:
        super().__init__()
        if not choices:
            raise ConfigError(f"{type(self).__name__}: there is nothing to draw from")
        if not 0 <= p <= 1:
            raise ConfigError(f"p: {p} is not between 0 and 1 in {type(self).__name__}")
        self.choices = tuple(choices)
        self.p = p
        self._own_rng = draws.generator("augment", 0)

    def extra_repr(self) -> str:
        """What `print` shows of the module."""
        return f"choices={self.choices}, p={self.p}"

    def transform(self, x: Tensor, choice: Any) -> Tensor:
        """What one choice does to waveforms, (N, channels, samples) -> (N, channels, any)."""
        raise NotImplementedError

    def is_identity(self, choice: Any) -> bool:
        """Whether a choice changes nothing, so that it need not be done."""
        return False

    def forward(self, stems: Tensor, rng: np.random.Generator | None = None) -> Tensor:
        """Augment stems.

        Args:
            stems: (batch, sources, channels, samples).
            rng: where the draws come from; they are the same for the same state of it. None
                takes a stream of the module's own, which is the same in all modules and
                processes: with several processes, give each its own `rng`.

        Returns:
            The same shape and dtype, cut or padded with zeros at the end. `stems` itself,
            where no stem changes; it is never written to.
        """
        return self._transform_drawn(stems, self._draw(stems, rng))

    def augment(
        self, stems: Tensor, mixture: Tensor, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augment stems together with their mixture.

        Args:
            stems: (batch, sources, channels, samples).
            mixture: (batch, channels, samples). It need not be the sum of the stems, for
                instance after a limiter.
            rng: see `forward`.

        Returns:
            Stems and mixture. The mixture is the sum of the stems for items of which a stem
            changed; others keep the one that they came with.
        """
        plan = self._draw(stems, rng)
        if not plan:
            return stems, mixture
        stems = self._transform_drawn(stems, plan)
        items = sorted({stem // stems.shape[1] for indices in plan.values() for stem in indices})
        index = _to_device(items, mixture)
        remixed = at_least_float32(stems.index_select(0, index)).sum(1).to(mixture.dtype)
        return stems, mixture.index_copy(0, index, remixed)

    def _draw(self, stems: Tensor, rng: np.random.Generator | None) -> Plan:
        """Draw which stems change, and how; stems of no sample never do."""
        rng = self._own_rng if rng is None else rng
        count = stems.shape[0] * stems.shape[1]
        # as many numbers whatever p is and whatever comes out
        drawn = rng.random(count) < self.p
        picks = rng.integers(len(self.choices), size=count)
        plan: Plan = {}
        for stem in np.flatnonzero(drawn):
            choice = self.choices[picks[stem]]
            if stems.shape[-1] and not self.is_identity(choice):
                plan.setdefault(choice, []).append(int(stem))
        return plan

    def _transform_drawn(self, stems: Tensor, plan: Plan) -> Tensor:
        if not plan:
            return stems
        samples = stems.shape[-1]
        # (B,S,C,L) -> (B*S,C,L)
        flat = stems.flatten(0, 1)
        result = flat.clone()
        for choice, indices in plan.items():
            index = _to_device(indices, stems)
            with no_autocast(stems):
                y = self.transform(at_least_float32(flat.index_select(0, index)), choice)
            y = F.pad(y[..., :samples], (0, max(0, samples - y.shape[-1])))
            result.index_copy_(0, index, y.to(stems.dtype))
        return result.view(stems.shape)


def _to_device(indices: list[int], like: Tensor) -> Tensor:
    """Indices on the device of `like`, without waiting for it."""
    return torch.tensor(indices).to(like.device, non_blocking=True)
